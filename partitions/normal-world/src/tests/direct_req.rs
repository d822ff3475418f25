//! `FFA_MSG_SEND_DIRECT_REQ`, 32 and 64 bits.

use tantalum_agent::{Command, ECHO, FORWARD, RELAY, SILENT};
use tantalum_partition::{
    ffa::{Error, FfaError, SMC, ids, registers},
    probe,
};

use super::tests;
use crate::{
    cores::{self, Deadline},
    report::{Outcome, check, expect_eq},
    talk::{
        Conduit, DIRECT_REQ, DIRECT_REQ64, DIRECT_RESP, DIRECT_RESP64, SPMC, call_from, command, error, expect_alive,
        expect_error, expect_error_in, smc, to,
    },
    world::World,
};

tests! { "direct_req":
    payload_of_32_bits_comes_back,
    payload_of_64_bits_comes_back,
    upper_halves_are_dropped_from_32_bit_messages,
    x8_to_x17_are_preserved_by_32_bit_messages,
    x8_to_x17_carry_no_foreign_data_in_64_bit_messages,
    x18_to_x30_are_preserved,
    x18_to_x30_of_partitions_are_preserved,
    hint_bit_of_the_function_number_is_ignored,
    virtual_machine_gets_its_own_response,
    secure_source_is_invalid,
    unknown_destination_is_invalid,
    reserved_word_is_refused,
    framework_messages_are_not_the_normal_worlds,
    receiver_that_takes_none_denies,
    partition_reaches_partition,
    call_chain_of_three,
    loop_in_call_chain_is_denied,
    request_to_oneself_is_refused,
    partition_cannot_forge_its_source,
    partition_cannot_ask_the_normal_world,
    busy_receiver_gets_busy,
}

fn payload_of_32_bits_comes_back(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let words = [0x1111_1111, 0x8000_0000, 0, 0xffff_ffff, 0x5555_aaaa];
    let [a, b, c, d, e] = words;
    let answer = smc(&[DIRECT_REQ, to(echo), 0, a, b, c, d, e]);
    expect_eq!(answer[..3], [DIRECT_RESP, ids(echo.id, 0), 0], "x0-x2 of the response");
    expect_eq!(answer[3..8], words, "x3-x7 of the response");
    Ok(())
}

fn payload_of_64_bits_comes_back(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let words = [0x1111_1111_2222_2222, 1 << 63, 0, u64::MAX, 0x5555_aaaa_5555_aaaa];
    let [a, b, c, d, e] = words;
    let answer = smc(&[DIRECT_REQ64, to(echo), 0, a, b, c, d, e]);
    expect_eq!(
        answer[..3],
        [DIRECT_RESP64, ids(echo.id, 0), 0],
        "x0-x2 of the response"
    );
    expect_eq!(answer[3..8], words, "x3-x7 of the response");
    Ok(())
}

fn upper_halves_are_dropped_from_32_bit_messages(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let garbage = 0xdead_beef << 32;
    let answer = smc(&[
        DIRECT_REQ,
        garbage | to(echo),
        garbage,
        garbage | 1,
        garbage | 2,
        garbage | 3,
        garbage,
        garbage,
    ]);
    expect_eq!(
        answer[..8],
        [DIRECT_RESP, ids(echo.id, 0), 0, 1, 2, 3, 0, 0],
        "x0-x7 of the response"
    );
    Ok(())
}

fn x8_to_x17_are_preserved_by_32_bit_messages(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let mut registers = core::array::from_fn(|i| 0xabcd_0000_0000_0000 + i as u64);
    registers[..8].copy_from_slice(&[DIRECT_REQ, to(echo), 0, 1, 2, 3, 4, 5]);
    let answer = SMC.call(&registers);
    expect_eq!(answer[8..], registers[8..], "x8-x17 after a 32-bit message");
    Ok(())
}

fn x8_to_x17_carry_no_foreign_data_in_64_bit_messages(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let mut registers = core::array::from_fn(|i| 0xabcd_0000_0000_0000 + i as u64);
    registers[..8].copy_from_slice(&[DIRECT_REQ64, to(echo), 0, 1, 2, 3, 4, 5]);
    let answer = SMC.call(&registers);
    for (index, (got, sent)) in answer.iter().zip(&registers).enumerate().skip(8) {
        check!(
            *got == 0 || got == sent,
            "x{index} to be zero or preserved, got {got:#x}"
        );
    }
    Ok(())
}

fn x18_to_x30_are_preserved(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    for function in [DIRECT_REQ, DIRECT_REQ64] {
        let message = registers(&[function, to(echo), 0, 1, 2, 3, 4, 5]);
        let (_, changed) = probe::call_checking_gprs(SMC, &message, 0x1234_5678_0000_0000);
        expect_eq!(changed, 0, "the mask of changed registers after {function:#x}");
    }
    Ok(())
}

