//! Transactions and responses in several fragments.

use arm_ffa::FuncId;
use tantalum_core::{abi::FfaError, addr::World as Side, id::EndpointId, memory::Limits};

use crate::{
    message::{Form, Message, RO, RW},
    world::{NS, NWD, SP1, SP2, SP3, World, page, sp_base},
};

/// Every other page of the normal world from `first` on.
fn scattered(first: u64, count: u64) -> Vec<(u64, u32)> {
    (0..count).map(|number| (page(NS, first + 2 * number), 1)).collect()
}

#[test]
fn thousands_of_ranges_go_both_ways() {
    for (sender, borrower, fragment) in [
        (Form::V1_0, Form::V1_2, 4096),
        (Form::V1_1, Form::V1_0, 4096),
        (Form::V1_2, Form::V1_1, 112),
        (Form::V1_2, Form::V1_2, 1616),
    ] {
        let mut w = World::new(1);
        w.speaks(NWD, sender);
        w.speaks(SP1, borrower);
        let ranges = scattered(0x2000, 3000);
        let message = Message::send(sender, NWD, &[(SP1, RO)], &ranges).normal();
        let handle = w.send_by(NWD, FuncId::MemShare32, &message.bytes(), fragment).unwrap();
        w.check(0);
        let response = w
            .retrieve(SP1, &Message::retrieve(borrower, NWD, handle, &[(SP1, RO)]))
            .unwrap();
        assert_eq!((response.plain_ranges(), response.pages), (ranges, Some(3000)));
        w.check(0);
        w.relinquish(SP1, handle, 0).unwrap();
        w.reclaim(NWD, handle, 0).unwrap();
        w.check(0);
        w.assert_idle();
    }
}

#[test]
fn ranges_that_touch_come_as_one() {
    let mut w = World::new(1);
    let ranges: Vec<_> = (0..2000)
        .map(|number| (page(NS, 0x2000 + 3 * number), 3))
        .chain([(NS, 1)])
        .collect();
    let handle = w
        .send(
            NWD,
            FuncId::MemShare32,
            &Message::send(Form::V1_2, NWD, &[(SP1, RW)], &ranges).normal(),
        )
        .unwrap();
    let response = w
        .retrieve(SP1, &Message::retrieve(Form::V1_2, NWD, handle, &[(SP1, RW)]))
        .unwrap();
    assert_eq!(response.plain_ranges(), [(page(NS, 0x2000), 6000), (NS, 1)]);
    w.check(0);
}

#[test]
fn larger_buffers_take_larger_fragments() {
    let mut w = World::new(1);
    w.buffer_pages = 3;
    let ranges = scattered(0x2000, 700);
    let bytes = Message::send(Form::V1_2, NWD, &[(SP1, RW)], &ranges).normal().bytes();
    w.put_tx(NWD, &bytes);
    let length = bytes.len() as u64;
    let reply = w.call(NWD, FuncId::MemShare64, [length, length, 0, 0]).unwrap();
    assert_eq!(reply[0], 0x8400_0061, "all in one");
    let response = w
        .retrieve(
            SP1,
            &Message::retrieve(Form::V1_2, NWD, reply[2] | reply[3] << 32, &[(SP1, RW)]),
        )
        .unwrap();
    assert_eq!(response.plain_ranges(), ranges);
}

/// Begins a share with its first `constituents` of 10 ranges. Handle and the rest of the bytes.
fn begin(w: &mut World, kind: FuncId, id: u16, constituents: usize) -> (u64, Vec<u8>) {
    let ranges: Vec<_> = match id {
        NWD => scattered(0, 10),
        id => (0..10).map(|number| (page(sp_base(id), number), 1)).collect(),
    };
    let to = if id == SP1 { SP2 } else { SP1 };
    let message = Message::send(Form::V1_2, id, &[(to, RW)], &ranges);
    let message = if kind == FuncId::MemShare32 {
        message.normal()
    } else {
        message
    };
    let bytes = message.bytes();
    let first = message.head() + 16 * constituents;
    w.put_tx(id, &bytes[..first]);
    let reply = w.call(id, kind, [bytes.len() as u64, first as u64, 0, 0]).unwrap();
    assert_eq!((reply[0], reply[3], reply[4]), (0x8400_007a, first as u64, 0));
    (reply[1] | reply[2] << 32, bytes[first..].to_vec())
}

fn go_on(w: &mut World, id: u16, handle: u64, bytes: &[u8]) -> Result<[u64; 8], FfaError> {
    w.put_tx(id, bytes);
    w.call(
        id,
        FuncId::MemFragTx,
        [handle & 0xffff_ffff, handle >> 32, bytes.len() as u64, 0],
    )
}

