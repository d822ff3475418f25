//! A partition with a virtual interrupt controller, which it drives as any program drives that of a board: what it finds there.
//! That its interrupts come is in all other tests of devices and timers.

use tantalum_agent::{CLOCK, CLOCK_DEVICE, Command, DONE, Probe};
use tantalum_partition::{
    ffa::{Outcome as Answer, Partition, SMC},
    normal_world::timer,
};

use super::tests;
use crate::{
    clock::CLEAR,
    cores,
    report::{Outcome, Verdict, check, expect_eq, fail},
    talk::{ask, command, finish},
    world::World,
};

tests! { "virtual_gic":
    is_a_gicv3_with_a_redistributor_for_each_context,
    has_the_interrupts_of_its_partition_only,
    odd_accesses_do_nothing,
    more_are_pending_than_there_are_list_registers,
}

const DISTRIBUTOR: u64 = 0x0800_0000;
const REDISTRIBUTORS: u64 = 0x080a_0000;
const STRIDE: u64 = 0x2_0000;
/// The second frame of a redistributor.
const PRIVATE: u64 = 0x1_0000;
const TYPER: u64 = 0x8;
const ENABLE: u64 = 0x100;
const SET_PENDING: u64 = 0x200;
const PRIORITY: u64 = 0x400;
const IDENTIFICATION: u64 = 0xffe8;

fn probe(of: Partition, words: [u64; 14]) -> Outcome<Probe> {
    let answer = ask(of, words)?;
    Probe::from_words(&answer).map_or_else(|| fail!("the words of an access, got {answer:x?}"), Ok)
}

fn read(of: Partition, address: u64) -> Outcome<u64> {
    match probe(of, Command::Read32.words(&[address]))? {
        Probe::Passed(value) => Ok(value),
        Probe::Faulted { esr, .. } => fail!("a read of {address:#x} to pass, got the syndrome {esr:#x}"),
    }
}

fn write(of: Partition, address: u64, value: u64) -> Outcome {
    match probe(of, Command::Write32.words(&[address, value]))? {
        Probe::Passed(_) => Ok(()),
        Probe::Faulted { esr, .. } => fail!("a write to {address:#x} to pass, got the syndrome {esr:#x}"),
    }
}

/// The owner of the clock, if it has a virtual interrupt controller.
fn driver(world: &World) -> Outcome<Partition> {
    let clock = world.need(CLOCK)?;
    match probe(clock, Command::Read32.words(&[DISTRIBUTOR + IDENTIFICATION]))? {
        Probe::Passed(_) => {
            let (base, interrupt) = CLOCK_DEVICE;
            let _ = command(clock, Command::Listen, &[u64::from(interrupt), 0, base + CLEAR, 1])?;
            Ok(clock)
        }
        Probe::Faulted { .. } => Err(Verdict::Skipped(
            "no partition here has a virtual interrupt controller, or the machine has none for S-EL1",
        )),
    }
}

fn is_a_gicv3_with_a_redistributor_for_each_context(world: &World) -> Outcome {
    let clock = driver(world)?;
    expect_eq!(
        read(clock, DISTRIBUTOR + IDENTIFICATION)? >> 4 & 0xf,
        3,
        "the version of the distributor"
    );
    for core in 0..world.cores {
        let frame = REDISTRIBUTORS + STRIDE * core as u64;
        let kind = read(clock, frame + TYPER)?;
        let affinity = read(clock, frame + TYPER + 4)?;
        // The partition has as many contexts as its manifest says, which may be more than the machine has cores.
        expect_eq!(
            (kind >> 8 & 0xffff, affinity),
            (core as u64, core as u64),
            "number and affinity of redistributor {core}"
        );
    }
    Ok(())
}

