//! Calls that the caller may not make, or that nobody knows.

use tantalum_agent::{ATTACK, ECHO, FORWARD};
use tantalum_partition::ffa::{ABORT, FfaError, Registers};

use super::tests;
use crate::{
    report::{Outcome, check},
    talk::{
        CONSOLE_LOG, CONSOLE_LOG64, Conduit, EL3_INTR_HANDLE, ERROR, INTERRUPT, MSG_WAIT, NORMAL_WORLD_RESUME,
        SECONDARY_EP_REGISTER, SUCCESS, VERSION, YIELD, call_from, expect_alive, expect_error, expect_error_in, smc,
    },
    world::World,
};

tests! { "refused_calls":
    calls_of_partitions_are_not_the_normal_worlds,
    normal_world_resume_is_denied_to_the_normal_world,
    unknown_calls_of_the_normal_world_are_not_supported,
    answers_are_no_calls,
    unknown_calls_of_a_partition_are_not_supported,
    calls_of_the_spmc_are_not_a_partitions,
    msg_wait_is_denied_while_somebody_waits,
    error_is_refused_after_initialisation,
    entry_point_is_refused_after_initialisation,
    version_is_fixed_for_a_partition,
    console_log_checks_its_count,
    console_log_takes_both_forms,
    calls_outside_ffa_are_unknown_to_partitions,
}

/// Whether x0-x2 say that a call is not supported. EL3 answers numbers beyond those that it takes for FF-A as an unknown SMC.
fn is_not_supported(answer: &Registers) -> bool {
    answer[0] & 0xffff_ffff == 0xffff_ffff || answer[..3] == [ERROR, 0, 0xffff_ffff]
}

fn calls_of_partitions_are_not_the_normal_worlds(_: &World) -> Outcome {
    for call in [
        MSG_WAIT,
        INTERRUPT,
        YIELD,
        CONSOLE_LOG,
        CONSOLE_LOG64,
        SECONDARY_EP_REGISTER,
        EL3_INTR_HANDLE,
        ABORT,
    ] {
        let answer = smc(&[call]);
        check!(
            is_not_supported(&answer),
            "NOT_SUPPORTED for call {call:#x}, got {:x?}",
            &answer[..3]
        );
    }
    Ok(())
}

fn normal_world_resume_is_denied_to_the_normal_world(_: &World) -> Outcome {
    expect_error(
        &smc(&[NORMAL_WORLD_RESUME]),
        FfaError::Denied,
        "FFA_NORMAL_WORLD_RESUME of the normal world",
    )
}

fn unknown_calls_of_the_normal_world_are_not_supported(_: &World) -> Outcome {
    for call in [0x8400_009f, 0xc400_00a0, 0x8400_00ef, 0xc400_0063, 0x8400_00d0] {
        let answer = smc(&[call]);
        check!(
            is_not_supported(&answer),
            "NOT_SUPPORTED for call {call:#x}, got {:x?}",
            &answer[..3]
        );
    }
    Ok(())
}

fn answers_are_no_calls(world: &World) -> Outcome {
    let codes = [FfaError::NotSupported, FfaError::InvalidParameters, FfaError::Denied];
    for call in [SUCCESS, 0xc400_0061, ERROR] {
        expect_error_in(
            &smc(&[call, 0, 0, 1]),
            &codes,
            "FFA_SUCCESS or FFA_ERROR of the normal world",
        )?;
    }
    expect_alive(world.need(ECHO)?)
}

fn unknown_calls_of_a_partition_are_not_supported(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    for conduit in [Conduit::Smc, Conduit::Hvc] {
        for call in [
            0x8400_009f,
            0xc400_00ef,
            0x8400_00d0,
            0xc400_0069,
            0x8400_006a,
            0x8400_006e,
        ] {
            let answer = call_from(forward, conduit, &[call, 1, 2, 3, 4, 5, 6, 7])?;
            expect_error(&answer, FfaError::NotSupported, "an unknown FF-A call of a partition")?;
        }
    }
    Ok(())
}

fn calls_of_the_spmc_are_not_a_partitions(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    let codes = [FfaError::NotSupported, FfaError::Denied, FfaError::InvalidParameters];
    for call in [
        INTERRUPT,
        NORMAL_WORLD_RESUME,
        EL3_INTR_HANDLE,
        SUCCESS,
        0xc400_0061,
        0xc400_007c,
    ] {
        let answer = call_from(attack, Conduit::Smc, &[call])?;
        expect_error_in(&answer, &codes, "a call that only the SPMC makes")?;
    }
    Ok(())
}

