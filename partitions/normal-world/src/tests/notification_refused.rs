//! `FFA_NOTIFICATION_*`: what is refused.

use tantalum_agent::{ECHO, FORWARD, RELAY};
use tantalum_partition::ffa::FfaError;

use super::{
    notification::{ALL, BITS, Bitmap, Bound, Caller, DELAY, NormalWorld, OTHER_BITS, PER_VCPU, Secure, ids, set},
    tests,
};
use crate::{
    report::{Outcome, check, expect_eq},
    talk::{
        BITMAP_CREATE, BITMAP_DESTROY, NORMAL_WORLD, NOTIFICATION_BIND, NOTIFICATION_GET, NOTIFICATION_INFO_GET,
        NOTIFICATION_INFO_GET64, NOTIFICATION_SET, NOTIFICATION_UNBIND, SPMC, SUCCESS, expect_error, expect_success,
        smc,
    },
    world::World,
};

tests! { "notification":
    bitmaps_that_cannot_be,
    bits_are_bound_to_one_sender_only,
    pending_ones_are_not_unbound,
    ids_and_flags_that_cannot_be,
    others_cannot_speak_for_the_receiver,
    partition_without_notifications_is_denied,
    calls_of_schedulers_are_not_for_partitions,
}

fn bitmaps_that_cannot_be(_: &World) -> Outcome {
    for [vm, vcpus] in [[0x8001, 1], [u64::from(SPMC), 1], [0x1_0001, 1], [1, 0]] {
        expect_error(
            &smc(&[BITMAP_CREATE, vm, vcpus]),
            FfaError::InvalidParameters,
            "FFA_NOTIFICATION_BITMAP_CREATE of what cannot be",
        )?;
    }
    expect_error(
        &smc(&[BITMAP_CREATE, 1, 0xffff_ffff]),
        FfaError::NoMemory,
        "FFA_NOTIFICATION_BITMAP_CREATE for more vCPUs than there is room for",
    )?;
    // No more VMs than there is room for, and all of it again when they are gone.
    for _ in 0..2 {
        let mut made = 0;
        while made < 100 && smc(&[BITMAP_CREATE, made + 1, 1])[0] == SUCCESS {
            made += 1;
        }
        check!((16..100).contains(&made), "room for 16 VMs or some more, got {made}");
        expect_error(
            &smc(&[BITMAP_CREATE, made + 1, 1]),
            FfaError::NoMemory,
            "FFA_NOTIFICATION_BITMAP_CREATE for one VM too many",
        )?;
        for vm in 0..made {
            expect_success(&smc(&[BITMAP_DESTROY, vm + 1]), "FFA_NOTIFICATION_BITMAP_DESTROY")?;
        }
    }
    Ok(())
}

fn bits_are_bound_to_one_sender_only(world: &World) -> Outcome {
    let (echo, forward, relay) = (world.need(ECHO)?, world.need(FORWARD)?, world.need(RELAY)?);
    let receiver = Secure(echo);
    let _bound = Bound::new(Secure(forward), receiver, 0, BITS)?;
    for (sender, flags) in [(relay, 0), (forward, 0), (forward, PER_VCPU)] {
        let answer = receiver.bits([NOTIFICATION_BIND, ids(sender.id, echo.id), flags, BITS])?;
        expect_error(
            &answer,
            FfaError::Denied,
            "FFA_NOTIFICATION_BIND of bits that are bound",
        )?;
    }
    // A VM's are others.
    drop(Bound::new(NormalWorld, receiver, 0, BITS)?);
    let what = "FFA_NOTIFICATION_SET of what is not bound so";
    for (sender, flags, bits) in [
        (relay, 0, BITS),
        (forward, PER_VCPU, BITS),
        (forward, 0, BITS | 2),
        (forward, 0, 2),
    ] {
        let answer = Secure(sender).bits([NOTIFICATION_SET, ids(sender.id, echo.id), flags, bits])?;
        expect_error(&answer, FfaError::Denied, what)?;
    }
    let answer = NormalWorld.bits([NOTIFICATION_SET, ids(NORMAL_WORLD, echo.id), 0, BITS])?;
    expect_error(&answer, FfaError::Denied, what)?;
    for (sender, bits) in [(relay, BITS), (forward, BITS | 2)] {
        let answer = receiver.bits([NOTIFICATION_UNBIND, ids(sender.id, echo.id), 0, bits])?;
        expect_error(
            &answer,
            FfaError::Denied,
            "FFA_NOTIFICATION_UNBIND of what is not bound so",
        )?;
    }
    expect_eq!(receiver.take(0, ALL)?, [0; 3], "what is pending");
    Ok(())
}

fn pending_ones_are_not_unbound(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, Secure(world.need(FORWARD)?));
    let receiver = Secure(echo);
    let route = ids(forward.id(), echo.id);
    let bound = Bound::new(forward, receiver, 0, BITS)?;
    set(forward, receiver, DELAY, 0x10)?;
    let answer = receiver.bits([NOTIFICATION_UNBIND, route, 0, BITS])?;
    expect_error(&answer, FfaError::Denied, "FFA_NOTIFICATION_UNBIND of what is pending")?;
    expect_eq!(receiver.take(0, ALL)?, [0x10, 0, 0], "what is pending");
    drop(bound);
    let answer = forward.bits([NOTIFICATION_SET, route, 0, BITS])?;
    expect_error(
        &answer,
        FfaError::Denied,
        "FFA_NOTIFICATION_SET of what is not bound any more",
    )?;
    let bitmap = Bitmap::new(1, 1)?;
    expect_success(
        &smc(&[NOTIFICATION_BIND, ids(forward.id(), 1), 0, 1, 0]),
        "FFA_NOTIFICATION_BIND for a VM",
    )?;
    let answer = forward.bits([NOTIFICATION_SET, ids(forward.id(), 1), DELAY, 1])?;
    expect_success(&answer, "FFA_NOTIFICATION_SET for a VM")?;
    expect_error(
        &smc(&[BITMAP_DESTROY, 1]),
        FfaError::Denied,
        "FFA_NOTIFICATION_BITMAP_DESTROY while something is pending",
    )?;
    drop(bitmap);
    expect_error(
        &smc(&[BITMAP_DESTROY, 1]),
        FfaError::Denied,
        "FFA_NOTIFICATION_BITMAP_DESTROY of what is gone",
    )
}

