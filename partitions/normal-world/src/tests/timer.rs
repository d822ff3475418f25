//! Timers of partitions: while the partition runs, waits, is preempted, has moved; and interrupts between its contexts.

use tantalum_agent::{Alarm, CLOCK, Command, ECHO, FORWARD, PLAIN, USER};
use tantalum_partition::{
    arch,
    ffa::{Outcome as Answer, Partition, SMC},
    interrupts,
    normal_world::{gic, timer},
    timer::{ENABLE, STATUS},
};

use super::tests;
use crate::{
    cores,
    report::{Outcome, check, expect_eq, fail},
    talk::{ask_patiently, command, done, expect_alive, finish, patiently, send},
    world::World,
};

tests! { "timer":
    comes_while_the_partition_runs,
    comes_at_s_el0,
    runs_a_partition_that_waits,
    comes_again_and_again,
    comes_on_top_of_another_partition,
    comes_while_the_partition_is_preempted,
    leaves_the_normal_world_its_share,
    follows_a_partition_that_moves,
    outlives_the_core_that_kept_it,
    each_context_has_its_own,
    ipi_wakes_a_context_that_waits,
    ipi_reaches_a_context_that_runs,
}

/// The interrupts, as a message has them.
const TIMER: u64 = interrupts::TIMER as u64;
const IPI: u64 = interrupts::IPI as u64;
/// Milliseconds by which an alarm may be late, on a machine that is a busy program itself.
const PATIENCE: u64 = 500;
/// A software-generated interrupt that nothing else uses.
const SGI: u32 = 3;

/// A partition with a context on each core.
fn pinned(world: &World) -> Outcome<Partition> {
    world.find(CLOCK).map_or_else(|| world.need(ECHO), Ok)
}

/// A partition with one context.
fn moving(world: &World) -> Outcome<Partition> {
    world.find(PLAIN).map_or_else(|| world.need(FORWARD), Ok)
}

fn alarm(to: Partition, what: Alarm, value: u64, count: u64) -> Outcome<[u64; 13]> {
    let arguments = [what as u64, value, count];
    let answer = ask_patiently(to, Command::Alarm.words(&arguments))?;
    done(to, Command::Alarm, &arguments, answer)
}

/// The words of a report: how often it was run, the last interrupt that it was told of and took, lateness, alarms.
fn report(of: Partition) -> Outcome<[u64; 5]> {
    let [runs, told, taken, late, alarms, ..] = alarm(of, Alarm::Report, 0, 0)?;
    Ok([runs, told, taken, late, alarms])
}

/// Fails unless a partition is run for so many alarms, no more, and the last of them is in time, while the normal world does something over and over.
fn expect_alarms_during(of: Partition, count: u64, mut activity: impl FnMut() -> Outcome) -> Outcome {
    let (mut alarms, mut runs) = (0, 0);
    for _ in 0..500 {
        activity()?;
        let [more_runs, told, taken, late, more] = report(of)?;
        (runs, alarms) = (runs + more_runs, alarms + more);
        if more > 0 {
            expect_eq!(
                (told, taken),
                (TIMER, TIMER),
                "the interrupts that it was told of, and took"
            );
            check!(
                late < arch::ticks(PATIENCE),
                "the last alarm in time, it was {late} ticks late"
            );
        }
        if alarms >= count {
            break;
        }
    }
    activity()?;
    let [.., more] = report(of)?;
    expect_eq!(alarms + more, count, "the alarms of partition {:#x}", of.id);
    check!(runs > 0, "it to be run for its alarms");
    Ok(())
}

fn expect_alarms(of: Partition, count: u64) -> Outcome {
    expect_alarms_during(of, count, || {
        timer::delay(10);
        Ok(())
    })
}

fn expect_spun(words: &[u64; 13], earliest: u64) -> Outcome {
    let [first, late, status, again, rest, ..] = *words;
    expect_eq!(first, TIMER, "the interrupt that the partition took");
    expect_eq!(status, ENABLE | STATUS, "the timer's control register");
    expect_eq!(
        again,
        TIMER,
        "the interrupt after it was ended, with the timer as it was"
    );
    check!(rest != TIMER, "the timer's interrupt to go when the timer is stopped");
    check!(
        (earliest..earliest + arch::ticks(PATIENCE)).contains(&late),
        "it to be at least {earliest} ticks late and not much more, got {late}"
    );
    Ok(())
}

