//! What calls do when they are made rightly, beyond the simplest case; quotas; endpoints that die.

use tantalum_core::{
    abi::FfaError,
    addr::{PageRange, PhysAddr, World as Side},
    id::EndpointId,
    memory::{Limits, MAX_CLEAR_PAGES},
};

use crate::{
    errors::{DONATE, INVALID, LEND, SHARE, good, open, refused},
    message::{Form, Message, NORMAL, NX, RO, RW, X},
    world::{NS, NS_DEVICE, NWD, SP1, SP2, SP3, World, page, sp_base, sp_ns},
};

#[test]
fn each_of_several_borrowers_retrieves_for_itself() {
    for function in [SHARE, LEND] {
        let mut w = World::new(3);
        let (handle, all) = open(&mut w, function, true);
        let mut two = all.clone().with(|m| m.emads[1].flags = 1);
        two.emads.swap(0, 1);
        assert_eq!(w.retrieve(SP2, &two).unwrap().emads.len(), 1);
        let own = Message::retrieve(Form::V1_2, SP1, handle, &[(SP3, RW | NX)]).with(|m| m.tag = 77);
        assert_eq!(w.retrieve(SP3, &own).map(drop), Err(INVALID));
        let response = w.retrieve(SP3, &own.with(|m| m.flags = 1 << 10)).unwrap();
        assert_eq!((response.emads[0].id, response.emads[0].permissions), (SP3, RW | NX));
        w.check(0);
        assert_eq!(w.access(SP2, Side::Secure, sp_base(SP1)), "r Borrowed");
        assert_eq!(w.access(SP3, Side::Secure, sp_base(SP1)), "rw Borrowed");
        w.relinquish(SP2, handle, 0).unwrap();
        assert_eq!(w.reclaim(SP1, handle, 0), Err(FfaError::Denied));
        w.relinquish(SP3, handle, 0).unwrap();
        w.reclaim(SP1, handle, 0).unwrap();
        w.assert_idle();
    }
}

#[test]
fn what_passes_through_passes_through() {
    let mut w = World::new(3);
    w.speaks(SP3, Form::V1_1);
    let message = Message::send(Form::V1_2, NWD, &[(SP1, RO), (SP2, RW), (SP3, RW)], &[(NS, 1)]).normal();
    let message = message.with(|m| {
        m.emads[0].passed = [1, u64::MAX];
        m.emads[1].passed = [0x0123_4567_89ab_cdef, 2];
        m.emads[2].passed = [5, 5];
    });
    let handle = w.send(NWD, SHARE, &message).unwrap();
    for (id, passed) in [(SP1, [1, u64::MAX]), (SP2, [0x0123_4567_89ab_cdef, 2]), (SP3, [0, 0])] {
        let request = Message::retrieve(w.form(id), NWD, handle, &[(id, RO)]).with(|m| m.flags = 1 << 10);
        assert_eq!(w.retrieve(id, &request).unwrap().emads[0].passed, passed);
    }
}

