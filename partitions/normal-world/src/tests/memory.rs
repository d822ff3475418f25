//! `FFA_MEM_SHARE`, `LEND`, `DONATE` and what follows on them: who can reach the memory, and when no more.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tantalum_agent::{Command, ECHO, FORWARD, Probe, RELAY, USER};
use tantalum_partition::{
    ffa::{
        FfaError, Partition,
        memory::{EXECUTE, Layout, NEVER_EXECUTE, NORMAL, READ_ONLY, READ_WRITE, Transaction, relinquish},
    },
    probe,
};

use super::tests;
use crate::{
    buffers::{ECHO_BASE, FORWARD_BASE, FREE, NORMAL_WORLD, PAGE, Pair, RELAY_BASE},
    cores,
    report::{Outcome, check, expect_eq, fail},
    talk::{
        FEATURES, MEM_FRAG_RX, MEM_FRAG_TX, MEM_RECLAIM, MEM_SHARE, SUCCESS, ask, command, expect_alive, expect_error,
        expect_error_in, expect_success, smc,
    },
    world::World,
};

tests! { "memory":
    calls_are_offered,
    shared_page_is_reached_until_it_is_given_back,
    lent_page_is_reached_until_it_is_given_back,
    permissions_are_those_that_were_granted,
    each_of_several_borrowers_relinquishes_for_itself,
    only_borrowers_retrieve_and_only_owners_reclaim,
    memory_that_is_not_the_senders_is_denied,
    memory_is_passed_on_once,
    lent_page_is_out_of_reach_of_the_partition_that_lent_it,
    donated_page_has_a_new_owner,
    device_is_lent,
    memory_is_zeroed_when_asked_for,
    descriptors_of_later_versions_are_understood,
    partition_at_s_el0_borrows,
    many_ranges_go_in_fragments,
    fragments_go_on_on_another_core,
    hypervisor_retrieves_what_was_sent,
    sender_that_rewrites_its_buffer_gains_nothing,
    unfinished_transaction_is_reclaimed,
}

pub const LEND: u64 = 0x8400_0072;
const DONATE: u64 = 0x8400_0071;
const RETRIEVE_REQ: u64 = 0x8400_0074;
const RETRIEVE_RESP: u64 = 0x8400_0075;
const RELINQUISH: u64 = 0x8400_0076;
/// The 64-bit form of a call.
const WIDE: u64 = 1 << 30;
/// Flag of a sender and of a request: zero the memory first. Of a reclaim, and to relinquish: zero it after.
const ZERO: u32 = 1;

/// Memory of the normal world to pass on.
pub const PASSED: u64 = NORMAL_WORLD + 0x20_0000;
/// Where a partition has a page to pass on.
const OWN: u64 = FREE + 4 * PAGE;
const SECURE_UART: u64 = 0x0904_0000;

const NORMAL_MEMORY: u64 = 0;
const DEVICE: u64 = 3;

fn transaction<'a>(sender: u64, borrowers: &'a [(u16, u8)]) -> Transaction<'a> {
    Transaction {
        layout: Layout::V1_2,
        sender: (sender & 0xffff) as u16,
        attributes: 0,
        flags: 0,
        handle: 0,
        tag: 0,
        borrowers,
        ranges: None,
    }
}

/// Makes a call whose descriptor goes through TX.
fn pass(pair: &Pair, function: u64, transaction: &Transaction<'_>, ranges: &[(u64, u64)]) -> Outcome<[u64; 14]> {
    let head = transaction.head();
    let mut words = [0; 64];
    let mut length = head.words().len();
    words[..length].copy_from_slice(head.words());
    for (address, pages) in ranges {
        words[length..length + 2].copy_from_slice(&[*address, *pages]);
        length += 2;
    }
    pair.send(&words[..length])?;
    let bytes = 8 * length as u64;
    pair.call(&[function, bytes, bytes])
}

/// Sends memory; whatever the answer is.
fn try_send(
    pair: &Pair,
    function: u64,
    layout: Layout,
    borrowers: &[(u16, u8)],
    ranges: &[(u64, u64)],
) -> Outcome<[u64; 14]> {
    let is_normal = function & !WIDE == MEM_SHARE || borrowers.len() > 1;
    let pages = ranges.iter().map(|range| range.1).sum::<u64>();
    let message = Transaction {
        layout,
        attributes: if is_normal { NORMAL } else { 0 },
        ranges: Some(((pages & 0xffff_ffff) as u32, (ranges.len() as u64 & 0xffff) as u32)),
        ..transaction(pair.id(), borrowers)
    };
    pass(pair, function, &message, ranges)
}

fn handle_of(answer: &[u64], what: &str) -> Outcome<u64> {
    if answer[..2] != [SUCCESS, 0] || answer[4..8] != [0; 4] {
        fail!("{what}: expected FFA_SUCCESS and a handle, got {:x?}", &answer[..8]);
    }
    Ok(answer[2] | answer[3] << 32)
}

pub fn send(pair: &Pair, function: u64, borrowers: &[(u16, u8)], ranges: &[(u64, u64)]) -> Outcome<u64> {
    let answer = try_send(pair, function, Layout::V1_2, borrowers, ranges)?;
    handle_of(&answer, "a call that passes memory on")
}

fn retrieve(pair: &Pair, sender: u64, handle: u64, borrowers: &[(u16, u8)]) -> Outcome<[u64; 14]> {
    let request = Transaction {
        handle,
        ..transaction(sender, borrowers)
    };
    pass(pair, RETRIEVE_REQ, &request, &[])
}