fn x18_to_x30_of_partitions_are_preserved(world: &World) -> Outcome {
    for partition in world.receivers()? {
        expect_alive(*partition)?;
        let status = command(*partition, Command::Status, &[])?;
        expect_eq!(
            status[3],
            0,
            "the mask of registers that partition {:#x} found changed",
            partition.id
        );
    }
    Ok(())
}

fn hint_bit_of_the_function_number_is_ignored(world: &World) -> Outcome {
    // SMCCC 1.3: bit 16 says that the caller has no live SVE state.
    const HINT: u64 = 1 << 16;
    let echo = world.need(ECHO)?;
    let answer = smc(&[DIRECT_REQ | HINT, to(echo), 0, 1, 2]);
    expect_eq!(
        answer[..8],
        [DIRECT_RESP, ids(echo.id, 0), 0, 1, 2, 0, 0, 0],
        "x0-x7 of the response"
    );
    expect_alive(echo)
}

fn virtual_machine_gets_its_own_response(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    // A hypervisor passes on a request of virtual machine 5.
    let answer = smc(&[DIRECT_REQ, ids(5, echo.id), 0, 7]);
    expect_eq!(
        answer[..4],
        [DIRECT_RESP, ids(echo.id, 5), 0, 7],
        "x0-x3 of the response"
    );
    Ok(())
}

fn secure_source_is_invalid(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    for source in [forward.id, echo.id, SPMC, 0xffff, 0xffc0, 0x8fff] {
        for function in [DIRECT_REQ, DIRECT_REQ64] {
            let answer = smc(&[function, ids(source, echo.id), 0, 1]);
            expect_error_in(
                &answer,
                &[FfaError::InvalidParameters, FfaError::Denied],
                "a request of the normal world with a secure source",
            )?;
        }
    }
    Ok(())
}

fn unknown_destination_is_invalid(_: &World) -> Outcome {
    for destination in [SPMC, 0x8fff, 0x9000, 1, 0x7fff] {
        for function in [DIRECT_REQ, DIRECT_REQ64] {
            let answer = smc(&[function, ids(0, destination), 0, 1]);
            expect_error(
                &answer,
                FfaError::InvalidParameters,
                "a request to an id that no partition has",
            )?;
        }
    }
    Ok(())
}

fn reserved_word_is_refused(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    for word in [1, 0x80, 0x4000_0000, 0x0100_0000] {
        for function in [DIRECT_REQ, DIRECT_REQ64] {
            let answer = smc(&[function, to(echo), word, 1]);
            expect_error(
                &answer,
                FfaError::InvalidParameters,
                "a request with reserved bits of w2 set",
            )?;
        }
    }
    Ok(())
}

fn framework_messages_are_not_the_normal_worlds(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let codes = [FfaError::InvalidParameters, FfaError::Denied, FfaError::NotSupported];
    // A power message, a version message, one that does not exist; to a partition and to the SPMC.
    for function in [0, 1, 8, 9, 0x55] {
        for destination in [echo.id, SPMC] {
            let answer = smc(&[DIRECT_REQ, ids(0, destination), 1 << 31 | function, 0x8400_0002]);
            expect_error_in(&answer, &codes, "a framework message of the normal world")?;
        }
    }
    expect_alive(echo)
}

fn receiver_that_takes_none_denies(world: &World) -> Outcome {
    let silent = world.need(SILENT)?;
    for function in [DIRECT_REQ, DIRECT_REQ64] {
        expect_error(
            &smc(&[function, to(silent), 0, 1]),
            FfaError::Denied,
            "a request to a partition that takes none",
        )?;
    }
    Ok(())
}

fn partition_reaches_partition(world: &World) -> Outcome {
    let (forward, echo) = (world.need(FORWARD)?, world.need(ECHO)?);
    let answer = call_from(
        forward,
        Conduit::Smc,
        &[
            DIRECT_REQ64,
            ids(forward.id, echo.id),
            0,
            u64::MAX,
            2,
            3,
            4,
            5,
            0x88,
            0x99,
        ],
    )?;
    expect_eq!(
        answer[..3],
        [DIRECT_RESP64, ids(echo.id, forward.id), 0],
        "x0-x2 of the response in the partition"
    );
    expect_eq!(
        answer[3..8],
        [u64::MAX, 2, 3, 4, 5],
        "x3-x7 of the response in the partition"
    );
    let answer = call_from(
        forward,
        Conduit::Hvc,
        &[
            DIRECT_REQ,
            ids(forward.id, echo.id),
            0,
            0xffff_ffff,
            2,
            3,
            4,
            5,
            0x88,
            0x99,
        ],
    )?;
    let expected = [
        DIRECT_RESP,
        ids(echo.id, forward.id),
        0,
        0xffff_ffff,
        2,
        3,
        4,
        5,
        0x88,
        0x99,
    ];
    expect_eq!(
        answer[..10],
        expected,
        "x0-x9 of the response to a 32-bit request by HVC"
    );
    Ok(())
}

