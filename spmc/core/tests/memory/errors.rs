//! Every call, made wrongly: what it answers, and that nothing has changed by it.

use arm_ffa::FuncId;
use tantalum_core::abi::FfaError;

use crate::{
    message::{Form, Message, NORMAL, NX, RO, RW, X, relinquish},
    world::{NS, NS_DEVICE, NWD, SP1, SP2, SP3, World, page, sp_base, sp_ns},
};

pub const INVALID: FfaError = FfaError::InvalidParameters;
pub const SHARE: FuncId = FuncId::MemShare32;
pub const LEND: FuncId = FuncId::MemLend32;
pub const DONATE: FuncId = FuncId::MemDonate32;

/// Sends what must be refused, alone and in two fragments; nothing changes.
pub fn refused(w: &mut World, id: u16, function: FuncId, message: &Message, error: FfaError, why: &str) {
    let before = w.snapshot();
    let head = message.head();
    for most in [4096, head.max(16)] {
        assert_eq!(
            w.send_by(id, function, &message.bytes(), most).map(drop),
            Err(error),
            "{why}, at most {most}"
        );
        assert_eq!(w.snapshot(), before, "{why}");
        w.check(0);
        assert_eq!(w.manager.shares(), 0, "{why}");
    }
    w.assert_idle();
}

pub fn good(form: Form) -> Message {
    Message::send(
        form,
        SP1,
        &[(SP2, RW)],
        &[(sp_base(SP1), 2), (page(sp_base(SP1), 5), 1)],
    )
    .normal()
}

#[test]
fn wrong_headers() {
    for form in Form::ALL {
        let mut w = World::new(3);
        w.speaks(SP1, form);
        let mut bad = |why: &str, error, change: &dyn Fn(&mut Message)| {
            refused(
                &mut w,
                SP1,
                SHARE,
                &good(form).with(|m| change(m)),
                error,
                &format!("{form:?}: {why}"),
            );
        };
        bad("another's name", FfaError::Denied, &|m| m.sender = SP2);
        bad("the normal world's name", FfaError::Denied, &|m| m.sender = NWD);
        bad("a handle", INVALID, &|m| m.handle = 1);
        bad("the NS bit", INVALID, &|m| m.attributes |= 1 << 6);
        bad("reserved attributes", INVALID, &|m| m.attributes |= 1 << 7);
        bad("reserved attributes", INVALID, &|m| m.attributes |= 1 << 15);
        bad("no attributes", INVALID, &|m| m.attributes = 0);
        bad("not cached", FfaError::Denied, &|m| m.attributes = 0x27);
        bad("a device", FfaError::Denied, &|m| m.attributes = 0x10);
        bad("time slicing", INVALID, &|m| m.flags = 1 << 1);
        bad("zeroing what is shared", INVALID, &|m| m.flags = 1);
        bad("another type", INVALID, &|m| m.flags = 2 << 3);
        bad("a borrower's flag", INVALID, &|m| m.flags = 1 << 2);
        bad("reserved flags", INVALID, &|m| m.flags = 1 << 31);
        bad("no borrower", INVALID, &|m| m.emads.clear());
        bad("a billion borrowers", INVALID, &|m| m.emad_count = Some(1 << 30));
        bad("256 borrowers", INVALID, &|m| m.emad_count = Some(256));
        bad("all borrowers", INVALID, &|m| m.emad_count = Some(u32::MAX));
        if form == Form::V1_0 {
            bad("what is a size in 1.1", INVALID, &|m| m.emad_size = Some(16));
            continue;
        }
        for size in [0, 8, 15, 17, 24, 48, 64, u32::MAX] {
            bad("an unknown size", INVALID, &|m| m.emad_size = Some(size));
        }
        for offset in [0, 32, 40, 47, 49, 56, 4096, 0xffff_fff0] {
            let change = |m: &mut Message| {
                // Only what the header says.
                let bytes = offset_bytes(offset);
                m.patches = bytes.to_vec();
            };
            bad("EMADs elsewhere", INVALID, &change);
        }
        for reserved in [36, 39, 40, 47] {
            bad("reserved", INVALID, &|m| m.patches = vec![(reserved, 1)]);
        }
    }
}

