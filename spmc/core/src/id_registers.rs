//! ID registers as partitions see them: only what they may use (Arm ARM, ID_AA64*_EL1).
//!
//! Each register has a mask of the fields that pass; a field that is not listed reads as "not implemented", so that a
//! feature that is newer than this table is hidden until somebody has thought about it.

use crate::machine::SystemRegister;

/// A four-bit field.
const fn nibble(position: u32) -> u64 {
    0xf << position
}

const fn fields<const N: usize>(positions: [u32; N]) -> u64 {
    let mut mask = 0;
    let mut index = 0;
    while index < N {
        #[expect(clippy::indexing_slicing, reason = "the index is below N, at compile time")]
        {
            mask |= nibble(positions[index]);
        }
        index += 1;
    }
    mask
}

/// FP, AdvSIMD, DIT, CSV2, CSV3. EL0 and EL1 are set to AArch64 only; no EL2, EL3, GIC, RAS, SVE, SEL2, MPAM, AMU, RME.
const PFR0: u64 = fields([16, 20, 48, 56, 60]);
const PFR0_EL0_EL1_AARCH64: u64 = 0x11;
/// BT, SSBS, CSV2_frac. No MTE, SME, RNDR trap, NMI, GCS, THE, PFAR.
const PFR1: u64 = fields([0, 4, 32]);
/// Armv8 debug architecture, no counters of anything.
const DFR0_DEBUG_V8: u64 = 0x6;
/// All instructions that need no state of their own (no TME).
const ISAR0: u64 = fields([4, 8, 12, 16, 20, 28, 32, 36, 40, 44, 48, 52, 56, 60]);
/// DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, SPECRES, BF16, DGH, I8MM. No pointer authentication, LS64, XS.
const ISAR1: u64 = fields([0, 12, 16, 20, 32, 36, 40, 44, 48, 52]);
/// RPRES, BC, CSSC. No WFxT, MOPS (needs HCRX_EL2), pointer authentication.
const ISAR2: u64 = fields([4, 20, 52]);
/// ASIDBits, BigEnd, SNSMem, BigEndEL0, TGran64. PARange, TGran4 and TGran16 without 52-bit addresses; no FGT, ECV.
const MMFR0: u64 = fields([4, 8, 12, 16, 24]);
/// HAFDBS, HPDS, PAN, ETS, ECBHB. No VMIDBits, VH, LO, XNX, TWED, HCX, AFP, TIDCP1.
const MMFR1: u64 = fields([0, 12, 20, 36, 60]);
/// UAO, LSM, VARange, CCIDX, ST, AT, TTL, BBM, E0PD. No CnP, IESB, NV, IDS, FWB, EVT.
const MMFR2: u64 = fields([4, 8, 16, 20, 28, 32, 48, 52, 60]);

/// Largest `PARange` that is shown: 48 bits.
const MAX_PARANGE: u64 = 5;

/// Whether a register is in the ID space that is emulated (op0 = 3, op1 = 0, CRn = 0, CRm = 1-7), or one of the
/// implementation's own (REVIDR_EL1, AIDR_EL1, SMIDR_EL1).
#[must_use]
pub const fn is_id_register(register: SystemRegister) -> bool {
    let SystemRegister {
        op0,
        op1,
        crn,
        crm,
        op2,
    } = register;
    match (op0, op1, crn) {
        (3, 0, 0) => (crm >= 1 && crm <= 7) || (crm == 0 && op2 == 6),
        (3, 1, 0) => crm == 0 && (op2 == 6 || op2 == 7),
        _ => false,
    }
}

/// The value of an ID register that a partition reads, from the PE's own.
#[must_use]
pub const fn visible(register: SystemRegister, hardware: u64) -> u64 {
    let SystemRegister { op1, crm, op2, .. } = register;
    if op1 != 0 {
        return 0;
    }
    match (crm, op2) {
        (4, 0) => (hardware & PFR0) | PFR0_EL0_EL1_AARCH64,
        (4, 1) => hardware & PFR1,
        (5, 0) => DFR0_DEBUG_V8,
        (6, 0) => hardware & ISAR0,
        (6, 1) => hardware & ISAR1,
        (6, 2) => hardware & ISAR2,
        (7, 0) => mmfr0(hardware),
        (7, 1) => hardware & MMFR1,
        (7, 2) => hardware & MMFR2,
        _ => 0,
    }
}

const fn mmfr0(hardware: u64) -> u64 {
    let range = hardware & 0xf;
    let range = if range > MAX_PARANGE { MAX_PARANGE } else { range };
    // TGran4: 0 supported, 1 with 52 bits, 15 not. TGran16: 0 not, 1 supported, 2 with 52 bits.
    let granule4 = if (hardware >> 28) & 0xf == 1 {
        0
    } else {
        hardware & nibble(28)
    };
    let granule16 = if (hardware >> 20) & 0xf == 2 {
        1 << 20
    } else {
        hardware & nibble(20)
    };
    (hardware & MMFR0) | range | granule4 | granule16
}
