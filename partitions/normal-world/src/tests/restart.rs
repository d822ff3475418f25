//! Partitions that fail and are started afresh: whoever waits gets ABORTED, and the next message finds a partition that remembers nothing.

use tantalum_agent::{Command, Death, ECHO, FAILED, FORWARD, Probe, attack_uuid};
use tantalum_partition::ffa::{
    FfaError, Outcome as Answer, Partition, SMC,
    memory::{NEVER_EXECUTE, READ_WRITE},
};

use super::{failures::fail_by, tests};
use crate::{
    buffers::{FREE, PAGE, Pair},
    cores,
    report::{Outcome, check, expect_eq, fail},
    talk::{
        Conduit, DIRECT_REQ, MSG_SEND2, NORMAL_WORLD, NOTIFICATION_BIND, NOTIFICATION_SET, RUN, RXTX_MAP64, RXTX_UNMAP,
        ask, call_from, command, error, expect_alive, expect_error, expect_success, smc, to,
    },
    world::World,
};

tests! { "restart":
    each_failure_is_survived,
    memory_is_as_it_was_loaded,
    buffers_and_notifications_are_gone,
    memory_that_it_had_borrowed_or_lent_is_given_back,
    waits_until_the_last_borrower_lets_go,
    buffers_of_the_manifest_are_there_again,
    partition_that_waits_gets_aborted_and_can_ask_again,
    contexts_of_other_cores_start_when_they_are_asked,
    core_comes_and_goes_after_a_restart,
    fails_again_and_again,
    others_live_on,
}

/// Where the manifests put the partition with one context.
const BASE: u64 = 0x0e30_0000;

/// The partition with one context.
fn phoenix(world: &World) -> Outcome<Partition> {
    world.need(attack_uuid(8))
}

/// The partition with a context on each core.
fn phoenixes(world: &World) -> Outcome<Partition> {
    world.need(attack_uuid(9))
}

/// How many messages the context of this core has got since it was started.
fn messages(partition: Partition) -> Outcome<u64> {
    Ok(command(partition, Command::Status, &[])?[2])
}

fn each_failure_is_survived(world: &World) -> Outcome {
    let partition = phoenix(world)?;
    for death in [
        Death::Abort,
        Death::Panic,
        Death::JumpAway,
        Death::FaultInHandler,
        Death::JumpAwayWithVectors,
        Death::NoStack,
    ] {
        expect_alive(partition)?;
        fail_by(partition, death)?;
        expect_eq!(
            messages(partition)?,
            1,
            "messages since it was started, after {death:?}"
        );
        expect_alive(world.need(ECHO)?)?;
    }
    Ok(())
}

fn read(partition: Partition, address: u64) -> Outcome<u64> {
    match Probe::from_words(&ask(partition, Command::Read.words(&[address]))?) {
        Some(Probe::Passed(value)) => Ok(value),
        other => fail!(
            "partition {:#x} can't read its memory at {address:#x}: {other:x?}",
            partition.id
        ),
    }
}

fn memory_is_as_it_was_loaded(world: &World) -> Outcome {
    let partition = phoenix(world)?;
    // The program's own instructions, where the reset vector's neighbour is, and a page that it does not use.
    let (image, free) = (BASE + 0x4000, BASE + FREE);
    command(partition, Command::Map, &[free, free, 0x1000, 0])?;
    let loaded = read(partition, image + 0x20)?;
    for (address, value) in [
        (free, 0x005e_c2e7),
        (free + 0xff8, 0x005e_c2e7),
        (image + 0x20, !loaded),
    ] {
        let written = Probe::from_words(&ask(partition, Command::Write.words(&[address, value]))?);
        expect_eq!(written, Some(Probe::Passed(0)), "a write of a partition to its memory");
    }
    fail_by(partition, Death::Abort)?;
    command(partition, Command::Map, &[free, free, 0x1000, 0])?;
    expect_eq!(read(partition, free)?, 0, "what is left of what it wrote");
    expect_eq!(read(partition, free + 0xff8)?, 0, "what is left of what it wrote");
    expect_eq!(read(partition, image + 0x20)?, loaded, "a word of its image");
    Ok(())
}

