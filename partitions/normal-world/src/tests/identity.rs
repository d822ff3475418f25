//! `FFA_ID_GET` and `FFA_SPM_ID_GET`.

use tantalum_agent::{Command, USER};
use tantalum_partition::ffa::Partition;

use super::tests;
use crate::{
    report::{Outcome, expect_eq},
    talk::{Conduit, ID_GET, SPM_ID_GET, SPMC, SUCCESS, call_from, command, smc},
    world::World,
};

tests! { "id_get":
    normal_world_is_0,
    spm_is_0x8000,
    partitions_get_their_own_by_smc_and_hvc,
    partitions_get_that_of_the_spm_by_smc_and_hvc,
    upper_halves_of_arguments_are_ignored,
}

fn normal_world_is_0(_: &World) -> Outcome {
    expect_eq!(
        smc(&[ID_GET])[..8],
        [SUCCESS, 0, 0, 0, 0, 0, 0, 0],
        "x0-x7 after FFA_ID_GET"
    );
    Ok(())
}

fn spm_is_0x8000(_: &World) -> Outcome {
    expect_eq!(
        smc(&[SPM_ID_GET])[..8],
        [SUCCESS, 0, u64::from(SPMC), 0, 0, 0, 0, 0],
        "x0-x7 after FFA_SPM_ID_GET"
    );
    Ok(())
}

/// How a partition may call. One at S-EL0 has but one instruction for it, which is its "SMC".
fn conduits(partition: &Partition) -> impl Iterator<Item = Conduit> + use<> {
    let at_el0 = partition.uuid == USER;
    [Conduit::Smc, Conduit::Hvc]
        .into_iter()
        .take(if at_el0 { 1 } else { 2 })
}

fn partitions_get_their_own_by_smc_and_hvc(world: &World) -> Outcome {
    for partition in world.receivers()? {
        for conduit in conduits(partition) {
            let answer = call_from(*partition, conduit, &[ID_GET])?;
            let expected = [SUCCESS, 0, u64::from(partition.id), 0, 0, 0, 0, 0];
            expect_eq!(
                answer[..8],
                expected,
                "x0-x7 after FFA_ID_GET in {:#x} by {conduit:?}",
                partition.id
            );
        }
        let status = command(*partition, Command::Status, &[])?;
        expect_eq!(
            status[5],
            u64::from(partition.id),
            "the id that the partition found at boot"
        );
    }
    Ok(())
}

fn partitions_get_that_of_the_spm_by_smc_and_hvc(world: &World) -> Outcome {
    for partition in world.receivers()? {
        for conduit in conduits(partition) {
            let answer = call_from(*partition, conduit, &[SPM_ID_GET])?;
            let expected = [SUCCESS, 0, u64::from(SPMC), 0, 0, 0, 0, 0];
            expect_eq!(
                answer[..8],
                expected,
                "x0-x7 after FFA_SPM_ID_GET in {:#x} by {conduit:?}",
                partition.id
            );
        }
    }
    Ok(())
}

fn upper_halves_of_arguments_are_ignored(world: &World) -> Outcome {
    let garbage = 0xdead_beef << 32;
    for partition in world.receivers()? {
        let answer = call_from(
            *partition,
            Conduit::Smc,
            &[ID_GET, garbage, garbage, garbage, garbage, garbage],
        )?;
        let expected = [SUCCESS, 0, u64::from(partition.id), 0, 0, 0, 0, 0];
        expect_eq!(
            answer[..8],
            expected,
            "x0-x7 after FFA_ID_GET with garbage in the upper halves"
        );
    }
    Ok(())
}
