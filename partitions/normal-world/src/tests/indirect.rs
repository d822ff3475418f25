//! `FFA_MSG_SEND2`: messages from TX to RX, between all kinds of endpoints, and the buffers that a hypervisor passes on for its VMs.

use tantalum_agent::{Command, ECHO, FORWARD, Probe, RELAY, RELAY_SERVICE, SILENT, USER};
use tantalum_partition::{
    ffa::{FfaError, Uuid, UuidHelper},
    normal_world::gic,
    probe,
};

use super::tests;
use crate::{
    buffers::{ECHO_BASE, FORWARD_BASE, FREE, NORMAL_WORLD, PAGE, Pair, RELAY_BASE, USER_BASE},
    cores,
    report::{Outcome, check, expect_eq},
    talk::{
        BITMAP_CREATE, BITMAP_DESTROY, FEATURES, MSG_SEND2, NOTIFICATION_GET, NOTIFICATION_INFO_GET64, RX_ACQUIRE,
        RX_RELEASE, SUCCESS, SUCCESS64, ask, command, expect_error, expect_error_in, expect_success, smc,
    },
    world::World,
};

tests! { "msg_send2":
    features_tell_of_the_calls,
    message_reaches_a_partition,
    message_reaches_another_partition,
    message_reaches_the_normal_world,
    messages_of_a_vm_go_both_ways,
    message_to_a_service,
    longest_message_arrives_whole,
    nothing_stale_is_behind_a_message,
    full_rx_is_busy,
    receiver_without_buffers_is_busy,
    headers_that_cannot_be,
    sizes_that_cannot_be,
    header_that_changes_meanwhile_is_read_once,
    sender_without_buffers_is_denied,
    those_that_take_none_are_denied,
    flags_and_ids_that_cannot_be,
    waiting_partition_gives_its_rx_back,
}

/// The header of FF-A 1.2: flags, a reserved word, offset of the payload, sender and receiver, size, a reserved word, UUID.
const HEADER: u64 = 40;
/// Flag: the schedule receiver interrupt waits.
const DELAY: u64 = 2;
/// `FFA_NOTIFICATION_GET`: all that is pending.
const ALL: u64 = 0xf;
const PAYLOAD: [u64; 3] = [0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00, 0x0123_4567_89ab_cdef];

fn header(from: u64, to: u64, size: u64, uuid: Uuid) -> [u64; 5] {
    let [low, high] = UuidHelper::to_u64_regs(uuid);
    [0, HEADER | (from << 16 | to) << 32, size, low, high]
}

/// Writes a message of [`PAYLOAD`] into the sender's TX.
pub(super) fn write(from: &Pair, to: u64, uuid: Uuid) -> Outcome {
    let [a, b, c, d, e] = header(from.id(), to, 24, uuid);
    let [x, y, z] = PAYLOAD;
    from.send(&[a, b, c, d, e, x, y, z])
}

/// Sends what is in TX; the interrupt does not preempt a sender.
pub(super) fn send(from: &Pair) -> Outcome<[u64; 14]> {
    let answer = from.call(&[MSG_SEND2, from.vm() << 16, DELAY])?;
    while gic::take().is_some() {}
    Ok(answer)
}

/// Fails unless the message of [`write()`] is in RX, and zeros behind it.
fn expect_message(from: &Pair, to: &Pair, uuid: Uuid) -> Outcome {
    let [a, b, c, d, e] = header(from.id(), to.id(), 24, uuid);
    let [x, y, z] = PAYLOAD;
    for (offset, word) in (0..).step_by(8).zip([a, b, c, d, e, x, y, z, 0, 0]) {
        expect_eq!(to.received(offset)?, word, "the word at {offset} of RX");
    }
    expect_eq!(to.received(PAGE - 8)?, 0, "the last word of RX");
    Ok(())
}

/// Sends a message, looks at what arrives, and gives RX back.
pub(super) fn exchange(from: &Pair, to: &Pair, uuid: Uuid) -> Outcome {
    write(from, to.id(), uuid)?;
    expect_success(&send(from)?, "FFA_MSG_SEND2")?;
    expect_message(from, to, uuid)?;
    to.release()
}

fn features_tell_of_the_calls(_: &World) -> Outcome {
    for call in [MSG_SEND2, RX_ACQUIRE, RX_RELEASE] {
        expect_success(&smc(&[FEATURES, call]), "FFA_FEATURES of a call for messages")?;
    }
    Ok(())
}