#[test]
fn a_transaction_that_is_being_sent_is_nobodys_to_retrieve() {
    for (id, to, kind) in [
        (NWD, SP1, FuncId::MemShare32),
        (SP1, SP2, FuncId::MemLend32),
        (SP1, SP2, FuncId::MemDonate32),
    ] {
        for first in [0, 1, 9] {
            let mut w = World::new(2);
            let (handle, rest) = begin(&mut w, kind, id, first);
            w.check(0);
            if id == SP1 {
                let state = if first == 0 { "rwx Owned" } else { "rwx Shared" };
                assert_eq!(
                    w.access(SP1, Side::Secure, sp_base(SP1)),
                    state,
                    "still the owner's to use"
                );
            }
            let request = Message::retrieve(Form::V1_2, id, handle, &[(to, RW)]);
            assert_eq!(w.retrieve(to, &request).map(drop), Err(FfaError::InvalidParameters));
            assert_eq!(w.relinquish(to, handle, 0), Err(FfaError::InvalidParameters));
            // Nobody else may go on with it.
            assert_eq!(go_on(&mut w, SP2, handle, &rest), Err(FfaError::InvalidParameters));
            let reply = go_on(&mut w, id, handle, &rest).unwrap();
            assert_eq!((reply[0], reply[2] | reply[3] << 32), (0x8400_0061, handle));
            assert_eq!(
                go_on(&mut w, id, handle, &rest),
                Err(FfaError::InvalidParameters),
                "complete"
            );
            w.check(0);
            w.reclaim(id, handle, 0).unwrap();
            w.check(0);
            w.assert_idle();
        }
    }
}

#[test]
fn a_transaction_that_is_being_sent_can_be_reclaimed() {
    for (id, kind) in [
        (NWD, FuncId::MemShare32),
        (SP1, FuncId::MemLend32),
        (SP1, FuncId::MemDonate32),
    ] {
        let mut w = World::new(2);
        let before = w.snapshot();
        let (handle, _) = begin(&mut w, kind, id, 4);
        assert_eq!(w.reclaim(SP2, handle, 0), Err(FfaError::InvalidParameters));
        w.reclaim(id, handle, 0).unwrap();
        assert_eq!(w.snapshot(), before);
        w.check(0);
        w.assert_idle();
    }
}

#[test]
fn a_wrong_length_changes_nothing() {
    let mut w = World::new(2);
    let (handle, rest) = begin(&mut w, FuncId::MemLend32, SP1, 4);
    for length in [0, 8, 15, 17, rest.len() + 16, 0xffff_fff0] {
        w.put_tx(SP1, &rest);
        let registers = [handle & 0xffff_ffff, handle >> 32, length as u64, 0];
        assert_eq!(
            w.call(SP1, FuncId::MemFragTx, registers),
            Err(FfaError::InvalidParameters),
            "{length}"
        );
    }
    let registers = [handle & 0xffff_ffff, handle >> 32, rest.len() as u64, 0x8001 << 16];
    assert_eq!(
        w.call(SP1, FuncId::MemFragTx, registers),
        Err(FfaError::InvalidParameters),
        "w4 MBZ"
    );
    w.check(0);
    assert!(go_on(&mut w, SP1, handle, &rest).is_ok());
}

#[test]
fn an_error_in_a_later_fragment_undoes_everything() {
    for (id, kind, bad) in [
        (NWD, FuncId::MemShare32, 0x1000_0000),
        (NWD, FuncId::MemShare32, page(NS, 2)),
        (NWD, FuncId::MemShare32, page(NS, 19) + 1),
        (SP1, FuncId::MemLend32, sp_base(SP2)),
        (SP1, FuncId::MemLend32, page(sp_base(SP1), 17)),
        (SP1, FuncId::MemDonate32, page(sp_base(SP1), 16)),
        (SP1, FuncId::MemDonate32, page(sp_base(SP1), 18)),
    ] {
        let mut w = World::new(2);
        let before = w.snapshot();
        let (handle, mut rest) = begin(&mut w, kind, id, 4);
        let last = rest.len() - 16;
        rest[last..last + 8].copy_from_slice(&bad.to_le_bytes());
        let error = go_on(&mut w, id, handle, &rest).unwrap_err();
        let expected = if matches!(bad & 0xfff, 1) || bad == page(NS, 2) {
            FfaError::InvalidParameters
        } else {
            FfaError::Denied
        };
        assert_eq!(error, expected, "{bad:#x}");
        assert_eq!(w.snapshot(), before);
        w.check(0);
        w.assert_idle();
        assert_eq!(
            go_on(&mut w, id, handle, &rest),
            Err(FfaError::InvalidParameters),
            "the handle is gone"
        );
    }
}

