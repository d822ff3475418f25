//! Interrupts of partitions' devices, and what partitions do with the normal world's while they work.

use tantalum_agent::{CLOCK, CLOCK_DEVICE, Command, DONE, EXITS, FAILED, LINE, LINE_DEVICE, PLAIN, QUEUED};
use tantalum_partition::{
    arch,
    ffa::{FfaError, Outcome as Answer, Partition, Response, SMC, Uuid},
    normal_world::{gic, pmu, timer},
};

use super::tests;
use crate::{
    clock::{CLEAR, fire},
    cores::{self, Deadline},
    report::{Outcome, check, expect_eq, fail},
    talk::{DIRECT_REQ, command, expect_alive, expect_error, finish, send, smc, to},
    world::World,
};

tests! { "devices":
    interrupt_while_the_normal_world_runs,
    interrupt_on_every_core,
    interrupt_of_a_core_that_goes_off,
    private_interrupt_of_every_core,
    interrupt_while_the_owner_runs,
    interrupt_while_another_runs,
    interrupt_while_the_owner_is_blocked,
    interrupt_while_the_owner_is_preempted,
    interrupt_while_one_runs_that_queues_it,
    many_interrupts_lose_nothing,
    level_comes_until_it_is_low,
    owner_with_one_context_runs_on_another_core,
    normal_world_is_kept_waiting_by_one_that_queues,
    normal_world_is_told_by_a_managed_exit,
    chain_ends_by_a_managed_exit,
    chain_of_three_is_unwound_and_resumed,
}

/// Registers of a PL011: data, interrupt mask, interrupt clear.
const UART_DATA: u64 = 0x00;
const UART_MASK: u64 = 0x38;
const UART_CLEAR: u64 = 0x44;
const TRANSMIT: u64 = 1 << 5;

/// What a context has heard: how many interrupts, the last, when, managed exits.
fn heard(partition: Partition) -> Outcome<[u64; 4]> {
    let [count, last, at, exits, wrong, ..] = command(partition, Command::Heard, &[])?;
    expect_eq!(
        wrong,
        0,
        "interrupts that came as IRQ instead of FIQ, or the other way round"
    );
    Ok([count, last, at, exits])
}

/// The owner of the clock, listening to it on this core.
fn clock(world: &World) -> Outcome<Partition> {
    let clock = world.need(CLOCK)?;
    let (base, interrupt) = CLOCK_DEVICE;
    let _ = command(clock, Command::Listen, &[u64::from(interrupt), 0, base + CLEAR, 1])?;
    Ok(clock)
}

/// A partition that listens to what the SPM itself has to say.
fn listening(world: &World, uuid: Uuid) -> Outcome<Partition> {
    let partition = world.need(uuid)?;
    let _ = command(partition, Command::Listen, &[])?;
    Ok(partition)
}

/// Expects that the clock has interrupted its owner `times` times since `before`; returns when it did last.
fn expect_heard(clock: Partition, before: u64, times: u64, what: &str) -> Outcome<u64> {
    let [count, last, at, _] = heard(clock)?;
    expect_eq!(
        count - before,
        times,
        "interrupts that the clock's owner has heard {what}"
    );
    expect_eq!(last, u64::from(CLOCK_DEVICE.1), "the interrupt that it heard {what}");
    Ok(at)
}

fn interrupt_while_the_normal_world_runs(world: &World) -> Outcome {
    let clock = clock(world)?;
    let [before, ..] = heard(clock)?;
    let start = arch::counter();
    fire(0)?;
    arch::wait_a_little();
    let end = arch::counter();
    let at = expect_heard(clock, before, 1, "while the normal world ran")?;
    check!(
        (start..end).contains(&at),
        "that it was handled at once: from {start} to {end}, got {at}"
    );
    expect_alive(clock)
}