#[test]
fn memory_is_zeroed_when_asked_for_and_only_then() {
    let mut w = World::new(3);
    let (at, base) = (page(sp_base(SP1), 4), sp_base(SP1));
    let lend = |w: &mut World, to: &[(u16, u8)], flags| {
        let mut message = Message::send(Form::V1_2, SP1, to, &[(at, 1)]).with(|m| m.flags = flags);
        message.attributes = if to.len() > 1 { NORMAL } else { 0 };
        w.fill(Side::Secure, at, 0xaa);
        w.fill(Side::Secure, base, 0xbb);
        w.send(SP1, LEND, &message).unwrap()
    };
    let ask = |handle, id, permissions, flags| {
        Message::retrieve(Form::V1_2, SP1, handle, &[(id, permissions)]).with(|m| m.flags = flags)
    };
    // For the borrower.
    let handle = lend(&mut w, &[(SP2, RW)], 1);
    assert!(w.is_filled(Side::Secure, at, 0) && w.is_filled(Side::Secure, base, 0xbb));
    let response = w.retrieve(SP2, &ask(handle, SP2, RW | NX, 1)).unwrap();
    assert_eq!(response.flags, 1 | 2 << 3, "the borrower is told");
    w.fill(Side::Secure, at, 0xcc);
    w.relinquish(SP2, handle, 0).unwrap();
    assert!(w.is_filled(Side::Secure, at, 0xcc));
    assert_eq!(
        w.retrieve(SP2, &ask(handle, SP2, RW | NX, 1)).map(drop),
        Err(INVALID),
        "it was not zeroed again"
    );
    // By the borrower, as it relinquishes.
    w.retrieve(SP2, &ask(handle, SP2, RW | NX, 0)).unwrap();
    w.relinquish(SP2, handle, 1).unwrap();
    assert!(w.is_filled(Side::Secure, at, 0));
    // For the owner.
    w.fill(Side::Secure, at, 0xdd);
    w.reclaim(SP1, handle, 1).unwrap();
    assert!(w.is_filled(Side::Secure, at, 0));
    // Not at all.
    let handle = lend(&mut w, &[(SP2, RW)], 0);
    w.retrieve(SP2, &ask(handle, SP2, RW | NX, 0)).unwrap();
    w.relinquish(SP2, handle, 0).unwrap();
    w.reclaim(SP1, handle, 0).unwrap();
    assert!(w.is_filled(Side::Secure, at, 0xaa));
    // As asked for when it was retrieved, and when the last borrower has relinquished.
    let handle = lend(&mut w, &[(SP2, RW), (SP3, RO)], 0);
    w.retrieve(SP2, &ask(handle, SP2, RW, 1 << 10 | 1 << 2)).unwrap();
    w.retrieve(SP3, &ask(handle, SP3, RO, 1 << 10)).unwrap();
    w.relinquish(SP2, handle, 0).unwrap();
    assert!(w.is_filled(Side::Secure, at, 0xaa), "the other still has it");
    w.relinquish(SP3, handle, 0).unwrap();
    assert!(w.is_filled(Side::Secure, at, 0));
    w.reclaim(SP1, handle, 0).unwrap();
    // A borrower that dies too.
    let handle = lend(&mut w, &[(SP2, RW)], 0);
    w.retrieve(SP2, &ask(handle, SP2, RW | NX, 1 << 2)).unwrap();
    w.manager.forget(&mut w.machine, &w.sps, EndpointId::new(SP2));
    assert!(w.is_filled(Side::Secure, at, 0));
    w.reclaim(SP1, handle, 0).unwrap();
    w.assert_idle();
}

#[test]
fn who_may_not_write_may_not_have_it_zeroed() {
    let mut w = World::new(2);
    let read_only = page(sp_base(SP1), 16);
    let message = Message::send(Form::V1_2, SP1, &[(SP2, RO)], &[(read_only, 1)]);
    for function in [LEND, DONATE] {
        refused(
            &mut w,
            SP1,
            function,
            &message.clone().with(|m| m.flags = 1),
            FfaError::Denied,
            "read-only",
        );
        let handle = w.send(SP1, function, &message).unwrap();
        assert_eq!(w.reclaim(SP1, handle, 1), Err(FfaError::Denied));
        w.reclaim(SP1, handle, 0).unwrap();
    }
    assert_eq!(w.access(SP1, Side::Secure, read_only), "r Owned");
    // More than one call may zero.
    let pages = MAX_CLEAR_PAGES as u32 + 1;
    let huge = Message::send(Form::V1_2, NWD, &[(SP2, RW)], &[(page(NS, 0x2000), pages)]);
    refused(
        &mut w,
        NWD,
        LEND,
        &huge.clone().with(|m| m.flags = 1),
        FfaError::NoMemory,
        "too much to zero",
    );
    let handle = w.send(NWD, LEND, &huge).unwrap();
    assert_eq!(w.reclaim(NWD, handle, 1), Err(FfaError::NoMemory));
    let request = Message::retrieve(Form::V1_2, NWD, handle, &[(SP2, RW | NX)]);
    assert_eq!(
        w.retrieve(SP2, &request.clone().with(|m| m.flags = 4)).map(drop),
        Err(FfaError::NoMemory)
    );
    w.retrieve(SP2, &request).unwrap();
    assert_eq!(w.relinquish(SP2, handle, 1), Err(FfaError::NoMemory));
    w.relinquish(SP2, handle, 0).unwrap();
    w.reclaim(NWD, handle, 0).unwrap();
    w.assert_idle();
}