/// Changes the offset of the EMADs in a header, which is 48, to another.
fn offset_bytes(offset: u32) -> [(usize, u8); 4] {
    let [a, b, c, d] = (offset ^ 48).to_le_bytes();
    [(32, a), (33, b), (34, c), (35, d)]
}

#[test]
fn emads_may_be_further_on_and_of_either_size() {
    for (form, size) in [
        (Form::V1_1, Form::V1_2),
        (Form::V1_2, Form::V1_1),
        (Form::V1_2, Form::V1_2),
    ] {
        let mut w = World::new(2);
        w.speaks(SP1, form);
        let handle = w
            .send(SP1, SHARE, &good(size).with(|m| m.emad_offset = Some(128)))
            .unwrap();
        w.reclaim(SP1, handle, 0).unwrap();
    }
}

#[test]
fn wrong_borrowers() {
    for form in Form::ALL {
        let mut w = World::new(3);
        w.speaks(SP1, form);
        w.sps.0[2].stopped.set(true);
        let mut bad = |why: &str, error, change: &dyn Fn(&mut Message)| {
            refused(
                &mut w,
                SP1,
                SHARE,
                &good(form).with(|m| change(m)),
                error,
                &format!("{form:?}: {why}"),
            );
        };
        bad("itself", INVALID, &|m| m.emads[0].id = SP1);
        bad("nobody", INVALID, &|m| m.emads[0].id = 0x8004);
        bad("the SPMC", INVALID, &|m| m.emads[0].id = 0x8000);
        bad("a partition that was stopped", INVALID, &|m| m.emads[0].id = SP3);
        bad("the normal world", FfaError::Denied, &|m| m.emads[0].id = NWD);
        bad("twice the same", INVALID, &|m| m.emads.push(m.emads[0]));
        bad("an unknown second one", INVALID, &|m| {
            let mut second = m.emads[0];
            second.id = 0x9000;
            m.emads.push(second);
        });
        for permissions in [0, 3, NX | RW, X | RW, X, 0x12, 0x82] {
            bad("wrong permissions", INVALID, &|m| m.emads[0].permissions = permissions);
        }
        for flags in [1, 2, 0x80] {
            bad("flags", INVALID, &|m| m.emads[0].flags = flags);
        }
        bad("reserved", INVALID, &|m| m.emads[0].reserved = 1 << 63);
        for offset in [0, 16, 32, 64, 4096, u32::MAX, 0xffff_fff0] {
            let right = good(form).head() == offset as usize + 16;
            if !right {
                bad("the ranges elsewhere", INVALID, &|m| {
                    m.emads[0].composite = Some(offset)
                });
            }
        }
    }
    let mut w = World::new(3);
    let vms = Message::send(Form::V1_2, 3, &[(4, RW)], &[(NS, 1)]).normal();
    refused(&mut w, NWD, SHARE, &vms, INVALID, "among VMs only");
    let many = Message::send(Form::V1_2, SP1, &[(SP2, RW), (SP3, RW)], &[(sp_base(SP1), 1)]);
    refused(&mut w, SP1, DONATE, &many, INVALID, "to two");
    refused(&mut w, SP1, LEND, &many, INVALID, "attributes must be given");
    let secure = Message::send(Form::V1_2, SP2, &[(SP1, RW)], &[(NS, 1)]).normal();
    refused(&mut w, NWD, SHARE, &secure, FfaError::Denied, "a partition's name");
}