fn ids_and_flags_that_cannot_be(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?.id, world.need(FORWARD)?);
    let from = Secure(forward);
    let _bitmap = Bitmap::new(NORMAL_WORLD, 1)?;
    let _bound = Bound::new(from, NormalWorld, 0, BITS)?;
    let own = ids(forward.id, NORMAL_WORLD);
    let cases: [(Caller, [u64; 4]); 14] = [
        (NormalWorld, [NOTIFICATION_BIND, own, 2, OTHER_BITS]),
        (NormalWorld, [NOTIFICATION_BIND, own, 0, 0]),
        (NormalWorld, [NOTIFICATION_BIND, ids(0x8fff, 0), 0, OTHER_BITS]),
        (NormalWorld, [NOTIFICATION_BIND, ids(1, 0), 0, OTHER_BITS]),
        (NormalWorld, [NOTIFICATION_BIND, ids(forward.id, 9), 0, OTHER_BITS]),
        (from, [NOTIFICATION_BIND, ids(forward.id, forward.id), 0, OTHER_BITS]),
        (NormalWorld, [NOTIFICATION_UNBIND, own, 1, BITS]),
        (NormalWorld, [NOTIFICATION_UNBIND, own, 0, 0]),
        (NormalWorld, [NOTIFICATION_UNBIND, ids(0x8fff, 0), 0, BITS]),
        (from, [NOTIFICATION_SET, own, 4, BITS]),
        (from, [NOTIFICATION_SET, own, 1 << 16, BITS]),
        (from, [NOTIFICATION_SET, own, 0, 0]),
        (from, [NOTIFICATION_SET, ids(forward.id, 0x8fff), 0, BITS]),
        (from, [NOTIFICATION_SET, ids(forward.id, 9), 0, BITS]),
    ];
    for (caller, values) in cases {
        let answer = caller.bits(values)?;
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "a call on notifications that cannot be",
        )?;
    }
    for (caller, w1, flags) in [
        (NormalWorld, 0, 0x10),
        (NormalWorld, 9, ALL),
        (from, ids(1, forward.id), ALL),
        (from, u64::from(echo), ALL),
    ] {
        let answer = caller.call(&[NOTIFICATION_GET, w1, flags])?;
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_NOTIFICATION_GET that cannot be",
        )?;
    }
    Ok(())
}

fn others_cannot_speak_for_the_receiver(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?.id, world.need(FORWARD)?);
    let relay = world.need(RELAY)?.id;
    for (caller, function, w1) in [
        (NormalWorld, NOTIFICATION_BIND, ids(relay, echo)),
        (NormalWorld, NOTIFICATION_UNBIND, ids(relay, echo)),
        (NormalWorld, NOTIFICATION_SET, ids(relay, echo)),
        (Secure(forward), NOTIFICATION_BIND, ids(relay, echo)),
        (Secure(forward), NOTIFICATION_BIND, ids(relay, 0)),
        (Secure(forward), NOTIFICATION_UNBIND, ids(relay, echo)),
        (Secure(forward), NOTIFICATION_SET, ids(relay, echo)),
        (Secure(forward), NOTIFICATION_SET, ids(0, echo)),
    ] {
        let answer = caller.bits([function, w1, 0, 1])?;
        expect_error(&answer, FfaError::InvalidParameters, "a call in another's name")?;
    }
    for (caller, receiver) in [(NormalWorld, echo), (Secure(forward), echo), (Secure(forward), 0)] {
        let answer = caller.call(&[NOTIFICATION_GET, u64::from(receiver), ALL])?;
        expect_error(
            &answer,
            FfaError::InvalidParameters,
            "FFA_NOTIFICATION_GET in another's name",
        )?;
    }
    Ok(())
}

fn partition_without_notifications_is_denied(world: &World) -> Outcome {
    let (relay, forward) = (world.need(RELAY)?, world.need(FORWARD)?);
    let from = Secure(relay);
    let answers = [
        from.bits([NOTIFICATION_BIND, ids(forward.id, relay.id), 0, 1])?,
        from.bits([NOTIFICATION_UNBIND, ids(forward.id, relay.id), 0, 1])?,
        from.call(&[NOTIFICATION_GET, u64::from(relay.id), ALL])?,
        Secure(forward).bits([NOTIFICATION_SET, ids(forward.id, relay.id), 0, 1])?,
    ];
    for answer in answers {
        expect_error(&answer, FfaError::Denied, "a call for one that takes no notifications")?;
    }
    Ok(())
}

fn calls_of_schedulers_are_not_for_partitions(world: &World) -> Outcome {
    let forward = Secure(world.need(FORWARD)?);
    for values in [
        [BITMAP_CREATE, 1, 1],
        [BITMAP_DESTROY, 1, 0],
        [NOTIFICATION_INFO_GET, 0, 0],
        [NOTIFICATION_INFO_GET64, 0, 0],
    ] {
        let answer = forward.call(&values)?;
        expect_error(&answer, FfaError::NotSupported, "a scheduler's call by a partition")?;
    }
    Ok(())
}
