//! What an attacking partition tries and lives through: the others, and the normal world, notice nothing.

use tantalum_agent::{ATTACK, Command, ECHO, FORWARD, USER};
use tantalum_partition::ffa::{FfaError, Partition, ids};

use super::tests;
use crate::{
    report::{Outcome, expect_eq},
    talk::{Conduit, call_from, command, expect_alive, expect_error_in, send},
    world::World,
};

tests! { "attack":
    forged_requests_and_responses_reach_nobody,
    boot_information_is_the_partitions_own,
    contexts_start_with_clean_registers,
    messages_after_all_that_are_unharmed,
    stage_1_of_the_partition_does_not_matter,
}

fn forged_requests_and_responses_reach_nobody(world: &World) -> Outcome {
    let (attack, echo, forward) = (world.need(ATTACK)?, world.need(ECHO)?, world.need(FORWARD)?);
    let count = |partition: Partition| command(partition, Command::Status, &[]).map(|status| status[2]);
    let before = (count(echo)?, count(forward)?);
    let codes = [FfaError::InvalidParameters, FfaError::Denied, FfaError::NotSupported];
    // In the name of others, framework messages as SPMD sends them, responses to the normal world in forward's name.
    let forged = [
        [0x8400_006f, ids(0, echo.id), 0, 1],
        [0xc400_006f, ids(forward.id, echo.id), 0, 1],
        [0x8400_006f, ids(0xffff, 0x8000), 1 << 31, 0x8400_0002],
        [0x8400_006f, ids(attack.id, echo.id), 1 << 31, 0x8400_0002],
        [0x8400_006f, ids(attack.id, echo.id), 1 << 31 | 4, 0],
        [0xc400_008d, ids(forward.id, echo.id), 0, 0],
        [0x8400_0070, ids(forward.id, 0), 0, 1],
        [0xc400_0070, ids(attack.id, echo.id), 0, 1],
        [0xc400_008e, ids(0xffff, 0x8000), 0, 0],
    ];
    for call in forged {
        for conduit in [Conduit::Smc, Conduit::Hvc] {
            let answer = call_from(attack, conduit, &call)?;
            expect_error_in(&answer, &codes, "a forged message")?;
        }
    }
    expect_eq!(
        (count(echo)?, count(forward)?),
        (before.0 + 1, before.1 + 1),
        "messages that echo and forward got, the questions included"
    );
    Ok(())
}

fn boot_information_is_the_partitions_own(world: &World) -> Outcome {
    for partition in world.receivers()? {
        let status = command(*partition, Command::Status, &[])?;
        crate::report::check!(
            status[4] >= 0x40 && status[7] > 0x100,
            "boot information with a manifest in partition {:#x}, got {} bytes with a manifest of {}",
            partition.id,
            status[4],
            status[7]
        );
        let level = u64::from(partition.uuid != USER);
        expect_eq!(status[6], level, "the exception level of partition {:#x}", partition.id);
    }
    Ok(())
}

fn contexts_start_with_clean_registers(world: &World) -> Outcome {
    for partition in world.receivers()? {
        let status = command(*partition, Command::Status, &[])?;
        expect_eq!(
            status[9],
            0,
            "the bits set in x5-x30 when partition {:#x} started",
            partition.id
        );
        expect_eq!(
            status[10],
            0,
            "the mask of SIMD registers that were not zero when partition {:#x} started",
            partition.id
        );
    }
    Ok(())
}

fn messages_after_all_that_are_unharmed(world: &World) -> Outcome {
    for partition in world.receivers()? {
        expect_alive(*partition)?;
    }
    Ok(())
}

fn stage_1_of_the_partition_does_not_matter(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    // A mapping of the whole first gigabyte elsewhere gives no more rights than the first.
    command(attack, Command::Map, &[0x20_0000_0000, 0, 0x4000_0000, 3])?;
    let echo = world.need(ECHO)?;
    let answer = send(attack, Command::Read.words(&[0x20_0000_0000 + 0x0e20_4000]));
    let response = crate::talk::finish(answer, "a read by another way")?;
    expect_eq!(
        response.payload()[1],
        1,
        "whether the read of another partition's memory faulted"
    );
    expect_alive(echo)?;
    Ok(())
}
