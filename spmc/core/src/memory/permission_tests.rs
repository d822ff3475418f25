//! The rules, exhaustively: each byte, attribute and flag value against a second statement of the rule.

extern crate std;

use super::*;
use std::{vec, vec::Vec};

const INVALID: Result<(), FfaError> = Err(FfaError::InvalidParameters);
const DENIED: Result<(), FfaError> = Err(FfaError::Denied);

fn memories() -> Vec<Memory> {
    let mut all = vec![];
    for world in [World::Secure, World::NonSecure] {
        for bits in 0..8 {
            all.push(Memory {
                world,
                device: bits & 1 != 0,
                writable: bits & 2 != 0,
                executable: bits & 4 != 0,
            });
        }
    }
    all
}

fn transaction(kind: Kind, borrowers: u32, memory: Memory, sent: u8) -> Transaction {
    Transaction {
        kind,
        borrowers,
        flags: kind.type_flag(),
        memory,
        sent,
        again: false,
    }
}

#[test]
fn permission_bytes() {
    let right: Vec<u8> = (0..=255).filter(|byte| Permissions::decode(*byte).is_ok()).collect();
    assert_eq!(right, [0, 1, 2, 4, 5, 6, 8, 9, 10]);
    assert_eq!(
        Permissions::decode(0b10_01),
        Ok(Permissions {
            data: Data::ReadOnly,
            instruction: Instruction::Execute
        })
    );
    for write in [false, true] {
        for execute in [false, true] {
            let granted = Granted { write, execute };
            assert_eq!(Granted::of(granted.encode()), granted);
            let (access, executes) = granted.stage2();
            assert_eq!(
                (access == Access::ReadWrite, executes == Execute::Always),
                (write, execute)
            );
        }
    }
}

#[test]
fn a_sender_says_data_access_and_no_instruction_access() {
    for kind in Kind::ALL {
        for byte in 0..=255 {
            let right = matches!(byte, 1 | 2) || byte == 0 && kind == Kind::Donate;
            assert_eq!(check_sent(kind, byte, 0).is_ok(), right, "{kind:?} {byte:#x}");
            for flags in 1..=255 {
                assert_eq!(
                    check_sent(kind, byte, flags),
                    INVALID,
                    "no flag of an EMAD is a sender's"
                );
            }
        }
    }
}

#[test]
fn send_attributes() {
    for kind in Kind::ALL {
        for borrowers in [1, 2, 255] {
            for attributes in 0..=u16::MAX {
                let (kind_of, cache, share) = ((attributes >> 4) & 3, (attributes >> 2) & 3, attributes & 3);
                let several = kind == Kind::Share || borrowers > 1;
                let expected = if kind == Kind::Donate && borrowers > 1 || attributes > 0x3f {
                    INVALID
                } else if !several {
                    if attributes == 0 { Ok(()) } else { INVALID }
                } else if attributes == 0x2f {
                    Ok(())
                } else if kind_of == 1 || kind_of == 2 && cache % 2 == 1 && share != 1 {
                    DENIED
                } else {
                    INVALID
                };
                assert_eq!(
                    check_send(kind, borrowers, attributes, 0),
                    expected,
                    "{kind:?} {borrowers} {attributes:#x}"
                );
            }
        }
    }
}

#[test]
fn send_flags() {
    for kind in Kind::ALL {
        let attributes = if kind == Kind::Share { 0x2f } else { 0 };
        let mut right: Vec<u32> = vec![0, kind.type_flag()];
        if kind != Kind::Share {
            right.extend([FLAG_CLEAR, FLAG_CLEAR | kind.type_flag()]);
        }
        for flags in (0..0x1000).chain((12..32).map(|bit| 1 << bit)) {
            let expected = if right.contains(&flags) { Ok(()) } else { INVALID };
            assert_eq!(check_send(kind, 1, attributes, flags), expected, "{kind:?} {flags:#x}");
        }
    }
}