fn interrupt_on_every_core(world: &World) -> Outcome {
    let clock = clock(world)?;
    for core in 1..world.cores {
        let [done, ..] = command(clock, Command::Route, &[u64::from(CLOCK_DEVICE.1), core as u64])?;
        expect_eq!(
            done,
            1,
            "whether the clock's owner could have its interrupt come to core {core}"
        );
        // The other core is in the normal world, doing nothing in particular.
        cores::run_on(core, on_another_core, u64::from(clock.id))?;
        let result = cores::wait_for(core, 5000)?;
        expect_eq!(
            result,
            0,
            "core {core}: 1 does not listen, 2 not fired, 3 not heard once"
        );
    }
    let [done, ..] = command(clock, Command::Route, &[u64::from(CLOCK_DEVICE.1), 0])?;
    expect_eq!(done, 1, "whether it comes back to core 0");
    interrupt_while_the_normal_world_runs(world)
}

fn interrupt_of_a_core_that_goes_off(world: &World) -> Outcome {
    let clock = clock(world)?;
    if world.cores < 2 {
        return Err(crate::report::Verdict::Skipped("one core only"));
    }
    let interrupt = u64::from(CLOCK_DEVICE.1);
    let [done, ..] = command(clock, Command::Route, &[interrupt, 1])?;
    expect_eq!(
        done,
        1,
        "whether the clock's owner could have its interrupt come to core 1"
    );
    check!(cores::turn_off(1), "core 1 to go off");
    // Another one takes its interrupts in, here too.
    let outcome = interrupt_while_the_normal_world_runs(world);
    check!(cores::turn_on(1), "core 1 to come up again");
    outcome?;
    cores::run_on(1, on_another_core, u64::from(clock.id))?;
    let result = cores::wait_for(1, 5000)?;
    expect_eq!(
        result,
        0,
        "core 1, on again: 1 does not listen, 2 not fired, 3 not heard once"
    );
    let [done, ..] = command(clock, Command::Route, &[interrupt, 0])?;
    expect_eq!(done, 1, "whether it comes back to core 0");
    Ok(())
}

/// A message from another core, to the context that is there.
fn message(id: u64, words: [u64; 5]) -> Option<Response> {
    match SMC.direct_req64(0, (id & 0xffff) as u16, words) {
        Ok(Answer::Response(response)) => Some(response),
        _ => None,
    }
}

fn on_another_core(_: usize, id: u64) -> u64 {
    let (base, interrupt) = CLOCK_DEVICE;
    let listen = Command::Listen.five_words(&[u64::from(interrupt), 0, base + CLEAR, 1]);
    let heard = || message(id, Command::Heard.five_words(&[])).map_or(0, |answer| answer.payload()[1]);
    if message(id, listen).is_none_or(|answer| answer.payload()[0] != DONE) {
        return 1;
    }
    let before = heard();
    if fire(0).is_err() {
        return 2;
    }
    arch::wait_a_little();
    u64::from(heard() != before + 1) * 3
}

fn private_interrupt_of_every_core(world: &World) -> Outcome {
    let clock = clock(world)?;
    for core in 0..world.cores {
        let (id, core_or_this) = (u64::from(clock.id), core);
        let result = if core == 0 {
            private_interrupt(0, id)
        } else {
            cores::run_on(core, private_interrupt, id)?;
            cores::wait_for(core, 5000)?
        };
        expect_eq!(
            result,
            0,
            "core {core_or_this}: 1 does not listen, 2 not heard ten times, 3 something else heard"
        );
    }
    Ok(())
}

fn private_interrupt(_: usize, id: u64) -> u64 {
    let interrupt = u64::from(pmu::INTERRUPT);
    let listen = Command::Listen.five_words(&[interrupt, 0, CLOCK_DEVICE.0 + CLEAR, 1]);
    let heard = || {
        message(id, Command::Heard.five_words(&[])).map_or([0; 2], |answer| [answer.payload()[1], answer.payload()[2]])
    };
    if message(id, listen).is_none_or(|answer| answer.payload()[0] != DONE) {
        return 1;
    }
    let [before, _] = heard();
    for _ in 0..10 {
        pmu::overflow();
        arch::wait_a_little();
    }
    let [after, last] = heard();
    if after != before + 10 {
        return 2;
    }
    u64::from(last != interrupt) * 3
}

