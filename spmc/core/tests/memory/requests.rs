//! Requests at the edges of what is right, and what becomes of a share between its calls.

use arm_ffa::FuncId;
use tantalum_core::{abi::FfaError, addr::World as Side, id::EndpointId, memory::MAX_CLEAR_PAGES};
use tantalum_stage2::{
    Access, Attributes, Entry, Execute, Granule, Ipa, IpaRange, MemoryType, OutputAddress, Ownership,
};

use crate::{
    errors::{DONATE, INVALID, LEND, SHARE, good, open, refused},
    message::{Form, Message, NORMAL, NX, RO, RW},
    world::{NS, NS_DEVICE, NS_HIGH, NWD, SP1, SP2, SP3, World, page, sp_base},
};

/// Every other page of the normal world from `first` on.
fn scattered(first: u64, count: u64) -> Vec<(u64, u32)> {
    (0..count).map(|number| (page(NS, first + 2 * number), 1)).collect()
}

/// A retrieve request as it is, and its answer.
fn ask(w: &mut World, by: u16, bytes: &[u8], total: usize) -> Result<(), FfaError> {
    w.put_tx(by, bytes);
    let registers = [total as u64, bytes.len() as u64, 0, 0];
    w.call(by, FuncId::MemRetrieveReq32, registers).map(drop)
}

#[test]
fn a_retrieve_request_comes_in_one_fragment() {
    let mut w = World::new(2);
    let (_, right) = open(&mut w, SHARE, false);
    let bytes = right.bytes();
    assert_eq!(ask(&mut w, SP2, &bytes, bytes.len() + 16), Err(INVALID));
    assert_eq!(ask(&mut w, SP2, &bytes, bytes.len()), Ok(()));
}

#[test]
fn a_retrieve_request_says_where_its_emads_are_and_how_large() {
    let mut w = World::new(2);
    let (_, right) = open(&mut w, SHARE, false);
    for (offset, size) in [(40, 32), (56, 32), (96, 32), (48, 0), (48, 48), (48, 24)] {
        let bytes = right.clone().with(|m| {
            m.emad_size = Some(size);
            // Only what the header says.
            m.patches = vec![(32, 48 ^ offset)];
        });
        assert_eq!(ask(&mut w, SP2, &bytes.bytes(), bytes.bytes().len()), Err(INVALID));
    }
    let further = right.with(|m| m.emad_offset = Some(128));
    w.retrieve(SP2, &further).unwrap();
}

#[test]
fn other_borrowers_are_named_once_and_rightly() {
    let mut w = World::new(4);
    let to = [(SP2, RO), (SP3, RW), (0x8004, RW)];
    let message = Message::send(Form::V1_2, SP1, &to, &[(sp_base(SP1), 1)]).normal();
    let handle = w.send(SP1, LEND, &message).unwrap();
    let right = Message::retrieve(Form::V1_2, SP1, handle, &to);
    let mut bad = |why: &str, change: &dyn Fn(&mut Message)| {
        let request = right.clone().with(|m| change(m));
        assert_eq!(w.retrieve(SP2, &request).map(drop), Err(INVALID), "{why}");
    };
    bad("reserved data access", &|m| m.emads[1].permissions = 3);
    bad("reserved instruction access", &|m| m.emads[2].permissions = 0xc);
    bad("reserved bits", &|m| m.emads[2].permissions = 0x10);
    bad("reserved flags", &|m| m.emads[2].flags = 2);
    bad("twice", &|m| m.emads[2] = m.emads[1]);
    w.retrieve(SP2, &right).unwrap();
}