#[test]
fn wrong_ranges() {
    for form in Form::ALL {
        let mut w = World::new(2);
        w.speaks(SP1, form);
        let base = sp_base(SP1);
        let mut bad = |why: &str, error, change: &dyn Fn(&mut Message)| {
            refused(
                &mut w,
                SP1,
                SHARE,
                &good(form).with(|m| change(m)),
                error,
                &format!("{form:?}: {why}"),
            );
        };
        bad("fewer pages than said", INVALID, &|m| m.pages = Some(4));
        bad("more pages than said", INVALID, &|m| m.pages = Some(2));
        bad("no pages said", INVALID, &|m| m.pages = Some(0));
        for count in [0, 1, 3, u32::MAX, 1 << 28] {
            bad("another number of ranges", INVALID, &|m| m.count = Some(count));
        }
        bad("no ranges", INVALID, &|m| m.ranges.clear());
        bad("an empty range", INVALID, &|m| m.ranges[0].1 = 0);
        bad("reserved", INVALID, &|m| m.ranges[1].2 = 1);
        bad("within a page", INVALID, &|m| m.ranges[1].0 += 8);
        bad("beyond 48 bits", INVALID, &|m| m.ranges[1].0 = 1 << 48);
        bad("up to beyond 48 bits", INVALID, &|m| {
            m.ranges[1] = ((1 << 48) - 4096, 2, 0)
        });
        bad("the last page there may be", FfaError::Denied, &|m| {
            m.ranges[1] = ((1 << 48) - 4096, 1, 0)
        });
        bad("around the end", INVALID, &|m| {
            m.ranges[1] = (0_u64.wrapping_sub(4096), 2, 0)
        });
        bad("a huge range", FfaError::Denied, &|m| m.ranges = vec![(0, 1 << 30, 0)]);
        bad("a huge range around another", FfaError::Denied, &|m| {
            m.ranges[1] = (0, 1 << 30, 0)
        });
        bad("all pages", INVALID, &|m| m.ranges[1] = (0, u32::MAX, 0));
        bad("the same page again", INVALID, &|m| m.ranges[1] = (page(base, 1), 1, 0));
        bad("around another", INVALID, &|m| {
            m.ranges = vec![(page(base, 3), 1, 0), (page(base, 2), 3, 0)]
        });
        bad("not mapped", FfaError::Denied, &|m| m.ranges[1].0 = page(base, 18));
        bad("mapped in part", FfaError::Denied, &|m| {
            m.ranges[1] = (page(base, 16), 3, 0)
        });
        bad("another's", FfaError::Denied, &|m| m.ranges[1].0 = sp_base(SP2));
        bad("of both worlds", FfaError::Denied, &|m| m.ranges[1].0 = sp_ns(SP1));
        bad("the normal world's", FfaError::Denied, &|m| m.ranges = vec![(NS, 1, 0)]);
        bad("a device", FfaError::Denied, &|m| {
            m.ranges = vec![(page(base, 17), 1, 0)]
        });
        bad("a device too", FfaError::Denied, &|m| m.ranges[1].0 = page(base, 17));
        bad("read-only, to write", FfaError::Denied, &|m| {
            m.ranges[1].0 = page(base, 16)
        });
        bad("above what it can address", FfaError::Denied, &|m| {
            m.ranges[1].0 = 1 << 40
        });
    }
}

#[test]
fn the_normal_world_passes_on_its_own_memory_only() {
    let mut w = World::new(2);
    for (address, pages, why) in [
        (sp_base(SP1), 1, "a partition's"),
        (0x0e10_0000, 1, "secure"),
        (NS - 4096, 1, "below"),
        (NS - 4096, 2, "from below"),
        (page(NS, 0x7fff), 2, "to above"),
        (sp_ns(SP1), 1, "a partition's by its manifest"),
        (page(NS, 0xfff), 4, "around one of a partition's"),
        (1 << 47, 1, "nowhere"),
        (NS_DEVICE, 1, "a device"),
    ] {
        let message = Message::send(Form::V1_2, NWD, &[(SP1, RW)], &[(address, pages)]).normal();
        refused(&mut w, NWD, SHARE, &message, FfaError::Denied, why);
    }
    let mixed = Message::send(Form::V1_2, NWD, &[(SP1, RW)], &[(NS_DEVICE, 1), (NS, 1)]);
    refused(&mut w, NWD, LEND, &mixed, FfaError::Denied, "a device and memory");
}

