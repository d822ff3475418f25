//! Partitions that keep the normal world's interrupts away for longer than they may: stopped, and the normal world goes on.

use tantalum_agent::{CLOCK, CLOCK_DEVICE, Command, DONE, ECHO, EXITS, QUEUED, attack_uuid};
use tantalum_partition::{
    arch,
    ffa::{Error, FfaError, Outcome as Answer, Partition, SMC, Uuid},
    normal_world::{gic, timer},
};

use super::tests;
use crate::{
    clock::{CLEAR, fire},
    cores::{self, Deadline},
    report::{Outcome, check, expect_eq, fail},
    talk::{Conduit, DIRECT_REQ, MSG_WAIT, RUN, call_from, command, expect_alive, expect_error, send, smc, to},
    world::World,
};

tests! { "limits":
    start_that_never_ends,
    managed_exit_that_never_comes,
    queued_interrupts_beyond_a_limit,
    power_message_that_is_never_answered,
    storm_of_a_device,
    handler_that_never_ends,
    others_live_on,
}

/// UUID of the partition that never starts, and its id: the fourth of the SPMC manifest.
const LATE: Uuid = attack_uuid(10);
const LATE_ID: u64 = 0x8004;
/// UUID of the partition that does not answer power messages.
pub const DEAF: Uuid = attack_uuid(11);

/// How long a partition would work that is not stopped, in milliseconds.
const FOR_EVER: u64 = 60_000;
/// How long the SPM may take at most to stop one, on a machine that has much else to do.
const AT_LAST: u64 = 20_000;

/// How long it takes until the normal world has the core back, in milliseconds; `least` is what the partition may take.
fn expect_between(start: u64, least: u64, what: &str) -> Outcome {
    let ticks = arch::counter() - start;
    check!(
        (arch::ticks(least)..arch::ticks(AT_LAST)).contains(&ticks),
        "{what} to end after {least} ms, got {ticks} ticks of {} a millisecond",
        arch::ticks(1)
    );
    Ok(())
}

fn expect_stopped(partition: Partition) -> Outcome {
    let answer = smc(&[DIRECT_REQ, to(partition), 0, 1]);
    expect_error(&answer, FfaError::Aborted, "a request to a partition that was stopped")
}

fn start_that_never_ends(world: &World) -> Outcome {
    check!(
        world.find(LATE).is_none(),
        "a partition that never started not to be listed"
    );
    let answer = smc(&[DIRECT_REQ, LATE_ID, 0, 1]);
    expect_error(
        &answer,
        FfaError::Aborted,
        "a request to a partition that never started",
    )
}

/// Has a partition work for ever, and the normal world's timer interrupt it; it is to be stopped after `least` milliseconds, and
/// the interrupt to be there then.
fn expect_cut_short(partition: Partition, words: [u64; 14], least: u64) -> Outcome {
    gic::enable(timer::INTERRUPT);
    timer::start(1);
    let start = arch::counter();
    let answer = send(partition, words);
    let ended = expect_between(start, least, "its work");
    let mut taken = None;
    let _ = Deadline::after(1000).wait_until(|| {
        taken = taken.or_else(gic::take);
        taken.is_some()
    });
    timer::stop();
    gic::disable(timer::INTERRUPT);
    let Err(Error::Ffa(FfaError::Aborted)) = answer else {
        fail!("FFA_ERROR(ABORTED), as the partition is stopped, got {answer:?}");
    };
    expect_eq!(
        taken,
        Some(timer::INTERRUPT),
        "the interrupt that the normal world finds pending"
    );
    ended
}

fn managed_exit_that_never_comes(world: &World) -> Outcome {
    let exits = world.need(EXITS)?;
    // It is started afresh, and does it again.
    for _ in 0..2 {
        expect_alive(exits)?;
        // It has its interrupts masked, and hears nothing.
        expect_cut_short(exits, Command::Spin.words(&[FOR_EVER]), 100)?;
    }
    expect_alive(exits)
}

fn queued_interrupts_beyond_a_limit(world: &World) -> Outcome {
    let (queued, echo) = (world.need(QUEUED)?, world.need(ECHO)?);
    let mut arguments = [0; 6];
    arguments[0] = u64::from(echo.id);
    arguments[1..].copy_from_slice(&Command::Spin.five_words(&[1000]));
    expect_cut_short(queued, Command::Forward.words(&arguments), 200)?;
    expect_stopped(queued)?;
    // The one that worked for it was preempted, and comes to its end when it is run.
    let busy = smc(&[DIRECT_REQ, to(echo), 0, 1]);
    expect_error(&busy, FfaError::Busy, "a request to a partition that is preempted")?;
    let answer = smc(&[RUN, u64::from(echo.id) << 16]);
    expect_eq!(answer[0], MSG_WAIT, "x0 when it has ended its work");
    expect_alive(echo)
}