#[test]
fn a_device_is_lent_to_one() {
    for (id, at, side) in [
        (SP1, page(sp_base(SP1), 17), Side::Secure),
        (NWD, NS_DEVICE, Side::NonSecure),
    ] {
        let mut w = World::new(3);
        let one = Message::send(Form::V1_2, id, &[(SP2, RW)], &[(at, 1)]);
        let two = Message::send(Form::V1_2, id, &[(SP2, RW), (SP3, RW)], &[(at, 1)]).normal();
        refused(&mut w, id, SHARE, &one.clone().normal(), FfaError::Denied, "shared");
        refused(&mut w, id, DONATE, &one, FfaError::Denied, "donated");
        refused(&mut w, id, LEND, &two, FfaError::Denied, "lent to two");
        refused(
            &mut w,
            id,
            LEND,
            &one.clone().with(|m| m.flags = 1),
            FfaError::Denied,
            "zeroed",
        );
        let handle = w.send(id, LEND, &one).unwrap();
        let ask = |permissions, attributes| {
            Message::retrieve(Form::V1_2, id, handle, &[(SP2, permissions)]).with(|m| m.attributes = attributes)
        };
        for (permissions, attributes) in [(RW | X, 0), (RW | NX, NORMAL), (RW | NX, 0x14)] {
            assert_eq!(
                w.retrieve(SP2, &ask(permissions, attributes)).map(drop),
                Err(FfaError::Denied)
            );
        }
        let response = w.retrieve(SP2, &ask(RW | NX, 0x10)).unwrap();
        assert_eq!(response.attributes, 0x10 | if id == NWD { 1 << 6 } else { 0 });
        assert_eq!(w.access(SP2, side, at), "rw Borrowed");
        w.check(0);
        assert_eq!(w.relinquish(SP2, handle, 1), Err(FfaError::Denied));
        w.relinquish(SP2, handle, 0).unwrap();
        w.reclaim(id, handle, 0).unwrap();
        w.assert_idle();
    }
}

#[test]
fn memory_of_the_normal_world_is_never_executable() {
    let mut w = World::new(2);
    for function in [LEND, DONATE] {
        let message = Message::send(Form::V1_2, NWD, &[(SP1, RW)], &[(NS, 1)]);
        let handle = w.send(NWD, function, &message).unwrap();
        let request = Message::retrieve(Form::V1_2, NWD, handle, &[(SP1, RW | X)]);
        assert_eq!(w.retrieve(SP1, &request).map(drop), Err(FfaError::Denied));
        w.reclaim(NWD, handle, 0).unwrap();
    }
    // Nor is what its owner can't execute.
    let message = Message::send(Form::V1_2, SP1, &[(SP2, RO)], &[(page(sp_base(SP1), 15), 2)]);
    let handle = w.send(SP1, LEND, &message).unwrap();
    let request = Message::retrieve(Form::V1_2, SP1, handle, &[(SP2, RO | X)]);
    assert_eq!(w.retrieve(SP2, &request).map(drop), Err(FfaError::Denied));
}

#[test]
fn nobody_gets_what_it_has() {
    let mut w = World::new(2);
    // A partition's own page of the normal world, that the normal world could pass on if it were not marked.
    let message = Message::send(Form::V1_2, SP1, &[(SP2, RW)], &[(sp_ns(SP1), 1)]).normal();
    let handle = w.send(SP1, SHARE, &message).unwrap();
    w.retrieve(SP2, &Message::retrieve(Form::V1_2, SP1, handle, &[(SP2, RW)]))
        .unwrap();
    assert_eq!(w.access(SP2, Side::NonSecure, sp_ns(SP1)), "rw Borrowed");
    // What is borrowed is not its own to pass on.
    let on = Message::send(Form::V1_2, SP2, &[(SP1, RW)], &[(sp_ns(SP1), 1)]).normal();
    assert_eq!(w.send(SP2, SHARE, &on).map(drop), Err(FfaError::Denied));
}