/// Retrieves memory in one fragment and releases RX.
pub fn retrieved(pair: &Pair, sender: u64, handle: u64, borrowers: &[(u16, u8)]) -> Outcome {
    let answer = retrieve(pair, sender, handle, borrowers)?;
    expect_eq!(answer[0], RETRIEVE_RESP, "x0 after FFA_MEM_RETRIEVE_REQ");
    expect_eq!(answer[1], answer[2], "bytes of the response, and of its first fragment");
    pair.release()
}

pub fn give_back(pair: &Pair, handle: u64, flags: u32) -> Outcome<[u64; 14]> {
    pair.send(&relinquish(handle, flags, (pair.id() & 0xffff) as u16))?;
    pair.call(&[RELINQUISH])
}

pub fn reclaim(pair: &Pair, handle: u64, flags: u32) -> Outcome<[u64; 14]> {
    pair.call(&[MEM_RECLAIM, handle & 0xffff_ffff, handle >> 32, flags.into()])
}

/// The borrower gives the memory back, and the owner takes it.
fn end(borrower: &Pair, owner: &Pair, handle: u64) -> Outcome {
    expect_success(&give_back(borrower, handle, 0)?, "FFA_MEM_RELINQUISH")?;
    expect_success(&reclaim(owner, handle, 0)?, "FFA_MEM_RECLAIM")
}

/// Reads or writes as a partition.
fn touch(partition: Partition, address: u64, value: Option<u64>) -> Outcome<Probe> {
    let words = match value {
        Some(value) => Command::Write.words(&[address, value]),
        None => Command::Read.words(&[address]),
    };
    match Probe::from_words(&ask(partition, words)?) {
        Some(probe) => Ok(probe),
        None => fail!("partition {:#x} can't tell how an access went", partition.id),
    }
}

pub fn expect_reached(partition: Partition, address: u64, value: u64) -> Outcome {
    let found = touch(partition, address, None)?;
    expect_eq!(
        found,
        Probe::Passed(value),
        "what {:#x} reads at {address:#x}",
        partition.id
    );
    Ok(())
}

fn expect_out_of_reach(partition: Partition, address: u64) -> Outcome {
    let found = touch(partition, address, None)?;
    check!(
        matches!(found, Probe::Faulted { .. }),
        "partition {:#x} to fault at {address:#x}, and not {found:x?}",
        partition.id
    );
    Ok(())
}

/// Writes a word as the normal world.
pub fn put(address: u64, value: u64) -> Outcome {
    check!(
        probe::write64(address, value).is_ok(),
        "the normal world's memory to be there"
    );
    Ok(())
}

pub fn expect_value(address: u64, value: u64) -> Outcome {
    expect_eq!(
        probe::read64(address).ok(),
        Some(value),
        "what the normal world reads at {address:#x}"
    );
    Ok(())
}

fn calls_are_offered(_: &World) -> Outcome {
    for call in [
        MEM_SHARE,
        LEND,
        DONATE,
        MEM_SHARE | WIDE,
        LEND | WIDE,
        DONATE | WIDE,
        MEM_RECLAIM,
        MEM_FRAG_TX,
        MEM_FRAG_RX,
    ] {
        expect_success(&smc(&[FEATURES, call]), "FFA_FEATURES of a call for memory")?;
    }
    for call in [RETRIEVE_REQ, RETRIEVE_REQ | WIDE] {
        // The NS bit is there, and the hypervisor's request.
        expect_eq!(
            smc(&[FEATURES, call, 2])[..3],
            [SUCCESS, 0, 6],
            "x0-x2 after FFA_FEATURES of FFA_MEM_RETRIEVE_REQ"
        );
    }
    Ok(())
}

/// A partition reads and writes a page between retrieving and relinquishing it, and not before nor after.
fn reaches_between(world: &World, calls: [u64; 2], permissions: u8) -> Outcome {
    let forward = world.need(FORWARD)?;
    let (own, its) = (Pair::of_normal_world()?, Pair::of_partition(forward, FORWARD_BASE)?);
    for call in calls {
        put(PASSED, 0x1111)?;
        let handle = send(&own, call, &[(forward.id, READ_WRITE)], &[(PASSED, 1)])?;
        expect_out_of_reach(forward, PASSED)?;
        retrieved(&its, 0, handle, &[(forward.id, permissions)])?;
        expect_reached(forward, PASSED, 0x1111)?;
        expect_eq!(
            touch(forward, PASSED + 8, Some(0x2222))?,
            Probe::Passed(0),
            "a write to borrowed memory"
        );
        expect_out_of_reach(forward, PASSED + PAGE)?;
        expect_error(
            &reclaim(&own, handle, 0)?,
            FfaError::Denied,
            "FFA_MEM_RECLAIM while the memory is retrieved",
        )?;
        expect_error(
            &retrieve(&its, 0, handle, &[(forward.id, permissions)])?,
            FfaError::Denied,
            "a second FFA_MEM_RETRIEVE_REQ",
        )?;
        expect_success(&give_back(&its, handle, 0)?, "FFA_MEM_RELINQUISH")?;
        expect_out_of_reach(forward, PASSED)?;
        // Again, as often as it likes.
        retrieved(&its, 0, handle, &[(forward.id, permissions)])?;
        expect_reached(forward, PASSED + 8, 0x2222)?;
        end(&its, &own, handle)?;
        expect_out_of_reach(forward, PASSED)?;
        expect_value(PASSED + 8, 0x2222)?;
        expect_error(
            &retrieve(&its, 0, handle, &[(forward.id, permissions)])?,
            FfaError::InvalidParameters,
            "FFA_MEM_RETRIEVE_REQ of what was reclaimed",
        )?;
    }
    expect_alive(forward)
}

