//! `FFA_RUN` and `FFA_YIELD`.

use tantalum_agent::{Command, ECHO, FORWARD, RELAY};
use tantalum_partition::ffa::{FfaError, Outcome as Answer, SMC, ids};

use super::{direct_req::keep_forward_busy, tests};
use crate::{
    cores::{self, Deadline},
    report::{Outcome, check, expect_eq, fail},
    talk::{
        Conduit, DIRECT_REQ, MSG_WAIT, RUN, SPMC, SUCCESS, YIELD, call_from, call_words, error, expect_alive,
        expect_error, expect_error_in, finish, send, smc, to,
    },
    world::World,
};

tests! { "run":
    unknown_partition_is_invalid,
    unknown_context_is_invalid,
    context_of_another_core_is_invalid,
    waiting_context_needs_no_cycles,
    partition_cannot_run_a_waiting_one,
    yield_returns_to_the_caller_and_run_resumes,
    yielded_context_is_busy,
    yield_in_a_call_chain_returns_to_the_normal_world,
    yielded_context_moves_to_another_core,
    running_context_is_busy,
}

fn unknown_partition_is_invalid(_: &World) -> Outcome {
    for id in [0, 1, SPMC, 0x8fff, 0xffff] {
        let answer = smc(&[RUN, u64::from(id) << 16]);
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_RUN of an id that no partition has",
        )?;
    }
    Ok(())
}

fn unknown_context_is_invalid(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    for (partition, context) in [(forward, 1), (forward, 0xffff), (echo, 4), (echo, 0x100)] {
        let answer = smc(&[RUN, u64::from(partition.id) << 16 | context]);
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_RUN of a context that the partition does not have",
        )?;
    }
    Ok(())
}

fn context_of_another_core_is_invalid(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let codes = [FfaError::InvalidParameters, FfaError::Denied, FfaError::Busy];
    expect_error_in(
        &smc(&[RUN, u64::from(echo.id) << 16 | 1]),
        &codes,
        "FFA_RUN of a context pinned to another core",
    )
}

fn waiting_context_needs_no_cycles(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    // The partition may get the cycles and wait again, or the SPM may refuse; it must work afterwards.
    let answer = smc(&[RUN, u64::from(echo.id) << 16]);
    if answer[0] != MSG_WAIT {
        let codes = [FfaError::Busy, FfaError::Denied, FfaError::InvalidParameters];
        expect_error_in(&answer, &codes, "FFA_RUN of a context that waits for messages")?;
    }
    expect_alive(echo)
}

fn partition_cannot_run_a_waiting_one(world: &World) -> Outcome {
    let (forward, echo) = (world.need(FORWARD)?, world.need(ECHO)?);
    let codes = [
        FfaError::Denied,
        FfaError::NotSupported,
        FfaError::InvalidParameters,
        FfaError::Busy,
    ];
    for target in [echo.id, forward.id, 0, SPMC] {
        let answer = call_from(forward, Conduit::Smc, &[RUN, u64::from(target) << 16])?;
        expect_error_in(&answer, &codes, "FFA_RUN by a partition")?;
    }
    expect_alive(echo)
}

/// Has a partition yield in the middle of a request; returns partition and context as the normal world gets them.
fn yielded(world: &World) -> Outcome<(u16, u16)> {
    let forward = world.need(FORWARD)?;
    match send(forward, call_words(Conduit::Smc, &[YIELD])) {
        Ok(Answer::Yielded { partition, context }) => Ok((partition, context)),
        other => fail!("a partition that yields: expected FFA_YIELD, got {other:?}"),
    }
}

/// Runs a context that has yielded; checks that it gets its own call's answer and ends the request.
fn resumed(partition: u16, context: u16) -> Outcome {
    let response = finish(SMC.run(partition, context), "running a partition that has yielded")?;
    expect_eq!(
        response.payload()[..8],
        [SUCCESS, 0, 0, 0, 0, 0, 0, 0],
        "x0-x7 that FFA_YIELD returned to the partition"
    );
    Ok(())
}

fn yield_returns_to_the_caller_and_run_resumes(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let (partition, context) = yielded(world)?;
    expect_eq!(
        (partition, context),
        (forward.id, 0),
        "partition and context in w1 of FFA_YIELD"
    );
    resumed(partition, context)?;
    expect_alive(forward)
}

fn yielded_context_is_busy(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let (partition, context) = yielded(world)?;
    let answer = smc(&[DIRECT_REQ, to(forward), 0, 1]);
    let others = expect_alive(world.need(ECHO)?);
    resumed(partition, context)?;
    expect_error(&answer, FfaError::Busy, "a request to a context that has yielded")?;
    others
}

fn yield_in_a_call_chain_returns_to_the_normal_world(world: &World) -> Outcome {
    let (forward, relay) = (world.need(FORWARD)?, world.need(RELAY)?);
    let call = Command::Call.five_words(&[0, YIELD]);
    let mut words = [0; 13];
    words[0] = u64::from(relay.id);
    words[1..6].copy_from_slice(&call);
    let answer = send(forward, Command::Forward.words(&words));
    // Whether relay's yield reaches the normal world or its caller is the SPM's choice; the chain must end well.
    let response = finish(answer, "a chain whose last partition yields")?;
    let first = response.payload()[0];
    check!(
        first == SUCCESS || first == tantalum_agent::FAILED,
        "an orderly end of the chain, got {first:#x}"
    );
    if first == tantalum_agent::FAILED {
        // forward was told that relay has yielded, and did not run it: run relay from here.
        let _ = finish(
            SMC.run(relay.id, 0),
            "running the yielded partition from the normal world",
        );
    }
    expect_alive(forward)?;
    expect_alive(relay)
}

fn yielded_context_moves_to_another_core(world: &World) -> Outcome {
    world.need_two_cores()?;
    let forward = world.need(FORWARD)?;
    let (partition, context) = yielded(world)?;
    cores::run_on(
        1,
        |_, argument| u64::from(resumed((argument >> 16 & 0xffff) as u16, (argument & 0xffff) as u16).is_ok()),
        ids(partition, context),
    )?;
    let resumed = cores::wait_for(1, 10_000)?;
    expect_eq!(
        resumed,
        1,
        "whether the other core could run the context that had yielded on this one"
    );
    expect_alive(forward)
}

fn running_context_is_busy(world: &World) -> Outcome {
    world.need_two_cores()?;
    let forward = world.need(FORWARD)?;
    cores::run_on(1, keep_forward_busy, 300 << 16 | u64::from(forward.id))?;
    let codes = [FfaError::Busy, FfaError::Denied].map(error);
    // Until the other core has got going, the context waits.
    let busy = Deadline::after(5000).wait_until(|| {
        let answer = smc(&[RUN, u64::from(forward.id) << 16]);
        answer[..8] == codes[0][..8]
            || answer[..8] == codes[1][..8] && smc(&[DIRECT_REQ, to(forward), 0, 1])[..8] == error(FfaError::Busy)[..8]
    });
    let finished = cores::wait_for(1, 10_000)?;
    check!(busy, "FFA_ERROR(BUSY) for FFA_RUN of a context that another core runs");
    expect_eq!(finished, 1, "whether the other core got its response");
    expect_alive(forward)
}