/// How long a partition works in which the clock, set to a second, interrupts.
const WORK: u64 = 1300;

fn interrupt_while_the_owner_runs(world: &World) -> Outcome {
    let clock = clock(world)?;
    let [before, ..] = heard(clock)?;
    fire(1)?;
    let start = arch::counter();
    let [spun, end, ..] = command(clock, Command::Spin, &[WORK])?;
    check!(
        spun >= arch::ticks(WORK),
        "the whole time to be spent, got {spun} ticks"
    );
    let at = expect_heard(clock, before, 1, "while it ran")?;
    check!(
        (start..end).contains(&at),
        "an interrupt from {start} to {end}, got {at}"
    );
    Ok(())
}

fn interrupt_while_another_runs(world: &World) -> Outcome {
    let (clock, plain) = (clock(world)?, world.need(PLAIN)?);
    let [before, ..] = heard(clock)?;
    fire(1)?;
    let start = arch::counter();
    let [_, end, ..] = command(plain, Command::Spin, &[WORK])?;
    let at = expect_heard(clock, before, 1, "while another partition ran")?;
    check!(
        (start..end).contains(&at),
        "an interrupt from {start} to {end}, got {at}"
    );
    expect_alive(plain)
}

/// The words of a message that has a partition send another one a command.
fn through(to: Partition, words: [u64; 5]) -> [u64; 14] {
    let mut arguments = [0; 6];
    arguments[0] = u64::from(to.id);
    arguments[1..].copy_from_slice(&words);
    Command::Forward.words(&arguments)
}

fn interrupt_while_the_owner_is_blocked(world: &World) -> Outcome {
    let (clock, plain) = (clock(world)?, world.need(PLAIN)?);
    let [before, ..] = heard(clock)?;
    fire(1)?;
    let words = through(plain, Command::Spin.five_words(&[WORK]));
    let response = finish(send(clock, words), "a message through the clock's owner")?;
    expect_eq!(response.payload()[0], DONE, "the first word that came back");
    let end = response.payload()[2];
    let at = expect_heard(clock, before, 1, "while it waited for another partition")?;
    check!(
        at >= end,
        "an interrupt after the other one was done at {end}, got {at}"
    );
    Ok(())
}

/// How long it takes until the normal world's timer interrupts: long enough for a chain of messages on a machine that has much else to do.
const TIMER: u64 = 50;
/// How long partitions work meanwhile.
const LONGER: u64 = 200;

/// Has a partition spin, and the normal world's timer interrupt it.
pub(super) fn interrupted(partition: Partition, words: [u64; 14]) -> Outcome<(Answer, Option<u32>)> {
    gic::enable(timer::INTERRUPT);
    timer::start(TIMER);
    let answer = send(partition, words);
    let mut taken = gic::take();
    if matches!(answer, Ok(Answer::Response(_))) {
        // It was held back, or, where the machine has much else to do, the timer is late.
        let _ = Deadline::after(1000).wait_until(|| {
            taken = taken.or_else(gic::take);
            taken.is_some()
        });
    }
    timer::stop();
    gic::disable(timer::INTERRUPT);
    match answer {
        Ok(answer) => Ok((answer, taken)),
        Err(error) => fail!("a partition that is to be interrupted: {error:?}"),
    }
}

/// The same for a partition that is to be found at work. On a machine that has much else to do it may be done before the
/// interrupt comes, though not each time that it works for longer.
fn caught(partition: Partition, words: impl Fn(u64) -> [u64; 14]) -> Outcome<(Answer, Option<u32>)> {
    let is_done = |answer: &Answer| matches!(answer, Answer::Response(response) if response.payload()[0] == DONE);
    for work in [LONGER, 4 * LONGER] {
        let (answer, taken) = interrupted(partition, words(work))?;
        if !is_done(&answer) {
            return Ok((answer, taken));
        }
    }
    interrupted(partition, words(16 * LONGER))
}