fn msg_wait_is_denied_while_somebody_waits(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let answer = call_from(forward, Conduit::Smc, &[MSG_WAIT])?;
    expect_error(
        &answer,
        FfaError::Denied,
        "FFA_MSG_WAIT while the normal world waits for a response",
    )?;
    expect_alive(forward)
}

fn error_is_refused_after_initialisation(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let codes = [FfaError::NotSupported, FfaError::Denied, FfaError::InvalidParameters];
    let answer = call_from(forward, Conduit::Smc, &[ERROR, 0, 0xffff_fff8])?;
    expect_error_in(&answer, &codes, "FFA_ERROR of a partition after its initialisation")?;
    expect_alive(forward)
}

fn entry_point_is_refused_after_initialisation(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let codes = [FfaError::NotSupported, FfaError::Denied, FfaError::InvalidParameters];
    let answer = call_from(echo, Conduit::Smc, &[SECONDARY_EP_REGISTER, 0x0e20_4000])?;
    expect_error_in(&answer, &codes, "FFA_SECONDARY_EP_REGISTER after initialisation")
}

fn version_is_fixed_for_a_partition(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let version = |asked| call_from(forward, Conduit::Smc, &[VERSION, asked]).map(|answer| answer[0] & 0xffff_ffff);
    crate::report::expect_eq!(version(0x0001_0002)?, 0x0001_0002, "FFA_VERSION 1.2 again");
    crate::report::expect_eq!(version(0x0001_0001)?, 0xffff_ffff, "FFA_VERSION 1.1 after other calls");
    crate::report::expect_eq!(version(0x8001_0002)?, 0xffff_ffff, "FFA_VERSION with bit 31");
    crate::report::expect_eq!(version(0x0002_0000)?, 0xffff_ffff, "FFA_VERSION 2.0");
    Ok(())
}

fn console_log_checks_its_count(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    for (call, count) in [
        (CONSOLE_LOG, 0),
        (CONSOLE_LOG, 25),
        (CONSOLE_LOG64, 0),
        (CONSOLE_LOG64, 129),
        (CONSOLE_LOG, 0xff),
    ] {
        let answer = call_from(forward, Conduit::Smc, &[call, count])?;
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_CONSOLE_LOG with a count that is 0 or too large",
        )?;
    }
    Ok(())
}

fn console_log_takes_both_forms(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let text = |text: &[u8; 8]| u64::from_le_bytes(*text);
    let answer = call_from(
        forward,
        Conduit::Smc,
        &[CONSOLE_LOG64, 16, text(b"64-bit l"), text(b"og line\n")],
    )?;
    crate::report::expect_eq!(answer[..2], [SUCCESS, 0], "x0 and x1 after FFA_CONSOLE_LOG_64");
    let half = |text: &[u8; 4]| u64::from(u32::from_le_bytes(*text));
    let words = [
        CONSOLE_LOG,
        16,
        half(b"32-b"),
        half(b"it l"),
        half(b"og l"),
        half(b"ine\n"),
    ];
    let answer = call_from(forward, Conduit::Hvc, &words)?;
    crate::report::expect_eq!(answer[..2], [SUCCESS, 0], "x0 and x1 after FFA_CONSOLE_LOG_32");
    Ok(())
}

fn calls_outside_ffa_are_unknown_to_partitions(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    // PSCI (version, CPU_OFF, SYSTEM_OFF, SYSTEM_RESET, CPU_ON), SiP, OEM, vendor, trusted OS, TRNG, errata, SDEI.
    let calls = [
        0x8400_0000,
        0x8400_0002,
        0x8400_0008,
        0x8400_0009,
        0xc400_0003,
        0x8200_0000,
        0xc200_0001,
        0x8300_0000,
        0x8600_0000,
        0xb200_0001,
        0x3200_0001,
        0x8400_0050,
        0x8400_00f0,
        0xc400_0020,
        0x8200_ff01,
        0,
    ];
    for call in calls {
        let answer = call_from(attack, Conduit::Smc, &[call, 1, 2, 3])?;
        check!(
            answer[0] & 0xffff_ffff == 0xffff_ffff,
            "SMC {call:#x} of a partition to be unknown (-1 in x0), got {:#x}",
            answer[0]
        );
    }
    expect_alive(attack)
}