#[test]
fn the_hypervisor_goes_on_for_the_vm_it_names() {
    let mut w = World::new(1);
    let message = Message::send(Form::V1_2, 5, &[(SP1, RW)], &scattered(0, 2)).normal();
    let (bytes, head) = (message.bytes(), message.head());
    w.put_tx(NWD, &bytes[..head]);
    let reply = w
        .call(NWD, FuncId::MemShare32, [bytes.len() as u64, head as u64, 0, 0])
        .unwrap();
    assert_eq!((reply[0], reply[4]), (0x8400_007a, 5 << 16));
    w.put_tx(NWD, &bytes[head..]);
    let registers = |w4| [reply[1], reply[2], (bytes.len() - head) as u64, w4];
    assert_eq!(
        w.call(NWD, FuncId::MemFragTx, registers(6 << 16)),
        Err(FfaError::InvalidParameters)
    );
    assert!(w.call(NWD, FuncId::MemFragTx, registers(5 << 16)).is_ok());
}

#[test]
fn a_response_goes_on_where_it_stopped() {
    let mut w = World::new(2);
    let ranges = scattered(0x2000, 600);
    let message = Message::send(Form::V1_2, NWD, &[(SP1, RW), (SP2, RW)], &ranges).normal();
    let handle = w.send(NWD, FuncId::MemShare32, &message).unwrap();
    let request = Message::retrieve(Form::V1_2, NWD, handle, &[(SP1, RW), (SP2, RW)]).bytes();
    w.put_tx(SP1, &request);
    let length = request.len() as u64;
    let reply = w.call(SP1, FuncId::MemRetrieveReq64, [length, length, 0, 0]).unwrap();
    assert_eq!((reply[1], reply[2]), (96 + 600 * 16, 4096));
    let at = |offset| [handle & 0xffff_ffff, handle >> 32, offset, 0];
    assert_eq!(
        w.call(SP1, FuncId::MemFragRx, at(4096)),
        Err(FfaError::Busy),
        "RX is not released"
    );
    w.rx_full[1] = false;
    for wrong in [0, 96, 4080, 4112, 8192, 1 << 31] {
        assert_eq!(
            w.call(SP1, FuncId::MemFragRx, at(wrong)),
            Err(FfaError::InvalidParameters),
            "{wrong}"
        );
    }
    assert_eq!(
        w.call(SP2, FuncId::MemFragRx, at(4096)),
        Err(FfaError::InvalidParameters),
        "it has not asked"
    );
    assert_eq!(
        w.call(NWD, FuncId::MemFragRx, at(4096)),
        Err(FfaError::InvalidParameters)
    );
    let mut with_id = at(4096);
    with_id[3] = 0x8001 << 16;
    assert_eq!(
        w.call(SP1, FuncId::MemFragRx, with_id),
        Err(FfaError::InvalidParameters),
        "w4 MBZ"
    );
    let reply = w.call(SP1, FuncId::MemFragRx, at(4096)).unwrap();
    assert_eq!((reply[0], reply[3], reply[4]), (0x8400_007b, 4096, 0));
    w.rx_full[1] = false;
    let last = w.call(SP1, FuncId::MemFragRx, at(8192)).unwrap();
    assert_eq!(last[3], 96 + 600 * 16 - 8192);
    w.rx_full[1] = false;
    assert_eq!(
        w.call(SP1, FuncId::MemFragRx, at(96)),
        Err(FfaError::InvalidParameters),
        "it is complete"
    );
    w.relinquish(SP1, handle, 0).unwrap();
    // A borrower that has enough may relinquish.
    w.put_tx(SP1, &request);
    w.call(SP1, FuncId::MemRetrieveReq64, [length, length, 0, 0]).unwrap();
    w.rx_full[1] = false;
    w.relinquish(SP1, handle, 0).unwrap();
    assert_eq!(
        w.call(SP1, FuncId::MemFragRx, at(4096)),
        Err(FfaError::InvalidParameters)
    );
    w.check(0);
    w.reclaim(NWD, handle, 0).unwrap();
    w.assert_idle();
}

