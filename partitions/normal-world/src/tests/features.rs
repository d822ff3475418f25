//! `FFA_FEATURES`.

use tantalum_agent::{ECHO, FORWARD};
use tantalum_partition::ffa::FfaError;

use super::tests;
use crate::{
    report::{Outcome, expect_eq},
    talk::{
        CONSOLE_LOG, CONSOLE_LOG64, Conduit, DIRECT_REQ, DIRECT_REQ2, DIRECT_REQ64, DIRECT_RESP, DIRECT_RESP2,
        DIRECT_RESP64, ERROR, FEATURES, ID_GET, INTERRUPT, MSG_WAIT, PARTITION_INFO_GET_REGS, RUN,
        SECONDARY_EP_REGISTER, SPM_ID_GET, SUCCESS, VERSION, YIELD, call_from, expect_error, expect_error_in, smc,
    },
    world::World,
};

tests! { "features":
    calls_of_the_normal_world_are_reported,
    calls_of_a_partition_are_reported,
    conduits_agree,
    unknown_function_is_not_supported,
    call_of_a_later_version_is_not_supported,
    unknown_feature_is_not_supported,
    reserved_bits_are_refused,
}

fn calls_of_the_normal_world_are_reported(_: &World) -> Outcome {
    let calls = [
        ERROR,
        SUCCESS,
        INTERRUPT,
        VERSION,
        FEATURES,
        ID_GET,
        SPM_ID_GET,
        PARTITION_INFO_GET_REGS,
        RUN,
        DIRECT_REQ,
        DIRECT_REQ64,
        DIRECT_REQ2,
    ];
    for call in calls {
        let answer = smc(&[FEATURES, call]);
        expect_eq!(answer[..2], [SUCCESS, 0], "x0 and x1 after FFA_FEATURES({call:#x})");
        expect_eq!(answer[4..8], [0; 4], "x4-x7 after FFA_FEATURES({call:#x})");
    }
    Ok(())
}

fn calls_of_a_partition_are_reported(world: &World) -> Outcome {
    let calls = [
        ERROR,
        SUCCESS,
        INTERRUPT,
        VERSION,
        FEATURES,
        ID_GET,
        SPM_ID_GET,
        PARTITION_INFO_GET_REGS,
        MSG_WAIT,
        YIELD,
        DIRECT_REQ,
        DIRECT_REQ64,
        DIRECT_RESP,
        DIRECT_RESP64,
        DIRECT_REQ2,
        DIRECT_RESP2,
        CONSOLE_LOG,
        CONSOLE_LOG64,
        SECONDARY_EP_REGISTER,
    ];
    let echo = world.need(ECHO)?;
    for call in calls {
        let answer = call_from(echo, Conduit::Smc, &[FEATURES, call])?;
        expect_eq!(
            answer[..2],
            [SUCCESS, 0],
            "x0 and x1 after FFA_FEATURES({call:#x}) in a partition"
        );
    }
    Ok(())
}

fn conduits_agree(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    for id in [VERSION, MSG_WAIT, PARTITION_INFO_GET_REGS, 1, 2, 3, 0x7f, 0x8400_00ff] {
        let by_smc = call_from(forward, Conduit::Smc, &[FEATURES, id])?;
        let by_hvc = call_from(forward, Conduit::Hvc, &[FEATURES, id])?;
        expect_eq!(by_hvc[..8], by_smc[..8], "FFA_FEATURES({id:#x}) by HVC, against SMC");
    }
    Ok(())
}

fn unknown_function_is_not_supported(_: &World) -> Outcome {
    for id in [0x8400_00ff, 0xc400_00ff, 0x8400_0000, 0xc200_0001, 0x8400_005f] {
        expect_error(
            &smc(&[FEATURES, id]),
            FfaError::NotSupported,
            "FFA_FEATURES of an unknown function",
        )?;
    }
    Ok(())
}

fn call_of_a_later_version_is_not_supported(_: &World) -> Outcome {
    // FFA_NS_RES_INFO_GET and FFA_NOTIFICATION_BIND2, of FF-A 1.3.
    for id in [0xc400_008f, 0xc400_0094] {
        expect_error(
            &smc(&[FEATURES, id]),
            FfaError::NotSupported,
            "FFA_FEATURES of a call of FF-A 1.3",
        )?;
    }
    Ok(())
}

fn unknown_feature_is_not_supported(_: &World) -> Outcome {
    for id in [0, 0x7f, 0xff] {
        expect_error(
            &smc(&[FEATURES, id]),
            FfaError::NotSupported,
            "FFA_FEATURES of an unknown feature",
        )?;
    }
    Ok(())
}

fn reserved_bits_are_refused(_: &World) -> Outcome {
    let codes = [FfaError::NotSupported, FfaError::InvalidParameters];
    for id in [0x101, 0x0001_0002, 0x4000_0001] {
        expect_error_in(
            &smc(&[FEATURES, id]),
            &codes,
            "FFA_FEATURES of a feature with reserved bits set",
        )?;
    }
    Ok(())
}
