//! `FFA_RXTX_MAP`, `FFA_RXTX_UNMAP`, `FFA_RX_RELEASE`: whose memory can be a buffer.

use tantalum_agent::{ATTACK, ECHO, FORWARD};
use tantalum_partition::ffa::FfaError;

use super::tests;
use crate::{
    buffers::{ATTACK_BASE, ECHO_BASE, FORWARD_BASE, FREE, NORMAL_WORLD, PAGE, Pair},
    report::Outcome,
    talk::{
        Conduit, FEATURES, RX_RELEASE, RXTX_MAP, RXTX_MAP64, RXTX_UNMAP, call_from, expect_alive, expect_error,
        expect_success, smc,
    },
    world::World,
};

tests! { "rxtx_map":
    pair_is_mapped_once_and_unmapped_once,
    both_forms_of_the_call_are_there,
    addresses_and_counts_that_cannot_be,
    memory_that_is_not_the_normal_worlds_is_denied,
    all_zero_without_own_buffers_is_invalid,
    ids_of_others_are_invalid,
    empty_rx_is_not_released,
    partition_maps_its_own_once_and_unmaps_once,
    partition_maps_memory_that_the_normal_world_shares,
    partition_gives_addresses_and_counts_that_cannot_be,
    partition_is_denied_memory_of_others,
    partition_is_denied_what_it_may_not_write,
    partition_releases_no_empty_rx,
}

const TX: u64 = NORMAL_WORLD;
const RX: u64 = NORMAL_WORLD + PAGE;
/// Memory that is neither the normal world's nor a partition's: EL3's, the SPMC's, nobody's, a device.
const NOBODYS: [u64; 4] = [0x0e00_2000, 0x0e10_0000, 0x0ef0_0000, 0x0900_0000];

fn pair_is_mapped_once_and_unmapped_once(_: &World) -> Outcome {
    let pair = Pair::of_normal_world()?;
    for call in [[RXTX_MAP64, TX, RX, 1], [RXTX_MAP64, TX + 2 * PAGE, RX + 2 * PAGE, 1]] {
        expect_error(&smc(&call), FfaError::Denied, "FFA_RXTX_MAP of a second pair")?;
    }
    expect_success(&pair.call(&[RXTX_UNMAP])?, "FFA_RXTX_UNMAP")?;
    expect_error(
        &smc(&[RXTX_UNMAP]),
        FfaError::InvalidParameters,
        "FFA_RXTX_UNMAP without a pair",
    )
}

fn both_forms_of_the_call_are_there(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    for call in [RXTX_MAP, RXTX_MAP64] {
        expect_success(&smc(&[call, TX, RX, 1]), "FFA_RXTX_MAP")?;
        expect_success(&smc(&[RXTX_UNMAP]), "FFA_RXTX_UNMAP")?;
        let own = FORWARD_BASE + FREE;
        let answer = call_from(forward, Conduit::Smc, &[call, own, own + PAGE, 1])?;
        expect_success(&answer, "FFA_RXTX_MAP in a partition")?;
        let answer = call_from(forward, Conduit::Hvc, &[RXTX_UNMAP])?;
        expect_success(&answer, "FFA_RXTX_UNMAP in a partition")?;
    }
    for call in [RX_RELEASE, RXTX_UNMAP] {
        expect_success(&smc(&[FEATURES, call]), "FFA_FEATURES of a call for buffers")?;
    }
    Ok(())
}

/// TX, RX and a number of pages that no memory can make right.
fn impossible(base: u64) -> [[u64; 3]; 9] {
    let (tx, rx) = (base, base + PAGE);
    [
        [tx + 8, rx, 1],
        [tx, rx + 0x800, 1],
        [tx, rx, 0],
        [tx, tx, 1],
        [tx, rx, 2],
        [rx, tx, 2],
        [tx, rx, 0x41],
        [tx, 1 << 60, 1],
        [0xffff_ffff_ffff_f000, rx, 2],
    ]
}

fn addresses_and_counts_that_cannot_be(_: &World) -> Outcome {
    for [tx, rx, pages] in impossible(NORMAL_WORLD) {
        expect_error(
            &smc(&[RXTX_MAP64, tx, rx, pages]),
            FfaError::InvalidParameters,
            "FFA_RXTX_MAP of what cannot be",
        )?;
    }
    expect_error(
        &smc(&[RXTX_UNMAP]),
        FfaError::InvalidParameters,
        "FFA_RXTX_UNMAP after nothing was mapped",
    )
}

fn memory_that_is_not_the_normal_worlds_is_denied(_: &World) -> Outcome {
    let secure = [ECHO_BASE + FREE, ATTACK_BASE + FREE];
    for other in NOBODYS.into_iter().chain(secure) {
        for (tx, rx) in [(other, RX), (TX, other), (other, other + PAGE)] {
            expect_error(
                &smc(&[RXTX_MAP64, tx, rx, 1]),
                FfaError::Denied,
                "FFA_RXTX_MAP of memory that is not the normal world's",
            )?;
        }
    }
    Ok(())
}

fn all_zero_without_own_buffers_is_invalid(_: &World) -> Outcome {
    expect_error(
        &smc(&[RXTX_MAP64]),
        FfaError::InvalidParameters,
        "FFA_RXTX_MAP for a VM, whose descriptor is in no TX",
    )
}