fn buffers_and_notifications_are_gone(world: &World) -> Outcome {
    let (partition, echo) = (phoenix(world)?, world.need(ECHO)?);
    let pair = Pair::of_partition(partition, BASE)?;
    let own = Pair::of_normal_world()?;
    let ids = |sender: u16, receiver: u16| u64::from(sender) << 16 | u64::from(receiver);
    let bind = |receiver: Partition, sender: Partition| {
        let route = ids(sender.id, receiver.id);
        call_from(receiver, Conduit::Smc, &[NOTIFICATION_BIND, route, 0, 1, 0])
    };
    expect_success(
        &bind(partition, echo)?,
        "FFA_NOTIFICATION_BIND by the partition that will fail",
    )?;
    expect_success(&bind(echo, partition)?, "FFA_NOTIFICATION_BIND by another, to it")?;
    let set = [NOTIFICATION_SET, ids(echo.id, partition.id), 2, 1, 0];
    expect_success(&call_from(echo, Conduit::Smc, &set)?, "FFA_NOTIFICATION_SET")?;
    fail_by(partition, Death::Panic)?;
    // Nothing is bound any more, in either direction.
    let what = "FFA_NOTIFICATION_SET of what is not bound any more";
    expect_error(&call_from(echo, Conduit::Smc, &set)?, FfaError::Denied, what)?;
    let set = [NOTIFICATION_SET, ids(partition.id, echo.id), 2, 1, 0];
    expect_error(&call_from(partition, Conduit::Smc, &set)?, FfaError::Denied, what)?;
    // Nor is there an RX.
    own.send(&[0, 40 | u64::from(partition.id) << 32, 8, 0, 0, 1])?;
    expect_error(
        &smc(&[MSG_SEND2, 0, 2]),
        FfaError::Busy,
        "FFA_MSG_SEND2 to one without buffers",
    )?;
    expect_error(
        &call_from(partition, Conduit::Smc, &[RXTX_UNMAP])?,
        FfaError::InvalidParameters,
        "FFA_RXTX_UNMAP by a partition that was started afresh",
    )?;
    drop(pair);
    Pair::of_partition(partition, BASE).map(|_| ())
}

fn memory_that_it_had_borrowed_or_lent_is_given_back(world: &World) -> Outcome {
    use super::memory::{LEND, PASSED, expect_reached, expect_value, put, reclaim, retrieved, send};
    let (partition, forward) = (phoenix(world)?, world.need(FORWARD)?);
    let own = Pair::of_normal_world()?;
    let its = Pair::of_partition(partition, BASE)?;
    let borrowers = [(partition.id, READ_WRITE)];
    put(PASSED, 0x1234)?;
    let handle = send(&own, LEND, &borrowers, &[(PASSED, 1)])?;
    retrieved(&its, 0, handle, &[(partition.id, READ_WRITE | NEVER_EXECUTE)])?;
    expect_reached(partition, PASSED, 0x1234)?;
    expect_error(
        &reclaim(&own, handle, 0)?,
        FfaError::Denied,
        "FFA_MEM_RECLAIM while the partition lives",
    )?;
    let page = BASE + FREE + 4 * PAGE;
    let lent = send(&its, LEND, &[(forward.id, READ_WRITE)], &[(page, 1)])?;
    fail_by(partition, Death::Abort)?;
    expect_success(
        &reclaim(&own, handle, 0)?,
        "FFA_MEM_RECLAIM from a partition that has failed",
    )?;
    expect_value(PASSED, 0x1234)?;
    let gone = Probe::from_words(&ask(partition, Command::Read.words(&[PASSED]))?);
    check!(
        matches!(gone, Some(Probe::Faulted { .. })),
        "the partition not to reach what it had borrowed, and not {gone:x?}"
    );
    // What it had lent is its own again.
    command(partition, Command::Map, &[page, page, PAGE, 0])?;
    expect_eq!(read(partition, page)?, 0, "its page that it had lent");
    drop(its);
    let its = Pair::of_partition(partition, BASE)?;
    expect_error(
        &reclaim(&its, lent, 0)?,
        FfaError::InvalidParameters,
        "FFA_MEM_RECLAIM of what an earlier life has lent",
    )
}

fn waits_until_the_last_borrower_lets_go(world: &World) -> Outcome {
    use super::memory::{LEND, give_back, retrieved, send};
    /// Where the manifest puts the partition that borrows.
    const FORWARD_BASE: u64 = 0x0e50_0000;
    let (partition, forward) = (phoenix(world)?, world.need(FORWARD)?);
    let borrower = Pair::of_partition(forward, FORWARD_BASE)?;
    let handle = {
        let its = Pair::of_partition(partition, BASE)?;
        send(&its, LEND, &[(forward.id, READ_WRITE)], &[(BASE + FREE + 4 * PAGE, 1)])?
    };
    let permissions = READ_WRITE | NEVER_EXECUTE;
    retrieved(&borrower, partition.id.into(), handle, &[(forward.id, permissions)])?;
    fail_by(partition, Death::Panic)?;
    expect_error(
        &smc(&[DIRECT_REQ, to(partition), 0, 1]),
        FfaError::Aborted,
        "a message to a partition that has lent memory, and is gone",
    )?;
    expect_success(&give_back(&borrower, handle, 0)?, "FFA_MEM_RELINQUISH")?;
    expect_alive(partition)
}

