//! A page goes to a partition and comes back.

use tantalum_agent::{Borrow, Command, ECHO, Probe};
use tantalum_partition::{
    ffa::{
        Partition,
        memory::{Layout, NORMAL, READ_WRITE, Transaction},
    },
    println, probe,
};

use crate::{
    buffers::{NORMAL_WORLD, Pair},
    report::{Outcome, check, expect_eq, fail},
    talk::{MEM_RECLAIM, MEM_SHARE, SUCCESS, ask, command, expect_success, smc},
    world::World,
};

/// The page.
const SHARED: u64 = NORMAL_WORLD + 0x10_0000;
/// What is written into it, by the normal world and by the partition.
const QUESTION: u64 = 0x7075_7a7a_6c65;
const ANSWER: u64 = 0x616e_7377_6572;

/// Shares the page with echo, has it read and written there, and takes it back.
pub fn lend(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let buffers = Pair::of_normal_world()?;
    check!(probe::write64(SHARED, QUESTION).is_ok(), "the page to be writable");
    let handle = share(&buffers, echo)?;
    println!("    FFA_MEM_SHARE: the page {SHARED:#x} has the handle {handle:#x}");
    let [_, result, ..] = command(echo, Command::Borrow, &[Borrow::Retrieve as u64, handle])?;
    check!(result != 0, "echo to retrieve the page");
    let found = access(echo, &Command::Read.words(&[SHARED]))?;
    expect_eq!(found, Probe::Passed(QUESTION), "what echo reads there");
    let written = access(echo, &Command::Write.words(&[SHARED + 8, ANSWER]))?;
    expect_eq!(written, Probe::Passed(0), "echo's write");
    let Ok(ANSWER) = probe::read64(SHARED + 8) else {
        fail!("the normal world does not see what echo has written");
    };
    println!("    FFA_MEM_RETRIEVE_REQ: echo reads {QUESTION:#x} there, and the normal world what echo writes");
    let [_, result, ..] = command(echo, Command::Borrow, &[Borrow::Relinquish as u64, handle])?;
    expect_eq!(result, SUCCESS, "x0 after FFA_MEM_RELINQUISH");
    let answer = smc(&[MEM_RECLAIM, handle & 0xffff_ffff, handle >> 32]);
    expect_success(&answer, "FFA_MEM_RECLAIM")?;
    println!("    FFA_MEM_RELINQUISH, FFA_MEM_RECLAIM: the page is the normal world's alone");
    let Probe::Faulted { esr, .. } = access(echo, &Command::Read.words(&[SHARED]))? else {
        fail!("echo can still read the page");
    };
    println!("    echo reads it again: aborted, ESR_EL1 {esr:#x}");
    Ok(())
}

fn share(buffers: &Pair, borrower: Partition) -> Outcome<u64> {
    let head = Transaction {
        layout: Layout::V1_2,
        sender: 0,
        attributes: NORMAL,
        flags: 0,
        handle: 0,
        tag: 0,
        borrowers: &[(borrower.id, READ_WRITE)],
        ranges: Some((1, 1)),
    }
    .head();
    let mut words = [0; 16];
    let end = head.words().len();
    words[..end].copy_from_slice(head.words());
    words[end..end + 2].copy_from_slice(&[SHARED, 1]);
    buffers.send(&words[..end + 2])?;
    let bytes = 8 * (end as u64 + 2);
    let answer = smc(&[MEM_SHARE, bytes, bytes]);
    expect_eq!(answer[0], SUCCESS, "x0 after FFA_MEM_SHARE");
    Ok(answer[2] | answer[3] << 32)
}

fn access(partition: Partition, words: &[u64; 14]) -> Outcome<Probe> {
    let answer = ask(partition, *words)?;
    match Probe::from_words(&answer) {
        Some(probe) => Ok(probe),
        None => fail!("an answer that makes no sense: {answer:x?}"),
    }
}