fn ids_of_others_are_invalid(world: &World) -> Outcome {
    let (forward, echo) = (world.need(FORWARD)?, world.need(ECHO)?);
    let _own = Pair::of_normal_world()?;
    let pair = Pair::of_partition(forward, FORWARD_BASE)?;
    for id in [forward.id, echo.id, 1] {
        let what = "FFA_RXTX_UNMAP of another's pair";
        let call = [RXTX_UNMAP, u64::from(id) << 16];
        expect_error(&smc(&call), FfaError::InvalidParameters, what)?;
        if id != forward.id {
            expect_error(&pair.call(&call)?, FfaError::InvalidParameters, what)?;
        }
        let what = "FFA_RX_RELEASE of another's RX";
        let call = [RX_RELEASE, u64::from(id)];
        expect_error(&smc(&call), FfaError::InvalidParameters, what)?;
        if id != forward.id {
            expect_error(&pair.call(&call)?, FfaError::InvalidParameters, what)?;
        }
    }
    Ok(())
}

fn empty_rx_is_not_released(_: &World) -> Outcome {
    let what = "FFA_RX_RELEASE of an RX that is not owned";
    expect_error(&smc(&[RX_RELEASE]), FfaError::Denied, what)?;
    let _pair = Pair::of_normal_world()?;
    expect_error(&smc(&[RX_RELEASE]), FfaError::Denied, what)
}

fn partition_maps_its_own_once_and_unmaps_once(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let pair = Pair::of_partition(forward, FORWARD_BASE)?;
    let own = FORWARD_BASE + FREE;
    for tx in [own, own + 2 * PAGE] {
        let answer = pair.call(&[RXTX_MAP64, tx, tx + PAGE, 1])?;
        expect_error(&answer, FfaError::Denied, "FFA_RXTX_MAP of a second pair")?;
    }
    expect_success(&pair.call(&[RXTX_UNMAP])?, "FFA_RXTX_UNMAP")?;
    let answer = pair.call(&[RXTX_UNMAP])?;
    expect_error(&answer, FfaError::InvalidParameters, "FFA_RXTX_UNMAP without a pair")
}

fn partition_maps_memory_that_the_normal_world_shares(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    let answer = call_from(attack, Conduit::Smc, &[RXTX_MAP64, 0x5000_0000, 0x5000_1000, 1])?;
    expect_success(
        &answer,
        "FFA_RXTX_MAP of a region of the normal world that is the partition's",
    )?;
    let answer = call_from(attack, Conduit::Smc, &[RXTX_UNMAP])?;
    expect_success(&answer, "FFA_RXTX_UNMAP")
}

fn partition_gives_addresses_and_counts_that_cannot_be(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    for [tx, rx, pages] in impossible(FORWARD_BASE + FREE) {
        let answer = call_from(forward, Conduit::Smc, &[RXTX_MAP64, tx, rx, pages])?;
        expect_error(&answer, FfaError::InvalidParameters, "FFA_RXTX_MAP of what cannot be")?;
    }
    Ok(())
}

fn partition_is_denied_memory_of_others(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let own = FORWARD_BASE + FREE;
    let others = [ECHO_BASE + FREE, ATTACK_BASE + FREE, NORMAL_WORLD];
    for other in NOBODYS.into_iter().chain(others) {
        for (tx, rx) in [(other, own), (own, other), (other, other + PAGE)] {
            let answer = call_from(forward, Conduit::Smc, &[RXTX_MAP64, tx, rx, 1])?;
            expect_error(
                &answer,
                FfaError::Denied,
                "FFA_RXTX_MAP of memory that is not one's own",
            )?;
        }
    }
    // Its own up to the last page, and one page more.
    let end = FORWARD_BASE + 0x10_0000;
    let answer = call_from(forward, Conduit::Smc, &[RXTX_MAP64, own, end - PAGE, 2])?;
    expect_error(&answer, FfaError::Denied, "FFA_RXTX_MAP beyond the end of one's memory")?;
    expect_alive(forward)
}

fn partition_is_denied_what_it_may_not_write(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    let (own, read_only) = (ATTACK_BASE + FREE, ATTACK_BASE + 0xc_0000);
    for (tx, rx) in [(read_only, own), (own, 0x5000_0000)] {
        let answer = call_from(attack, Conduit::Smc, &[RXTX_MAP64, tx, rx, 1])?;
        expect_error(
            &answer,
            FfaError::Denied,
            "FFA_RXTX_MAP of a TX that is read-only, or in two worlds",
        )?;
    }
    // It need not write its RX.
    let answer = call_from(attack, Conduit::Smc, &[RXTX_MAP64, own, read_only, 1])?;
    expect_success(&answer, "FFA_RXTX_MAP of an RX that is read-only")?;
    let answer = call_from(attack, Conduit::Smc, &[RXTX_UNMAP])?;
    expect_success(&answer, "FFA_RXTX_UNMAP")?;
    expect_alive(attack)
}

fn partition_releases_no_empty_rx(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let what = "FFA_RX_RELEASE of an RX that is not owned";
    let answer = call_from(forward, Conduit::Smc, &[RX_RELEASE])?;
    expect_error(&answer, FfaError::Denied, what)?;
    let pair = Pair::of_partition(forward, FORWARD_BASE)?;
    expect_error(&pair.call(&[RX_RELEASE])?, FfaError::Denied, what)
}
