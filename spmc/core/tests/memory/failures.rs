//! What fails halfway leaves everything as it was; what is hostile is refused.

use arm_ffa::FuncId;
use tantalum_core::{
    abi::FfaError,
    addr::{PhysAddr, World as Side},
    id::EndpointId,
};

use crate::{
    message::{Form, Message, NX, RW, relinquish},
    model::Numbers,
    world::{NS, NWD, SP1, SP2, SP3, World, page, sp_base},
};

/// What a sender might send: by whom, by which call, to whom.
fn transactions() -> Vec<(u16, FuncId, Message)> {
    let own = |id, number, count| (page(sp_base(id), number), count);
    let scattered: Vec<_> = (0..1100).map(|number| (page(NS, 0x1100 + 13 * number), 1)).collect();
    let to = [(SP2, RW)];
    vec![
        (
            SP1,
            FuncId::MemShare32,
            Message::send(Form::V1_2, SP1, &to, &[own(SP1, 1, 1), own(SP1, 4, 3)]).normal(),
        ),
        (
            SP1,
            FuncId::MemLend32,
            Message::send(Form::V1_2, SP1, &to, &[own(SP1, 0, 1), own(SP1, 15, 1)]),
        ),
        (
            SP1,
            FuncId::MemDonate32,
            Message::send(Form::V1_2, SP1, &to, &[own(SP1, 3, 2)]),
        ),
        (
            NWD,
            FuncId::MemShare32,
            Message::send(Form::V1_2, NWD, &to, &scattered).normal(),
        ),
        (NWD, FuncId::MemLend32, Message::send(Form::V1_2, NWD, &to, &scattered)),
        (
            NWD,
            FuncId::MemDonate32,
            Message::send(Form::V1_2, NWD, &to, &scattered),
        ),
    ]
}

fn request(message: &Message, handle: u64) -> Message {
    let permissions = if message.attributes == 0 { RW | NX } else { RW };
    Message::retrieve(Form::V1_2, message.sender, handle, &[(SP2, permissions)])
}

#[test]
fn running_out_of_memory_anywhere_leaves_everything_as_before() {
    for (id, function, message) in transactions() {
        let mut w = World::new(3);
        let mut failures = 0;
        let before = w.snapshot();
        let handle = loop {
            w.machine.tables.set_budget(Some(failures));
            let result = w.send(id, function, &message);
            w.machine.tables.set_budget(None);
            w.check(0);
            match result {
                Ok(handle) => break handle,
                Err(error) => assert_eq!(error, FfaError::NoMemory),
            }
            failures += 1;
            assert_eq!(w.snapshot(), before, "{function:?} after {failures}");
            w.assert_idle();
        };
        assert!(failures > 0 || id != NWD, "{function:?}");
        let before = w.snapshot();
        let live = w.machine.tables.live();
        for failures in 0.. {
            w.machine.tables.set_budget(Some(failures));
            let result = w.retrieve(SP2, &request(&message, handle)).map(drop);
            w.machine.tables.set_budget(None);
            if result.is_ok() {
                break;
            }
            w.check(0);
            assert_eq!(result, Err(FfaError::NoMemory));
            assert_eq!(w.snapshot(), before);
            assert!(w.machine.tables.live() <= live + 3, "pages leaked");
            assert!(!w.rx_full[2]);
        }
        // Giving back needs nothing.
        w.machine.tables.set_budget(Some(0));
        if function != FuncId::MemDonate32 {
            w.relinquish(SP2, handle, 0).unwrap();
            w.reclaim(id, handle, 0).unwrap();
            w.check(0);
        }
        w.assert_idle();
    }
}

#[test]
fn later_fragments_run_out_of_memory_too() {
    let (id, function, message) = transactions().remove(4);
    let mut w = World::new(2);
    let bytes = message.bytes();
    let mut failures = 0;
    loop {
        let before = w.snapshot();
        let head = message.head();
        w.put_tx(id, &bytes[..head]);
        let reply = w.call(id, function, [bytes.len() as u64, head as u64, 0, 0]).unwrap();
        w.machine.tables.set_budget(Some(failures));
        let mut result = Ok(reply);
        for chunk in bytes[head..].chunks(1600) {
            if result.is_ok() {
                w.put_tx(id, chunk);
                result = w.call(id, FuncId::MemFragTx, [reply[1], reply[2], chunk.len() as u64, 0]);
            }
        }
        w.machine.tables.set_budget(None);
        w.check(0);
        if result.is_ok() {
            break;
        }
        assert_eq!((result, w.snapshot()), (Err(FfaError::NoMemory), before));
        w.assert_idle();
        failures += 1;
    }
    assert!(failures > 2);
}