fn interrupt_while_the_owner_is_preempted(world: &World) -> Outcome {
    let clock = clock(world)?;
    let [before, ..] = heard(clock)?;
    let (answer, taken) = caught(clock, |work| Command::Spin.words(&[work]))?;
    let Answer::Interrupted { partition, context } = answer else {
        fail!("a partition to be preempted, got {answer:?}");
    };
    expect_eq!(
        taken,
        Some(timer::INTERRUPT),
        "the interrupt that the normal world finds pending"
    );
    fire(0)?;
    arch::wait_a_little();
    let resumed = arch::counter();
    let response = finish(SMC.run(partition, context), "running a preempted partition")?;
    expect_eq!(response.payload()[0], DONE, "the first word of its response");
    let at = expect_heard(clock, before, 1, "while it was preempted")?;
    check!(
        at >= resumed,
        "an interrupt after it was resumed at {resumed}, got {at}"
    );
    Ok(())
}

fn interrupt_while_one_runs_that_queues_it(world: &World) -> Outcome {
    let (clock, queued) = (clock(world)?, world.need(QUEUED)?);
    let [before, ..] = heard(clock)?;
    fire(1)?;
    let [_, end, ..] = command(queued, Command::Spin, &[WORK])?;
    let at = expect_heard(clock, before, 1, "while a partition ran that queues it")?;
    check!(at >= end, "an interrupt after that was done at {end}, got {at}");
    Ok(())
}

fn many_interrupts_lose_nothing(world: &World) -> Outcome {
    let clock = clock(world)?;
    let [before, ..] = heard(clock)?;
    for _ in 0..500 {
        fire(0)?;
        arch::wait_a_little();
    }
    let _ = expect_heard(clock, before, 500, "one after the other")?;
    Ok(())
}

/// The owner of the secure UART, listening to it.
fn line(world: &World) -> Outcome<Partition> {
    let line = world.need(LINE)?;
    let (base, interrupt) = LINE_DEVICE;
    let _ = command(
        line,
        Command::Listen,
        &[u64::from(interrupt), 1, base + UART_CLEAR, 0x7ff],
    )?;
    let _ = command(line, Command::Write32, &[base + UART_MASK, TRANSMIT])?;
    Ok(line)
}

fn level_comes_until_it_is_low(world: &World) -> Outcome {
    let line = line(world)?;
    let [before, ..] = heard(line)?;
    for _ in 0..10 {
        let _ = command(line, Command::Write32, &[LINE_DEVICE.0 + UART_DATA, u64::from(b'.')])?;
    }
    let [count, last, ..] = heard(line)?;
    expect_eq!(count - before, 10, "interrupts for ten characters, one after the other");
    expect_eq!(last, u64::from(LINE_DEVICE.1), "the last interrupt");
    Ok(())
}

fn owner_with_one_context_runs_on_another_core(world: &World) -> Outcome {
    let line = line(world)?;
    if world.cores < 2 {
        return Err(crate::report::Verdict::Skipped("one core only"));
    }
    let [before, ..] = heard(line)?;
    // Its interrupt comes to core 0, which has nothing to do with it.
    cores::run_on(1, line_elsewhere, u64::from(line.id))?;
    expect_eq!(
        cores::wait_for(1, 20_000)?,
        0,
        "characters on core 1 that could not be written, or did not interrupt"
    );
    let [count, ..] = heard(line)?;
    expect_eq!(count - before, 50, "interrupts for fifty characters");
    Ok(())
}

fn line_elsewhere(_: usize, id: u64) -> u64 {
    let words = Command::Write32.five_words(&[LINE_DEVICE.0 + UART_DATA, u64::from(b'.')]);
    let heard = || message(id, Command::Heard.five_words(&[])).map_or(0, |answer| answer.payload()[1]);
    let mut failed = 0;
    for _ in 0..50 {
        let before = heard();
        let written = message(id, words).is_some_and(|answer| answer.payload()[..2] == [DONE, 0]);
        // Core 0 gets the interrupt, and tells this one, while the partition responds and is asked again.
        let told = Deadline::after(1000).wait_until(|| heard() == before + 1);
        failed += u64::from(!written || !told);
    }
    failed
}

