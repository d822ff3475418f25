//! Architecture extensions of a PE, as far as the machine layer must know of them.

use crate::sysreg;

/// What a PE has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Scalable vectors.
    pub sve: bool,
    /// Scalable matrices.
    pub sme: bool,
    /// All of SVE in streaming mode.
    pub fa64: bool,
    /// FP8 mode register.
    pub fpmr: bool,
    /// Fine-grained traps.
    pub fgt: bool,
    /// `HCRX_EL2`.
    pub hcx: bool,
    /// Traps of the virtual timer.
    pub ecv: bool,
    /// Activity monitors.
    pub amu: bool,
    /// Performance monitors.
    pub pmu: bool,
    /// Statistical profiling.
    pub spe: bool,
    /// Trace filter.
    pub trace_filter: bool,
    /// Error records.
    pub ras: bool,
    /// Limited ordering regions.
    pub lor: bool,
    /// Memory partitioning and monitoring.
    pub mpam: bool,
    /// Memory tagging registers (`FEAT_MTE2`).
    pub mte: bool,
    /// 16-bit VMIDs.
    pub vmid16: bool,
    /// `ID_AA64MMFR0_EL1.PARange`, at most 5: 48 bits, since `FEAT_LPA2` is not used.
    pub pa_range: u64,
}

/// A four-bit field of an ID register.
const fn field(register: u64, shift: u32) -> u64 {
    register >> shift & 0xf
}

impl Features {
    /// Reads the ID registers of this PE.
    #[must_use]
    pub fn detect() -> Self {
        let pfr0 = sysreg::id_aa64pfr0_el1::read();
        let pfr1 = sysreg::id_aa64pfr1_el1::read();
        let pfr2 = sysreg::id_aa64pfr2_el1::read();
        let dfr0 = sysreg::id_aa64dfr0_el1::read();
        let mmfr0 = sysreg::id_aa64mmfr0_el1::read();
        let mmfr1 = sysreg::id_aa64mmfr1_el1::read();
        let sme = field(pfr1, 24) != 0;
        Self {
            sve: field(pfr0, 32) != 0,
            sme,
            fa64: sme && sysreg::id_aa64smfr0_el1::read() >> 63 != 0,
            fpmr: field(pfr2, 32) != 0,
            fgt: field(mmfr0, 56) != 0,
            hcx: field(mmfr1, 40) != 0,
            ecv: field(mmfr0, 60) != 0,
            amu: field(pfr0, 44) != 0,
            pmu: !matches!(field(dfr0, 8), 0 | 0xf),
            spe: field(dfr0, 32) != 0,
            trace_filter: field(dfr0, 40) != 0,
            ras: field(pfr0, 28) != 0,
            lor: field(mmfr1, 16) != 0,
            mpam: field(pfr0, 40) != 0 || field(pfr1, 16) != 0,
            mte: field(pfr1, 8) >= 2,
            vmid16: field(mmfr1, 4) == 2,
            pa_range: field(mmfr0, 0).min(5),
        }
    }

    /// First physical address that the PE does not have (or that the SPMC does not use, above 48 bits).
    #[must_use]
    pub const fn pa_limit(&self) -> u64 {
        1 << match self.pa_range {
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            _ => 48,
        }
    }
}