#[test]
fn buffers_and_memory_that_are_not_there() {
    for (id, function, message) in transactions() {
        let mut w = World::new(3);
        let before = w.snapshot();
        let bytes = message.bytes();
        let (tx, rx) = (w.buffers(id).tx, w.buffers(SP2).rx);
        let first = bytes.len().min(4096);
        w.put_tx(id, &bytes[..first]);
        w.machine.memory.set_broken(tx.world, tx.range.base(), true);
        assert_eq!(
            w.call(id, function, [bytes.len() as u64, first as u64, 0, 0]),
            Err(FfaError::Aborted)
        );
        w.machine.memory.set_broken(tx.world, tx.range.base(), false);
        if function != FuncId::MemShare32 {
            // Pages of the normal world that do not exist can't be zeroed; nor can one that is broken.
            let at = PhysAddr::new(message.ranges[0].0);
            w.machine.memory.set_broken(Side::Secure, at, true);
            let cleared = message.clone().with(|m| m.flags = 1);
            assert_eq!(w.send(id, function, &cleared), Err(FfaError::Aborted), "{function:?}");
            w.machine.memory.set_broken(Side::Secure, at, false);
        }
        assert_eq!(w.snapshot(), before);
        w.check(0);
        w.assert_idle();
        let handle = w.send(id, function, &message).unwrap();
        let before = w.snapshot();
        w.machine.memory.set_broken(rx.world, rx.range.base(), true);
        w.machine.invalidated.clear();
        let request = request(&message, handle);
        let (bytes, invalidated) = (request.bytes(), [2]);
        w.put_tx(SP2, &bytes);
        let registers = [bytes.len() as u64, bytes.len() as u64, 0, 0];
        assert_eq!(w.call(SP2, FuncId::MemRetrieveReq32, registers), Err(FfaError::Aborted));
        assert_eq!(w.snapshot(), before);
        assert_eq!(w.machine.invalidated, invalidated, "it might have been used already");
        w.check(0);
        w.machine.memory.set_broken(rx.world, rx.range.base(), false);
        w.retrieve(SP2, &request).unwrap();
    }
}

#[test]
fn a_lender_can_have_it_cleared_only_if_that_can_be_done() {
    let mut w = World::new(2);
    let at = page(sp_base(SP1), 3);
    let handle = w
        .send(
            SP1,
            FuncId::MemLend32,
            &Message::send(Form::V1_2, SP1, &[(SP2, RW)], &[(at, 1)]),
        )
        .unwrap();
    w.machine.memory.set_broken(Side::Secure, PhysAddr::new(at), true);
    assert_eq!(w.reclaim(SP1, handle, 1), Err(FfaError::Aborted));
    w.check(0);
    w.reclaim(SP1, handle, 0).unwrap();
    w.assert_idle();
}

/// Bytes that mean something where they are not expected.
const BYTES: [u8; 12] = [0, 1, 2, 3, 4, 8, 0x10, 0x30, 0x7f, 0x80, 0xf0, 0xff];

fn mutate(numbers: &mut Numbers, bytes: &mut Vec<u8>) {
    for _ in 0..=numbers.next(3) {
        let at = numbers.next(bytes.len() as u64) as usize;
        match numbers.next(5) {
            0 => bytes[at] = BYTES[numbers.next(BYTES.len() as u64) as usize],
            1 => bytes[at] ^= 1 << numbers.next(8),
            2 => bytes[at & !7] = BYTES[numbers.next(BYTES.len() as u64) as usize],
            3 => bytes.truncate((at & !15).max(16)),
            _ => {
                let from = numbers.next(bytes.len() as u64) as usize & !15;
                let block: Vec<u8> = bytes[from..].iter().copied().take(16).collect();
                let to = at & !15;
                bytes.splice(to..(to + 16).min(bytes.len()), block);
            }
        }
    }
}

