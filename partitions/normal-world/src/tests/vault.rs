//! The vault partition, as the normal world and other partitions see it.

use tantalum_agent::{ECHO, FORWARD, VAULT};
use tantalum_partition::ffa::{FfaError, Outcome as Answer, Partition, SMC, UuidHelper, ids};
use tantalum_vault_service::{DIGEST, MESSAGE, Operation, Status};

use super::tests;
use crate::{
    cores,
    report::{Outcome, expect_eq, fail},
    talk::{
        Conduit, DIRECT_REQ2, DIRECT_REQ64, DIRECT_RESP2, DIRECT_RESP64, NORMAL_WORLD, ask, call_from, expect_error,
        smc, to,
    },
    world::World,
};

tests! { "vault":
    normal_world_reads,
    five_words_are_enough_to_read,
    normal_world_does_not_stamp,
    virtual_machine_does_not_stamp,
    partition_that_is_not_named_does_not_stamp,
    partition_that_is_named_stamps,
    stamp_verifies_for_the_normal_world,
    forged_stamp_does_not_verify,
    malformed_messages_are_refused,
    every_core_sees_the_same_counter,
    partition_cannot_ask_in_anothers_name,
}

const DATA: [u64; DIGEST] = [0x0123_4567_89ab_cdef, 0, u64::MAX, 1];

/// A message of the normal world.
fn vault(world: &World, words: &[u64; MESSAGE]) -> Outcome<[u64; MESSAGE]> {
    ask(world.need(VAULT)?, *words)
}

fn counter(world: &World) -> Outcome<u64> {
    Ok(vault(world, &Operation::Read.words(&[]))?[1])
}

fn refused(status: Status) -> [u64; MESSAGE] {
    let mut words = [0; MESSAGE];
    words[0] = status as u64;
    words
}

/// A request for a stamp by a partition, in the name of `sender`; x0-x13 of what it got.
fn stamp_by(world: &World, partition: Partition, sender: u16) -> Outcome<[u64; 14]> {
    let [low, high] = UuidHelper::to_u64_regs(VAULT);
    let [a, b, c, d] = DATA;
    let vault = world.need(VAULT)?;
    let call = [
        DIRECT_REQ2,
        ids(sender, vault.id),
        low,
        high,
        Operation::Stamp as u64,
        a,
        b,
        c,
        d,
    ];
    call_from(partition, Conduit::Smc, &call)
}

/// Counter and stamp over [`DATA`], which the partition that may has had made.
fn stamp(world: &World) -> Outcome<(u64, [u64; DIGEST])> {
    let forward = world.need(FORWARD)?;
    let answer = stamp_by(world, forward, forward.id)?;
    let ids = ids(world.need(VAULT)?.id, forward.id);
    expect_eq!(
        answer[..5],
        [DIRECT_RESP2, ids, 0, 0, Status::Done as u64],
        "x0-x4 of the answer with a stamp"
    );
    expect_eq!(answer[10..], [0; 4], "the words behind the stamp");
    Ok((answer[5], [answer[6], answer[7], answer[8], answer[9]]))
}

fn verify(world: &World, counter: u64, data: &[u64; DIGEST], stamp: &[u64; DIGEST]) -> Outcome<[u64; MESSAGE]> {
    let mut arguments = [0; 1 + 2 * DIGEST];
    arguments[0] = counter;
    arguments[1..=DIGEST].copy_from_slice(data);
    arguments[1 + DIGEST..].copy_from_slice(stamp);
    vault(world, &Operation::Verify.words(&arguments))
}

fn normal_world_reads(world: &World) -> Outcome {
    let answer = vault(world, &Operation::Read.words(&[]))?;
    expect_eq!(answer[0], Status::Done as u64, "the status");
    expect_eq!(answer[2..], [0; 12], "that the normal world may not stamp, and zeros");
    Ok(())
}

fn five_words_are_enough_to_read(world: &World) -> Outcome {
    let vault = world.need(VAULT)?;
    let expected = counter(world)?;
    let answer = smc(&[DIRECT_REQ64, to(vault), 0, Operation::Read as u64]);
    expect_eq!(
        answer[..8],
        [
            DIRECT_RESP64,
            ids(vault.id, 0),
            0,
            Status::Done as u64,
            expected,
            0,
            0,
            0
        ],
        "x0-x7 of the answer"
    );
    let answer = smc(&[DIRECT_REQ64, to(vault), 0, Operation::Verify as u64]);
    expect_eq!(
        answer[3..8],
        [Status::TooShort as u64, 0, 0, 0, 0],
        "x3-x7 of the answer to what needs ten words"
    );
    Ok(())
}

