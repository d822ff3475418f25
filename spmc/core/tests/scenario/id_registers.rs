//! ID registers as partitions read them: only what they may use.

use crate::support::*;

/// What a partition reads, on a PE that has everything.
fn read(op1: u64, crm: u64, op2: u64) -> u64 {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let esr = 0x18 << 26 | 1 << 25 | 3 << 20 | op2 << 17 | op1 << 14 | 5 << 5 | crm << 1 | 1;
    let pc = system.ctx(0).pc;
    system.exit(0, synchronous(esr));
    assert_eq!((system.owner(0), system.ctx(0).pc), (runs(A, 0), pc + 4));
    system.regs(0)[5]
}

/// The four-bit field at `position`.
fn field(value: u64, position: u32) -> u64 {
    value >> position & 0xf
}

#[test]
fn processor_features() {
    let pfr0 = read(0, 4, 0);
    assert_eq!([field(pfr0, 0), field(pfr0, 4)], [1, 1], "EL0 and EL1 are AArch64 only");
    for (position, what) in [
        (8, "EL2"),
        (12, "EL3"),
        (24, "GIC"),
        (28, "RAS"),
        (32, "SVE"),
        (36, "SEL2"),
        (40, "MPAM"),
        (44, "AMU"),
        (52, "RME"),
    ] {
        assert_eq!(field(pfr0, position), 0, "{what}");
    }
    assert_eq!(
        [field(pfr0, 16), field(pfr0, 20), field(pfr0, 48)],
        [1, 1, 1],
        "FP, AdvSIMD, DIT"
    );
    let pfr1 = read(0, 4, 1);
    for (position, what) in [
        (8, "MTE"),
        (16, "MPAM"),
        (24, "SME"),
        (28, "RNDR trap"),
        (36, "NMI"),
        (44, "GCS"),
        (48, "THE"),
    ] {
        assert_eq!(field(pfr1, position), 0, "{what}");
    }
    assert_eq!([field(pfr1, 0), field(pfr1, 4)], [1, 2], "BT, SSBS");
}

#[test]
fn sve_and_sme_are_not_there() {
    assert_eq!([read(0, 4, 4), read(0, 4, 5), read(1, 0, 6)], [0; 3]);
}

#[test]
fn debug_has_no_counters_trace_or_profiling() {
    assert_eq!(read(0, 5, 0) & !0xf, 0);
    assert_eq!(read(0, 5, 1), 0);
}

#[test]
fn pointer_authentication_is_not_there() {
    let (isar1, isar2) = (read(0, 6, 1), read(0, 6, 2));
    // APA, API, GPA, GPI; GPA3, APA3
    for position in [4, 8, 24, 28] {
        assert_eq!(field(isar1, position), 0);
    }
    for position in [8, 12] {
        assert_eq!(field(isar2, position), 0);
    }
}

#[test]
fn what_needs_el2_to_be_open_is_not_there() {
    // ISAR2: WFxT, MOPS. MMFR1: VMIDBits, VH, LO, XNX, TWED, HCX, AFP, TIDCP1. MMFR2: CnP, NV, FWB, EVT.
    let (isar2, mmfr1, mmfr2) = (read(0, 6, 2), read(0, 7, 1), read(0, 7, 2));
    assert_eq!([field(isar2, 0), field(isar2, 16)], [0, 0]);
    for position in [4, 8, 16, 28, 32, 40, 44, 52] {
        assert_eq!(field(mmfr1, position), 0, "MMFR1 {position}");
    }
    for position in [0, 12, 24, 40, 56] {
        assert_eq!(field(mmfr2, position), 0, "MMFR2 {position}");
    }
    // TCR2, PIE, POE, MEC and all that came later
    assert_eq!(
        [
            read(0, 7, 3),
            read(0, 7, 4),
            read(0, 4, 2),
            read(0, 4, 7),
            read(0, 5, 2),
            read(0, 6, 3)
        ],
        [0; 6]
    );
}

#[test]
fn address_space_is_48_bits_of_4_16_and_64_kib() {
    let mmfr0 = read(0, 7, 0);
    assert_eq!(field(mmfr0, 0), 5, "the PE has 52 bits");
    assert_eq!(
        [field(mmfr0, 28), field(mmfr0, 20), field(mmfr0, 24)],
        [0, 1, 0],
        "without 52-bit addresses"
    );
    assert_eq!([field(mmfr0, 56), field(mmfr0, 60)], [0, 0], "FGT, ECV");
}

#[test]
fn implementation_and_aarch32_registers_read_as_zero() {
    // REVIDR, AIDR; ID_PFR0 .. MVFR2
    assert_eq!([read(0, 0, 6), read(1, 0, 7)], [0, 0]);
    for crm in 1..4 {
        for op2 in 0..8 {
            assert_eq!(read(0, crm, op2), 0);
        }
    }
}