#[test]
fn hostile_descriptors_are_survived() {
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    let transactions = transactions();
    let mut accepted = 0;
    for round in 0..20 {
        let mut w = World::new(3);
        let mut donated = 0;
        for form in Form::ALL {
            w.speaks(SP1, form);
            w.speaks(SP3, form);
        }
        let mut handles = vec![0, 1 << 16];
        for step in 0..120 {
            let (id, function, message) = &transactions[numbers.next(transactions.len() as u64) as usize];
            let message = message.clone().with(|m| {
                m.ranges.truncate(6);
                m.form = w.form(*id);
            });
            let mut bytes = message.bytes();
            if numbers.next(8) != 0 {
                mutate(&mut numbers, &mut bytes);
            }
            let fragment = if numbers.next(3) == 0 {
                numbers.next(bytes.len() as u64 + 1) & !15
            } else {
                bytes.len() as u64
            };
            w.put_tx(*id, &bytes);
            if let Ok(reply) = w.call(*id, *function, [bytes.len() as u64, fragment, 0, 0]) {
                let handle = if reply[0] == 0x8400_0061 {
                    reply[2] | reply[3] << 32
                } else {
                    reply[1] | reply[2] << 32
                };
                handles.push(handle);
                accepted += 1;
            }
            let handle = handles[numbers.next(handles.len() as u64) as usize];
            let mut bytes = request(&message, handle).bytes();
            if numbers.next(3) == 0 {
                mutate(&mut numbers, &mut bytes);
            }
            let by = [SP2, SP2, SP3, NWD][numbers.next(4) as usize];
            w.put_tx(by, &bytes);
            let _ = w.call(
                by,
                FuncId::MemRetrieveReq32,
                [bytes.len() as u64, bytes.len() as u64, 0, 0],
            );
            w.rx_full.fill(false);
            let mut bytes = relinquish(handle, 0, &[SP2]);
            mutate(&mut numbers, &mut bytes);
            w.put_tx(SP2, &bytes);
            let _ = w.call(SP2, FuncId::MemRelinquish, [0; 4]);
            let [low, high] = [handle & 0xffff_ffff, handle >> 32];
            let _ = w.call(by, FuncId::MemFragRx, [low, high, numbers.next(300) & !15, 0]);
            w.rx_full.fill(false);
            let _ = w.call(*id, FuncId::MemFragTx, [low, high, numbers.next(64) & !15, 0]);
            if numbers.next(4) == 0 {
                let _ = w.reclaim(*id, handle, numbers.next(3) as u32);
            }
            if step % 10 == 9 {
                check_but_donations(&w, &mut donated);
            }
        }
        if round % 2 == 0 {
            for id in [SP1, SP2, SP3, NWD] {
                w.manager.forget(&mut w.machine, &w.sps, EndpointId::new(id));
            }
            check_but_donations(&w, &mut donated);
            w.assert_idle();
        }
    }
    assert!(accepted > 100, "{accepted} were good enough to look further");
}

/// The invariants, where the number of the normal world's pages that were donated isn't known, but never decreases.
fn check_but_donations(w: &World, donated: &mut u64) {
    let kept = |donated| {
        let kept = donated + w.sps.0.len() as u64;
        w.manager.check_invariants(&w.machine, &w.sps, &[], kept)
    };
    let before = *donated;
    while let Err(what) = kept(*donated) {
        assert!(what.contains("are marked") && *donated < before + 200, "{what}");
        *donated += 1;
    }
}

#[test]
fn random_bytes_are_no_descriptor() {
    let mut numbers = Numbers(77);
    let mut w = World::new(2);
    for _ in 0..3000 {
        let length = 16 + (numbers.next(240) & !15);
        let bytes: Vec<u8> = (0..length).map(|_| BYTES[numbers.next(12) as usize]).collect();
        for (id, function) in [
            (NWD, FuncId::MemShare32),
            (SP1, FuncId::MemLend64),
            (SP1, FuncId::MemRetrieveReq64),
        ] {
            w.put_tx(id, &bytes);
            assert!(w.call(id, function, [length, length, 0, 0]).is_err());
        }
    }
    w.check(0);
    w.assert_idle();
}