fn power_message_that_is_never_answered(world: &World) -> Outcome {
    let deaf = world.need(DEAF)?;
    world.need_two_cores()?;
    let _ = command(deaf, Command::Stick, &[1])?;
    let start = arch::counter();
    check!(cores::turn_off(1), "core 1 to go off");
    expect_between(start, 300, "the wait for an answer")?;
    check!(cores::turn_on(1), "core 1 to come up again");
    expect_stopped(deaf)
}

fn storm_of_a_device(world: &World) -> Outcome {
    /// HVC: reconfigures an interrupt; switches it on or off.
    const RECONFIGURE: u64 = 0xff09;
    const STATUS: u64 = 2;
    let clock = world.need(CLOCK)?;
    let (base, interrupt) = (CLOCK_DEVICE.0, u64::from(CLOCK_DEVICE.1));
    // It handles its interrupt, and never makes the device quiet.
    let _ = command(clock, Command::Listen, &[interrupt, 0, 0, 0])?;
    let start = arch::counter();
    fire(0)?;
    expect_between(start, 100, "the storm")?;
    let [_, _, _, _, _, stormed, ..] = command(clock, Command::Heard, &[])?;
    check!(stormed >= 32, "many interrupts, got {stormed}");
    fire(0)?;
    arch::wait_a_little();
    let [_, _, _, _, _, later, ..] = command(clock, Command::Heard, &[])?;
    expect_eq!(later, stormed, "interrupts after that was disabled");
    // Its partition may have it again.
    let _ = command(clock, Command::Listen, &[interrupt, 0, base + CLEAR, 1])?;
    let _ = command(clock, Command::Write32, &[base + CLEAR, 1])?;
    let answer = call_from(clock, Conduit::Hvc, &[RECONFIGURE, interrupt, STATUS, 1])?;
    expect_eq!(answer[0], 0, "whether the interrupt could be enabled");
    fire(0)?;
    arch::wait_a_little();
    let [_, _, _, _, _, heard, ..] = command(clock, Command::Heard, &[])?;
    expect_eq!(heard, stormed + 1, "interrupts after it was enabled");
    Ok(())
}

fn handler_that_never_ends(world: &World) -> Outcome {
    let clock = world.need(CLOCK)?;
    let interrupt = u64::from(CLOCK_DEVICE.1);
    // On the last core, which is in the normal world.
    let last = world.cores - 1;
    if last != 0 {
        let [done, ..] = command(clock, Command::Route, &[interrupt, last as u64])?;
        expect_eq!(done, 1, "whether the interrupt could be had on core {last}");
    }
    let sticks = |core: usize, id: u64| {
        let _ = core;
        let message = |words| SMC.direct_req64(0, (id & 0xffff) as u16, words);
        let listens = message(Command::Listen.five_words(&[u64::from(CLOCK_DEVICE.1), 0, 0, 0]));
        let sticks = message(Command::Stick.five_words(&[0]));
        let done = |answer| matches!(answer, Ok(Answer::Response(response)) if response.payload()[0] == DONE);
        if !done(listens) || !done(sticks) {
            return 1;
        }
        let start = arch::counter();
        if fire(0).is_err() {
            return 2;
        }
        let aborted = || matches!(message([1; 5]), Err(Error::Ffa(FfaError::Aborted)));
        let ended = Deadline::after(AT_LAST).wait_until(aborted);
        if !ended {
            return 3;
        }
        u64::from(expect_between(start, 100, "the handler").is_err()) * 4
    };
    let result = if last == 0 {
        sticks(0, u64::from(clock.id))
    } else {
        cores::run_on(last, sticks, u64::from(clock.id))?;
        cores::wait_for(last, AT_LAST)?
    };
    expect_eq!(
        result,
        0,
        "core {last}: 1 does not listen, 2 not fired, 3 not stopped, 4 too early or too late"
    );
    // The interrupt comes no more.
    fire(0)?;
    arch::wait_a_little();
    expect_stopped(clock)
}

fn others_live_on(world: &World) -> Outcome {
    expect_alive(world.need(ECHO)?)?;
    expect_alive(world.need(EXITS)?)?;
    for core in 1..world.cores {
        let echo = world.need(ECHO)?;
        let alive = |_: usize, id: u64| {
            u64::from(matches!(
                SMC.direct_req64(0, (id & 0xffff) as u16, [1; 5]),
                Ok(Answer::Response(_))
            ))
        };
        cores::run_on(core, alive, u64::from(echo.id))?;
        expect_eq!(
            cores::wait_for(core, 10_000)?,
            1,
            "core {core}: whether the echo answers"
        );
    }
    Ok(())
}