fn has_the_interrupts_of_its_partition_only(world: &World) -> Outcome {
    let clock = driver(world)?;
    // 34 is its own, 40 another partition's.
    let enabled = DISTRIBUTOR + ENABLE + 4;
    expect_eq!(read(clock, enabled)?, 0b100, "the enabled shared interrupts from 32 on");
    write(clock, enabled, 0xffff_ffff)?;
    expect_eq!(read(clock, enabled)?, 0b100, "the same when all were enabled");
    let priorities = DISTRIBUTOR + PRIORITY + 40;
    write(clock, priorities, 0)?;
    expect_eq!(read(clock, priorities)?, 0, "the priorities of interrupts 40 to 43");
    write(clock, priorities, 0xffff_ffff)?;
    expect_eq!(read(clock, priorities)?, 0, "the same when they were written");
    Ok(())
}

fn odd_accesses_do_nothing(world: &World) -> Outcome {
    let clock = driver(world)?;
    // Eight bytes where there are registers of four.
    let enabled = DISTRIBUTOR + ENABLE;
    let before = read(clock, enabled + 4)?;
    for words in [
        Command::Write.words(&[enabled, u64::MAX]),
        Command::Write.words(&[DISTRIBUTOR + 0x180, u64::MAX]),
        Command::Read.words(&[enabled]),
    ] {
        match probe(clock, words)? {
            Probe::Passed(value) => expect_eq!(value, 0, "what an access of eight bytes reads"),
            Probe::Faulted { esr, .. } => fail!("an access of eight bytes to pass, got the syndrome {esr:#x}"),
        }
    }
    expect_eq!(read(clock, enabled + 4)?, before, "what is enabled");
    // Behind the last redistributor.
    match probe(clock, Command::Read32.words(&[REDISTRIBUTORS + 64 * STRIDE]))? {
        Probe::Faulted { .. } => Ok(()),
        Probe::Passed(value) => fail!("nothing behind the redistributors, got {value:#x}"),
    }
}

/// How long the partition spins, in milliseconds.
const WORK: u64 = 500;
/// Software generated interrupts but for those whose numbers the library has other uses for.
const MANY: u64 = 0xfc7;

/// A message of another core: the end of what it does, how many interrupts its context has heard, when the last one was.
fn ask_there(id: u64, words: [u64; 5]) -> Option<[u64; 4]> {
    match SMC.direct_req64(0, (id & 0xffff) as u16, words) {
        Ok(answer @ (Answer::Response(_) | Answer::Interrupted { .. })) => {
            let response = finish(Ok(answer), "a message of another core").ok()?;
            let [first, second, third, fourth, ..] = *response.payload() else {
                return None;
            };
            (first == DONE).then_some([first, second, third, fourth])
        }
        _ => None,
    }
}

/// 0, or what was wrong: 1 an answer, 2 how many interrupts it has heard, 3 they came after it was done.
fn spin_while_they_come(_: usize, id: u64) -> u64 {
    let heard = || ask_there(id, Command::Heard.five_words(&[]));
    let (base, interrupt) = CLOCK_DEVICE;
    let listen = Command::Listen.five_words(&[u64::from(interrupt), 0, base + CLEAR, 1]);
    if ask_there(id, listen).is_none() {
        return 1;
    }
    let before = heard();
    let spun = ask_there(id, Command::Spin.five_words(&[WORK]));
    match (before, spun, heard()) {
        (Some([_, before, ..]), Some([_, _, end, _]), Some([_, after, _, at])) => {
            if after - before != u64::from(MANY.count_ones()) {
                2
            } else {
                u64::from(at >= end) * 3
            }
        }
        _ => 1,
    }
}

fn more_are_pending_than_there_are_list_registers(world: &World) -> Outcome {
    let clock = driver(world)?;
    world.need_two_cores()?;
    cores::run_on(1, spin_while_they_come, u64::from(clock.id))?;
    timer::delay(WORK / 2);
    // From here all at once, while it runs there.
    let frame = REDISTRIBUTORS + STRIDE + PRIVATE;
    write(clock, frame + ENABLE, MANY)?;
    write(clock, frame + SET_PENDING, MANY)?;
    let result = cores::wait_for(1, 10_000)?;
    check!(
        result == 0,
        "all interrupts to come while the partition runs, got {result}: 1 no answer, 2 not all, 3 too late"
    );
    Ok(())
}