#[test]
fn owners_that_die_leave_borrowers_what_they_have() {
    let mut w = World::new(3);
    let (handle, request) = open(&mut w, LEND, false);
    let (idle, _) = (
        w.send(
            SP1,
            SHARE,
            &Message::send(Form::V1_2, SP1, &[(SP3, RW)], &[(page(sp_base(SP1), 9), 1)]).normal(),
        )
        .unwrap(),
        (),
    );
    w.retrieve(SP2, &request).unwrap();
    w.manager.forget(&mut w.machine, &w.sps, EndpointId::new(SP1));
    w.check(0);
    assert_eq!(w.manager.shares(), 1, "what nobody had is reclaimed");
    assert_eq!(w.reclaim(SP1, idle, 0), Err(INVALID));
    assert_eq!(w.access(SP2, Side::Secure, sp_base(SP1)), "r Borrowed");
    assert_eq!(w.reclaim(SP1, handle, 0), Err(INVALID), "it will be, by itself");
    w.relinquish(SP2, handle, 0).unwrap();
    assert_eq!(w.access(SP1, Side::Secure, sp_base(SP1)), "rwx Owned");
    w.assert_idle();
}

#[test]
fn no_owner_takes_what_others_need() {
    let limits = Limits {
        shares: 32,
        pages: 16,
        reserved: 8,
    };
    let mut w = World::with(3, limits);
    let share = |w: &mut World, id: u16, number: u64| {
        let (base, to) = if id < 0x8000 {
            (NS, SP1)
        } else {
            (sp_base(id), if id == SP1 { SP2 } else { SP1 })
        };
        w.send(
            id,
            SHARE,
            &Message::send(Form::V1_2, id, &[(to, RO)], &[(page(base, number), 1)]).normal(),
        )
    };
    let mut number = 0;
    let mut counts = Vec::new();
    for vm in [1, 2, 3, 4, SP1, SP2, SP3] {
        let mut count = 0;
        for place in 0..16 {
            number += 1;
            match share(&mut w, vm, if vm < 0x8000 { number } else { place }) {
                Ok(_) => count += 1,
                Err(error) => {
                    assert_eq!(error, FfaError::NoMemory);
                    break;
                }
            }
        }
        counts.push(count);
        w.check(0);
    }
    assert_eq!(counts[0], 12, "half of what the normal world may take");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert!(
        counts[..4].iter().sum::<u32>() <= 24,
        "the rest is the partitions': {counts:?}"
    );
}

#[test]
fn pages_for_ranges_are_shared_out_too() {
    let limits = Limits {
        shares: 16,
        pages: 8,
        reserved: 4,
    };
    let mut w = World::with(1, limits);
    let scattered = |vm, first: u64, count: u64| {
        let ranges: Vec<_> = (0..count).map(|number| (page(NS, first + 2 * number), 1)).collect();
        Message::send(Form::V1_2, vm, &[(SP1, RO)], &ranges).normal()
    };
    // Half of six pages of 511 words.
    assert_eq!(w.send(NWD, SHARE, &scattered(1, 0x2000, 1540)), Err(FfaError::NoMemory));
    w.check(0);
    w.assert_idle();
    let first = w.send(NWD, SHARE, &scattered(1, 0x2000, 1530)).unwrap();
    assert_eq!(
        w.send(NWD, SHARE, &scattered(1, 0x4000, 6)),
        Err(FfaError::NoMemory),
        "no page more for that one"
    );
    w.send(NWD, SHARE, &scattered(1, 0x4000, 5)).unwrap();
    w.send(NWD, SHARE, &scattered(2, 0x5000, 500)).unwrap();
    w.reclaim(NWD, first, 0).unwrap();
    w.send(NWD, SHARE, &scattered(1, 0x2000, 1500)).unwrap();
    w.check(0);
}

#[test]
fn no_borrower_takes_the_tables_that_others_need() {
    let mut w = World::new(4);
    // As many as there are for tables and all else; what is given back does not count again.
    w.machine.tables.set_budget(Some(100));
    let mut counts = Vec::new();
    for (place, id) in [SP1, SP2, SP3, 0x8004].into_iter().enumerate() {
        let count = (0..60).find(|number| {
            // Each in a block of its own.
            let range = page(NS, 0x200 * *number + 0x20 + place as u64);
            let message = Message::send(Form::V1_2, NWD, &[(id, RO)], &[(range, 1)]).normal();
            let handle = w.send(NWD, SHARE, &message).unwrap();
            let before = w.snapshot();
            match w.retrieve(id, &Message::retrieve(Form::V1_2, NWD, handle, &[(id, RO)])) {
                Ok(_) => false,
                Err(error) => {
                    assert_eq!((error, w.snapshot()), (FfaError::NoMemory, before));
                    true
                }
            }
        });
        counts.push(count.expect("some fail"));
    }
    w.check(0);
    assert_eq!(
        counts,
        [51, 26, 14, 6],
        "each about half of what the ones before have left"
    );
}