fn shared_page_is_reached_until_it_is_given_back(world: &World) -> Outcome {
    reaches_between(world, [MEM_SHARE, MEM_SHARE | WIDE], READ_WRITE)
}

fn lent_page_is_reached_until_it_is_given_back(world: &World) -> Outcome {
    reaches_between(world, [LEND, LEND | WIDE], READ_WRITE | NEVER_EXECUTE)
}

fn permissions_are_those_that_were_granted(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let (own, its) = (Pair::of_normal_world()?, Pair::of_partition(forward, FORWARD_BASE)?);
    put(PASSED, 0x3333)?;
    let handle = send(&own, LEND, &[(forward.id, READ_ONLY)], &[(PASSED, 1)])?;
    for (permissions, code) in [
        (READ_WRITE | NEVER_EXECUTE, FfaError::Denied),
        (READ_ONLY | EXECUTE, FfaError::Denied),
        (READ_ONLY, FfaError::InvalidParameters),
        (3 | NEVER_EXECUTE, FfaError::InvalidParameters),
        (READ_ONLY | NEVER_EXECUTE | 0x10, FfaError::InvalidParameters),
    ] {
        let answer = retrieve(&its, 0, handle, &[(forward.id, permissions)])?;
        expect_error(
            &answer,
            code,
            "FFA_MEM_RETRIEVE_REQ with permissions that are not to be had",
        )?;
    }
    retrieved(&its, 0, handle, &[(forward.id, READ_ONLY | NEVER_EXECUTE)])?;
    expect_reached(forward, PASSED, 0x3333)?;
    let written = touch(forward, PASSED, Some(1))?;
    check!(
        matches!(written, Probe::Faulted { .. }),
        "a write to what may be read only to fault"
    );
    end(&its, &own, handle)?;
    expect_value(PASSED, 0x3333)?;
    // Memory that is shared is not to be executed, and the sender does not say so.
    let handle = send(&own, MEM_SHARE, &[(forward.id, READ_WRITE)], &[(PASSED, 1)])?;
    let answer = retrieve(&its, 0, handle, &[(forward.id, READ_WRITE | EXECUTE)])?;
    expect_error(
        &answer,
        FfaError::InvalidParameters,
        "FFA_MEM_RETRIEVE_REQ of shared memory to execute",
    )?;
    expect_success(&reclaim(&own, handle, 0)?, "FFA_MEM_RECLAIM")?;
    for permissions in [READ_WRITE | NEVER_EXECUTE, READ_WRITE | EXECUTE, 0] {
        let answer = try_send(
            &own,
            MEM_SHARE,
            Layout::V1_2,
            &[(forward.id, permissions)],
            &[(PASSED, 1)],
        )?;
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_MEM_SHARE with permissions that can't be",
        )?;
    }
    Ok(())
}

fn each_of_several_borrowers_relinquishes_for_itself(world: &World) -> Outcome {
    let partitions = [world.need(FORWARD)?, world.need(RELAY)?, world.need(ECHO)?];
    let own = Pair::of_normal_world()?;
    let pairs = [
        Pair::of_partition(partitions[0], FORWARD_BASE)?,
        Pair::of_partition(partitions[1], RELAY_BASE)?,
        Pair::of_partition(partitions[2], ECHO_BASE)?,
    ];
    let borrowers = partitions.map(|partition| (partition.id, READ_WRITE));
    for call in [MEM_SHARE, LEND] {
        put(PASSED, 0x4444)?;
        let handle = send(&own, call, &borrowers, &[(PASSED, 1), (PASSED + 2 * PAGE, 2)])?;
        for (pair, partition) in pairs.iter().zip(partitions) {
            // Not without the others in the request.
            expect_error(
                &retrieve(pair, 0, handle, &[(partition.id, READ_WRITE)])?,
                FfaError::InvalidParameters,
                "FFA_MEM_RETRIEVE_REQ that names one of three borrowers",
            )?;
            let named = borrowers.map(|(id, permissions)| (id, permissions));
            retrieved(pair, 0, handle, &named)?;
            expect_reached(partition, PASSED, 0x4444)?;
        }
        for (index, pair) in pairs.iter().enumerate() {
            expect_error(
                &reclaim(&own, handle, 0)?,
                FfaError::Denied,
                "FFA_MEM_RECLAIM while some have the memory",
            )?;
            expect_success(&give_back(pair, handle, 0)?, "FFA_MEM_RELINQUISH")?;
            expect_out_of_reach(partitions[index], PASSED)?;
            for partition in &partitions[index + 1..] {
                expect_reached(*partition, PASSED, 0x4444)?;
            }
        }
        expect_success(&reclaim(&own, handle, 0)?, "FFA_MEM_RECLAIM")?;
    }
    Ok(())
}

