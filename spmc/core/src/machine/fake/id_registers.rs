//! ID registers of a PE that has everything.

/// CRm, op2 and value of the ID registers (op0 = 3, op1 = 0, CRn = 0) of a PE much like QEMU's `-cpu max`, with every
/// feature that partitions must not see.
pub const CPU_MAX: [(u8, u8, u64); 18] = [
    // MIDR_EL1, MPIDR_EL1, REVIDR_EL1
    (0, 0, 0x000f_0510),
    (0, 5, 0x8000_0000),
    (0, 6, 0x1234),
    // ID_PFR0_EL1, MVFR0_EL1: AArch32
    (1, 0, 0x2001_0131),
    (3, 0, 0x1011_0222),
    // ID_AA64PFR0_EL1: CSV3, CSV2, RME, DIT, AMU, MPAM, SEL2, SVE, RAS, GIC, AdvSIMD, FP, EL3-EL0
    (4, 0, 0x1311_1111_2311_1112),
    // ID_AA64PFR1_EL1: PFAR, THE, GCS, NMI, CSV2_frac, RNDR_trap, SME, MPAM_frac, MTE, SSBS, BT
    (4, 1, 0x1101_1011_1201_1321),
    // ID_AA64ZFR0_EL1, ID_AA64SMFR0_EL1
    (4, 4, 0x0110_1100_2211_0021),
    (4, 5, 0x80f1_00fd_0000_0000),
    // ID_AA64DFR0_EL1: HPMN0, BRBE, MTPMU, TraceBuffer, TraceFilt, DoubleLock, PMSVer, breakpoints, PMUVer, trace, debug
    (5, 0, 0x1011_1101_1030_571b),
    (5, 1, 0xffff),
    // ID_AA64ISAR0-2_EL1
    (6, 0, 0x1221_1111_1021_2120),
    (6, 1, 0x1211_1112_1121_1ff2),
    (6, 2, 0x0011_0001_1111_5522),
    // ID_AA64MMFR0-4_EL1
    (7, 0, 0x2100_0222_1010_1126),
    (7, 1, 0x1111_1111_1321_2122),
    (7, 2, 0x1221_0111_1112_2211),
    (7, 3, 0xffff_ffff_ffff_ffff),
];