#[test]
fn wrong_registers() {
    let mut w = World::new(2);
    let bytes = good(Form::V1_2).bytes();
    let length = bytes.len() as u64;
    w.put_tx(SP1, &bytes);
    for (registers, why) in [
        ([length, length, 0x1000, 0], "another buffer"),
        ([length, length, 0, 1], "another buffer's size"),
        ([length - 16, length, 0, 0], "a fragment longer than all"),
        ([length, length + 16, 0, 0], "longer than all"),
        ([length + 16, length + 16, 0, 0], "more than the descriptor"),
        ([length + 16, length, 0, 0], "more to come than ranges"),
        ([length, length - 8, 0, 0], "within a range"),
        ([length, 96, 0, 0], "without the numbers"),
        ([length, 80, 0, 0], "without the ranges' header"),
        ([length, 64, 0, 0], "without all of the borrower"),
        ([length, 48, 0, 0], "without the borrower"),
        ([length, 40, 0, 0], "within the header"),
        ([length, 0, 0, 0], "nothing"),
        ([0, 0, 0, 0], "nothing at all"),
        ([8192, 8192, 0, 0], "more than the buffer"),
        ([u32::MAX.into(), u32::MAX.into(), 0, 0], "far more than the buffer"),
    ] {
        let before = w.snapshot();
        let expected = if why == "without the numbers" {
            None
        } else {
            Some(INVALID)
        };
        let result = w.call(SP1, SHARE, registers);
        if let Some(error) = expected {
            assert_eq!(result, Err(error), "{why}");
            assert_eq!(w.snapshot(), before, "{why}");
        } else {
            let [_, low, high, ..] = result.unwrap();
            w.reclaim(SP1, low | high << 32, 0).unwrap();
        }
    }
    // SMC32: what is above 32 bits is not looked at; SMC64: an address has 64.
    let upper = |registers: [u64; 4]| registers.map(|register| register | 0xabcd << 32);
    let reply = w.call(SP1, SHARE, upper([length, length, 0, 0])).unwrap();
    w.reclaim(SP1, reply[2] | reply[3] << 32, 0).unwrap();
    assert_eq!(
        w.call(SP1, FuncId::MemShare64, [length, length, 1 << 32, 0]),
        Err(INVALID)
    );
}

#[test]
fn calls_without_buffers_or_of_another_kind() {
    let mut w = World::new(1);
    let caller = w.caller(SP1);
    for function in [
        SHARE,
        LEND,
        DONATE,
        FuncId::MemRetrieveReq32,
        FuncId::MemRelinquish,
        FuncId::MemFragTx,
        FuncId::MemFragRx,
    ] {
        let result = w.manager.call(&mut w.machine, &w.sps, caller, function, &[0; 8], None);
        assert_eq!(result.map(|reply| reply.registers), Err(INVALID), "{function:?}");
    }
    for function in [
        FuncId::MemRetrieveResp,
        FuncId::MemOpPause,
        FuncId::MemOpResume,
        FuncId::MemPermGet32,
        FuncId::Run32,
    ] {
        assert_eq!(
            w.call(SP1, function, [0; 4]),
            Err(FfaError::NotSupported),
            "{function:?}"
        );
    }
    // Too few registers.
    let buffers = Some(w.buffers(SP1));
    let result = w.manager.call(&mut w.machine, &w.sps, caller, SHARE, &[0; 3], buffers);
    assert_eq!(result.map(|reply| reply.registers), Err(INVALID));
}

/// An open share of one page for SP2 (and SP3 in the last of the three), and the request that is right for it.
pub fn open(w: &mut World, function: FuncId, several: bool) -> (u64, Message) {
    let to: &[_] = if several { &[(SP2, RO), (SP3, RW)] } else { &[(SP2, RO)] };
    let mut message = Message::send(Form::V1_2, SP1, to, &[(sp_base(SP1), 1)]).with(|m| m.tag = 77);
    if several || function == SHARE {
        message.attributes = NORMAL;
    }
    let handle = w.send(SP1, function, &message).unwrap();
    let permissions = if several || function == SHARE { RO } else { RO | NX };
    let to: Vec<_> = to.iter().map(|to| (to.0, permissions)).collect();
    (
        handle,
        Message::retrieve(Form::V1_2, SP1, handle, &to).with(|m| m.tag = 77),
    )
}