#[test]
fn a_donation_ends_with_its_last_fragment() {
    let mut w = World::new(2);
    let message = Message::send(Form::V1_2, NWD, &[(SP1, RW)], &scattered(0x2000, 300));
    let handle = w.send(NWD, FuncId::MemDonate32, &message).unwrap();
    let request = Message::retrieve(Form::V1_2, NWD, handle, &[(SP1, RW | 4)]).bytes();
    w.put_tx(SP1, &request);
    let length = request.len() as u64;
    w.call(SP1, FuncId::MemRetrieveReq32, [length, length, 0, 0]).unwrap();
    w.rx_full[1] = false;
    assert_eq!(w.reclaim(NWD, handle, 0), Err(FfaError::Denied), "given is given");
    assert_eq!(w.relinquish(SP1, handle, 0), Err(FfaError::InvalidParameters));
    // The receiver is its owner already.
    let on = Message::send(Form::V1_2, SP1, &[(SP2, RW)], &[(page(NS, 0x2000), 1)]);
    let lent = w.send(SP1, FuncId::MemLend32, &on).unwrap();
    w.check(300);
    let rest = w
        .call(SP1, FuncId::MemFragRx, [handle & 0xffff_ffff, handle >> 32, 4096, 0])
        .unwrap();
    assert_eq!(rest[3], 96 + 300 * 16 - 4096);
    assert_eq!(w.manager.shares(), 1);
    w.reclaim(SP1, lent, 0).unwrap();
    w.check(300);
    w.assert_idle();
}

/// Whoever has got a donation pays for what is still to be told of it, not who has given it.
#[test]
fn a_donation_that_was_retrieved_is_the_receivers_to_finish() {
    let limits = Limits {
        shares: 8,
        pages: 16,
        reserved: 2,
    };
    let mut w = World::with(3, limits);
    let mut handles = Vec::new();
    for number in 0..4 {
        let first = 0x2000 + 0x400 * number;
        let message = Message::send(Form::V1_2, NWD, &[(SP1, RW)], &scattered(first, 300));
        let handle = w.send(NWD, FuncId::MemDonate32, &message).unwrap();
        let request = Message::retrieve(Form::V1_2, NWD, handle, &[(SP1, RW | 4)]).bytes();
        w.put_tx(SP1, &request);
        let length = request.len() as u64;
        w.call(SP1, FuncId::MemRetrieveReq32, [length, length, 0, 0]).unwrap();
        w.rx_full[1] = false;
        assert!(!w.manager.has_shares(EndpointId::new(NWD)));
        w.check(300 * (number + 1));
        handles.push(handle);
    }
    // Four of eight are the receiver's: it gets no more, and others do.
    let own = |id: u16, to: u16| Message::send(Form::V1_2, id, &[(to, RW)], &[(sp_base(id), 1)]);
    assert_eq!(w.send(SP1, FuncId::MemLend32, &own(SP1, SP2)), Err(FfaError::NoMemory));
    let lent = w.send(SP2, FuncId::MemLend32, &own(SP2, SP3)).unwrap();
    w.reclaim(SP2, lent, 0).unwrap();
    for handle in &handles[1..] {
        let rest = [*handle & 0xffff_ffff, *handle >> 32, 4096, 0];
        w.call(SP1, FuncId::MemFragRx, rest).unwrap();
        w.rx_full[1] = false;
    }
    let lent = w.send(SP1, FuncId::MemLend32, &own(SP1, SP2)).unwrap();
    w.reclaim(SP1, lent, 0).unwrap();
    // The donor's end does not end it, the receiver's does.
    w.manager.forget(&mut w.machine, &w.sps, EndpointId::new(NWD));
    assert_eq!(w.manager.shares(), 1);
    w.manager.forget(&mut w.machine, &w.sps, EndpointId::new(SP1));
    w.check(1200);
    w.assert_idle();
}

