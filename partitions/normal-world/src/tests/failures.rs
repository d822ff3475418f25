//! Partitions that can't go on: stopped alone, with an error for who waits, and nothing for all others.

use tantalum_agent::{Command, DONE, Death, ECHO, FAILED, attack_uuid};
use tantalum_partition::{
    ffa::{Error, FfaError, Outcome as Answer, Partition, SMC},
    normal_world::{gic, timer},
};

use super::{Test, tests};
use crate::{
    cores,
    report::{Outcome, check, expect_eq, fail},
    talk::{DIRECT_REQ, DIRECT_REQ2, RUN, error, expect_alive, expect_error, send, smc, to},
    world::World,
};

tests! { "failures":
    partition_that_waits_for_a_failing_one_gets_aborted,
    partition_fails_on_one_core_while_another_runs_it,
    jump_away_without_vectors_stops_the_partition,
    fault_in_the_fault_handler_stops_the_partition,
    fault_without_a_stack_stops_the_partition,
    endless_loop_ends_with_an_interrupt,
    failed_initialisation_leaves_the_partition_out,
    all_others_live_on,
}

/// The last test where the attacking partition is needed alive: it hangs afterwards.
pub const LAST: &[Test] = &[Test::new(
    "failures::endless_exceptions_end_with_an_interrupt",
    endless_exceptions_end_with_an_interrupt,
)];

/// Milliseconds after which to interrupt a partition that should have been stopped, so that the test ends in any case.
const LIMIT: u64 = 2000;

/// Attacking partition number `index`.
fn victim(world: &World, index: u8) -> Outcome<Partition> {
    world.need(attack_uuid(index))
}

/// Has a partition fail, with a timer that ends it all if it only hangs.
pub(super) fn fail_by(partition: Partition, death: Death) -> Outcome {
    gic::enable(timer::INTERRUPT);
    timer::start(LIMIT);
    let answer = send(partition, Command::Die.words(&[death as u64]));
    let _ = gic::take();
    timer::stop();
    gic::disable(timer::INTERRUPT);
    match answer {
        Err(Error::Ffa(FfaError::Aborted)) => Ok(()),
        other => fail!(
            "{death:?} in partition {:#x}: expected FFA_ERROR(ABORTED), got {other:?}",
            partition.id
        ),
    }
}

/// A stopped partition answers nobody, on no core.
fn expect_stopped(world: &World, partition: Partition) -> Outcome {
    for function in [DIRECT_REQ, 0xc400_006f] {
        expect_error(
            &smc(&[function, to(partition), 0, 1]),
            FfaError::Aborted,
            "a request to a stopped partition",
        )?;
    }
    let run = smc(&[RUN, u64::from(partition.id) << 16]);
    expect_error(&run, FfaError::Aborted, "FFA_RUN of a stopped partition")?;
    let [low, high] = tantalum_partition::ffa::UuidHelper::to_u64_regs(partition.uuid);
    let request2 = smc(&[DIRECT_REQ2, to(partition), low, high]);
    expect_error(
        &request2,
        FfaError::Aborted,
        "FFA_MSG_SEND_DIRECT_REQ2 to a stopped partition",
    )?;
    if world.cores > 1 {
        cores::run_on(
            1,
            |_, to| u64::from(smc(&[DIRECT_REQ, to, 0, 1])[..8] == error(FfaError::Aborted)[..8]),
            to(partition),
        )?;
        expect_eq!(cores::wait_for(1, 10_000)?, 1, "whether another core gets ABORTED, too");
    }
    expect_alive(world.need(ECHO)?)
}

fn stops(world: &World, index: u8, death: Death) -> Outcome {
    let partition = victim(world, index)?;
    expect_alive(partition)?;
    fail_by(partition, death)?;
    expect_stopped(world, partition)
}

fn partition_that_waits_for_a_failing_one_gets_aborted(world: &World) -> Outcome {
    let (first, second) = (victim(world, 1)?, victim(world, 3)?);
    let mut words = [0; 13];
    words[0] = u64::from(second.id);
    words[1..6].copy_from_slice(&Command::Die.five_words(&[Death::Abort as u64]));
    let answer = crate::talk::ask(first, Command::Forward.words(&words))?;
    let aborted = i64::from(i32::from(FfaError::Aborted)).cast_unsigned();
    expect_eq!(
        answer[..2],
        [FAILED, aborted],
        "what the waiting partition was answered"
    );
    expect_alive(first)?;
    expect_stopped(world, second)
}