#[test]
fn wrong_retrieve_requests() {
    for (function, several) in [
        (SHARE, false),
        (LEND, false),
        (DONATE, false),
        (SHARE, true),
        (LEND, true),
    ] {
        let mut w = World::new(4);
        let (handle, right) = open(&mut w, function, several);
        let before = w.snapshot();
        let mut bad = |why: &str, error, change: &dyn Fn(&mut Message)| {
            let request = right.clone().with(|m| change(m));
            assert_eq!(
                w.retrieve(SP2, &request).map(drop),
                Err(error),
                "{function:?} {several}: {why}"
            );
            assert_eq!(w.snapshot(), before, "{why}");
            assert!(!w.rx_full[2], "{why}");
        };
        bad("another handle", INVALID, &|m| m.handle ^= 1);
        bad("another handle", INVALID, &|m| m.handle ^= 1 << 16);
        bad("another handle", INVALID, &|m| m.handle = 0);
        bad("another handle", INVALID, &|m| m.handle |= 1 << 63);
        bad("another sender", INVALID, &|m| m.sender = SP3);
        bad("another tag", INVALID, &|m| m.tag = 78);
        bad("the NS bit", INVALID, &|m| m.attributes = NORMAL | 1 << 6);
        bad("half attributes", INVALID, &|m| m.attributes = 0xf);
        bad("a device", FfaError::Denied, &|m| m.attributes = 0x10);
        bad("not cached", FfaError::Denied, &|m| m.attributes = 0x27);
        bad("more than there is", FfaError::Denied, &|m| {
            m.emads[0].permissions = RW | NX
        });
        bad("reserved permissions", INVALID, &|m| m.emads[0].permissions = 3);
        bad("reserved permissions", INVALID, &|m| m.emads[0].permissions |= 0x10);
        bad("ranges", INVALID, &|m| m.emads[0].composite = Some(96));
        bad("for another", INVALID, &|m| m.emads[0].flags = 1);
        bad("reserved", INVALID, &|m| m.emads[0].reserved = 1);
        bad("nobody", INVALID, &|m| m.emads.clear());
        bad("another type", INVALID, &|m| {
            m.flags = if function == SHARE { 2 << 3 } else { 1 << 3 }
        });
        bad("time slicing", INVALID, &|m| m.flags = 1 << 1);
        bad("a hint that is not valid", INVALID, &|m| m.flags = 3 << 5);
        bad("reserved flags", INVALID, &|m| m.flags = 1 << 11);
        bad(
            "zeroed before",
            if function == SHARE { INVALID } else { FfaError::Denied },
            &|m| m.flags = 1,
        );
        bad(
            "zeroed after",
            if function == LEND { FfaError::Denied } else { INVALID },
            &|m| m.flags = 4,
        );
        bad("unlike its place", FfaError::Denied, &|m| m.flags = 1 << 9 | 15 << 5);
        bad("not among the borrowers", INVALID, &|m| m.emads[0].id = 0x8004);
        bad("the sender", INVALID, &|m| m.emads[0].id = SP1);
        if several {
            bad("only itself", INVALID, &|m| m.emads.truncate(1));
            bad("itself twice", INVALID, &|m| m.emads[1] = m.emads[0]);
            bad("another too", INVALID, &|m| m.flags = 1 << 10);
            bad("without the flag", INVALID, &|m| m.emads.push(m.emads[0]));
            bad("executable", INVALID, &|m| m.emads[0].permissions = RO | X);
            bad("only the other", INVALID, &|m| {
                m.emads.remove(0);
                m.flags = 1 << 10;
            });
        } else {
            bad("another too", INVALID, &|m| m.emads.push(m.emads[0]));
            let expected = if function == SHARE { None } else { Some(INVALID) };
            if let Some(error) = expected {
                bad("X or not?", error, &|m| m.emads[0].permissions = RO);
            } else {
                bad("executable", INVALID, &|m| m.emads[0].permissions = RO | X);
            }
        }
        assert_eq!(w.retrieve(0x8004, &right).map(drop), Err(INVALID), "not a borrower");
        assert_eq!(w.retrieve(SP1, &right).map(drop), Err(INVALID), "the sender");
        w.rx_full[2] = true;
        assert_eq!(w.retrieve(SP2, &right).map(drop), Err(FfaError::Busy));
        w.rx_full[2] = false;
        let bytes = right.bytes();
        w.put_tx(SP2, &bytes);
        let length = bytes.len() as u64;
        for registers in [
            [length, length - 16, 0, 0],
            [length - 16, length - 16, 0, 0],
            [4112, 4112, 0, 0],
            [length, length, 0, 1],
        ] {
            assert_eq!(
                w.call(SP2, FuncId::MemRetrieveReq32, registers),
                Err(INVALID),
                "{registers:x?}"
            );
        }
        // And rightly.
        let hint = right.clone().with(|m| m.flags = 1 << 9 | 9 << 5);
        assert_eq!(
            w.retrieve(SP2, &hint).unwrap().handle,
            handle,
            "aligned to 2 MiB as it is"
        );
    }
}

