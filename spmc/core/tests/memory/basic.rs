//! One share after the other, from its beginning to its end.

use arm_ffa::FuncId;
use tantalum_core::{abi::FfaError, addr::World as Side};

use crate::{
    message::{Form, Message, NORMAL, NX, RO, RW, X},
    world::{NS, NWD, SP1, SP2, World, page, sp_base},
};

fn forms() -> impl Iterator<Item = (Form, Form)> {
    Form::ALL
        .into_iter()
        .flat_map(|sender| Form::ALL.map(|borrower| (sender, borrower)))
}

#[test]
fn share_of_the_normal_world_is_retrieved_relinquished_and_reclaimed() {
    for (sender, borrower) in forms() {
        let mut w = World::new(1);
        w.speaks(NWD, sender);
        w.speaks(SP1, borrower);
        let message = Message::send(sender, NWD, &[(SP1, RW)], &[(NS, 1), (page(NS, 7), 2)]).normal();
        let handle = w
            .send(NWD, FuncId::MemShare32, &message.with(|m| m.tag = 0x55))
            .unwrap();
        assert!(handle != 0 && handle >> 63 == 0);
        w.check(0);
        assert_eq!(w.access(SP1, Side::NonSecure, NS), "-");
        let request = Message::retrieve(borrower, NWD, handle, &[(SP1, RW)])
            .normal()
            .with(|m| m.tag = 0x55);
        let response = w.retrieve(SP1, &request).unwrap();
        w.check(0);
        assert_eq!((response.sender, response.handle, response.tag), (NWD, handle, 0x55));
        assert_eq!((response.attributes, response.flags), (NORMAL | 1 << 6, 1 << 3));
        assert_eq!(response.emads.len(), 1);
        assert_eq!(
            (
                response.emads[0].id,
                response.emads[0].permissions,
                response.emads[0].flags
            ),
            (SP1, RW | NX, 0)
        );
        assert_eq!(
            (response.plain_ranges(), response.pages),
            (vec![(NS, 1), (page(NS, 7), 2)], Some(3))
        );
        assert_eq!(w.access(SP1, Side::NonSecure, page(NS, 8)), "rw Borrowed");
        assert_eq!(w.access(SP1, Side::NonSecure, page(NS, 1)), "-");
        assert_eq!(w.reclaim(NWD, handle, 0), Err(FfaError::Denied));
        assert_eq!(
            w.relinquish(SP1, handle, 0).unwrap(),
            [0x8400_0061, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(w.access(SP1, Side::NonSecure, page(NS, 8)), "-");
        assert_eq!(w.machine.invalidated, [1]);
        w.check(0);
        assert_eq!(w.reclaim(NWD, handle, 0).unwrap(), [0x8400_0061, 0, 0, 0, 0, 0, 0, 0]);
        w.check(0);
        w.assert_idle();
        assert_eq!(w.reclaim(NWD, handle, 0), Err(FfaError::InvalidParameters));
    }
}

#[test]
fn what_a_partition_lends_it_cannot_access() {
    for (sender, borrower) in forms() {
        let mut w = World::new(2);
        w.speaks(SP1, sender);
        w.speaks(SP2, borrower);
        let base = sp_base(SP1);
        let message = Message::send(sender, SP1, &[(SP2, RW)], &[(page(base, 2), 2)]);
        let handle = w.send(SP1, FuncId::MemLend64, &message).unwrap();
        assert_eq!(
            w.machine.invalidated,
            [1],
            "the owner's translations are gone before anybody else has the pages"
        );
        assert_eq!(
            (
                w.access(SP1, Side::Secure, page(base, 2)),
                w.access(SP1, Side::Secure, base)
            ),
            ("-".into(), "rwx Owned".into())
        );
        w.check(0);
        let request = Message::retrieve(borrower, SP1, handle, &[(SP2, RO | X)]);
        let response = w.retrieve(SP2, &request).unwrap();
        assert_eq!((response.attributes, response.flags), (NORMAL, 2 << 3));
        assert_eq!(response.emads[0].permissions, RO | X);
        assert_eq!(w.access(SP2, Side::Secure, page(base, 3)), "rx Borrowed");
        w.check(0);
        assert_eq!(
            w.retrieve(SP2, &request).map(drop),
            Err(FfaError::Denied),
            "it has it already"
        );
        assert_eq!(w.reclaim(SP1, handle, 0), Err(FfaError::Denied));
        assert_eq!(
            w.reclaim(SP2, handle, 0),
            Err(FfaError::InvalidParameters),
            "not its own"
        );
        w.relinquish(SP2, handle, 0).unwrap();
        assert_eq!(w.relinquish(SP2, handle, 0), Err(FfaError::InvalidParameters));
        // As often as it likes.
        w.retrieve(SP2, &request).unwrap();
        w.relinquish(SP2, handle, 0).unwrap();
        w.reclaim(SP1, handle, 0).unwrap();
        assert_eq!(w.access(SP1, Side::Secure, page(base, 2)), "rwx Owned");
        w.check(0);
        w.assert_idle();
    }
}

#[test]
fn what_is_donated_has_a_new_owner() {
    let mut w = World::new(3);
    let base = sp_base(SP1);
    let message = Message::send(Form::V1_2, SP1, &[(SP2, 0)], &[(base, 1)]);
    let handle = w.send(SP1, FuncId::MemDonate32, &message).unwrap();
    assert_eq!(w.access(SP1, Side::Secure, base), "-");
    w.check(0);
    let response = w
        .retrieve(SP2, &Message::retrieve(Form::V1_2, SP1, handle, &[(SP2, RW | NX)]))
        .unwrap();
    assert_eq!((response.flags, response.emads[0].permissions), (3 << 3, RW | NX));
    assert_eq!(w.access(SP2, Side::Secure, base), "rw Owned");
    assert_eq!(w.access(SP1, Side::Secure, base), "-");
    w.assert_idle();
    for result in [
        w.relinquish(SP2, handle, 0),
        w.reclaim(SP1, handle, 0),
        w.reclaim(SP2, handle, 0),
    ] {
        assert_eq!(result, Err(FfaError::InvalidParameters), "the handle is gone");
    }
    // It is the new owner's to share, and not the old one's.
    let back = Message::send(Form::V1_2, SP1, &[(SP2, RW)], &[(base, 1)]).normal();
    assert_eq!(w.send(SP1, FuncId::MemShare32, &back), Err(FfaError::Denied));
    let back = Message::send(Form::V1_2, SP2, &[(SP1, RO)], &[(base, 1)]).normal();
    let handle = w.send(SP2, FuncId::MemShare32, &back).unwrap();
    w.retrieve(SP1, &Message::retrieve(Form::V1_2, SP2, handle, &[(SP1, RO)]))
        .unwrap();
    assert_eq!(w.access(SP1, Side::Secure, base), "r Borrowed");
    w.check(0);
    w.relinquish(SP1, handle, 0).unwrap();
    w.reclaim(SP2, handle, 0).unwrap();
    w.assert_idle();
}

#[test]
fn a_donation_that_nobody_took_is_reclaimed() {
    let mut w = World::new(2);
    let base = sp_base(SP1);
    let before = w.snapshot();
    let message = Message::send(Form::V1_2, SP1, &[(SP2, RW)], &[(base, 3)]);
    let handle = w.send(SP1, FuncId::MemDonate32, &message).unwrap();
    w.reclaim(SP1, handle, 0).unwrap();
    assert_eq!(w.snapshot(), before);
    w.assert_idle();
}

#[test]
fn the_normal_world_donates_for_good() {
    let mut w = World::new(2);
    let message = Message::send(Form::V1_1, NWD, &[(SP1, RW)], &[(NS, 2)]);
    w.speaks(NWD, Form::V1_1);
    let handle = w.send(NWD, FuncId::MemDonate32, &message).unwrap();
    w.retrieve(SP1, &Message::retrieve(Form::V1_2, NWD, handle, &[(SP1, RW | NX)]))
        .unwrap();
    assert_eq!(w.access(SP1, Side::NonSecure, page(NS, 1)), "rw Owned");
    w.check(2);
    assert_eq!(w.send(NWD, FuncId::MemLend32, &message), Err(FfaError::Denied));
    // The partition passes it on, with the NS bit.
    let on = Message::send(Form::V1_2, SP1, &[(SP2, RW)], &[(NS, 2)]);
    let handle = w.send(SP1, FuncId::MemLend32, &on).unwrap();
    let response = w
        .retrieve(SP2, &Message::retrieve(Form::V1_2, SP1, handle, &[(SP2, RW | NX)]))
        .unwrap();
    assert_eq!(response.attributes, NORMAL | 1 << 6);
    w.check(2);
}