fn only_borrowers_retrieve_and_only_owners_reclaim(world: &World) -> Outcome {
    let (forward, relay) = (world.need(FORWARD)?, world.need(RELAY)?);
    let own = Pair::of_normal_world()?;
    let (its, other) = (
        Pair::of_partition(forward, FORWARD_BASE)?,
        Pair::of_partition(relay, RELAY_BASE)?,
    );
    let handle = send(&own, MEM_SHARE, &[(forward.id, READ_WRITE)], &[(PASSED, 1)])?;
    for (pair, borrower) in [(&other, relay.id), (&other, forward.id)] {
        let answer = retrieve(pair, 0, handle, &[(borrower, READ_WRITE)])?;
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_MEM_RETRIEVE_REQ by one who is no borrower",
        )?;
    }
    for (sender, wrong) in [(1, handle), (0, handle + 1), (0, handle + (1 << 32)), (0, 0)] {
        let answer = retrieve(&its, sender, wrong, &[(forward.id, READ_WRITE)])?;
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_MEM_RETRIEVE_REQ of what was not sent",
        )?;
    }
    for pair in [&its, &other] {
        expect_error(
            &reclaim(pair, handle, 0)?,
            FfaError::InvalidParameters,
            "FFA_MEM_RECLAIM by a borrower",
        )?;
        expect_error(
            &give_back(pair, handle, 0)?,
            FfaError::InvalidParameters,
            "FFA_MEM_RELINQUISH before anything",
        )?;
    }
    expect_success(&reclaim(&own, handle, 0)?, "FFA_MEM_RECLAIM")?;
    expect_error(
        &reclaim(&own, handle, 0)?,
        FfaError::InvalidParameters,
        "a second FFA_MEM_RECLAIM",
    )
}

fn memory_that_is_not_the_senders_is_denied(world: &World) -> Outcome {
    let (forward, relay) = (world.need(FORWARD)?, world.need(RELAY)?);
    let (own, its) = (Pair::of_normal_world()?, Pair::of_partition(forward, FORWARD_BASE)?);
    // EL3's, the SPMC's, partitions', the secure UART, a partition's by its manifest, the normal world's own buffers, nobody's.
    let others = [
        0x0e00_2000,
        0x0e10_0000,
        FORWARD_BASE + OWN,
        SECURE_UART,
        0x5000_0000,
        NORMAL_WORLD,
        0x70_0000_0000,
    ];
    for call in [MEM_SHARE, LEND, DONATE] {
        for other in others {
            for ranges in [&[(other, 1)][..], &[(PASSED, 1), (other, 1)]] {
                let answer = try_send(&own, call, Layout::V1_2, &[(forward.id, READ_WRITE)], ranges)?;
                expect_error(&answer, FfaError::Denied, "passing memory of others on")?;
            }
        }
        for other in [0x0e10_0000, RELAY_BASE + OWN, PASSED, FORWARD_BASE + FREE, 0x0ef0_0000] {
            let answer = try_send(&its, call, Layout::V1_2, &[(relay.id, READ_WRITE)], &[(other, 1)])?;
            expect_error(&answer, FfaError::Denied, "a partition that passes memory of others on")?;
        }
    }
    // What came with it is not marked.
    let handle = send(&own, MEM_SHARE, &[(forward.id, READ_WRITE)], &[(PASSED, 1)])?;
    expect_success(&reclaim(&own, handle, 0)?, "FFA_MEM_RECLAIM")?;
    for ranges in [
        &[(PASSED + 8, 1)][..],
        &[(PASSED, 0)],
        &[(PASSED, 1 << 32 | 1)],
        &[(1 << 48, 1)],
        &[],
    ] {
        let answer = try_send(&own, MEM_SHARE, Layout::V1_2, &[(forward.id, READ_WRITE)], ranges)?;
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_MEM_SHARE of ranges that can't be",
        )?;
    }
    for borrower in [0, 1, 0x8000, 0x80ff, 0xffff] {
        let answer = try_send(&own, MEM_SHARE, Layout::V1_2, &[(borrower, READ_WRITE)], &[(PASSED, 1)])?;
        expect_error(&answer, FfaError::InvalidParameters, "FFA_MEM_SHARE to nobody")?;
    }
    Ok(())
}

fn memory_is_passed_on_once(world: &World) -> Outcome {
    let (forward, relay) = (world.need(FORWARD)?, world.need(RELAY)?);
    let (own, its) = (Pair::of_normal_world()?, Pair::of_partition(forward, FORWARD_BASE)?);
    let handle = send(&own, MEM_SHARE, &[(forward.id, READ_WRITE)], &[(PASSED, 2)])?;
    for call in [MEM_SHARE, LEND, DONATE] {
        let answer = try_send(
            &own,
            call,
            Layout::V1_2,
            &[(relay.id, READ_WRITE)],
            &[(PASSED + PAGE, 1)],
        )?;
        expect_error(&answer, FfaError::Denied, "passing on what is shared")?;
    }
    retrieved(&its, 0, handle, &[(forward.id, READ_WRITE)])?;
    let answer = try_send(&its, MEM_SHARE, Layout::V1_2, &[(relay.id, READ_WRITE)], &[(PASSED, 1)])?;
    expect_error(&answer, FfaError::Denied, "sharing what is borrowed")?;
    end(&its, &own, handle)?;
    let twice = [(PASSED, 2), (PASSED + PAGE, 1)];
    let answer = try_send(&own, MEM_SHARE, Layout::V1_2, &[(forward.id, READ_WRITE)], &twice)?;
    expect_error(&answer, FfaError::InvalidParameters, "sharing a page twice in one call")
}

