//! The clock, a PL031, that a partition owns and the normal world sets.

use tantalum_agent::CLOCK_DEVICE;
use tantalum_partition::probe;

use crate::report::{Outcome, fail};

/// Registers: data, match, load, interrupt mask.
const DATA: u64 = 0x00;
const MATCH: u64 = 0x04;
const LOAD: u64 = 0x08;
const MASK: u64 = 0x10;
/// Interrupt clear, by writing 1.
pub const CLEAR: u64 = 0x1c;

/// Has the clock interrupt after so many seconds, 0 being now.
pub fn fire(seconds: u32) -> Outcome {
    let (clock, _) = CLOCK_DEVICE;
    let fired = probe::write32(clock + MASK, 1).and_then(|()| {
        // Far from now at first; then it is the time that changes, to just before.
        let then = probe::read32(clock + DATA)?.wrapping_add(10_000);
        probe::write32(clock + MATCH, then)?;
        probe::write32(clock + LOAD, then.wrapping_sub(seconds))
    });
    match fired {
        Ok(()) => Ok(()),
        Err(fault) => fail!("the normal world could not set the clock: {fault}"),
    }
}
