//! A partition that speaks FF-A 1.0, by hypervisor calls, and that the normal world may not interrupt.

use tantalum_agent::{Command, DONE, LEGACY};
use tantalum_partition::{
    arch,
    ffa::{FfaError, Outcome as Answer, Partition, SMC, UuidHelper, ids, registers},
    normal_world::{gic, timer},
};

use super::tests;
use crate::{
    report::{Outcome, check, expect_eq, fail},
    talk::{
        CONSOLE_LOG, DIRECT_REQ, DIRECT_REQ2, DIRECT_REQ64, DIRECT_RESP, DIRECT_RESP64, FEATURES, ID_GET, NORMAL_WORLD,
        PARTITION_INFO_GET_REGS, SPM_ID_GET, SUCCESS, VERSION, expect_error, expect_error_in, finish, smc, to,
    },
    world::World,
};

tests! { "ffa_1_0":
    messages_of_both_sizes_come_back,
    direct_req2_is_refused,
    version_in_force_is_that_of_the_manifest,
    calls_of_later_versions_are_not_supported,
    features_know_the_version,
    general_registers_are_preserved_by_hypervisor_calls,
    queued_interrupt_waits_for_the_response,
}

/// Sends five words, and waits for the response.
fn ask(partition: Partition, words: [u64; 5]) -> Outcome<[u64; 5]> {
    let answer = finish(
        SMC.direct_req64(NORMAL_WORLD, partition.id, words),
        "a message to a partition of FF-A 1.0",
    )?;
    let mut payload = [0; 5];
    payload.copy_from_slice(answer.payload());
    Ok(payload)
}

/// Has the partition make a call with x0-x2; returns its x0-x4 afterwards.
fn call(partition: Partition, x: [u64; 3]) -> Outcome<[u64; 5]> {
    ask(partition, Command::Call.five_words(&[1, x[0], x[1], x[2]]))
}

fn messages_of_both_sizes_come_back(world: &World) -> Outcome {
    let legacy = world.need(LEGACY)?;
    let answer = smc(&[DIRECT_REQ, to(legacy), 0, 1, 2, 3, 4, 0xffff_ffff]);
    expect_eq!(
        answer[..8],
        [DIRECT_RESP, ids(legacy.id, 0), 0, 1, 2, 3, 4, 0xffff_ffff],
        "x0-x7 of the response"
    );
    let answer = smc(&[DIRECT_REQ64, to(legacy), 0, 1, 2, 3, 4, u64::MAX]);
    expect_eq!(
        answer[..8],
        [DIRECT_RESP64, ids(legacy.id, 0), 0, 1, 2, 3, 4, u64::MAX],
        "x0-x7 of the response"
    );
    Ok(())
}

fn direct_req2_is_refused(world: &World) -> Outcome {
    let legacy = world.need(LEGACY)?;
    check!(
        legacy.receives_direct && !legacy.receives_direct2,
        "the list of partitions to say that it takes no REQ2"
    );
    let [low, high] = UuidHelper::to_u64_regs(LEGACY);
    let codes = [FfaError::Denied, FfaError::NotSupported, FfaError::InvalidParameters];
    let answer = SMC.call(&registers(&[DIRECT_REQ2, to(legacy), low, high, 1, 2, 3]));
    expect_error_in(&answer, &codes, "FFA_MSG_SEND_DIRECT_REQ2 to a partition of FF-A 1.0")
}

fn version_in_force_is_that_of_the_manifest(world: &World) -> Outcome {
    let legacy = world.need(LEGACY)?;
    let again = call(legacy, [VERSION, 0x0001_0000, 0])?[0] & 0xffff_ffff;
    check!(
        [0x0001_0000, 0x0001_0002].contains(&again),
        "FFA_VERSION 1.0 again to be agreed to, got {again:#x}"
    );
    let other = call(legacy, [VERSION, 0x0001_0002, 0])?[0] & 0xffff_ffff;
    expect_eq!(other, 0xffff_ffff, "FFA_VERSION 1.2 after other calls");
    Ok(())
}

fn calls_of_later_versions_are_not_supported(world: &World) -> Outcome {
    let legacy = world.need(LEGACY)?;
    for later in [SPM_ID_GET, PARTITION_INFO_GET_REGS, CONSOLE_LOG, DIRECT_REQ2] {
        let answer = call(legacy, [later, ids(legacy.id, 0x8001), 0])?;
        expect_eq!(
            answer[..3],
            [0x8400_0060, 0, 0xffff_ffff],
            "x0-x2 after {later:#x}, which FF-A 1.0 has not"
        );
    }
    let answer = call(legacy, [ID_GET, 0, 0])?;
    expect_eq!(
        answer[..3],
        [SUCCESS, 0, u64::from(legacy.id)],
        "x0-x2 after FFA_ID_GET"
    );
    Ok(())
}

fn features_know_the_version(world: &World) -> Outcome {
    let legacy = world.need(LEGACY)?;
    for (id, first) in [
        (ID_GET, SUCCESS),
        (DIRECT_REQ, SUCCESS),
        (SPM_ID_GET, 0x8400_0060),
        (DIRECT_REQ2, 0x8400_0060),
    ] {
        expect_eq!(
            call(legacy, [FEATURES, id, 0])?[0],
            first,
            "x0 after FFA_FEATURES({id:#x})"
        );
    }
    Ok(())
}

fn general_registers_are_preserved_by_hypervisor_calls(world: &World) -> Outcome {
    let status = ask(world.need(LEGACY)?, Command::Status.five_words(&[]))?;
    expect_eq!(status[0], DONE, "the first word of the answer");
    expect_eq!(
        status[4],
        0,
        "the mask of general registers that a response or wait by HVC has changed"
    );
    Ok(())
}

fn queued_interrupt_waits_for_the_response(world: &World) -> Outcome {
    let legacy = world.need(LEGACY)?;
    gic::enable(timer::INTERRUPT);
    timer::start(5);
    let answer = SMC.direct_req64(NORMAL_WORLD, legacy.id, Command::Spin.five_words(&[30]));
    let taken = gic::take();
    timer::stop();
    gic::disable(timer::INTERRUPT);
    let Ok(Answer::Response(response)) = answer else {
        fail!("a partition whose manifest queues interrupts: expected its response, got {answer:?}");
    };
    expect_eq!(taken, Some(timer::INTERRUPT), "the interrupt that came meanwhile");
    check!(
        response.payload()[1] >= arch::ticks(30),
        "the partition to spin for 30 ms"
    );
    expect_error(
        &smc(&[0x8400_006d, u64::from(legacy.id) << 16 | 1]),
        FfaError::InvalidParameters,
        "FFA_RUN of context 1",
    )
}