#[test]
fn no_handle_is_given_out_twice() {
    let mut w = World::with(
        2,
        Limits {
            shares: 4,
            pages: 4,
            reserved: 1,
        },
    );
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let handle = w.send(SP1, SHARE, &good(Form::V1_2)).unwrap();
        assert!(seen.insert(handle));
        w.reclaim(SP1, handle, 0).unwrap();
    }
}

#[test]
fn buffers_are_not_passed_on() {
    for (id, base, other) in [
        (NWD, page(NS, 8), SP1),
        (SP1, page(sp_base(SP1), 8), SP2),
        (SP1, sp_ns(SP1), SP2),
    ] {
        let mut w = World::new(2);
        let before = w.snapshot();
        let pages = if base == sp_ns(SP1) { 1 } else { 2 };
        let range = PageRange::new(PhysAddr::new(base), pages).unwrap();
        let owner = EndpointId::new(id);
        let hold = |w: &mut World| w.manager.hold(&mut w.machine, &w.sps, owner, &range, true);
        let side = hold(&mut w).unwrap();
        assert_eq!(
            side,
            if base == page(sp_base(SP1), 8) {
                Side::Secure
            } else {
                Side::NonSecure
            }
        );
        assert_eq!(hold(&mut w), Err(FfaError::Denied), "twice");
        let message = Message::send(Form::V1_2, id, &[(other, RW)], &[(base, 1)]);
        for function in [SHARE, LEND, DONATE] {
            let message = if function == SHARE {
                message.clone().normal()
            } else {
                message.clone()
            };
            assert_eq!(w.send(id, function, &message).map(drop), Err(FfaError::Denied));
        }
        w.manager.unhold(&mut w.machine, &w.sps, owner, &range, side);
        assert_eq!(w.snapshot(), before);
        w.send(id, LEND, &message).unwrap();
        assert_eq!(hold(&mut w), Err(FfaError::Denied));
        assert!(w.manager.has_shares(owner) && !w.manager.has_shares(EndpointId::new(SP2)));
    }
    let mut w = World::new(1);
    let before = w.snapshot();
    for (id, at) in [
        (SP1, page(sp_base(SP1), 16)),
        (SP1, page(sp_base(SP1), 17)),
        (NWD, NS_DEVICE),
        (NWD, sp_ns(SP1)),
    ] {
        let range = PageRange::new(PhysAddr::new(at), 1).unwrap();
        let result = w
            .manager
            .hold(&mut w.machine, &w.sps, EndpointId::new(id), &range, true);
        assert_eq!(result, Err(FfaError::Denied), "{at:#x}");
    }
    assert_eq!(w.snapshot(), before);
    w.check(0);
}

#[test]
fn as_many_borrowers_as_there_can_be_partitions() {
    for (vms, expected) in [(254, Ok(())), (255, Err(INVALID))] {
        let mut w = World::new(1);
        w.buffer_pages = 3;
        let to: Vec<_> = (1..=vms).chain([SP1]).map(|id| (id, RO)).collect();
        let message = Message::send(Form::V1_2, NWD, &to, &[(NS, 1)]).normal();
        let handle = w.send_by(NWD, SHARE, &message.bytes(), 3 * 4096);
        assert_eq!(handle.map(drop), expected, "{vms} and one");
        let Ok(handle) = handle else { continue };
        let request = Message::retrieve(Form::V1_2, NWD, handle, &to);
        assert_eq!(w.put_and_retrieve(SP1, &request), Ok(()));
        w.check(0);
    }
}

#[test]
fn owners_that_are_gone_leave_room_for_others() {
    let mut w = World::with(
        1,
        Limits {
            shares: 8,
            pages: 8,
            reserved: 0,
        },
    );
    for vm in 1..40 {
        let message = |number| Message::send(Form::V1_2, vm, &[(SP1, RO)], &[(page(NS, number), 1)]).normal();
        let handles: Vec<_> = (0..4)
            .map(|number| w.send(NWD, SHARE, &message(number)).unwrap())
            .collect();
        assert_eq!(
            w.send(NWD, SHARE, &message(9)),
            Err(FfaError::NoMemory),
            "half of eight"
        );
        for handle in handles {
            w.reclaim(NWD, handle, 0).unwrap();
        }
    }
    w.assert_idle();
}
