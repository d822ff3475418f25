//! `FFA_MSG_SEND_DIRECT_REQ2`.

use tantalum_agent::{ECHO, FORWARD, RELAY, RELAY_SERVICE, SILENT};
use tantalum_partition::{
    ffa::{FfaError, Registers, SMC, Uuid, UuidHelper, ids, registers, uuid},
    probe,
};

use super::tests;
use crate::{
    report::{Outcome, expect_eq},
    talk::{Conduit, DIRECT_REQ2, DIRECT_RESP2, SPMC, call_from, expect_error, expect_error_in, to},
    world::World,
};

tests! { "direct_req2":
    payload_comes_back_in_all_registers,
    each_service_of_a_partition_is_reached,
    unknown_uuid_is_invalid,
    uuid_of_another_partition_is_invalid,
    secure_source_is_refused,
    unknown_destination_is_invalid,
    receiver_that_takes_none_denies,
    x18_to_x30_are_preserved,
    partition_reaches_partition,
}

/// A request with words 0x1000 and up to the service `uuid` of a partition.
fn request(ids: u64, uuid: Uuid) -> Registers {
    let [low, high] = UuidHelper::to_u64_regs(uuid);
    let mut all = core::array::from_fn(|i| 0x1000_0000_0000_1000 + i as u64);
    all[..4].copy_from_slice(&[DIRECT_REQ2, ids, low, high]);
    all
}

fn payload_comes_back_in_all_registers(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let message = request(to(echo), ECHO);
    let answer = SMC.call(&message);
    expect_eq!(
        answer[..4],
        [DIRECT_RESP2, ids(echo.id, 0), 0, 0],
        "x0-x3 of the response"
    );
    expect_eq!(answer[4..], message[4..], "x4-x17 of the response");
    Ok(())
}

fn each_service_of_a_partition_is_reached(world: &World) -> Outcome {
    let relay = world.need(RELAY)?;
    for service in [RELAY, RELAY_SERVICE] {
        let message = request(to(relay), service);
        let answer = SMC.call(&message);
        expect_eq!(
            answer[..4],
            [DIRECT_RESP2, ids(relay.id, 0), 0, 0],
            "x0-x3 of the response of {service}"
        );
        expect_eq!(answer[4..], message[4..], "x4-x17 of the response of {service}");
    }
    Ok(())
}

fn unknown_uuid_is_invalid(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let unknown = uuid!("00112233-4455-6677-8899-aabbccddeeff");
    let answer = SMC.call(&request(to(echo), unknown));
    expect_error(
        &answer,
        FfaError::InvalidParameters,
        "a request to a service that nobody has",
    )
}

fn uuid_of_another_partition_is_invalid(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let answer = SMC.call(&request(to(echo), FORWARD));
    expect_error(
        &answer,
        FfaError::InvalidParameters,
        "a request to a service of another partition",
    )
}

fn secure_source_is_refused(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    for source in [forward.id, SPMC, 0xffff] {
        let answer = SMC.call(&request(ids(source, echo.id), ECHO));
        let codes = [FfaError::InvalidParameters, FfaError::Denied];
        expect_error_in(&answer, &codes, "a request of the normal world with a secure source")?;
    }
    Ok(())
}

fn unknown_destination_is_invalid(_: &World) -> Outcome {
    for destination in [SPMC, 0x8fff, 1] {
        let answer = SMC.call(&request(ids(0, destination), ECHO));
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "a request to an id that no partition has",
        )?;
    }
    Ok(())
}

fn receiver_that_takes_none_denies(world: &World) -> Outcome {
    let silent = world.need(SILENT)?;
    expect_error(
        &SMC.call(&request(to(silent), SILENT)),
        FfaError::Denied,
        "a request to a partition that takes none",
    )
}

fn x18_to_x30_are_preserved(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let (_, changed) = probe::call_checking_gprs(SMC, &request(to(echo), ECHO), 0x4321_0000_0000_0000);
    expect_eq!(changed, 0, "the mask of changed registers");
    Ok(())
}

fn partition_reaches_partition(world: &World) -> Outcome {
    let (forward, echo) = (world.need(FORWARD)?, world.need(ECHO)?);
    let [low, high] = UuidHelper::to_u64_regs(ECHO);
    let message = registers(&[
        DIRECT_REQ2,
        ids(forward.id, echo.id),
        low,
        high,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
        11,
    ]);
    let answer = call_from(forward, Conduit::Smc, &message[..12])?;
    let expected = [DIRECT_RESP2, ids(echo.id, forward.id), 0, 0, 4, 5, 6, 7, 8, 9, 10, 11];
    expect_eq!(answer[..12], expected, "x0-x11 of the response in the partition");
    Ok(())
}