fn lent_page_is_out_of_reach_of_the_partition_that_lent_it(world: &World) -> Outcome {
    let (forward, relay) = (world.need(FORWARD)?, world.need(RELAY)?);
    let (its, other) = (
        Pair::of_partition(forward, FORWARD_BASE)?,
        Pair::of_partition(relay, RELAY_BASE)?,
    );
    let page = FORWARD_BASE + OWN;
    for partition in [forward, relay] {
        command(partition, Command::Map, &[page, page, PAGE, NORMAL_MEMORY])?;
    }
    for (call, permissions, reaches) in [
        (LEND, READ_WRITE | NEVER_EXECUTE, false),
        (LEND, READ_WRITE | EXECUTE, false),
        (MEM_SHARE, READ_WRITE, true),
    ] {
        expect_eq!(
            touch(forward, page, Some(0x5555))?,
            Probe::Passed(0),
            "a write to one's own memory"
        );
        expect_out_of_reach(relay, page)?;
        let handle = send(&its, call, &[(relay.id, READ_WRITE)], &[(page, 1)])?;
        if reaches {
            expect_reached(forward, page, 0x5555)?;
        } else {
            expect_out_of_reach(forward, page)?;
        }
        expect_out_of_reach(relay, page)?;
        retrieved(&other, its.id(), handle, &[(relay.id, permissions)])?;
        expect_reached(relay, page, 0x5555)?;
        expect_eq!(
            touch(relay, page, Some(0x6666))?,
            Probe::Passed(0),
            "a write to borrowed memory"
        );
        end(&other, &its, handle)?;
        expect_out_of_reach(relay, page)?;
        expect_reached(forward, page, 0x6666)?;
    }
    let answer = try_send(&its, MEM_SHARE, Layout::V1_2, &[(0, READ_WRITE)], &[(page, 1)])?;
    expect_error(
        &answer,
        FfaError::Denied,
        "a partition that shares its memory with the normal world",
    )
}

fn donated_page_has_a_new_owner(world: &World) -> Outcome {
    let (forward, relay) = (world.need(FORWARD)?, world.need(RELAY)?);
    let (its, other) = (
        Pair::of_partition(forward, FORWARD_BASE)?,
        Pair::of_partition(relay, RELAY_BASE)?,
    );
    let page = FORWARD_BASE + OWN;
    for partition in [forward, relay] {
        command(partition, Command::Map, &[page, page, PAGE, NORMAL_MEMORY])?;
    }
    expect_eq!(
        touch(forward, page, Some(0x7777))?,
        Probe::Passed(0),
        "a write to one's own memory"
    );
    for (from, to, giver, taker) in [(&its, &other, forward, relay), (&other, &its, relay, forward)] {
        let handle = send(from, DONATE, &[(taker.id, READ_WRITE)], &[(page, 1)])?;
        expect_out_of_reach(giver, page)?;
        retrieved(to, from.id(), handle, &[(taker.id, READ_WRITE | EXECUTE)])?;
        expect_reached(taker, page, 0x7777)?;
        expect_out_of_reach(giver, page)?;
        for answer in [give_back(to, handle, 0)?, reclaim(from, handle, 0)?] {
            expect_error(
                &answer,
                FfaError::InvalidParameters,
                "FFA_MEM_RELINQUISH or RECLAIM of what was donated",
            )?;
        }
    }
    expect_reached(forward, page, 0x7777)
}

fn device_is_lent(world: &World) -> Outcome {
    let (forward, relay) = (world.need(FORWARD)?, world.need(RELAY)?);
    let (its, other) = (
        Pair::of_partition(forward, FORWARD_BASE)?,
        Pair::of_partition(relay, RELAY_BASE)?,
    );
    for partition in [forward, relay] {
        command(partition, Command::Map, &[SECURE_UART, SECURE_UART, PAGE, DEVICE])?;
    }
    for call in [MEM_SHARE, DONATE] {
        let answer = try_send(&its, call, Layout::V1_2, &[(relay.id, READ_WRITE)], &[(SECURE_UART, 1)])?;
        expect_error(&answer, FfaError::Denied, "sharing or donating a device")?;
    }
    let handle = send(&its, LEND, &[(relay.id, READ_WRITE)], &[(SECURE_UART, 1)])?;
    // The flag register of a PL011.
    let flags = SECURE_UART + 0x18;
    let read = |partition| Ok(Probe::from_words(&ask(partition, Command::Read32.words(&[flags]))?));
    check!(
        matches!(read(forward)?, Some(Probe::Faulted { .. })),
        "the owner not to reach a device that it has lent"
    );
    retrieved(&other, its.id(), handle, &[(relay.id, READ_WRITE | NEVER_EXECUTE)])?;
    check!(
        matches!(read(relay)?, Some(Probe::Passed(_))),
        "the borrower to reach the device"
    );
    end(&other, &its, handle)?;
    check!(
        matches!(read(relay)?, Some(Probe::Faulted { .. })),
        "the borrower not to reach the device any more"
    );
    check!(
        matches!(read(forward)?, Some(Probe::Passed(_))),
        "the owner to reach its device"
    );
    Ok(())
}