fn comes_while_the_partition_runs(world: &World) -> Outcome {
    for partition in [pinned(world)?, moving(world)?] {
        for microseconds in [0, 1, 100, 3000] {
            expect_spun(&alarm(partition, Alarm::Spin, microseconds, 0)?, 0)?;
        }
    }
    Ok(())
}

fn comes_at_s_el0(world: &World) -> Outcome {
    let user = world.need(USER)?;
    report(user)?;
    alarm(user, Alarm::Set, 1000, 5)?;
    expect_alarms(user, 5)?;
    expect_spun(&alarm(user, Alarm::Spin, 500, 0)?, 0)
}

fn runs_a_partition_that_waits(world: &World) -> Outcome {
    for partition in [pinned(world)?, moving(world)?] {
        report(partition)?;
        alarm(partition, Alarm::Set, 2000, 1)?;
        expect_alarms(partition, 1)?;
        expect_alive(partition)?;
    }
    Ok(())
}

fn comes_again_and_again(world: &World) -> Outcome {
    let echo = pinned(world)?;
    report(echo)?;
    alarm(echo, Alarm::Set, 200, 50)?;
    // Two timers on one core.
    let forward = moving(world)?;
    report(forward)?;
    alarm(forward, Alarm::Set, 300, 20)?;
    expect_alarms(echo, 50)?;
    expect_alarms(forward, 20)
}

fn comes_on_top_of_another_partition(world: &World) -> Outcome {
    let (echo, forward) = (pinned(world)?, moving(world)?);
    report(echo)?;
    alarm(echo, Alarm::Set, 1000, 5)?;
    let [spun, ..] = command(forward, Command::Spin, &[30])?;
    check!(
        spun >= arch::ticks(30),
        "a partition to spin for 30 ms, got {spun} ticks"
    );
    expect_alarms(echo, 5)
}

fn comes_while_the_partition_is_preempted(world: &World) -> Outcome {
    for partition in [pinned(world)?, moving(world)?] {
        gic::enable(SGI);
        gic::send(SGI, arch::mpidr());
        let answer = send(partition, Command::Alarm.words(&[Alarm::Spin as u64, 2000]));
        let _ = gic::take();
        // The first entry may end before the timer was set.
        let Ok(Answer::Interrupted { partition: id, context }) = answer else {
            fail!("a partition that is entered with an interrupt pending: expected FFA_INTERRUPT, got {answer:?}");
        };
        timer::start(1);
        let mut answer = SMC.run(id, context);
        let _ = gic::take();
        timer::stop();
        timer::delay(10);
        gic::enable(timer::INTERRUPT);
        timer::start(1);
        if matches!(answer, Ok(Answer::Interrupted { .. })) {
            answer = SMC.run(id, context);
        }
        let _ = gic::take();
        timer::stop();
        gic::disable(timer::INTERRUPT);
        gic::disable(SGI);
        let response = finish(answer, "a partition whose timer came while it was preempted")?;
        let mut words = [0; 13];
        words.copy_from_slice(&response.payload()[1..]);
        expect_spun(&words, 0)?;
    }
    Ok(())
}

fn leaves_the_normal_world_its_share(world: &World) -> Outcome {
    let echo = pinned(world)?;
    report(echo)?;
    alarm(echo, Alarm::Storm, 0, 1000)?;
    let mut turns = 0_u64;
    let end = arch::counter() + arch::ticks(200);
    while arch::counter() < end {
        turns += 1;
    }
    let [.., alarms] = report(echo)?;
    check!(
        alarms >= 100,
        "a partition that always wants to run to do so, it was run {alarms} times"
    );
    check!(
        turns >= 1000,
        "the normal world to run as well, it came {turns} times to look at the clock"
    );
    // What is left of them comes to nothing.
    alarm(echo, Alarm::Set, 1, 1)?;
    timer::delay(5);
    report(echo)?;
    expect_alive(echo)
}

/// Something for another core to ask a partition: its id, what, a value, and which word of the answer to return.
const fn errand(of: Partition, what: Alarm, value: u64, word: u64) -> u64 {
    of.id as u64 | (what as u64) << 16 | word << 24 | value << 32
}

