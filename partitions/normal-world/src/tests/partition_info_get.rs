//! `FFA_PARTITION_INFO_GET`: descriptors through RX.

use tantalum_agent::{ECHO, FORWARD, RELAY, SILENT};
use tantalum_partition::ffa::{FfaError, Uuid, UuidHelper, uuid};

use super::tests;
use crate::{
    buffers::{FORWARD_BASE, Pair},
    report::{Outcome, check, expect_eq},
    talk::{
        PARTITION_INFO_GET, PARTITION_INFO_GET_REGS, RX_RELEASE, RXTX_UNMAP, SUCCESS, SUCCESS64, expect_error, smc,
    },
    world::World,
};

tests! { "partition_info_get":
    descriptors_are_those_that_registers_have,
    descriptors_by_uuid_are_those_that_registers_have,
    partition_gets_what_registers_have,
    count_needs_no_buffer,
    rx_is_busy_until_released,
    without_buffers_is_busy,
    full_rx_is_forgotten_when_unmapped,
    unknown_uuid_is_invalid,
    reserved_flags_are_invalid,
}

/// The size of a descriptor of FF-A 1.1 and 1.2.
const DESCRIPTOR: u64 = 24;
/// Flag: only the number is asked for.
const COUNT_ONLY: u64 = 1;

const UNKNOWN: Uuid = uuid!("00112233-4455-6677-8899-aabbccddeeff");

/// The registers of the call.
fn request(uuid: Uuid, flags: u64) -> [u64; 6] {
    let [low, high] = UuidHelper::to_u64_regs(uuid);
    let mask = u64::from(u32::MAX);
    [
        PARTITION_INFO_GET,
        low & mask,
        low >> 32,
        high & mask,
        high >> 32,
        flags,
    ]
}

/// Fails unless what the owner of `pair` gets in RX for `uuid` is what it gets in registers, and nothing behind it. Returns how many descriptors.
fn expect_same(pair: &Pair, uuid: Uuid) -> Outcome<u64> {
    let [low, high] = UuidHelper::to_u64_regs(uuid);
    let answer = pair.call(&request(uuid, 0))?;
    let count = answer[2];
    expect_eq!(
        answer[..8],
        [SUCCESS, 0, count, DESCRIPTOR, 0, 0, 0, 0],
        "x0-x7 after FFA_PARTITION_INFO_GET for {uuid}"
    );
    for index in 0..count {
        let tag = pair.call(&[PARTITION_INFO_GET_REGS, low, high])?[2] >> 32 & 0xffff;
        let regs = pair.call(&[PARTITION_INFO_GET_REGS, low, high, tag << 16 | index])?;
        expect_eq!(regs[0], SUCCESS64, "x0 after FFA_PARTITION_INFO_GET_REGS at {index}");
        expect_eq!(
            regs[2] & 0xffff,
            count - 1,
            "the last index that registers have, for {uuid}"
        );
        for (place, word) in (index * DESCRIPTOR..).step_by(8).zip(&regs[3..6]) {
            expect_eq!(
                pair.received(place)?,
                *word,
                "the word at {place} of RX, in descriptor {index} for {uuid}"
            );
        }
    }
    expect_eq!(
        pair.received(count * DESCRIPTOR)?,
        u64::MAX,
        "what was in RX behind the last descriptor"
    );
    pair.release()?;
    Ok(count)
}

fn descriptors_are_those_that_registers_have(world: &World) -> Outcome {
    let pair = Pair::of_normal_world()?;
    let count = expect_same(&pair, Uuid::nil())?;
    expect_eq!(count, world.partitions().len() as u64, "how many descriptors");
    Ok(())
}