/// What framework notifications are pending for an endpoint.
fn framework(pair: &Pair) -> Outcome<u64> {
    let answer = pair.call(&[NOTIFICATION_GET, pair.id(), ALL])?;
    expect_eq!(answer[..2], [SUCCESS, 0], "x0 and x1 after FFA_NOTIFICATION_GET");
    expect_eq!(answer[2..6], [0; 4], "bits from partitions and VMs");
    Ok(answer[6] | answer[7] << 32)
}

/// Forgets what earlier messages have left pending for a partition.
fn forget(pair: &Pair) -> Outcome {
    let _ = smc(&[NOTIFICATION_INFO_GET64]);
    framework(pair).map(|_| ())
}

fn message_reaches_a_partition(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    for (uuid, base) in [(FORWARD, FORWARD_BASE), (ECHO, ECHO_BASE), (USER, USER_BASE)] {
        let partition = world.need(uuid)?;
        let pair = Pair::of_partition(partition, base)?;
        forget(&pair)?;
        exchange(&own, &pair, Uuid::nil())?;
        let told = smc(&[NOTIFICATION_INFO_GET64]);
        expect_eq!(
            told[..4],
            [SUCCESS64, 0, 1 << 7, u64::from(partition.id)],
            "x0-x3 after FFA_NOTIFICATION_INFO_GET: the receiver is to run"
        );
        expect_eq!(framework(&pair)?, 1, "framework notifications: RX is full");
        expect_eq!(framework(&pair)?, 0, "framework notifications after that");
    }
    Ok(())
}

fn message_reaches_another_partition(world: &World) -> Outcome {
    let forward = Pair::of_partition(world.need(FORWARD)?, FORWARD_BASE)?;
    let echo = Pair::of_partition(world.need(ECHO)?, ECHO_BASE)?;
    let relay = Pair::of_partition(world.need(RELAY)?, RELAY_BASE)?;
    let user = Pair::of_partition(world.need(USER)?, USER_BASE)?;
    for (from, to) in [
        (&forward, &echo),
        (&echo, &forward),
        (&echo, &relay),
        (&relay, &echo),
        (&user, &echo),
        (&forward, &user),
    ] {
        exchange(from, to, Uuid::nil())?;
    }
    expect_eq!(framework(&echo)?, 1, "framework notifications: RX is full");
    for pair in [&forward, &user] {
        expect_eq!(framework(pair)?, 1, "framework notifications: RX is full");
    }
    let _ = smc(&[NOTIFICATION_INFO_GET64]);
    Ok(())
}

fn message_reaches_the_normal_world(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    let forward = Pair::of_partition(world.need(FORWARD)?, FORWARD_BASE)?;
    // Without a bitmap the message arrives all the same.
    exchange(&forward, &own, Uuid::nil())?;
    exchange(&Pair::of_partition(world.need(USER)?, USER_BASE)?, &own, Uuid::nil())?;
    expect_success(&smc(&[BITMAP_CREATE, 0, 1]), "FFA_NOTIFICATION_BITMAP_CREATE")?;
    let exchanged = exchange(&forward, &own, Uuid::nil());
    let pending = framework(&own);
    expect_success(&smc(&[BITMAP_DESTROY, 0]), "FFA_NOTIFICATION_BITMAP_DESTROY")?;
    exchanged?;
    expect_eq!(pending?, 1, "framework notifications: RX is full");
    Ok(())
}

fn messages_of_a_vm_go_both_ways(world: &World) -> Outcome {
    let hypervisor = Pair::of_normal_world()?;
    let (first, second) = (Pair::of_vm(&hypervisor, 1)?, Pair::of_vm(&hypervisor, 2)?);
    let forward = Pair::of_partition(world.need(FORWARD)?, FORWARD_BASE)?;
    for vm in [&first, &second] {
        exchange(vm, &forward, Uuid::nil())?;
        exchange(&forward, vm, Uuid::nil())?;
    }
    expect_eq!(framework(&forward)?, 1, "framework notifications: RX is full");
    let _ = smc(&[NOTIFICATION_INFO_GET64]);
    write(&first, second.id(), Uuid::nil())?;
    expect_error(&send(&first)?, FfaError::InvalidParameters, "FFA_MSG_SEND2 between VMs")
}

fn message_to_a_service(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    let relay = Pair::of_partition(world.need(RELAY)?, RELAY_BASE)?;
    exchange(&own, &relay, RELAY)?;
    write(&own, relay.id(), RELAY_SERVICE)?;
    expect_error(
        &send(&own)?,
        FfaError::Denied,
        "FFA_MSG_SEND2 to a service that takes no such messages",
    )?;
    write(&own, relay.id(), ECHO)?;
    expect_error(
        &send(&own)?,
        FfaError::InvalidParameters,
        "FFA_MSG_SEND2 to a service of another partition",
    )
}

