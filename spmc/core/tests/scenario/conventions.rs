//! What holds of all calls (SMCCC 1.2, section 2; FF-A 1.2, chapter 11): upper halves of 32-bit arguments do not matter,
//! results have zeros where they have nothing, and reach no further than they must.

use tantalum_core::{
    addr::{PageRange, PhysAddr, World},
    machine::fake::FakeMachine,
    spmc::Spmc,
};

use crate::support::*;

/// 32-bit calls with arguments, such that most succeed: the upper halves of all registers are to be ignored.
const CALLS: &[&[u64]] = &[
    &[VERSION, 0x1_0002],
    &[VERSION, 0x1_0001],
    &[VERSION, 0x2_0000],
    &[FEATURES, FEATURES],
    &[FEATURES, 0x8400_0066],
    &[FEATURES, 2],
    &[FEATURES, 0x8400_00ef],
    &[FEATURES, FEATURES, 1],
    &[FEATURES, MEM_RETRIEVE_REQ, 2],
    &[ID_GET],
    &[SPM_ID_GET],
    &[0x8400_0066, 0x4000_0000, 0x4000_1000, 1],
    &[0x8400_0067],
    &[0x8400_0065],
    &[0x8400_0084, 0],
    &[0x8400_0068, 0, 0, 0, 0, 1],
    &[0x8400_0068, 1, 2, 3, 4, 1],
    &[0x8400_0068],
    &[MSG_WAIT],
    &[YIELD, 0, 0],
    &[RUN, 0x8002_0000],
    &[RUN, 0x8009_0000],
    &[REQ, 0x8002, 0, 3, 4, 5, 6, 7],
    &[REQ, 0x8001_8002, 0, 3, 4, 5, 6, 7],
    &[REQ, 0x8001_8001, 0, 3, 4, 5, 6, 7],
    &[REQ, 0x8001_8002, 1, 3, 4, 5, 6, 7],
    &[RESP, 0x8001_0000, 0, 3, 4, 5, 6, 7],
    &[RESP, 0x8001_8002, 0, 3, 4, 5, 6, 7],
    &[0x8400_0086, 0, 0],
    &[0x8400_0086, 0, 1],
    &[0x8400_007d, 1, 1],
    &[0x8400_007e, 1],
    &[0x8400_007f, 0x8001_0000, 0, 1, 0],
    &[0x8400_007f, 0x8002_8001, 0, 1, 0],
    &[0x8400_0080, 0x8002_8001, 0, 1, 0],
    &[0x8400_0081, 0x8001_8002, 0, 1, 0],
    &[0x8400_0081, 0x8002, 2, 1, 0],
    &[0x8400_0082, 0x8001, 7],
    &[0x8400_0082, 0, 7],
    &[0x8400_0083],
    &[CONSOLE_LOG, 4, 0x6464_6464],
    &[CONSOLE_LOG, 25],
    &[0x8400_0087, 0x0e30_0000],
    &[0x8400_0071, 0x50, 0x50],
    &[0x8400_0074, 0x50, 0x50],
    &[0x8400_0076],
    &[0x8400_0077, 1, 0, 0],
    &[0x8400_007a, 1, 0, 0, 0],
    &[0x8400_007b, 1, 0, 0, 0],
    &[0x8400_0078],
    &[0x8400_006a],
    &[0x8400_006e],
    &[SUCCESS],
    &[ERROR, 0, 0xffff_ffff],
    &[INTERRUPT],
    &[NORMAL_WORLD_RESUME],
    &[0x8400_008c],
    &[0x8400_0091],
    &[0x8000_0000],
    &[0x8000_0001, 0x8000_0000],
];

const GARBAGE: u64 = 0xdead_beef_0000_0000;

fn system() -> (Spmc, FakeMachine) {
    let (spmc, mut machine) = Builder::new(2)
        .partition_with("a", |a| a.indirect())
        .partition_with("b", |b| b.indirect())
        .build();
    let ram = PageRange::new(PhysAddr::new(0x4000_0000), 16).expect("a range");
    machine.memory.add(World::NonSecure, ram);
    (spmc, machine)
}

/// Who has the PE after a call, and x0-x7; the call made by the normal world or by a partition that works for it.
fn after(registers: &[u64], by_partition: bool) -> (Owner, [u64; 8]) {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    if by_partition {
        system.ask(0, A);
        system.smc(0, registers);
    } else {
        system.nwd(0, registers);
    }
    (system.owner(0), system.regs(0))
}

#[test]
fn upper_halves_of_32_bit_arguments_are_ignored() {
    for call in CALLS {
        let mut dirty: Vec<u64> = call.to_vec();
        dirty.resize(8, 0);
        for register in &mut dirty {
            *register |= GARBAGE;
        }
        for by_partition in [false, true] {
            let clean = after(call, by_partition);
            let mut got = after(&dirty, by_partition);
            if call[0] < 0x8400_0000 && by_partition {
                // A call outside FF-A has changed x0 only.
                for (register, dirty) in got.1[1..].iter_mut().zip(&dirty[1..]) {
                    assert_eq!(*register, *dirty, "{call:x?}");
                    *register &= !GARBAGE;
                }
            }
            assert_eq!(got, clean, "{call:x?}, by a partition: {by_partition}");
        }
    }
}

#[test]
fn results_are_zero_where_they_have_nothing() {
    for call in CALLS {
        for by_partition in [false, true] {
            let (owner, registers) = after(call, by_partition);
            let is_error = registers[0] == ERROR;
            let is_success = registers[0] == SUCCESS;
            if is_error {
                assert_eq!(
                    (registers[1], &registers[3..]),
                    (0, &[0; 5][..]),
                    "{call:x?}: {registers:x?}"
                );
                assert!(
                    (0xffff_fff0..=0xffff_ffff).contains(&registers[2]),
                    "{call:x?}: {registers:x?}"
                );
            } else if is_success {
                assert_eq!((registers[1], registers[7]), (0, 0), "{call:x?}: {registers:x?}");
            } else if call[0] == VERSION && by_partition {
                assert_eq!(registers[1..], [0; 7], "{call:x?}: {registers:x?}");
            }
            let by = if by_partition { runs(A, 0) } else { NWD };
            assert!(
                owner == by || !is_error,
                "{call:x?}: {owner:?} goes on after {registers:x?}"
            );
        }
    }
}

/// 64-bit calls that end with a result of eight registers leave x8-x17 alone, too: checked after each step.
#[test]
fn results_of_eight_registers_leave_the_others_alone() {
    let wide: Vec<u64> = (0x60..=0x97).map(|function| 0xc400_0000 | function).collect();
    for by_partition in [false, true] {
        for function in &wide {
            let (_, registers) = after(&[*function, 1, 2, 3, 4, 5, 6, 7], by_partition);
            assert_ne!(registers[0], 0);
        }
    }
}
