//! Interrupts of the normal world that come while a partition runs.

use tantalum_agent::{Command, DONE, ECHO, FORWARD, RELAY};
use tantalum_partition::{
    arch,
    ffa::{FfaError, Outcome as Answer, SMC},
    normal_world::{gic, timer},
};

use super::tests;
use crate::{
    report::{Outcome, check, expect_eq, fail},
    talk::{DIRECT_REQ, INTERRUPT, expect_alive, expect_error, finish, send, smc, to},
    world::World,
};

tests! { "interrupts":
    timer_preempts_a_partition_and_run_resumes_it,
    interrupt_that_is_already_pending_preempts,
    registers_of_the_interruption,
    preempted_context_is_busy,
    others_work_while_one_is_preempted,
    sleeping_partition_is_woken,
    chain_is_preempted_and_resumed,
    many_interruptions_lose_nothing,
    each_context_of_a_pinned_partition,
    gic_state_of_the_normal_world_is_kept,
}

/// A software-generated interrupt that nothing else uses.
const SGI: u32 = 3;

/// Has a partition spin, and the timer interrupt it.
fn preempted(world: &World, spin: u64) -> Outcome<(u16, u16)> {
    let forward = world.need(FORWARD)?;
    gic::enable(timer::INTERRUPT);
    timer::start(5);
    let answer = send(forward, Command::Spin.words(&[spin]));
    let taken = gic::take();
    timer::stop();
    gic::disable(timer::INTERRUPT);
    match answer {
        Ok(Answer::Interrupted { partition, context }) => {
            expect_eq!(
                taken,
                Some(timer::INTERRUPT),
                "the interrupt that the normal world finds pending"
            );
            Ok((partition, context))
        }
        other => fail!(
            "a partition that spins for {spin} ms, timer after 5 ms: expected FFA_INTERRUPT and
             interrupt {}, got {other:?} and {taken:?}",
            timer::INTERRUPT
        ),
    }
}

/// Runs a preempted context to the end of its request.
fn resumed(partition: u16, context: u16, spin: u64) -> Outcome {
    let response = finish(SMC.run(partition, context), "running a preempted partition")?;
    expect_eq!(
        response.payload()[0],
        DONE,
        "the first word of the response of a partition that was preempted"
    );
    let spun = response.payload()[1];
    check!(
        spun >= arch::ticks(spin),
        "the partition to spin for {spin} ms, got {spun} ticks"
    );
    Ok(())
}

fn timer_preempts_a_partition_and_run_resumes_it(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let (partition, context) = preempted(world, 200)?;
    expect_eq!(
        (partition, context),
        (forward.id, 0),
        "partition and context in w1 of FFA_INTERRUPT"
    );
    resumed(partition, context, 200)?;
    expect_alive(forward)
}

fn interrupt_that_is_already_pending_preempts(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    gic::enable(SGI);
    gic::send(SGI, arch::mpidr());
    let answer = send(forward, Command::Spin.words(&[200]));
    let taken = gic::take();
    gic::disable(SGI);
    let Ok(Answer::Interrupted { partition, context }) = answer else {
        fail!("a partition that is entered with an interrupt pending: expected FFA_INTERRUPT, got {answer:?}");
    };
    expect_eq!(taken, Some(SGI), "the interrupt that the normal world finds pending");
    resumed(partition, context, 200)
}

fn registers_of_the_interruption(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    gic::enable(SGI);
    gic::send(SGI, arch::mpidr());
    let words = Command::Spin.five_words(&[200]);
    let [a, b, c, d, e] = words;
    let answer = smc(&[0xc400_006f, to(forward), 0, a, b, c, d, e]);
    let _ = gic::take();
    gic::disable(SGI);
    let resumed = resumed(forward.id, 0, 200);
    expect_eq!(
        answer[..8],
        [INTERRUPT, u64::from(forward.id) << 16, 0, 0, 0, 0, 0, 0],
        "x0-x7 of the interruption"
    );
    expect_eq!(
        answer[8..],
        [0; 10],
        "x8-x17 of the interruption, which were zero before"
    );
    resumed
}

fn preempted_context_is_busy(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let (partition, context) = preempted(world, 200)?;
    let answer = smc(&[DIRECT_REQ, to(forward), 0, 1]);
    resumed(partition, context, 200)?;
    expect_error(&answer, FfaError::Busy, "a request to a context that was preempted")
}