fn normal_world_does_not_stamp(world: &World) -> Outcome {
    let before = counter(world)?;
    let answer = vault(world, &Operation::Stamp.words(&DATA))?;
    expect_eq!(answer, refused(Status::Denied), "the answer");
    expect_eq!(counter(world)?, before, "the counter");
    Ok(())
}

fn virtual_machine_does_not_stamp(world: &World) -> Outcome {
    let vault = world.need(VAULT)?;
    let answer = SMC.direct_req2(5, vault.id, VAULT, Operation::Stamp.words(&DATA));
    match answer {
        Ok(Answer::Response(response)) => {
            expect_eq!(response.ids(), (vault.id, 5), "who answers whom");
            expect_eq!(*response.payload(), refused(Status::Denied), "the answer");
            Ok(())
        }
        other => fail!("expected an answer to virtual machine 5, got {other:?}"),
    }
}

fn partition_that_is_not_named_does_not_stamp(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let before = counter(world)?;
    let answer = stamp_by(world, echo, echo.id)?;
    expect_eq!(answer[0], DIRECT_RESP2, "x0 of the answer");
    expect_eq!(answer[4..], refused(Status::Denied)[..10], "x4-x13 of the answer");
    expect_eq!(counter(world)?, before, "the counter");
    Ok(())
}

fn partition_that_is_named_stamps(world: &World) -> Outcome {
    let before = counter(world)?;
    let (first, stamp_of_first) = stamp(world)?;
    let (second, stamp_of_second) = stamp(world)?;
    expect_eq!([first, second], [before + 1, before + 2], "the counters");
    expect_eq!(counter(world)?, second, "what the normal world reads then");
    if stamp_of_first == stamp_of_second {
        fail!("two stamps with different counters are the same");
    }
    Ok(())
}

fn stamp_verifies_for_the_normal_world(world: &World) -> Outcome {
    let (counter, tag) = stamp(world)?;
    expect_eq!(
        verify(world, counter, &DATA, &tag)?,
        refused(Status::Done),
        "the answer"
    );
    Ok(())
}

fn forged_stamp_does_not_verify(world: &World) -> Outcome {
    let (counter, tag) = stamp(world)?;
    let [a, b, c, d] = tag;
    let mismatch = refused(Status::Mismatch);
    expect_eq!(
        verify(world, counter + 1, &DATA, &tag)?,
        mismatch,
        "the answer to another counter"
    );
    expect_eq!(
        verify(world, counter, &[1, 2, 3, 4], &tag)?,
        mismatch,
        "the answer to other data"
    );
    expect_eq!(
        verify(world, counter, &DATA, &[a, b, c, d ^ 1 << 63])?,
        mismatch,
        "the answer to another stamp"
    );
    expect_eq!(
        verify(world, 0, &[0; DIGEST], &[0; DIGEST])?,
        mismatch,
        "the answer to nothing but zeros"
    );
    Ok(())
}

fn malformed_messages_are_refused(world: &World) -> Outcome {
    let before = counter(world)?;
    expect_eq!(
        vault(world, &[0; MESSAGE])?,
        refused(Status::Unknown),
        "the answer to zeros"
    );
    expect_eq!(
        vault(world, &[u64::MAX; MESSAGE])?,
        refused(Status::Unknown),
        "the answer to ones"
    );
    expect_eq!(
        vault(world, &Operation::Read.words(&[1]))?,
        refused(Status::Reserved),
        "the answer to a word too many"
    );
    expect_eq!(counter(world)?, before, "the counter");
    Ok(())
}

/// The counter that this core reads.
fn read_here(_: usize, _: u64) -> u64 {
    let Some(Ok(vault)) = SMC.partitions(VAULT).next() else {
        return u64::MAX;
    };
    match SMC.direct_req2(NORMAL_WORLD, vault.id, VAULT, Operation::Read.words(&[])) {
        Ok(Answer::Response(response)) if response.payload()[0] == Status::Done as u64 => response.payload()[1],
        _ => u64::MAX,
    }
}

fn every_core_sees_the_same_counter(world: &World) -> Outcome {
    world.need_two_cores()?;
    let (expected, _) = stamp(world)?;
    cores::run_on_all(world.cores, read_here, 0, 1000, |core, counter| {
        expect_eq!(counter, expected, "the counter that core {core} reads");
        Ok(())
    })
}

fn partition_cannot_ask_in_anothers_name(world: &World) -> Outcome {
    let before = counter(world)?;
    let answer = stamp_by(world, world.need(ECHO)?, world.need(FORWARD)?.id)?;
    expect_error(
        &answer,
        FfaError::InvalidParameters,
        "a request in the name of another partition",
    )?;
    expect_eq!(counter(world)?, before, "the counter");
    Ok(())
}