#[test]
fn the_hypervisor_is_told_what_it_has_sent() {
    for form in Form::ALL {
        let mut w = World::new(3);
        w.speaks(NWD, form);
        let ranges = scattered(0x2000, 400);
        let message = Message::send(form, 7, &[(SP1, RO), (SP3, RW)], &ranges)
            .normal()
            .with(|m| m.tag = 9);
        let handle = w.send(NWD, FuncId::MemShare32, &message).unwrap();
        let request = Message::retrieve(form, NWD, handle, &[]);
        // pKVM passes 48 bytes, whatever the version.
        let mut bytes = request.bytes();
        bytes.resize(48, 0);
        if form != Form::V1_0 {
            bytes[24..28].fill(0);
            bytes[32..36].fill(0);
        }
        w.put_tx(NWD, &bytes);
        let reply = w.call(NWD, FuncId::MemRetrieveReq64, [48, 48, 0, 0]).unwrap();
        let mut response = w.get_rx(NWD, reply[2] as usize);
        w.rx_full[0] = false;
        while (response.len() as u64) < reply[1] {
            let registers = [handle & 0xffff_ffff, handle >> 32, response.len() as u64, 0];
            let more = w.call(NWD, FuncId::MemFragRx, registers).unwrap();
            assert_eq!((more[0], more[4]), (0x8400_007b, 7 << 16));
            response.extend(w.get_rx(NWD, more[3] as usize));
            w.rx_full[0] = false;
        }
        let response = Message::parse(form, &response);
        assert_eq!((response.sender, response.tag, response.plain_ranges()), (7, 9, ranges));
        assert_eq!(
            response.emads.iter().map(|e| (e.id, e.permissions)).collect::<Vec<_>>(),
            [(SP1, RO), (SP3, RW)]
        );
        assert_eq!(response.attributes, 0x6f);
        w.check(0);
        // Nothing has changed by that.
        w.reclaim(NWD, handle, 0).unwrap();
        w.assert_idle();
    }
}

#[test]
fn the_hypervisor_asks_for_what_is_the_normal_worlds_only() {
    let mut w = World::new(2);
    let message = Message::send(Form::V1_2, SP1, &[(SP2, RW)], &[(sp_base(SP1), 1)]).normal();
    let handle = w.send(SP1, FuncId::MemShare32, &message).unwrap();
    let ask = |w: &mut World, request: Message| {
        w.put_tx(NWD, &request.bytes());
        w.call(NWD, FuncId::MemRetrieveReq32, [48, 48, 0, 0])
    };
    let request = Message::retrieve(Form::V1_2, NWD, handle, &[]);
    assert_eq!(ask(&mut w, request), Err(FfaError::InvalidParameters));
    let (handle, _) = begin(&mut w, FuncId::MemShare32, NWD, 1);
    let request = Message::retrieve(Form::V1_2, NWD, handle, &[]);
    assert_eq!(
        ask(&mut w, request.clone()),
        Err(FfaError::InvalidParameters),
        "not sent yet"
    );
    w.reclaim(NWD, handle, 0).unwrap();
    assert_eq!(ask(&mut w, request), Err(FfaError::InvalidParameters));
    // The handle and nothing else.
    let message = Message::send(Form::V1_2, NWD, &[(SP1, RW)], &[(page(NS, 0x2000), 1)]);
    let handle = w.send(NWD, FuncId::MemLend32, &message).unwrap();
    let request = Message::retrieve(Form::V1_2, NWD, handle, &[]).with(|m| m.attributes = 0);
    let changes: [fn(&mut Message); 3] = [|m| m.tag = 1, |m| m.flags = 1, |m| m.attributes = 0x2f];
    for change in changes {
        let wrong = request.clone().with(change);
        assert_eq!(ask(&mut w, wrong), Err(FfaError::InvalidParameters));
    }
    assert!(ask(&mut w, request).is_ok());
    w.rx_full[0] = false;
    let request = Message::retrieve(Form::V1_2, NWD, handle, &[(SP1, RW)]);
    w.put_tx(NWD, &request.bytes());
    assert_eq!(
        w.call(NWD, FuncId::MemRetrieveReq32, [80, 80, 0, 0]),
        Err(FfaError::InvalidParameters)
    );
}

#[test]
fn what_was_given_away_is_not_retrieved_again() {
    let mut w = World::new(2);
    let ranges = scattered(0x2000, 300);
    let ask = |w: &mut World, by, sender, handle| {
        let request = Message::retrieve(Form::V1_2, sender, handle, &[(by, RW | 4)]);
        w.put_and_retrieve(by, &request)
    };
    let handle = w
        .send(
            NWD,
            FuncId::MemDonate32,
            &Message::send(Form::V1_2, NWD, &[(SP1, RW)], &ranges),
        )
        .unwrap();
    ask(&mut w, SP1, NWD, handle).unwrap();
    w.rx_full[1] = false;
    // All of it goes on, while the first transaction still has a fragment to fetch.
    let on = w
        .send(
            SP1,
            FuncId::MemDonate32,
            &Message::send(Form::V1_2, SP1, &[(SP2, RW)], &ranges),
        )
        .unwrap();
    ask(&mut w, SP2, SP1, on).unwrap();
    assert_eq!(w.access(SP1, Side::NonSecure, page(NS, 0x2000)), "-");
    assert_eq!(ask(&mut w, SP1, NWD, handle), Err(FfaError::Denied));
    assert_eq!(w.access(SP1, Side::NonSecure, page(NS, 0x2000)), "-");
    w.check(300);
}