fn memory_is_zeroed_when_asked_for(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let (own, its) = (Pair::of_normal_world()?, Pair::of_partition(forward, FORWARD_BASE)?);
    let borrower = [(forward.id, READ_WRITE)];
    let lend = |flags| {
        put(PASSED, 0x8888)?;
        put(PASSED + PAGE, 0x9999)?;
        let message = Transaction {
            flags,
            ranges: Some((1, 1)),
            ..transaction(0, &borrower)
        };
        handle_of(&pass(&own, LEND, &message, &[(PASSED, 1)])?, "FFA_MEM_LEND")
    };
    let permissions = [(forward.id, READ_WRITE | NEVER_EXECUTE)];
    // Before the borrower gets it.
    let handle = lend(ZERO)?;
    retrieved(&its, 0, handle, &permissions)?;
    expect_reached(forward, PASSED, 0)?;
    end(&its, &own, handle)?;
    // When it is relinquished.
    let handle = lend(0)?;
    retrieved(&its, 0, handle, &permissions)?;
    expect_reached(forward, PASSED, 0x8888)?;
    expect_success(&give_back(&its, handle, ZERO)?, "FFA_MEM_RELINQUISH that zeroes")?;
    expect_value(PASSED, 0)?;
    expect_success(&reclaim(&own, handle, 0)?, "FFA_MEM_RECLAIM")?;
    // When it is reclaimed.
    let handle = lend(0)?;
    expect_success(&reclaim(&own, handle, ZERO)?, "FFA_MEM_RECLAIM that zeroes")?;
    expect_value(PASSED, 0)?;
    expect_value(PASSED + PAGE, 0x9999)?;
    // Shared memory is not zeroed for the borrower.
    let message = Transaction {
        attributes: NORMAL,
        flags: ZERO,
        ranges: Some((1, 1)),
        ..transaction(0, &borrower)
    };
    let answer = pass(&own, MEM_SHARE, &message, &[(PASSED, 1)])?;
    expect_error(&answer, FfaError::InvalidParameters, "FFA_MEM_SHARE that zeroes")
}

fn descriptors_of_later_versions_are_understood(world: &World) -> Outcome {
    let relay = world.need(RELAY)?;
    let own = Pair::of_normal_world()?;
    let other = Pair::of_partition(relay, RELAY_BASE)?;
    let borrower = [(relay.id, READ_WRITE)];
    for layout in [Layout::V1_1, Layout::V1_2] {
        // From FF-A 1.1 on, a descriptor says how long its parts are.
        let answer = try_send(&own, MEM_SHARE, layout, &[(relay.id, READ_WRITE)], &[(PASSED, 1)])?;
        let handle = handle_of(&answer, "FFA_MEM_SHARE")?;
        for request in [Layout::V1_1, Layout::V1_2] {
            let message = Transaction {
                layout: request,
                handle,
                ..transaction(0, &borrower)
            };
            let answer = pass(&other, RETRIEVE_REQ, &message, &[])?;
            expect_eq!(answer[0], RETRIEVE_RESP, "x0 after FFA_MEM_RETRIEVE_REQ");
            // In the form of the borrower's version, with the NS bit.
            let first = other.received(0)?;
            expect_eq!(
                first >> 16 & 0xffff,
                u64::from(NORMAL | 1 << 6),
                "attributes in the response"
            );
            expect_eq!(
                other.received(24)?,
                32 | 1 << 32,
                "size and number of what describes borrowers"
            );
            expect_eq!(other.received(96)?, PASSED, "the address in the response");
            other.release()?;
            expect_success(&give_back(&other, handle, 0)?, "FFA_MEM_RELINQUISH")?;
        }
        expect_success(&reclaim(&own, handle, 0)?, "FFA_MEM_RECLAIM")?;
    }
    let answer = try_send(&own, MEM_SHARE, Layout::V1_0, &[(relay.id, READ_WRITE)], &[(PASSED, 1)])?;
    expect_error(
        &answer,
        FfaError::InvalidParameters,
        "FFA_MEM_SHARE in the form of another version",
    )
}

fn partition_at_s_el0_borrows(world: &World) -> Outcome {
    const USER_BASE: u64 = 0x0e80_0000;
    let user = world.need(USER)?;
    let own = Pair::of_normal_world()?;
    let its = Pair::of_partition_at_s_el0(user, USER_BASE)?;
    put(PASSED, 0xbbbb)?;
    let handle = send(&own, MEM_SHARE, &[(user.id, READ_WRITE)], &[(PASSED, 1)])?;
    retrieved(&its, 0, handle, &[(user.id, READ_WRITE)])?;
    expect_reached(user, PASSED, 0xbbbb)?;
    let written = touch(user, PASSED, Some(0xcccc))?;
    expect_eq!(written, Probe::Passed(0), "a write to borrowed memory");
    end(&its, &own, handle)?;
    expect_value(PASSED, 0xcccc)?;
    expect_alive(user)
}

/// Sends so many pages, every other one, in fragments of a buffer; from core `next` on, by another core. The handle.
fn send_many(
    own: &Pair,
    borrower: u16,
    ranges: u32,
    mut call: impl FnMut(&[u64]) -> Outcome<[u64; 14]>,
) -> Outcome<u64> {
    let borrowers = [(borrower, READ_WRITE)];
    let message = Transaction {
        attributes: NORMAL,
        ranges: Some((ranges, ranges)),
        ..transaction(0, &borrowers)
    };
    let head = message.head();
    own.send(head.words())?;
    let start = 8 * head.words().len() as u64;
    let total = start + 16 * u64::from(ranges);
    let (mut at, mut handle) = (start, None);
    for range in 0..u64::from(ranges) {
        put(NORMAL_WORLD + at, PASSED + 2 * range * PAGE)?;
        put(NORMAL_WORLD + at + 8, 1)?;
        at += 16;
        if at < PAGE && range + 1 < u64::from(ranges) {
            continue;
        }
        let answer = match handle {
            None => call(&[MEM_SHARE, total, at])?,
            Some(handle) => call(&[MEM_FRAG_TX, handle & 0xffff_ffff, handle >> 32, at])?,
        };
        if answer[0] != MEM_FRAG_RX {
            return handle_of(&answer, "the last fragment");
        }
        let received = start + 16 * (range + 1);
        expect_eq!(answer[3..8], [received, 0, 0, 0, 0], "x3-x7 of FFA_MEM_FRAG_RX");
        handle = Some(answer[1] | answer[2] << 32);
        at = 0;
    }
    fail!("all of a descriptor was sent, and the SPMC wants more")
}