fn partition_fails_on_one_core_while_another_runs_it(world: &World) -> Outcome {
    world.need_two_cores()?;
    let partition = victim(world, 2)?;
    expect_eq!(
        partition.contexts,
        4,
        "the execution contexts of the second attacking partition"
    );
    // The other core is in the partition for longer than it lives.
    let spin = |_: usize, id: u64| {
        let words = Command::Spin.five_words(&[500]);
        match SMC.direct_req64(0, (id & 0xffff) as u16, words) {
            Err(Error::Ffa(FfaError::Aborted)) => 1,
            Ok(Answer::Response(response)) if response.payload()[0] == DONE => 2,
            _ => 3,
        }
    };
    cores::run_on(1, spin, u64::from(partition.id))?;
    timer::delay(100);
    let failed = fail_by(partition, Death::Panic);
    let other = cores::wait_for(1, 10_000)?;
    failed?;
    check!(
        other == 1 || other == 2,
        "the other core's request to end with ABORTED or in full, got {other}"
    );
    expect_stopped(world, partition)?;
    // Cores come and go without it.
    check!(
        cores::turn_off(1) && cores::turn_on(1),
        "core 1 to go off and come on again"
    );
    expect_stopped(world, partition)
}

fn jump_away_without_vectors_stops_the_partition(world: &World) -> Outcome {
    stops(world, 4, Death::JumpAway)
}

fn fault_in_the_fault_handler_stops_the_partition(world: &World) -> Outcome {
    stops(world, 5, Death::FaultInHandler)
}

fn fault_without_a_stack_stops_the_partition(world: &World) -> Outcome {
    stops(world, 6, Death::NoStack)
}

fn endless_loop_ends_with_an_interrupt(world: &World) -> Outcome {
    hangs(world, victim(world, 1)?, Death::Loop)
}

fn endless_exceptions_end_with_an_interrupt(world: &World) -> Outcome {
    // In the scenario whose other tests need this partition alive.
    hangs(world, victim(world, 0)?, Death::Storm)
}

/// Has a partition hang: the normal world's interrupts end it, for a while, each time that it is run.
fn hangs(world: &World, partition: Partition, death: Death) -> Outcome {
    gic::enable(timer::INTERRUPT);
    for attempt in 0..3 {
        timer::start(20);
        let answer = if attempt == 0 {
            send(partition, Command::Die.words(&[death as u64]))
        } else {
            SMC.run(partition.id, 0)
        };
        let taken = gic::take();
        timer::stop();
        let interrupted = matches!(answer, Ok(Answer::Interrupted { partition: id, context: 0 }) if id == partition.id);
        check!(
            interrupted,
            "FFA_INTERRUPT from a partition in an endless loop, got {answer:?}"
        );
        expect_eq!(
            taken,
            Some(timer::INTERRUPT),
            "the interrupt that the normal world finds pending"
        );
        expect_error(
            &smc(&[DIRECT_REQ, to(partition), 0, 1]),
            FfaError::Busy,
            "a request to a partition in an endless loop",
        )?;
    }
    gic::disable(timer::INTERRUPT);
    expect_alive(world.need(ECHO)?)
}

fn failed_initialisation_leaves_the_partition_out(world: &World) -> Outcome {
    world.need(attack_uuid(1))?;
    // Whether a partition that failed to initialise is listed is the SPM's choice; that it answers is not.
    match world.find(attack_uuid(7)) {
        Some(partition) => expect_stopped(world, partition),
        None => expect_alive(world.need(ECHO)?),
    }
}

fn all_others_live_on(world: &World) -> Outcome {
    world.need(attack_uuid(1))?;
    let echo = world.need(ECHO)?;
    cores::run_on_all(
        world.cores,
        |core, id| {
            let words = [1, 2, 3, 4, core as u64];
            let answer = crate::talk::finish(SMC.direct_req64(0, (id & 0xffff) as u16, words), "echo on each core");
            u64::from(answer.is_ok_and(|response| response.payload() == words))
        },
        u64::from(echo.id),
        10_000,
        |core, result| {
            expect_eq!(result, 1, "core {core}: whether echo answers");
            Ok(())
        },
    )
}