fn others_work_while_one_is_preempted(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let (partition, context) = preempted(world, 200)?;
    let others = expect_alive(echo).and_then(|()| world.find(RELAY).map_or(Ok(()), expect_alive));
    resumed(partition, context, 200)?;
    others
}

fn sleeping_partition_is_woken(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    gic::enable(timer::INTERRUPT);
    timer::start(20);
    // Whether WFI sleeps until the normal world's interrupt, or gives the processor back at once, is the SPM's choice. It must not sleep for ever.
    let answer = send(forward, Command::Sleep.words(&[]));
    let _ = gic::take();
    timer::stop();
    gic::disable(timer::INTERRUPT);
    let response = finish(answer, "a partition that waits for an interrupt")?;
    expect_eq!(response.payload()[0], DONE, "the first word of its response");
    expect_alive(forward)
}

fn chain_is_preempted_and_resumed(world: &World) -> Outcome {
    let (forward, relay) = (world.need(FORWARD)?, world.need(RELAY)?);
    let mut words = [0; 13];
    words[0] = u64::from(relay.id);
    words[1..6].copy_from_slice(&Command::Spin.five_words(&[200]));
    gic::enable(timer::INTERRUPT);
    timer::start(5);
    let mut answer = send(forward, Command::Forward.words(&words));
    let _ = gic::take();
    timer::stop();
    gic::disable(timer::INTERRUPT);
    let Ok(Answer::Interrupted { partition, .. }) = answer else {
        fail!("a chain whose last partition is interrupted: expected FFA_INTERRUPT, got {answer:?}");
    };
    check!(
        partition == forward.id || partition == relay.id,
        "a partition of the chain in w1, got {partition:#x}"
    );
    if let Ok(Answer::Interrupted { partition, context }) = answer {
        answer = SMC.run(partition, context);
    }
    let response = finish(answer, "running a preempted chain")?;
    expect_eq!(
        response.payload()[0],
        DONE,
        "the first word that came back through the chain"
    );
    expect_alive(forward)?;
    expect_alive(relay)
}

fn many_interruptions_lose_nothing(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    gic::enable(SGI);
    gic::send(SGI, arch::mpidr());
    let mut answer = send(forward, Command::Spin.words(&[30]));
    let mut interruptions = 0;
    let outcome = loop {
        let Ok(Answer::Interrupted { partition, context }) = answer else {
            break answer;
        };
        interruptions += 1;
        while gic::take().is_some() {}
        if interruptions < 200 {
            gic::send(SGI, arch::mpidr());
        }
        answer = SMC.run(partition, context);
    };
    gic::disable(SGI);
    let response = finish(outcome, "a partition that is interrupted at every entry")?;
    expect_eq!(response.payload()[0], DONE, "the first word of its response");
    expect_eq!(interruptions, 200, "how often it was interrupted");
    Ok(())
}

fn each_context_of_a_pinned_partition(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    // On every core at once: an interrupt is pending when the partition is entered.
    crate::cores::run_on_all(
        world.cores,
        |core, id| {
            gic::enable(SGI);
            gic::send(SGI, arch::mpidr());
            let words = Command::Spin.five_words(&[200]);
            let answer = SMC.direct_req64(0, (id & 0xffff) as u16, words);
            let taken = gic::take();
            gic::disable(SGI);
            let Ok(Answer::Interrupted { partition, context }) = answer else {
                return 1;
            };
            if taken != Some(SGI) || u64::from(partition) != id || usize::from(context) != core {
                return 2;
            }
            u64::from(resumed(partition, context, 200).is_err()) * 3
        },
        u64::from(echo.id),
        10_000,
        |core, result| {
            expect_eq!(result, 0, "core {core}: 1 not interrupted, 2 wrong w1, 3 not resumed");
            Ok(())
        },
    )
}

fn gic_state_of_the_normal_world_is_kept(world: &World) -> Outcome {
    let (mask, running) = (gic::priority_mask(), gic::running_priority());
    let (partition, context) = preempted(world, 200)?;
    resumed(partition, context, 200)?;
    expect_eq!(gic::priority_mask(), mask, "ICC_PMR_EL1");
    expect_eq!(gic::running_priority(), running, "ICC_RPR_EL1");
    Ok(())
}