/// Retrieves in fragments, and checks each address.
fn retrieve_many(its: &Pair, handle: u64, ranges: u64) -> Outcome {
    let answer = retrieve(its, 0, handle, &[((its.id() & 0xffff) as u16, READ_WRITE)])?;
    expect_eq!(answer[0], RETRIEVE_RESP, "x0 after FFA_MEM_RETRIEVE_REQ");
    let (total, mut have) = (answer[1], answer[2]);
    let head = 48 + 32 + 16;
    expect_eq!(total, head + 16 * ranges, "bytes of the response");
    let (mut range, mut at) = (0, head);
    loop {
        // Not each: a read is a message.
        for offset in [at, PAGE.min(16 * (ranges - range) + at) - 16] {
            let number = range + (offset - at) / 16;
            expect_eq!(
                its.received(offset)?,
                PASSED + 2 * number * PAGE,
                "address {number} of the response"
            );
        }
        range = (have - head) / 16;
        if have >= total {
            break;
        }
        expect_error(
            &its.call(&[MEM_FRAG_RX, handle & 0xffff_ffff, handle >> 32, have])?,
            FfaError::Busy,
            "FFA_MEM_FRAG_RX with a full RX",
        )?;
        its.release()?;
        let answer = its.call(&[MEM_FRAG_RX, handle & 0xffff_ffff, handle >> 32, have])?;
        expect_eq!(
            answer[..3],
            [MEM_FRAG_TX, handle & 0xffff_ffff, handle >> 32],
            "x0-x2 after FFA_MEM_FRAG_RX"
        );
        have += answer[3];
        at = 0;
    }
    expect_eq!(range, ranges, "ranges in the response");
    its.release()
}

const MANY: u32 = 600;

fn many_ranges_go_in_fragments(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let (own, its) = (Pair::of_normal_world()?, Pair::of_partition(forward, FORWARD_BASE)?);
    let last = PASSED + 2 * u64::from(MANY - 1) * PAGE;
    put(last, 0xaaaa)?;
    let handle = send_many(&own, forward.id, MANY, |call| own.call(call))?;
    retrieve_many(&its, handle, MANY.into())?;
    expect_reached(forward, last, 0xaaaa)?;
    expect_out_of_reach(forward, last - PAGE)?;
    end(&its, &own, handle)?;
    expect_out_of_reach(forward, last)
}

/// A call for another core, and its answer.
static CALL: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

fn fragments_go_on_on_another_core(world: &World) -> Outcome {
    world.need_two_cores()?;
    let forward = world.need(FORWARD)?;
    let (own, its) = (Pair::of_normal_world()?, Pair::of_partition(forward, FORWARD_BASE)?);
    let mut core = 0;
    let handle = send_many(&own, forward.id, MANY, |call| {
        for (index, slot) in CALL.iter().enumerate() {
            slot.store(call.get(index).copied().unwrap_or(0), Ordering::SeqCst);
        }
        core = core % (world.cores - 1) + 1;
        cores::run_on(core, |_, _| make_call(), 0)?;
        cores::wait_for(core, 10_000)?;
        let mut answer = [0; 14];
        for (word, slot) in answer.iter_mut().zip(&CALL) {
            *word = slot.load(Ordering::SeqCst);
        }
        Ok(answer)
    })?;
    retrieve_many(&its, handle, MANY.into())?;
    end(&its, &own, handle)
}

fn make_call() -> u64 {
    let mut call = [0; 8];
    for (word, slot) in call.iter_mut().zip(&CALL) {
        *word = slot.load(Ordering::SeqCst);
    }
    for (slot, word) in CALL.iter().zip(smc(&call)) {
        slot.store(word, Ordering::SeqCst);
    }
    0
}

fn hypervisor_retrieves_what_was_sent(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let own = Pair::of_normal_world()?;
    // For a virtual machine.
    let borrowers = [(forward.id, READ_ONLY)];
    let message = Transaction {
        attributes: NORMAL,
        tag: 0x1234,
        ranges: Some((3, 2)),
        ..transaction(5, &borrowers)
    };
    let answer = pass(&own, MEM_SHARE, &message, &[(PASSED, 1), (PASSED + 4 * PAGE, 2)])?;
    let handle = handle_of(&answer, "FFA_MEM_SHARE for a virtual machine")?;
    let request = Transaction {
        handle,
        ..transaction(0, &[])
    };
    let answer = pass(&own, RETRIEVE_REQ, &request, &[])?;
    let bytes = 48 + 32 + 16 + 2 * 16;
    expect_eq!(
        answer[..3],
        [RETRIEVE_RESP, bytes, bytes],
        "x0-x2 after the hypervisor's FFA_MEM_RETRIEVE_REQ"
    );
    let expected = [
        (0, 5 | u64::from(NORMAL | 1 << 6) << 16 | 1 << 35),
        (8, handle),
        (16, 0x1234),
        (48, u64::from(forward.id) | u64::from(READ_ONLY) << 16 | 80 << 32),
        (80, 3 | 2 << 32),
        (96, PASSED),
        (112, PASSED + 4 * PAGE),
        (120, 2),
    ];
    for (offset, word) in expected {
        expect_eq!(own.received(offset)?, word, "the word at {offset} of the response");
    }
    own.release()?;
    expect_success(&reclaim(&own, handle, 0)?, "FFA_MEM_RECLAIM")?;
    let answer = pass(&own, RETRIEVE_REQ, &request, &[])?;
    expect_error(
        &answer,
        FfaError::InvalidParameters,
        "FFA_MEM_RETRIEVE_REQ of what was reclaimed",
    )
}