#[test]
fn what_the_owner_may_not_do_it_does_not_pass_on() {
    for kind in Kind::ALL {
        for borrowers in [1, 2] {
            for memory in memories() {
                for sent in [0, 1, 2] {
                    for flags in [0, FLAG_CLEAR] {
                        let mut right = memory.writable || sent != 2 && flags == 0;
                        right &= !memory.device || kind == Kind::Lend && borrowers == 1 && flags == 0;
                        let expected = if right { Ok(()) } else { DENIED };
                        assert_eq!(
                            check_memory(kind, borrowers, flags, memory, sent),
                            expected,
                            "{kind:?} {memory:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_borrower_gets_what_it_may_and_no_more() {
    for kind in Kind::ALL {
        for borrowers in [1, 2] {
            for memory in memories() {
                for sent in [0, 1, 2] {
                    for asked in 0..=255 {
                        let result = transaction(kind, borrowers, memory, sent).grant(asked);
                        let expected = granted(kind, borrowers, memory, sent, asked);
                        assert_eq!(
                            result, expected,
                            "{kind:?} to {borrowers}, {memory:?}, sent {sent}, asked {asked:#x}"
                        );
                    }
                }
            }
        }
    }
}

/// The rule again, as a list of cases.
fn granted(kind: Kind, borrowers: u32, memory: Memory, sent: u8, asked: u8) -> Result<Granted, FfaError> {
    let (data, instruction) = (asked & 3, asked >> 2);
    if data == 3 || instruction >= 3 {
        return Err(FfaError::InvalidParameters);
    }
    let writable = sent == 2 || sent == 0 && memory.writable;
    if data == 2 && !writable {
        return Err(FfaError::Denied);
    }
    let write = writable && data != 1;
    match (kind, borrowers, instruction) {
        (_, _, 1) | (Kind::Share, _, 0) | (_, 2, 0) => Ok(Granted { write, execute: false }),
        (Kind::Lend | Kind::Donate, 1, 2) => {
            if memory.executable && memory.world == World::Secure && !memory.device {
                Ok(Granted { write, execute: true })
            } else {
                Err(FfaError::Denied)
            }
        }
        _ => Err(FfaError::InvalidParameters),
    }
}

#[test]
fn retrieve_flags() {
    for kind in Kind::ALL {
        for memory in memories() {
            for (cleared, again, write) in (0..8).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0)) {
                let mut of = transaction(kind, 1, memory, 2);
                of.again = again;
                of.flags |= u32::from(cleared);
                for flags in (0..0x800).chain((11..32).map(|bit| 1 << bit)) {
                    let expected = retrieve_flags_rule(&of, write, flags);
                    let result = of.check_flags(flags, Granted { write, execute: false });
                    assert_eq!(result, expected, "{of:?} {write} {flags:#x}");
                }
            }
        }
    }
}

fn retrieve_flags_rule(of: &Transaction, write: bool, flags: u32) -> Result<(), FfaError> {
    let bit = |number: u32| flags & 1 << number != 0;
    let kind = flags >> 3 & 3;
    let right_kind = match of.kind {
        Kind::Share => 1,
        Kind::Lend => 2,
        Kind::Donate => 3,
    };
    let clears = bit(0) || bit(2);
    if flags >> 11 != 0 || bit(1) || kind != 0 && kind != right_kind || flags >> 5 & 0xf != 0 && !bit(9) {
        return INVALID;
    }
    if of.kind == Kind::Share && clears || bit(0) && of.again {
        return INVALID;
    }
    if bit(0) && of.flags & 1 == 0 {
        return DENIED;
    }
    match bit(2) {
        true if of.kind == Kind::Donate => INVALID,
        true if !write || of.memory.device => DENIED,
        _ => Ok(()),
    }
}

#[test]
fn retrieve_attributes() {
    for memory in memories() {
        for attributes in 0..=u16::MAX {
            let (kind_of, cache, share) = ((attributes >> 4) & 3, (attributes >> 2) & 3, attributes & 3);
            let expected = match kind_of {
                _ if attributes > 0x3f => INVALID,
                0 if attributes == 0 => Ok(()),
                0 | 3 => INVALID,
                1 if memory.device && cache == 0 => Ok(()),
                1 => DENIED,
                _ if memory.device => DENIED,
                _ if attributes == 0x2f => Ok(()),
                _ if cache % 2 == 1 && share != 1 => DENIED,
                _ => INVALID,
            };
            assert_eq!(
                transaction(Kind::Lend, 1, memory, 2).check_attributes(attributes),
                expected,
                "{attributes:#x}"
            );
        }
    }
}

#[test]
fn response_attributes_have_the_ns_bit() {
    let of = |world, device| {
        Memory {
            world,
            device,
            writable: true,
            executable: false,
        }
        .attributes()
    };
    assert_eq!([of(World::Secure, false), of(World::NonSecure, false)], [0x2f, 0x6f]);
    assert_eq!([of(World::Secure, true), of(World::NonSecure, true)], [0x10, 0x50]);
}

#[test]
fn alignments() {
    assert_eq!(
        [alignment_mask(0), alignment_mask(0xf << 5), alignment_mask(1 << 9)],
        [0, 0, 0xfff]
    );
    assert_eq!(alignment_mask(1 << 9 | 9 << 5), 0x1f_ffff);
    assert_eq!(alignment_mask(1 << 9 | 15 << 5), 0x7ff_ffff);
}

#[test]
fn memory_of_one_transaction_is_alike() {
    for one in memories() {
        for other in memories() {
            let both = one.and(other);
            assert_eq!(both.is_some(), one.world == other.world && one.device == other.device);
            assert!(both.is_none_or(|both| both.writable == (one.writable && other.writable)));
            assert!(both.is_none_or(|both| both.executable == (one.executable && other.executable)));
        }
    }
}