fn buffers_of_the_manifest_are_there_again(world: &World) -> Outcome {
    /// Where the manifest puts RX.
    const RX: u64 = 0x0e4d_0000;
    let partition = phoenixes(world)?;
    let own = Pair::of_normal_world()?;
    for word in [0x1111, 0x2222] {
        own.send(&[0, 40 | u64::from(partition.id) << 32, 8, 0, 0, word])?;
        let call = [MSG_SEND2, 0, 2];
        expect_success(
            &smc(&call),
            "FFA_MSG_SEND2 to a partition with buffers from its manifest",
        )?;
        expect_error(&smc(&call), FfaError::Busy, "FFA_MSG_SEND2 to a full RX")?;
        let denied = call_from(partition, Conduit::Smc, &[RXTX_MAP64, RX, RX + 0x1000, 1])?;
        expect_error(&denied, FfaError::Denied, "FFA_RXTX_MAP of a second pair")?;
        command(partition, Command::Map, &[RX, RX, 0x1000, 0])?;
        expect_eq!(read(partition, RX + 40)?, word, "the payload in RX");
        fail_by(partition, Death::Abort)?;
        command(partition, Command::Map, &[RX, RX, 0x1000, 0])?;
        expect_eq!(read(partition, RX + 40)?, 0, "what is left in RX");
    }
    Ok(())
}

fn partition_that_waits_gets_aborted_and_can_ask_again(world: &World) -> Outcome {
    let (partition, forward) = (phoenix(world)?, world.need(FORWARD)?);
    let mut words = [0; 13];
    words[0] = u64::from(partition.id);
    words[1..6].copy_from_slice(&Command::Die.five_words(&[Death::Panic as u64]));
    let answer = ask(forward, Command::Forward.words(&words))?;
    let aborted = i64::from(i32::from(FfaError::Aborted)).cast_unsigned();
    expect_eq!(
        answer[..2],
        [FAILED, aborted],
        "what the partition that waited was answered"
    );
    words[1..6].copy_from_slice(&[1, 2, 3, 4, 5]);
    let answer = ask(forward, Command::Forward.words(&words))?;
    expect_eq!(answer[..5], [1, 2, 3, 4, 5], "the answer to the next message");
    Ok(())
}

/// How a message to a context of a partition goes, on the core that this runs on: 1 answered, 2 BUSY, 3 otherwise.
fn greet(core: usize, to: u64) -> u64 {
    let words = [core as u64, 2, 3, 4, 5];
    match SMC.direct_req64(NORMAL_WORLD, (to & 0xffff) as u16, words) {
        Ok(Answer::Response(response)) if response.payload() == words => 1,
        Err(tantalum_partition::ffa::Error::Ffa(FfaError::Busy)) => 2,
        _ => 3,
    }
}

fn greet_on(core: usize, partition: Partition) -> Outcome<u64> {
    if core == 0 {
        return Ok(greet(0, u64::from(partition.id)));
    }
    cores::run_on(core, greet, u64::from(partition.id))?;
    cores::wait_for(core, 10_000)
}

fn contexts_of_other_cores_start_when_they_are_asked(world: &World) -> Outcome {
    let partition = phoenixes(world)?;
    for core in 0..world.cores {
        // An earlier failure may have left it to be started.
        let _ = greet_on(core, partition)?;
        expect_eq!(
            greet_on(core, partition)?,
            1,
            "core {core}: whether the partition answers"
        );
    }
    fail_by(partition, Death::Abort)?;
    expect_eq!(greet_on(0, partition)?, 1, "whether it answers where it failed");
    for core in 1..world.cores {
        expect_eq!(
            greet_on(core, partition)?,
            2,
            "core {core}: whether it was started when it was asked"
        );
        expect_eq!(greet_on(core, partition)?, 1, "core {core}: whether it answers then");
    }
    Ok(())
}

fn core_comes_and_goes_after_a_restart(world: &World) -> Outcome {
    world.need_two_cores()?;
    let partition = phoenixes(world)?;
    fail_by(partition, Death::Panic)?;
    // The context of this core was not started since: it starts with the core.
    check!(cores::turn_off(1) && cores::turn_on(1), "core 1 to go off and come on");
    expect_eq!(greet_on(1, partition)?, 1, "core 1: whether it answers");
    // A core that is off has no part in it.
    check!(cores::turn_off(1), "core 1 to go off");
    fail_by(partition, Death::Panic)?;
    check!(cores::turn_on(1), "core 1 to come on");
    expect_eq!(greet_on(1, partition)?, 1, "core 1: whether it answers");
    // FFA_RUN starts it as well.
    fail_by(partition, Death::Panic)?;
    let run = |_: usize, id: u64| {
        let answer = smc(&[RUN, id << 16 | 1]);
        u64::from(answer[..8] == error(FfaError::Busy)[..8])
    };
    cores::run_on(1, run, u64::from(partition.id))?;
    expect_eq!(cores::wait_for(1, 10_000)?, 1, "core 1: whether FFA_RUN says BUSY");
    expect_eq!(greet_on(1, partition)?, 1, "core 1: whether it answers then");
    Ok(())
}

fn fails_again_and_again(world: &World) -> Outcome {
    let partition = phoenix(world)?;
    for _ in 0..20 {
        fail_by(partition, Death::Abort)?;
        let answer = smc(&[DIRECT_REQ, to(partition), 0, 1]);
        expect_eq!(answer[3], 1, "the word that came back");
    }
    Ok(())
}

fn others_live_on(world: &World) -> Outcome {
    for partition in world.partitions().iter().flatten() {
        expect_alive(*partition)?;
    }
    Ok(())
}
