//! The clock, a PL031, that a partition owns and the normal world sets.

use tantalum_agent::CLOCK_DEVICE;
use tantalum_partition::probe;

use crate::report::{Outcome, fail};

/// Registers: data, match, load, interrupt mask, raw interrupt status.
const DATA: u64 = 0x00;
const MATCH: u64 = 0x04;
const LOAD: u64 = 0x08;
const MASK: u64 = 0x10;
const STATUS: u64 = 0x14;
/// Interrupt clear, by writing 1.
pub const CLEAR: u64 = 0x1c;

/// How often the clock is set until it has matched: it ticks over between the match and the load once in a while, and then
/// would match only after it has gone all the way round.
const TRIES: usize = 10;

/// Has the clock interrupt after so many seconds, 0 being now.
pub fn fire(seconds: u32) -> Outcome {
    let (clock, _) = CLOCK_DEVICE;
    let set = || {
        // Far from now at first; then it is the time that changes, to just before.
        let then = probe::read32(clock + DATA)?.wrapping_add(10_000);
        probe::write32(clock + MATCH, then)?;
        probe::write32(clock + LOAD, then.wrapping_sub(seconds))?;
        probe::read32(clock + STATUS)
    };
    // If it is to be now, nobody hears of it before it is certain that it has matched.
    let fired = probe::write32(clock + MASK, u32::from(seconds != 0)).and_then(|()| {
        for _ in 0..TRIES {
            let matched = set()? & 1 != 0;
            if seconds != 0 || matched {
                return probe::write32(clock + MASK, 1).map(|()| true);
            }
        }
        Ok(false)
    });
    match fired {
        Ok(true) => Ok(()),
        Ok(false) => fail!("the clock does not match, however often it is set"),
        Err(fault) => fail!("the normal world could not set the clock: {fault}"),
    }
}