fn normal_world_is_kept_waiting_by_one_that_queues(world: &World) -> Outcome {
    let queued = world.need(QUEUED)?;
    let (answer, taken) = interrupted(queued, Command::Spin.words(&[LONGER]))?;
    let Answer::Response(response) = answer else {
        fail!("a response, as the partition queues the normal world's interrupts, got {answer:?}");
    };
    expect_eq!(response.payload()[0], DONE, "the first word of the response");
    expect_eq!(
        taken,
        Some(timer::INTERRUPT),
        "the interrupt that the normal world finds pending"
    );
    Ok(())
}

fn normal_world_is_told_by_a_managed_exit(world: &World) -> Outcome {
    for uuid in [EXITS, LINE] {
        let partition = listening(world, uuid)?;
        let [_, _, _, before] = heard(partition)?;
        let (answer, taken) = interrupted(partition, Command::Spin.words(&[2000]))?;
        let Answer::Response(response) = answer else {
            fail!("a response, as the partition exits in its own way, got {answer:?}");
        };
        let spun = response.payload()[1];
        check!(spun < arch::ticks(1000), "that it exits at once, got {spun} ticks");
        expect_eq!(
            taken,
            Some(timer::INTERRUPT),
            "the interrupt that the normal world finds pending"
        );
        let [_, last, _, exits] = heard(partition)?;
        expect_eq!(
            (last, exits - before),
            (4, 1),
            "the interrupt that it has heard, and how many managed exits"
        );
        expect_alive(partition)?;
    }
    Ok(())
}

fn chain_ends_by_a_managed_exit(world: &World) -> Outcome {
    let (exits, plain) = (listening(world, EXITS)?, world.need(PLAIN)?);
    let (answer, taken) = caught(exits, |work| through(plain, Command::Spin.five_words(&[work])))?;
    // The one inside is preempted, the one outside exits and leaves it to its fate.
    let Answer::Response(response) = answer else {
        fail!("a response of the partition that exits in its own way, got {answer:?}");
    };
    expect_eq!(response.payload()[..2], [FAILED, 3], "that it was told to leave");
    expect_eq!(
        taken,
        Some(timer::INTERRUPT),
        "the interrupt that the normal world finds pending"
    );
    let answer = smc(&[DIRECT_REQ, to(plain), 0, 1]);
    expect_error(&answer, FfaError::Busy, "a request to the one that was preempted")?;
    // Nobody waits for it any more: the normal world lets it come to its end.
    match SMC.run(plain.id, 0) {
        Ok(Answer::Waiting) => {}
        other => fail!("the preempted partition to finish and wait, got {other:?}"),
    }
    expect_alive(plain)?;
    expect_alive(exits)
}

fn chain_of_three_is_unwound_and_resumed(world: &World) -> Outcome {
    // clock -> line -> plain: preempted, told, preempted. The interrupt of the clock comes in between.
    let (clock, line, plain) = (clock(world)?, listening(world, LINE)?, world.need(PLAIN)?);
    let [before, ..] = heard(clock)?;
    let (answer, taken) = caught(clock, |work| {
        let [a, b, ..] = Command::Spin.five_words(&[work]);
        through(line, [Command::Forward.word(), u64::from(plain.id), a, b, 0])
    })?;
    let Answer::Interrupted { partition, context } = answer else {
        fail!("a chain to be interrupted, got {answer:?}");
    };
    expect_eq!(partition, clock.id, "the partition to run again");
    expect_eq!(
        taken,
        Some(timer::INTERRUPT),
        "the interrupt that the normal world finds pending"
    );
    fire(0)?;
    arch::wait_a_little();
    let response = finish(SMC.run(partition, context), "running a chain again")?;
    expect_eq!(
        response.payload()[..2],
        [FAILED, 3],
        "what came back: the one in the middle was told to leave"
    );
    let _ = expect_heard(clock, before, 1, "while its chain was preempted")?;
    match SMC.run(plain.id, 0) {
        Ok(Answer::Waiting) => {}
        other => fail!("the innermost partition to finish and wait, got {other:?}"),
    }
    expect_alive(clock)?;
    expect_alive(line)?;
    expect_alive(plain)
}
