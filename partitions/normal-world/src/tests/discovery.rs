//! `FFA_PARTITION_INFO_GET_REGS`.

use tantalum_agent::{Command, ECHO, FORWARD, RELAY, RELAY_SERVICE, SILENT};
use tantalum_partition::ffa::{FfaError, Registers, SMC, Uuid, UuidHelper, uuid};

use super::tests;
use crate::{
    report::{Outcome, check, expect_eq},
    talk::{PARTITION_INFO_GET_REGS, SUCCESS64, command, expect_error, expect_error_in, smc},
    world::World,
};

tests! { "partition_info_get_regs":
    nil_uuid_lists_all,
    each_uuid_selects_its_own,
    descriptor_found_by_uuid_has_no_uuid,
    partition_with_two_services_is_listed_twice,
    start_index_continues_the_list,
    unknown_uuid_is_invalid,
    start_index_beyond_the_last_is_invalid,
    made_up_tag_is_refused,
    unused_registers_are_zero,
    properties_say_what_the_manifest_says,
    partitions_see_the_same,
}

/// The size of a descriptor that FF-A 1.2 has in registers.
const DESCRIPTOR: u64 = 24;
/// As many descriptors as x3-x17 hold.
const AT_ONCE: u64 = 5;

const UNKNOWN: Uuid = uuid!("00112233-4455-6677-8899-aabbccddeeff");

fn ask(uuid: Uuid, start: u64, tag: u64) -> Registers {
    let [low, high] = UuidHelper::to_u64_regs(uuid);
    smc(&[PARTITION_INFO_GET_REGS, low, high, tag << 16 | start])
}

/// Last index, current index, tag and size, from x2.
fn header(answer: &Registers) -> [u64; 4] {
    [
        answer[2] & 0xffff,
        answer[2] >> 16 & 0xffff,
        answer[2] >> 32 & 0xffff,
        answer[2] >> 48,
    ]
}

fn nil_uuid_lists_all(world: &World) -> Outcome {
    let answer = ask(Uuid::nil(), 0, 0);
    expect_eq!(answer[..2], [SUCCESS64, 0], "x0 and x1");
    let count = world.partitions().len() as u64;
    check!(count > 0, "at least one partition");
    let [last, current, _, size] = header(&answer);
    expect_eq!(
        [last, current, size],
        [count - 1, count.min(AT_ONCE) - 1, DESCRIPTOR],
        "last index, current index and size"
    );
    let mut ids = world.partitions().iter().flatten().map(|partition| partition.id);
    check!(
        ids.all(|id| id > 0x8000 && id < 0xffc0),
        "ids of partitions to be secure and none of the SPMC's or EL3's"
    );
    Ok(())
}

fn each_uuid_selects_its_own(world: &World) -> Outcome {
    check!(!world.partitions().is_empty(), "a list that is not empty");
    for partition in world.partitions().iter().flatten() {
        let answer = ask(partition.uuid, 0, 0);
        expect_eq!(answer[..2], [SUCCESS64, 0], "x0 and x1 for UUID {}", partition.uuid);
        let [last, current, _, size] = header(&answer);
        expect_eq!(
            [last, current, size],
            [0, 0, DESCRIPTOR],
            "last index, current index and size"
        );
        expect_eq!(
            answer[3] & 0xffff,
            u64::from(partition.id),
            "the id for UUID {}",
            partition.uuid
        );
    }
    Ok(())
}

fn descriptor_found_by_uuid_has_no_uuid(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    expect_eq!(
        ask(echo.uuid, 0, 0)[4..6],
        [0, 0],
        "the UUID in a descriptor that was asked for by UUID"
    );
    Ok(())
}

fn partition_with_two_services_is_listed_twice(world: &World) -> Outcome {
    let relay = world.need(RELAY)?;
    let Some(second) = world.find(RELAY_SERVICE) else {
        crate::report::fail!("expected the second service of relay in the list");
    };
    expect_eq!(second.id, relay.id, "the id of the second service");
    Ok(())
}

fn start_index_continues_the_list(world: &World) -> Outcome {
    check!(!world.partitions().is_empty(), "a list that is not empty");
    for (index, partition) in world.partitions().iter().enumerate() {
        let tag = header(&ask(Uuid::nil(), 0, 0))[2];
        let answer = ask(Uuid::nil(), index as u64, tag);
        expect_eq!(answer[0], SUCCESS64, "x0 with start index {index}");
        let left = (world.partitions().len() - index) as u64;
        let [_, current, ..] = header(&answer);
        expect_eq!(
            current,
            index as u64 + left.min(AT_ONCE) - 1,
            "the current index with start index {index}"
        );
        expect_eq!(
            Some(answer[3] & 0xffff),
            partition.map(|partition| u64::from(partition.id)),
            "the id at index {index}"
        );
    }
    Ok(())
}

fn unknown_uuid_is_invalid(_: &World) -> Outcome {
    expect_error(&ask(UNKNOWN, 0, 0), FfaError::InvalidParameters, "an unknown UUID")
}

fn start_index_beyond_the_last_is_invalid(world: &World) -> Outcome {
    let count = world.partitions().len() as u64;
    for start in [count, count + 1, 0xffff] {
        let tag = header(&ask(Uuid::nil(), 0, 0))[2];
        expect_error(
            &ask(Uuid::nil(), start, tag),
            FfaError::InvalidParameters,
            "a start index beyond the last",
        )?;
    }
    let tag = header(&ask(ECHO, 0, 0))[2];
    expect_error(
        &ask(ECHO, 1, tag),
        FfaError::InvalidParameters,
        "start index 1 of a list of one",
    )
}

fn made_up_tag_is_refused(_: &World) -> Outcome {
    let codes = [FfaError::InvalidParameters, FfaError::Retry];
    expect_error_in(&ask(Uuid::nil(), 0, 0x1234), &codes, "a tag with start index 0")?;
    let tag = header(&ask(Uuid::nil(), 0, 0))[2];
    expect_error_in(&ask(Uuid::nil(), 1, tag ^ 0x55), &codes, "a tag that nobody gave out")
}

fn unused_registers_are_zero(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let [low, high] = UuidHelper::to_u64_regs(echo.uuid);
    let mut registers = [0x5555_5555_5555_5555; 18];
    registers[..4].copy_from_slice(&[PARTITION_INFO_GET_REGS, low, high, 0]);
    let answer = SMC.call(&registers);
    expect_eq!(answer[6..], [0; 12], "x6-x17 when there is one descriptor");
    Ok(())
}

fn properties_say_what_the_manifest_says(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    check!(
        echo.receives_direct && echo.receives_direct2,
        "echo to receive direct requests of both kinds"
    );
    expect_eq!(
        (echo.contexts, forward.contexts),
        (4, 1),
        "the execution contexts of echo and forward"
    );
    let silent = world.need(SILENT)?;
    check!(
        !silent.receives_direct && !silent.receives_direct2,
        "silent to receive no direct requests"
    );
    Ok(())
}

fn partitions_see_the_same(world: &World) -> Outcome {
    let (forward, echo) = (world.need(FORWARD)?, world.need(ECHO)?);
    let [low, high] = UuidHelper::to_u64_regs(ECHO);
    let answer = command(forward, Command::Discover, &[low, high])?;
    expect_eq!(
        answer[..3],
        [1, u64::from(echo.id), u64::from(echo.contexts)],
        "how many, id and contexts for echo's UUID"
    );
    let answer = command(forward, Command::Discover, &[0, 0])?;
    expect_eq!(
        answer[0],
        world.partitions().len() as u64,
        "how many partitions a partition sees"
    );
    Ok(())
}
