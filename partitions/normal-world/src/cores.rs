//! The other cores, for tests: what they can't do fails the test.

use tantalum_partition::normal_world::cores;
pub use tantalum_partition::normal_world::cores::{Deadline, Job, is_idle, is_on, start, turn_off, turn_on, work};

use crate::report::{Outcome, check, fail};

/// Gives a core something to do.
pub fn run_on(index: usize, job: Job, argument: u64) -> Outcome {
    check!(
        cores::run_on(index, job, argument),
        "core {index} to be ready for work: has it come back from the last?"
    );
    Ok(())
}

/// Waits until a core has done what it was given; returns what the function returned.
pub fn wait_for(index: usize, milliseconds: u64) -> Outcome<u64> {
    match cores::wait_for(index, milliseconds) {
        Some(result) => Ok(result),
        None => fail!("expected core {index} to finish within {milliseconds} ms"),
    }
}

/// Has every core, this one too, do something at the same time; passes the results on, core by core.
pub fn run_on_all(
    cores: usize,
    job: Job,
    argument: u64,
    milliseconds: u64,
    mut check: impl FnMut(usize, u64) -> Outcome,
) -> Outcome {
    for index in 1..cores {
        run_on(index, job, argument)?;
    }
    let own = job(0, argument);
    let mut outcome = check(0, own);
    for index in 1..cores {
        let one = wait_for(index, milliseconds).and_then(|result| check(index, result));
        outcome = outcome.and(one);
    }
    outcome
}
