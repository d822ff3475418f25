//! `FFA_MSG_SEND_DIRECT_RESP` and `RESP2`: only to whom, and as, the request came.

use tantalum_agent::{ECHO, FORWARD};
use tantalum_partition::ffa::{FfaError, ids};

use super::tests;
use crate::{
    report::Outcome,
    talk::{Conduit, DIRECT_RESP, DIRECT_RESP2, DIRECT_RESP64, SPMC, call_from, expect_alive, expect_error_in, smc},
    world::World,
};

tests! { "direct_resp":
    normal_world_has_nobody_to_respond_to,
    partition_cannot_respond_to_another,
    partition_cannot_respond_in_anothers_name,
    partition_cannot_respond_in_another_form,
    reserved_word_is_refused,
}

/// The codes that a response which nobody waits for may get.
const REFUSALS: [FfaError; 3] = [FfaError::InvalidParameters, FfaError::Denied, FfaError::NotSupported];

fn normal_world_has_nobody_to_respond_to(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    for function in [DIRECT_RESP, DIRECT_RESP64, DIRECT_RESP2] {
        for destination in [echo.id, SPMC, 0xffff, 0] {
            let answer = smc(&[function, ids(0, destination), 0, 0, 1]);
            expect_error_in(&answer, &REFUSALS, "a response of the normal world")?;
        }
    }
    expect_alive(echo)
}

fn partition_cannot_respond_to_another(world: &World) -> Outcome {
    let (forward, echo) = (world.need(FORWARD)?, world.need(ECHO)?);
    for destination in [5, echo.id, SPMC, 0xffff] {
        let answer = call_from(
            forward,
            Conduit::Smc,
            &[DIRECT_RESP2, ids(forward.id, destination), 0, 0, 1],
        )?;
        expect_error_in(&answer, &REFUSALS, "a response to somebody who did not ask")?;
    }
    expect_alive(forward)
}

fn partition_cannot_respond_in_anothers_name(world: &World) -> Outcome {
    let (forward, echo) = (world.need(FORWARD)?, world.need(ECHO)?);
    for source in [0, echo.id, SPMC, 0xffff] {
        let answer = call_from(forward, Conduit::Smc, &[DIRECT_RESP2, ids(source, 0), 0, 0, 1])?;
        expect_error_in(
            &answer,
            &REFUSALS,
            "a response with a source that is not the partition's own",
        )?;
    }
    expect_alive(forward)
}

fn partition_cannot_respond_in_another_form(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    // The request comes by FFA_MSG_SEND_DIRECT_REQ2.
    for function in [DIRECT_RESP, DIRECT_RESP64] {
        let answer = call_from(forward, Conduit::Smc, &[function, ids(forward.id, 0), 0, 1])?;
        expect_error_in(&answer, &REFUSALS, "a response of another form than the request")?;
    }
    expect_alive(forward)
}

fn reserved_word_is_refused(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let answer = call_from(forward, Conduit::Smc, &[DIRECT_RESP2, ids(forward.id, 0), 1, 0, 1])?;
    expect_error_in(&answer, &REFUSALS, "a response with x2 not zero")?;
    expect_alive(forward)
}
