//! A device of a partition interrupts the normal world.

use tantalum_agent::{CLOCK_DEVICE, Command, FORWARD, Probe};
use tantalum_partition::{arch, ffa::Partition, normal_world::timer, println};

use crate::{
    report::{Outcome, check, expect_eq, fail},
    talk::{ask, command},
    world::World,
};

/// Registers of the clock, a PL031: seconds, when to interrupt, interrupt mask, interrupt clear.
const DATA: u64 = 0x00;
const MATCH: u64 = 0x04;
const MASK: u64 = 0x10;
const CLEAR: u64 = 0x1c;

/// How long the normal world works before it asks forward whether it has heard something, in milliseconds, and how often.
const TURN: u64 = 1200;
const TURNS: usize = 10;

/// Has forward set its clock, and works until it has rung.
pub fn ring(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let (clock, interrupt) = CLOCK_DEVICE;
    let interrupt = u64::from(interrupt);
    let _ = command(forward, Command::Listen, &[interrupt, 0, clock + CLEAR, 1])?;
    let [before, ..] = command(forward, Command::Heard, &[])?;
    let now = access(forward, Command::Read32, &[clock + DATA])?;
    access(forward, Command::Write32, &[clock + MASK, 1])?;
    access(forward, Command::Write32, &[clock + MATCH, now + 1])?;
    println!("    forward has set its clock and waits; the normal world works");
    let start = arch::counter();
    let (mut end, mut heard) = (start, [before, 0, 0]);
    for _ in 0..TURNS {
        if heard[0] != before {
            break;
        }
        timer::delay(TURN);
        end = arch::counter();
        heard.copy_from_slice(&command(forward, Command::Heard, &[])?[..3]);
    }
    let [count, last, at] = heard;
    expect_eq!(
        [count - before, last],
        [1, interrupt],
        "how many interrupts forward handled, and the last"
    );
    check!(
        (start..end).contains(&at),
        "an interrupt between {start} and {end}, got {at}"
    );
    let after = (at - start) * 1000 / arch::counter_frequency();
    println!(
        "    interrupt {interrupt} after {after} ms: forward ran at once and handled it, the normal world went on"
    );
    Ok(())
}

fn access(partition: Partition, how: Command, arguments: &[u64]) -> Outcome<u64> {
    let answer = ask(partition, how.words(arguments))?;
    match Probe::from_words(&answer) {
        Some(Probe::Passed(value)) => Ok(value),
        other => fail!("forward has no access to its clock: {other:x?}"),
    }
}
