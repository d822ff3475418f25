//! The invariants of shares and pages, each broken behind the back of the policy: what other tests rely on notices.

use tantalum_core::addr::World as Side;
use tantalum_stage2::{
    Access, Attributes, Execute, Granule, Ipa, IpaRange, MemoryType, OutputAddress, Ownership, Tables,
};

use crate::{
    errors::{DONATE, LEND, SHARE},
    message::{Form, Message, NORMAL, NX, RW},
    world::{NS, NWD, SP1, SP2, World, page, sp_base},
};

/// An error of the invariants for a share of one page of the first partition, retrieved or not, of which the tables of
/// one partition were changed.
fn broken(function: arm_ffa::FuncId, retrieved: bool, of: usize, change: impl Fn(&mut Tables, &mut World)) -> bool {
    let mut w = World::new(2);
    let mut message = Message::send(Form::V1_2, SP1, &[(SP2, RW)], &[(sp_base(SP1), 1)]);
    message.attributes = if function == SHARE { NORMAL } else { 0 };
    let handle = w.send(SP1, function, &message).unwrap();
    if retrieved {
        let permissions = if function == SHARE { RW } else { RW | NX };
        let request = Message::retrieve(Form::V1_2, SP1, handle, &[(SP2, permissions)]);
        w.retrieve(SP2, &request).unwrap();
    }
    w.check(0);
    // Aside, for the time of the change.
    let mut other = Tables::new(&mut w.machine, tantalum_stage2::IpaSize::Bits39).unwrap();
    std::mem::swap(&mut other, &mut w.sps.0[of].tables.lock().secure);
    change(&mut other, &mut w);
    std::mem::swap(&mut other, &mut w.sps.0[of].tables.lock().secure);
    let kept = w.sps.0.len() as u64;
    w.manager.check_invariants(&w.machine, &w.sps, &[], kept).is_err()
}

fn the_page() -> IpaRange {
    IpaRange::new(Ipa(sp_base(SP1)), 1).unwrap()
}

fn map(tables: &mut Tables, w: &mut World, to: u64, access: Access, execute: Execute, ownership: Ownership) {
    let attributes = Attributes::new(MemoryType::NormalWriteBack, access, execute, ownership);
    tables
        .unmap(&mut w.machine.tables, the_page(), Ownership::None)
        .unwrap()
        .complete(&mut w.machine.tables);
    tables
        .map(
            &mut w.machine,
            the_page(),
            OutputAddress(to),
            attributes,
            Granule::Pages,
        )
        .unwrap();
}

#[test]
fn notice_what_an_owner_has() {
    for (function, retrieved) in [
        (SHARE, false),
        (SHARE, true),
        (LEND, false),
        (LEND, true),
        (DONATE, false),
    ] {
        let own = |ownership| {
            broken(function, retrieved, 0, |tables, w| {
                map(tables, w, sp_base(SP1), Access::ReadWrite, Execute::Always, ownership);
            })
        };
        assert!(own(Ownership::Owned), "{function:?}: it may pass it on again");
        assert!(own(Ownership::Lent) && own(Ownership::Donated));
        assert_eq!(own(Ownership::Shared), function != SHARE, "{function:?}: it has access");
        let unmapped = broken(function, retrieved, 0, |tables, w| {
            tables
                .unmap(&mut w.machine.tables, the_page(), Ownership::Shared)
                .unwrap()
                .complete(&mut w.machine.tables);
        });
        assert!(unmapped, "{function:?}: it has no access");
    }
}

#[test]
fn notice_what_a_borrower_has() {
    for function in [SHARE, LEND] {
        let (base, rw, never) = (sp_base(SP1), Access::ReadWrite, Execute::Never);
        let has = |retrieved, to, access, execute, ownership| {
            broken(function, retrieved, 1, |tables, w| {
                map(tables, w, to, access, execute, ownership);
            })
        };
        assert!(!has(true, base, rw, never, Ownership::Borrowed), "as it is");
        assert!(has(false, base, rw, never, Ownership::Borrowed), "it has not asked");
        assert!(has(true, base + 4096, rw, never, Ownership::Borrowed), "another page");
        assert!(has(true, base, Access::ReadOnly, never, Ownership::Borrowed), "less");
        assert!(has(true, base, rw, Execute::Always, Ownership::Borrowed), "more");
        assert!(has(true, base, rw, never, Ownership::Owned), "its own");
        let unmapped = broken(function, true, 1, |tables, w| {
            tables
                .unmap(&mut w.machine.tables, the_page(), Ownership::None)
                .unwrap()
                .complete(&mut w.machine.tables);
        });
        assert!(unmapped);
    }
}

#[test]
fn notice_a_page_in_two_shares() {
    let again = broken(SHARE, false, 0, |tables, w| {
        tables
            .set_state(&mut w.machine.tables, the_page(), Ownership::Owned)
            .unwrap();
        std::mem::swap(tables, &mut w.sps.0[0].tables.lock().secure);
        let message = Message::send(Form::V1_2, SP1, &[(SP2, RW)], &[(sp_base(SP1), 1)]).normal();
        w.send(SP1, SHARE, &message).unwrap();
        std::mem::swap(tables, &mut w.sps.0[0].tables.lock().secure);
    });
    assert!(again);
}

#[test]
fn notice_marks_of_the_normal_world() {
    let mut w = World::new(1);
    let check = |w: &World, kept| w.manager.check_invariants(&w.machine, &w.sps, &[], kept);
    let message = Message::send(Form::V1_2, NWD, &[(SP1, RW)], &[(NS, 3)]);
    let handle = w.send(NWD, DONATE, &message).unwrap();
    assert_eq!(
        check(&w, 1),
        Ok(()),
        "the page of the partition's manifest, and those of the share"
    );
    assert!(check(&w, 0).is_err() && check(&w, 2).is_err());
    assert_eq!(w.access(SP1, Side::NonSecure, page(NS, 0)), "-");
    w.retrieve(SP1, &Message::retrieve(Form::V1_2, NWD, handle, &[(SP1, RW | NX)]))
        .unwrap();
    assert_eq!(check(&w, 4), Ok(()), "they are kept");
}