fn run_errand(_: usize, errand: u64) -> u64 {
    let words = Command::Alarm.words(&[errand >> 16 & 0xff, errand >> 32, 1]);
    let id = (errand & 0xffff) as u16;
    let answer = patiently(|| SMC.direct_req64(0, id, [words[0], words[1], words[2], words[3], 0]));
    let Ok(response) = finish(answer, "a message of another core") else {
        return u64::MAX;
    };
    response
        .payload()
        .get((errand >> 24 & 0xff) as usize)
        .copied()
        .unwrap_or(u64::MAX)
}

/// Has another core ask a partition something.
fn ask_from(core: usize, errand: u64) -> Outcome<u64> {
    cores::run_on(core, run_errand, errand)?;
    cores::wait_for(core, 5000)
}

fn follows_a_partition_that_moves(world: &World) -> Outcome {
    world.need_two_cores()?;
    let forward = moving(world)?;
    report(forward)?;
    alarm(forward, Alarm::Set, 5000, 1)?;
    // It waits on another core when its time comes.
    ask_from(1, errand(forward, Alarm::Await, 0, 1))?;
    expect_alarms(forward, 1)?;
    // It runs on another core.
    alarm(forward, Alarm::Set, 100_000, 1)?;
    let got = ask_from(1, errand(forward, Alarm::Await, 2000, 1))?;
    expect_eq!(got, TIMER, "the interrupt that it finds while it runs on another core");
    alarm(forward, Alarm::Set, 1, 1)?;
    timer::delay(5);
    report(forward)?;
    Ok(())
}

fn outlives_the_core_that_kept_it(world: &World) -> Outcome {
    world.need_two_cores()?;
    let forward = moving(world)?;
    report(forward)?;
    ask_from(1, errand(forward, Alarm::Set, 40_000, 0))?;
    check!(cores::turn_off(1), "core 1 to go off");
    let outcome = expect_alarms(forward, 1);
    check!(cores::turn_on(1), "core 1 to come on again");
    outcome
}

fn each_context_has_its_own(world: &World) -> Outcome {
    let echo = pinned(world)?;
    cores::run_on_all(
        world.cores,
        run_errand,
        errand(echo, Alarm::Spin, 2000, 1),
        10_000,
        |core, first| {
            expect_eq!(first, TIMER, "the interrupt that the context of core {core} took");
            Ok(())
        },
    )
}

fn ipi_wakes_a_context_that_waits(world: &World) -> Outcome {
    world.need_two_cores()?;
    let echo = pinned(world)?;
    for core in 1..world.cores {
        expect_eq!(
            ask_from(core, errand(echo, Alarm::Listen, 0, 1))?,
            1,
            "whether there is the interrupt"
        );
        ask_from(core, errand(echo, Alarm::Report, 0, 0))?;
        expect_eq!(
            alarm(echo, Alarm::Send, core as u64, 0)?[0],
            1,
            "whether there is context {core}"
        );
        timer::delay(5);
        let (runs, taken) = (
            ask_from(core, errand(echo, Alarm::Report, 0, 1))?,
            ask_from(core, errand(echo, Alarm::Await, 1, 1))?,
        );
        expect_eq!(
            (runs, taken),
            (1, 0),
            "how often context {core} was run, and what is left"
        );
    }
    expect_eq!(
        alarm(echo, Alarm::Send, 0, 0)?[0],
        0,
        "whether a context may interrupt itself"
    );
    expect_eq!(alarm(echo, Alarm::Send, 64, 0)?[0], 0, "whether there is context 64");
    Ok(())
}

fn ipi_reaches_a_context_that_runs(world: &World) -> Outcome {
    world.need_two_cores()?;
    let echo = pinned(world)?;
    ask_from(1, errand(echo, Alarm::Listen, 0, 1))?;
    cores::run_on(1, run_errand, errand(echo, Alarm::Await, 2000, 1))?;
    timer::delay(200);
    expect_eq!(alarm(echo, Alarm::Send, 1, 0)?[0], 1, "whether there is context 1");
    expect_eq!(
        cores::wait_for(1, 5000)?,
        IPI,
        "the interrupt that context 1 took while it ran"
    );
    Ok(())
}