fn descriptors_by_uuid_are_those_that_registers_have(world: &World) -> Outcome {
    for uuid in [ECHO, RELAY, SILENT] {
        let partition = world.need(uuid)?;
        let pair = Pair::of_normal_world()?;
        expect_eq!(expect_same(&pair, uuid)?, 1, "how many descriptors for {uuid}");
        expect_eq!(
            pair.received(0)? & 0xffff_ffff,
            u64::from(partition.contexts) << 16 | u64::from(partition.id),
            "id and contexts for {uuid}"
        );
    }
    Ok(())
}

fn partition_gets_what_registers_have(world: &World) -> Outcome {
    let pair = Pair::of_partition(world.need(FORWARD)?, FORWARD_BASE)?;
    let count = expect_same(&pair, Uuid::nil())?;
    expect_eq!(count, world.partitions().len() as u64, "how many descriptors");
    Ok(())
}

fn count_needs_no_buffer(world: &World) -> Outcome {
    check!(!world.partitions().is_empty(), "a list that is not empty");
    for (uuid, count) in [(Uuid::nil(), world.partitions().len() as u64), (ECHO, 1)] {
        let answer = smc(&request(uuid, COUNT_ONLY));
        expect_eq!(
            answer[..8],
            [SUCCESS, 0, count, 0, 0, 0, 0, 0],
            "x0-x7 when the number for {uuid} is asked for"
        );
    }
    Ok(())
}

fn rx_is_busy_until_released(_: &World) -> Outcome {
    let pair = Pair::of_normal_world()?;
    expect_eq!(smc(&request(ECHO, 0))[0], SUCCESS, "x0 with an empty RX");
    let first = pair.received(0)?;
    expect_error(
        &smc(&request(Uuid::nil(), 0)),
        FfaError::Busy,
        "FFA_PARTITION_INFO_GET with a full RX",
    )?;
    expect_eq!(pair.received(0)?, first, "the first word of RX, which was not released");
    expect_eq!(
        smc(&request(Uuid::nil(), COUNT_ONLY))[0],
        SUCCESS,
        "x0 for the number, with a full RX"
    );
    pair.release()?;
    expect_error(&smc(&[RX_RELEASE]), FfaError::Denied, "a second FFA_RX_RELEASE")?;
    expect_eq!(smc(&request(Uuid::nil(), 0))[0], SUCCESS, "x0 once RX was released");
    pair.release()
}

fn without_buffers_is_busy(_: &World) -> Outcome {
    expect_error(
        &smc(&request(Uuid::nil(), 0)),
        FfaError::Busy,
        "FFA_PARTITION_INFO_GET without RX",
    )
}

fn full_rx_is_forgotten_when_unmapped(_: &World) -> Outcome {
    let pair = Pair::of_normal_world()?;
    expect_eq!(smc(&request(ECHO, 0))[0], SUCCESS, "x0 with an empty RX");
    expect_eq!(smc(&[RXTX_UNMAP])[0], SUCCESS, "x0 after FFA_RXTX_UNMAP");
    drop(pair);
    let _pair = Pair::of_normal_world()?;
    expect_eq!(smc(&request(ECHO, 0))[0], SUCCESS, "x0 with an RX that was mapped anew");
    Ok(())
}

fn unknown_uuid_is_invalid(_: &World) -> Outcome {
    let _pair = Pair::of_normal_world()?;
    for flags in [0, COUNT_ONLY] {
        expect_error(
            &smc(&request(UNKNOWN, flags)),
            FfaError::InvalidParameters,
            "FFA_PARTITION_INFO_GET of an unknown UUID",
        )?;
    }
    expect_error(
        &smc(&[RX_RELEASE]),
        FfaError::Denied,
        "FFA_RX_RELEASE after an FFA_PARTITION_INFO_GET that failed",
    )
}

fn reserved_flags_are_invalid(_: &World) -> Outcome {
    let _pair = Pair::of_normal_world()?;
    for flags in [2, 1 << 31, 3] {
        expect_error(
            &smc(&request(ECHO, flags)),
            FfaError::InvalidParameters,
            "FFA_PARTITION_INFO_GET with reserved flags",
        )?;
    }
    Ok(())
}