static REWRITING: AtomicBool = AtomicBool::new(false);

/// Writes one address and then the other where the descriptor has its range, until it is told to stop.
fn rewrite(_: usize, at: u64) -> u64 {
    let mut count = 0;
    while REWRITING.load(Ordering::Acquire) {
        for address in [PASSED, 0x0e10_0000, PASSED + 2 * PAGE, PASSED + 1, FORWARD_BASE] {
            let _ = probe::write64(at, address);
            count += 1;
        }
    }
    count
}

fn sender_that_rewrites_its_buffer_gains_nothing(world: &World) -> Outcome {
    world.need_two_cores()?;
    let (forward, relay) = (world.need(FORWARD)?, world.need(RELAY)?);
    let (own, its) = (Pair::of_normal_world()?, Pair::of_partition(forward, FORWARD_BASE)?);
    REWRITING.store(true, Ordering::Release);
    cores::run_on(1, rewrite, NORMAL_WORLD + 96)?;
    let mut sent = 0;
    let mut outcome = Ok(());
    for _ in 0..300 {
        outcome = race(&own, &its, forward, &mut sent);
        if outcome.is_err() {
            break;
        }
    }
    REWRITING.store(false, Ordering::Release);
    check!(cores::wait_for(1, 10_000)? > 0, "the other core to have written");
    outcome?;
    check!(sent > 0, "some of the calls to go through");
    // No page is left marked, and nobody has any.
    expect_out_of_reach(forward, PASSED)?;
    expect_out_of_reach(forward, PASSED + 2 * PAGE)?;
    let handle = send(
        &own,
        MEM_SHARE,
        &[(relay.id, READ_WRITE)],
        &[(PASSED, 1), (PASSED + 2 * PAGE, 1)],
    )?;
    expect_success(&reclaim(&own, handle, 0)?, "FFA_MEM_RECLAIM")
}

/// One share whose range is being rewritten, and its end.
fn race(own: &Pair, its: &Pair, forward: Partition, sent: &mut u32) -> Outcome {
    let answer = try_send(
        own,
        MEM_SHARE,
        Layout::V1_2,
        &[(forward.id, READ_WRITE)],
        &[(PASSED, 1)],
    )?;
    if answer[0] != SUCCESS {
        return expect_error_in(
            &answer,
            &[FfaError::Denied, FfaError::InvalidParameters],
            "FFA_MEM_SHARE while another core writes TX",
        );
    }
    let handle = answer[2] | answer[3] << 32;
    *sent += 1;
    let answer = retrieve(its, 0, handle, &[(forward.id, READ_WRITE)])?;
    expect_eq!(answer[0], RETRIEVE_RESP, "x0 after FFA_MEM_RETRIEVE_REQ");
    let address = its.received(96)?;
    its.release()?;
    check!(
        address == PASSED || address == PASSED + 2 * PAGE,
        "memory of the normal world to be shared, and not {address:#x}"
    );
    end(its, own, handle)
}

fn unfinished_transaction_is_reclaimed(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let (own, its) = (Pair::of_normal_world()?, Pair::of_partition(forward, FORWARD_BASE)?);
    let borrowers = [(forward.id, READ_WRITE)];
    let message = Transaction {
        attributes: NORMAL,
        ranges: Some((2, 2)),
        ..transaction(0, &borrowers)
    };
    let head = message.head();
    own.send(head.words())?;
    let bytes = 8 * head.words().len() as u64;
    put(NORMAL_WORLD + bytes, PASSED)?;
    put(NORMAL_WORLD + bytes + 8, 1)?;
    let answer = own.call(&[MEM_SHARE, bytes + 32, bytes + 16])?;
    expect_eq!(answer[0], MEM_FRAG_RX, "x0 after the first fragment");
    let handle = answer[1] | answer[2] << 32;
    let answer = retrieve(&its, 0, handle, &[(forward.id, READ_WRITE)])?;
    expect_error(
        &answer,
        FfaError::InvalidParameters,
        "FFA_MEM_RETRIEVE_REQ of what is being sent",
    )?;
    for fragment in [0, 8, 32] {
        let answer = own.call(&[MEM_FRAG_TX, handle & 0xffff_ffff, handle >> 32, fragment])?;
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_MEM_FRAG_TX of a wrong length",
        )?;
    }
    expect_success(&reclaim(&own, handle, 0)?, "FFA_MEM_RECLAIM of what is being sent")?;
    let answer = own.call(&[MEM_FRAG_TX, handle & 0xffff_ffff, handle >> 32, 16])?;
    expect_error(
        &answer,
        FfaError::InvalidParameters,
        "FFA_MEM_FRAG_TX of what was reclaimed",
    )
}