fn longest_message_arrives_whole(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    let forward = Pair::of_partition(world.need(FORWARD)?, FORWARD_BASE)?;
    let mut words = [0; (PAGE / 8) as usize];
    words[..5].copy_from_slice(&header(0, forward.id(), PAGE - HEADER, Uuid::nil()));
    for (index, word) in words[5..].iter_mut().enumerate() {
        *word = 0x0101_0101_0101_0101 * (index as u64 & 0xff);
    }
    own.send(&words)?;
    expect_success(&send(&own)?, "FFA_MSG_SEND2 of as much as there is room for")?;
    for index in [0_usize, 1, 2, 3, 4, 5, 6, 63, 64, 68, 69, 127, 128, 300, 510, 511] {
        expect_eq!(forward.received(index as u64 * 8)?, words[index], "word {index} of RX");
    }
    forward.release()
}

fn nothing_stale_is_behind_a_message(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    let forward = Pair::of_partition(world.need(FORWARD)?, FORWARD_BASE)?;
    // The payload has gaps, and other things behind it, in TX.
    let mut words = [u64::MAX; 32];
    words[..5].copy_from_slice(&header(0, forward.id(), 5, Uuid::nil()));
    words[1] += 64;
    words[13] = 0xffff_ff55_4433_2211;
    own.send(&words)?;
    expect_success(&send(&own)?, "FFA_MSG_SEND2 of five bytes")?;
    let [a, b, c, d, e] = header(0, forward.id(), 5, Uuid::nil());
    for (offset, word) in (0..).step_by(8).zip([a, b, c, d, e, 0x55_4433_2211, 0, 0]) {
        expect_eq!(forward.received(offset)?, word, "the word at {offset} of RX");
    }
    forward.release()
}

fn full_rx_is_busy(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    let forward = Pair::of_partition(world.need(FORWARD)?, FORWARD_BASE)?;
    write(&own, forward.id(), Uuid::nil())?;
    // A request does not make a partition wait with FFA_MSG_WAIT, which would give RX back.
    expect_success(&send(&own)?, "FFA_MSG_SEND2")?;
    expect_error(&send(&own)?, FfaError::Busy, "FFA_MSG_SEND2 to a full RX")?;
    expect_message(&own, &forward, Uuid::nil())?;
    forward.release()?;
    expect_success(&send(&own)?, "FFA_MSG_SEND2 after FFA_RX_RELEASE")
}

fn receiver_without_buffers_is_busy(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    let forward = world.need(FORWARD)?;
    write(&own, u64::from(forward.id), Uuid::nil())?;
    expect_error(&send(&own)?, FfaError::Busy, "FFA_MSG_SEND2 to one without buffers")
}

fn headers_that_cannot_be(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    let forward = Pair::of_partition(world.need(FORWARD)?, FORWARD_BASE)?;
    let echo = u64::from(world.need(ECHO)?.id);
    let to = forward.id();
    forget(&forward)?;
    // Word by word: what is wrong is the word, and what is in it.
    let good = header(0, to, 24, Uuid::nil());
    for (index, word) in [
        (0, 1),
        (0, 1 << 32),
        (1, (HEADER - 1) | to << 32),
        (1, to << 32),
        (1, HEADER | echo << 48 | to << 32),
        (1, HEADER | 1 << 48 | to << 32),
        (1, HEADER | 0x8fff << 32),
        (1, HEADER),
        (1, HEADER | 1 << 32),
        (2, 24 | 1 << 32),
    ] {
        let mut words = good;
        words[index] = word;
        own.send(&words)?;
        expect_error(
            &send(&own)?,
            FfaError::InvalidParameters,
            "FFA_MSG_SEND2 of a header that cannot be",
        )?;
    }
    expect_eq!(forward.received(0)?, u64::MAX, "what was in RX");
    expect_eq!(framework(&forward)?, 0, "framework notifications");
    Ok(())
}

fn sizes_that_cannot_be(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    let forward = Pair::of_partition(world.need(FORWARD)?, FORWARD_BASE)?;
    for (offset, size) in [
        (HEADER, PAGE - HEADER + 1),
        (HEADER, 0xffff_ffff),
        (PAGE, 1),
        (PAGE + 1, 0),
        (PAGE - 8, 9),
        (0xffff_fff0, 0x20),
    ] {
        let mut words = header(0, forward.id(), size, Uuid::nil());
        words[1] = words[1] - HEADER + offset;
        own.send(&words)?;
        expect_error(
            &send(&own)?,
            FfaError::InvalidParameters,
            "FFA_MSG_SEND2 of a size that cannot be",
        )?;
    }
    expect_eq!(forward.received(0)?, u64::MAX, "what was in RX");
    Ok(())
}