#[test]
fn a_retrieve_request_has_no_ranges() {
    let mut w = World::new(2);
    let (handle, right) = open(&mut w, SHARE, false);
    let with = |offset, blocks: &[u64]| {
        let mut bytes = right.clone().with(|m| m.emads[0].composite = Some(offset)).bytes();
        bytes.extend(blocks.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    };
    for (why, bytes) in [
        ("a page", with(80, &[1, 0])),
        ("a range", with(80, &[1 << 32, 0])),
        ("reserved", with(80, &[0, 1])),
        ("within a block", with(88, &[0, 0, 0, 0])),
        ("within the EMAD", with(64, &[0, 0])),
        ("behind the end", with(96, &[0, 0])),
    ] {
        assert_eq!(ask(&mut w, SP2, &bytes, bytes.len()), Err(INVALID), "{why}");
    }
    // None is what may be said, and not only right behind the EMADs.
    for bytes in [with(80, &[0, 0]), with(96, &[1, 1, 0, 0])] {
        assert_eq!(ask(&mut w, SP2, &bytes, bytes.len()), Ok(()));
        w.rx_full[2] = false;
        w.relinquish(SP2, handle, 0).unwrap();
    }
}

#[test]
fn a_descriptor_lies_within_tx() {
    let mut w = World::new(1);
    // There is memory behind TX.
    let bytes = Message::send(Form::V1_2, NWD, &[(SP1, RW)], &scattered(0x2000, 300))
        .normal()
        .bytes();
    let length = bytes.len() as u64;
    w.put_tx(NWD, &bytes);
    assert_eq!(w.call(NWD, SHARE, [length, length, 0, 0]), Err(INVALID));
    let reply = w.call(NWD, SHARE, [length, 96, 0, 0]).unwrap();
    w.put_tx(NWD, &bytes[96..]);
    let rest = |bytes| [reply[1], reply[2], bytes, 0];
    assert_eq!(w.call(NWD, FuncId::MemFragTx, rest(length - 96)), Err(INVALID));
    w.call(NWD, FuncId::MemFragTx, rest(4096)).unwrap();
    w.put_tx(NWD, &bytes[96 + 4096..]);
    assert_eq!(
        w.call(NWD, FuncId::MemFragTx, rest(length - 96 - 4096)).unwrap()[0],
        0x8400_0061
    );
}

#[test]
fn all_borrowers_get_the_same_ranges() {
    let mut w = World::new(3);
    for place in [0, 1] {
        let apart = good(Form::V1_2).with(|m| {
            m.emads.push(m.emads[0]);
            m.emads[1].id = SP3;
            m.emads[place].composite = Some(64);
        });
        refused(&mut w, SP1, SHARE, &apart, INVALID, "different ranges for each");
    }
}

#[test]
fn the_type_may_be_said_and_is_told() {
    for (function, kind) in [(SHARE, 1), (LEND, 2), (DONATE, 3)] {
        for flags in [0, kind << 3] {
            let mut w = World::new(2);
            let mut message = Message::send(Form::V1_2, SP1, &[(SP2, RO)], &[(sp_base(SP1), 1)]);
            message.flags = flags;
            message.attributes = if function == SHARE { NORMAL } else { 0 };
            let handle = w.send(SP1, function, &message).unwrap();
            let permissions = if function == SHARE { RO } else { RO | NX };
            let request = Message::retrieve(Form::V1_2, SP1, handle, &[(SP2, permissions)]);
            assert_eq!(w.retrieve(SP2, &request).unwrap().flags, kind << 3);
        }
    }
}

#[test]
fn a_handle_has_64_bits() {
    let mut w = World::new(2);
    let (handle, right) = open(&mut w, LEND, false);
    for wrong in [handle | 1 << 32, handle | 1 << 63, handle << 32] {
        assert_eq!(w.reclaim(SP1, wrong, 0), Err(INVALID), "{wrong:#x}");
        assert_eq!(
            w.retrieve(SP2, &right.clone().with(|m| m.handle = wrong)).map(drop),
            Err(INVALID)
        );
        assert_eq!(w.relinquish(SP2, wrong, 0), Err(INVALID));
        let [low, high] = [wrong & 0xffff_ffff, wrong >> 32];
        assert_eq!(w.call(SP2, FuncId::MemFragRx, [low, high, 4096, 0]), Err(INVALID));
    }
    w.reclaim(SP1, handle, 0).unwrap();
}

#[test]
fn whoever_asked_for_it_has_it_zeroed_after_all_have_relinquished() {
    let at = page(sp_base(SP1), 4);
    let again = |flags: [u32; 2], relinquish: [u32; 2]| {
        let mut w = World::new(3);
        let message = Message::send(Form::V1_2, SP1, &[(SP2, RW), (SP3, RW)], &[(at, 1)]).normal();
        let handle = w.send(SP1, LEND, &message).unwrap();
        for (id, flags) in [SP2, SP3].into_iter().zip(flags) {
            let request = Message::retrieve(Form::V1_2, SP1, handle, &[(id, RW)]);
            w.retrieve(id, &request.with(|m| m.flags = 1 << 10 | flags)).unwrap();
        }
        w.fill(Side::Secure, at, 0xaa);
        for (id, flags) in [SP2, SP3].into_iter().zip(relinquish) {
            assert!(w.is_filled(Side::Secure, at, 0xaa));
            w.relinquish(id, handle, flags).unwrap();
        }
        w.is_filled(Side::Secure, at, 0)
    };
    assert!(!again([0, 0], [0, 0]));
    for (retrieve, relinquish) in [
        ([4, 0], [0, 0]),
        ([0, 4], [0, 0]),
        ([4, 4], [0, 0]),
        ([0, 0], [1, 0]),
        ([0, 0], [0, 1]),
        ([0, 0], [1, 1]),
        ([4, 0], [1, 0]),
        ([4, 4], [1, 1]),
    ] {
        assert!(again(retrieve, relinquish), "{retrieve:?} {relinquish:?}");
    }
}

#[test]
fn as_much_is_zeroed_as_one_call_may() {
    let pages = u32::try_from(MAX_CLEAR_PAGES).unwrap();
    let mut w = World::new(2);
    let large = Message::send(Form::V1_2, NWD, &[(SP2, RW)], &[(page(NS, 0x2000), pages)]);
    // It is tried, and that memory is not there.
    assert_eq!(
        w.send(NWD, LEND, &large.clone().with(|m| m.flags = 1)),
        Err(FfaError::Aborted)
    );
    let handle = w.send(NWD, LEND, &large).unwrap();
    assert_eq!(w.reclaim(NWD, handle, 1), Err(FfaError::Aborted));
    let request = Message::retrieve(Form::V1_2, NWD, handle, &[(SP2, RW | NX)]);
    w.retrieve(SP2, &request.with(|m| m.flags = 4)).unwrap();
    w.relinquish(SP2, handle, 1).unwrap();
}

#[test]
fn what_was_not_sent_yet_is_not_zeroed() {
    let mut w = World::new(2);
    let at = sp_base(SP1);
    let message = Message::send(Form::V1_2, SP1, &[(SP2, RW)], &[(at, 1), (page(at, 5), 1)]);
    let (bytes, first) = (message.bytes(), message.head() + 16);
    w.put_tx(SP1, &bytes[..first]);
    w.fill(Side::Secure, at, 0xaa);
    let reply = w.call(SP1, LEND, [bytes.len() as u64, first as u64, 0, 0]).unwrap();
    w.reclaim(SP1, reply[1] | reply[2] << 32, 1).unwrap();
    assert!(w.is_filled(Side::Secure, at, 0xaa));
    w.assert_idle();
}

#[test]
fn the_hypervisor_is_told_of_a_donation_and_that_changes_nothing() {
    let mut w = World::new(1);
    let message = Message::send(Form::V1_2, 5, &[(SP1, RW)], &[(NS, 1)]);
    let handle = w.send(NWD, DONATE, &message).unwrap();
    for _ in 0..2 {
        let bytes = Message::retrieve(Form::V1_2, NWD, handle, &[]).bytes();
        ask(&mut w, NWD, &bytes, bytes.len()).unwrap();
        let response = Message::parse(Form::V1_2, &w.get_rx(NWD, 112));
        assert_eq!((response.sender, response.emads[0].flags), (5, 0));
        w.rx_full[0] = false;
    }
    let request = Message::retrieve(Form::V1_2, 5, handle, &[(SP1, RW | NX)]);
    w.retrieve(SP1, &request).unwrap();
    w.check(1);
}

#[test]
fn a_response_that_rx_can_not_hold_is_refused() {
    let mut w = World::new(1);
    w.buffer_pages = 3;
    let to: Vec<_> = (1..=200).chain([SP1]).map(|id| (id, RO)).collect();
    let message = Message::send(Form::V1_2, NWD, &to, &[(NS, 1)]).normal();
    let handle = w.send_by(NWD, SHARE, &message.bytes(), 3 * 4096).unwrap();
    let bytes = Message::retrieve(Form::V1_2, NWD, handle, &[]).bytes();
    w.buffer_pages = 1;
    assert_eq!(ask(&mut w, NWD, &bytes, bytes.len()), Err(FfaError::NoMemory));
    w.buffer_pages = 3;
    ask(&mut w, NWD, &bytes, bytes.len()).unwrap();
}

#[test]
fn a_fragment_for_a_partition_names_nobody_and_fills_rx() {
    let mut w = World::new(2);
    let ranges = scattered(0x2000, 600);
    let message = Message::send(Form::V1_2, 5, &[(SP1, RW)], &ranges).normal();
    let handle = w.send(NWD, SHARE, &message).unwrap();
    let bytes = Message::retrieve(Form::V1_2, 5, handle, &[(SP1, RW)]).bytes();
    ask(&mut w, SP1, &bytes, bytes.len()).unwrap();
    w.rx_full[1] = false;
    let more = [handle & 0xffff_ffff, handle >> 32, 4096, 0];
    assert_eq!(w.call(SP2, FuncId::MemFragRx, more), Err(INVALID), "not a borrower");
    let reply = w.call(SP1, FuncId::MemFragRx, more).unwrap();
    assert_eq!((reply[0], &reply[4..]), (0x8400_007b, &[0; 4][..]));
    let more = [handle & 0xffff_ffff, handle >> 32, 8192, 0];
    assert_eq!(w.call(SP1, FuncId::MemFragRx, more), Err(FfaError::Busy));
}

#[test]
fn a_receiver_that_dies_before_it_has_all_of_the_response_ends_the_donation() {
    let mut w = World::new(1);
    let message = Message::send(Form::V1_2, NWD, &[(SP1, RW)], &scattered(0x2000, 300));
    let handle = w.send(NWD, DONATE, &message).unwrap();
    let bytes = Message::retrieve(Form::V1_2, NWD, handle, &[(SP1, RW | NX)]).bytes();
    ask(&mut w, SP1, &bytes, bytes.len()).unwrap();
    assert_eq!(w.manager.shares(), 1);
    w.manager.forget(&mut w.machine, &w.sps, EndpointId::new(SP1));
    assert_eq!(w.manager.shares(), 0);
    assert_eq!(
        w.access(SP1, Side::NonSecure, page(NS, 0x2000)),
        "rw Owned",
        "it stays its own"
    );
    w.check(300);
    w.assert_idle();
}

#[test]
fn a_device_is_mapped_as_one() {
    let mut w = World::new(2);
    for (owner, side, at) in [
        (SP1, Side::Secure, page(sp_base(SP1), 17)),
        (NWD, Side::NonSecure, NS_DEVICE),
    ] {
        let message = Message::send(Form::V1_2, owner, &[(SP2, RW)], &[(at, 1)]);
        let handle = w.send(owner, LEND, &message).unwrap();
        let request = Message::retrieve(Form::V1_2, owner, handle, &[(SP2, RW | NX)]);
        w.retrieve(SP2, &request).unwrap();
        let Entry::Mapped(_, attributes) = w.entry(SP2, side, at) else {
            panic!("not mapped")
        };
        assert_eq!(attributes.memory(), MemoryType::DeviceNGnRnE);
    }
}

#[test]
fn only_cached_memory_and_devices_are_passed_on() {
    for (kind, expected) in [
        (MemoryType::NormalWriteBack, Ok(())),
        (MemoryType::NormalWriteThrough, Err(FfaError::Denied)),
        (MemoryType::NormalNonCacheable, Err(FfaError::Denied)),
        (MemoryType::DeviceGRE, Ok(())),
    ] {
        let mut w = World::new(2);
        let at = page(sp_base(SP1), 18);
        let ipas = IpaRange::new(Ipa(at), 1).unwrap();
        let attributes = Attributes::new(kind, Access::ReadWrite, Execute::Never, Ownership::Owned);
        let mut tables = w.sps.0[0].tables.lock();
        tables
            .secure
            .map(&mut w.machine, ipas, OutputAddress(at), attributes, Granule::Pages)
            .unwrap();
        drop(tables);
        let message = Message::send(Form::V1_2, SP1, &[(SP2, RW)], &[(at, 1)]);
        assert_eq!(w.send(SP1, LEND, &message).map(drop), expected, "{kind:?}");
    }
}

#[test]
fn a_borrower_gets_nothing_that_it_can_not_address() {
    let mut w = World::new(1);
    for ranges in [vec![(NS_HIGH, 1)], vec![(NS, 2), (NS_HIGH, 1)]] {
        let message = Message::send(Form::V1_2, NWD, &[(SP1, RW)], &ranges).normal();
        let handle = w.send(NWD, SHARE, &message).unwrap();
        let before = w.snapshot();
        let request = Message::retrieve(Form::V1_2, NWD, handle, &[(SP1, RW)]);
        assert_eq!(w.retrieve(SP1, &request).map(drop), Err(FfaError::Denied));
        assert_eq!(w.snapshot(), before);
        w.check(0);
        w.reclaim(NWD, handle, 0).unwrap();
    }
}

#[test]
fn what_touches_another_range_is_not_named_twice() {
    let mut w = World::new(2);
    // A device and what is not mapped behind it; what is declared and what is not before it.
    for (id, to, ranges) in [
        (SP1, SP2, [(page(sp_base(SP1), 17), 1), (page(sp_base(SP1), 18), 1)]),
        (NWD, SP1, [(NS, 1), (NS - 4096, 1)]),
    ] {
        let message = Message::send(Form::V1_2, id, &[(to, RW)], &ranges);
        refused(&mut w, id, LEND, &message, FfaError::Denied, "the second range");
    }
}

#[test]
fn a_borrower_that_dies_before_it_has_asked_leaves_the_share_to_others() {
    let mut w = World::new(3);
    let (handle, _) = open(&mut w, LEND, true);
    let request = Message::retrieve(Form::V1_2, SP1, handle, &[(SP3, RW)]);
    w.retrieve(SP3, &request.with(|m| (m.flags, m.tag) = (1 << 10, 77)))
        .unwrap();
    w.manager.forget(&mut w.machine, &w.sps, EndpointId::new(SP2));
    w.check(0);
    assert_eq!(w.reclaim(SP1, handle, 0), Err(FfaError::Denied));
}