fn call_chain_of_three(world: &World) -> Outcome {
    let (forward, relay, echo) = (world.need(FORWARD)?, world.need(RELAY)?, world.need(ECHO)?);
    // The normal world asks forward, which asks relay, which asks echo.
    let inner = Command::Forward.five_words(&[u64::from(echo.id), 0x77, 0x78, 0x79]);
    let mut words = [0; 13];
    words[0] = u64::from(relay.id);
    words[1..6].copy_from_slice(&inner);
    let answer = crate::talk::ask(forward, Command::Forward.words(&words))?;
    expect_eq!(answer[..5], [0x77, 0x78, 0x79, 0, 0], "the words that echo got");
    Ok(())
}

fn loop_in_call_chain_is_denied(world: &World) -> Outcome {
    let (forward, relay) = (world.need(FORWARD)?, world.need(RELAY)?);
    // The normal world asks forward, which asks relay, which asks forward: that waits for relay.
    let inner = Command::Forward.five_words(&[u64::from(forward.id), 1]);
    let mut words = [0; 13];
    words[0] = u64::from(relay.id);
    words[1..6].copy_from_slice(&inner);
    let answer = crate::talk::ask(forward, Command::Forward.words(&words))?;
    let denied = i64::from(i32::from(FfaError::Denied)).cast_unsigned();
    expect_eq!(answer[..2], [tantalum_agent::FAILED, denied], "what relay was answered");
    expect_alive(forward)?;
    expect_alive(relay)
}

fn request_to_oneself_is_refused(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    for conduit in [Conduit::Smc, Conduit::Hvc] {
        let answer = call_from(forward, conduit, &[DIRECT_REQ, ids(forward.id, forward.id), 0, 1])?;
        let codes = [FfaError::Denied, FfaError::InvalidParameters];
        expect_error_in(&answer, &codes, "a request of a partition to itself")?;
    }
    Ok(())
}

fn partition_cannot_forge_its_source(world: &World) -> Outcome {
    let (forward, echo) = (world.need(FORWARD)?, world.need(ECHO)?);
    for source in [0, echo.id, SPMC, 0xffff, 0x8fff] {
        let answer = call_from(forward, Conduit::Smc, &[DIRECT_REQ, ids(source, echo.id), 0, 1])?;
        let codes = [FfaError::InvalidParameters, FfaError::Denied];
        expect_error_in(
            &answer,
            &codes,
            "a request of a partition with a source that is not its own",
        )?;
    }
    Ok(())
}

fn partition_cannot_ask_the_normal_world(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let codes = [FfaError::InvalidParameters, FfaError::Denied, FfaError::NotSupported];
    for destination in [0, 5, SPMC, 0xffff, 0x8fff] {
        let answer = call_from(forward, Conduit::Smc, &[DIRECT_REQ, ids(forward.id, destination), 0, 1])?;
        expect_error_in(
            &answer,
            &codes,
            "a request of a partition to an id that no partition has",
        )?;
    }
    Ok(())
}

/// Has forward spin so many milliseconds; returns 1 if that worked. Another core may be asking it something just now: tries until it has time.
pub fn keep_forward_busy(_: usize, argument: u64) -> u64 {
    let (id, milliseconds) = ((argument & 0xffff) as u16, argument >> 16);
    let words = Command::Spin.five_words(&[milliseconds]);
    let mut answer = SMC.direct_req64(0, id, words);
    let _ = Deadline::after(5000).wait_until(|| {
        let refused = answer == Err(Error::Ffa(FfaError::Busy));
        if refused {
            answer = SMC.direct_req64(0, id, words);
        }
        !refused
    });
    let answer = crate::talk::finish(answer, "keeping a partition busy");
    u64::from(answer.is_ok_and(|response| response.payload()[0] == tantalum_agent::DONE))
}

fn busy_receiver_gets_busy(world: &World) -> Outcome {
    world.need_two_cores()?;
    let forward = world.need(FORWARD)?;
    cores::run_on(1, keep_forward_busy, 300 << 16 | u64::from(forward.id))?;
    let busy =
        Deadline::after(5000).wait_until(|| smc(&[DIRECT_REQ, to(forward), 0, 1])[..8] == error(FfaError::Busy)[..8]);
    let finished = cores::wait_for(1, 10_000)?;
    check!(busy, "FFA_ERROR(BUSY) while another core keeps the partition busy");
    expect_eq!(finished, 1, "whether the other core got its response");
    expect_alive(forward)
}