/// Changes size and ids in the header of a message, over and over, as long as another core sends it: a job for a core. The argument is the address
/// of the header's second word.
fn rewrite(_: usize, address: u64) -> u64 {
    let Ok(good) = probe::read64(address) else { return 0 };
    let words = [good ^ 0xffff << 48, good | 0x8000_0000, good ^ 1 << 32, good];
    let sizes = [24, 0xffff_fff0, PAGE - HEADER, 8];
    for turn in 0..100_000_usize {
        if probe::write64(address, words[turn % 4]).is_err()
            || probe::write64(address + 8, sizes[turn / 4 % 4]).is_err()
        {
            return 0;
        }
    }
    1
}

fn header_that_changes_meanwhile_is_read_once(world: &World) -> Outcome {
    world.need_two_cores()?;
    let own = Pair::of_normal_world()?;
    let partition = world.need(FORWARD)?;
    let forward = Pair::of_partition(partition, FORWARD_BASE)?;
    let behind = FORWARD_BASE + FREE + 2 * PAGE;
    write(&own, forward.id(), Uuid::nil())?;
    cores::run_on(1, rewrite, NORMAL_WORLD + 8)?;
    let (mut sent, mut refused) = (0, 0);
    while !cores::is_idle(1) {
        let answer = send(&own)?;
        if answer[0] != SUCCESS {
            // It may name another receiver, which has no buffers.
            expect_error_in(
                &answer,
                &[FfaError::InvalidParameters, FfaError::Busy],
                "FFA_MSG_SEND2 of a header that changes",
            )?;
            refused += 1;
            continue;
        }
        // What was checked is what has arrived: our id, the receiver's, an offset that is the SPMC's, a size that fits.
        let (route, size) = (forward.received(8)?, forward.received(16)?);
        expect_eq!(route, HEADER | forward.id() << 32, "the second word of RX");
        check!(size <= PAGE - HEADER, "a size that fits, got {size:#x}");
        forward.release()?;
        sent += 1;
    }
    expect_eq!(cores::wait_for(1, 10_000)?, 1, "whether the other core could write");
    check!(
        refused + sent > 10,
        "some messages, got {sent} and {refused} that were refused"
    );
    command(partition, Command::Map, &[behind, behind, PAGE, 0])?;
    let words = ask(partition, Command::Read.words(&[behind]))?;
    expect_eq!(Probe::from_words(&words), Some(Probe::Passed(0)), "the page behind RX");
    Ok(())
}

fn sender_without_buffers_is_denied(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let what = "FFA_MSG_SEND2 without TX";
    expect_error(&smc(&[MSG_SEND2]), FfaError::Denied, what)?;
    let answer = crate::talk::call_from(forward, crate::talk::Conduit::Smc, &[MSG_SEND2])?;
    expect_error(&answer, FfaError::Denied, what)
}

fn those_that_take_none_are_denied(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    let silent = world.need(SILENT)?;
    write(&own, u64::from(silent.id), Uuid::nil())?;
    expect_error(
        &send(&own)?,
        FfaError::Denied,
        "FFA_MSG_SEND2 to a partition without indirect messages",
    )
}

fn flags_and_ids_that_cannot_be(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    let forward = Pair::of_partition(world.need(FORWARD)?, FORWARD_BASE)?;
    let id = forward.id();
    write(&own, id, Uuid::nil())?;
    write(&forward, 0, Uuid::nil())?;
    for (from, w1, w2) in [
        (&own, 0, 1),
        (&own, 0, 1 << 31),
        (&own, 1, 0),
        (&own, 1 << 16, 0),
        (&own, id << 16, 0),
        (&forward, 1 << 16, 0),
        (&forward, id, 0),
        (&forward, 0, 4),
    ] {
        let answer = from.call(&[MSG_SEND2, w1, w2])?;
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_MSG_SEND2 with flags or ids that cannot be",
        )?;
    }
    Ok(())
}

fn waiting_partition_gives_its_rx_back(world: &World) -> Outcome {
    let own = Pair::of_normal_world()?;
    let partition = world.need(FORWARD)?;
    let forward = Pair::of_partition(partition, FORWARD_BASE)?;
    write(&own, forward.id(), Uuid::nil())?;
    expect_success(&send(&own)?, "FFA_MSG_SEND2")?;
    // The partition runs, has nothing to do with a message that it did not ask for, and waits.
    let answer = smc(&[crate::talk::RUN, u64::from(partition.id) << 16]);
    expect_eq!(answer[0], crate::talk::MSG_WAIT, "x0 after FFA_RUN");
    expect_success(&send(&own)?, "FFA_MSG_SEND2 to one that has waited")
}