#[test]
fn wrong_relinquish_descriptors() {
    let mut w = World::new(3);
    let (handle, right) = open(&mut w, LEND, false);
    let bad = |w: &mut World, by, bytes: &[u8], error, why: &str| {
        w.put_tx(by, bytes);
        assert_eq!(w.call(by, FuncId::MemRelinquish, [0; 4]), Err(error), "{why}");
        w.check(0);
    };
    bad(&mut w, SP2, &relinquish(handle, 0, &[SP2]), INVALID, "not retrieved");
    w.retrieve(SP2, &right).unwrap();
    bad(&mut w, SP2, &relinquish(handle, 0, &[]), INVALID, "nobody");
    bad(&mut w, SP2, &relinquish(handle, 0, &[SP2, SP2]), INVALID, "twice");
    bad(&mut w, SP2, &relinquish(handle, 0, &[SP3]), INVALID, "another");
    bad(&mut w, SP3, &relinquish(handle, 0, &[SP2]), INVALID, "for another");
    bad(&mut w, SP3, &relinquish(handle, 0, &[SP3]), INVALID, "not a borrower");
    bad(&mut w, SP1, &relinquish(handle, 0, &[SP1]), INVALID, "the owner");
    bad(
        &mut w,
        NWD,
        &relinquish(handle, 0, &[NWD]),
        FfaError::NotSupported,
        "the normal world",
    );
    bad(
        &mut w,
        SP2,
        &relinquish(handle ^ 1, 0, &[SP2]),
        INVALID,
        "another handle",
    );
    bad(&mut w, SP2, &relinquish(handle, 2, &[SP2]), INVALID, "time slicing");
    bad(
        &mut w,
        SP2,
        &relinquish(handle, 1 << 31, &[SP2]),
        INVALID,
        "reserved flags",
    );
    bad(
        &mut w,
        SP2,
        &relinquish(handle, 1, &[SP2]),
        FfaError::Denied,
        "zeroing what it only reads",
    );
    w.relinquish(SP2, handle, 0).unwrap();
    for (flags, error) in [(2, INVALID), (1 << 31, INVALID)] {
        assert_eq!(w.reclaim(SP1, handle, flags), Err(error));
    }
    assert_eq!(w.reclaim(NWD, handle, 0), Err(INVALID), "a partition's");
    w.reclaim(SP1, handle, 0).unwrap();
    let shared = open(&mut w, SHARE, false);
    w.retrieve(SP2, &shared.1).unwrap();
    bad(
        &mut w,
        SP2,
        &relinquish(shared.0, 1, &[SP2]),
        INVALID,
        "zeroing what is shared",
    );
}

#[test]
fn emads_are_at_a_multiple_of_16() {
    for (offset, expected) in [(48, Ok(())), (56, Err(INVALID)), (64, Ok(())), (72, Err(INVALID))] {
        let mut w = World::new(2);
        // The ranges are where they may be, behind a gap.
        let message = good(Form::V1_2).with(|m| {
            m.emad_offset = Some(offset);
            m.emads[0].composite = Some((offset + 32).next_multiple_of(16));
        });
        let mut bytes = message.bytes();
        let gap = ((offset + 32).next_multiple_of(16) - offset - 32) as usize;
        bytes.splice(offset as usize + 32..offset as usize + 32, vec![0; gap]);
        assert_eq!(w.send_by(SP1, SHARE, &bytes, 4096).map(drop), expected, "{offset}");
    }
}
