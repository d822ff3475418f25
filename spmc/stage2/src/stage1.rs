//! Stage 1 of partitions at S-EL0: EL1&0 translation that only says in which IPA space an address is (D8.3.1, D8.3.2).
//!
//! Tables of both stages have the same shape, so [`Tables`](crate::Tables) makes these too. What a page may be used for is
//! stage 2's to say: stage 1 lets EL0 do everything but one thing, which is to execute at EL1 what EL0 may touch.

use crate::{Attributes, IpaSize, attributes::AF};

/// `NS`: the output is in the non-secure IPA space.
const NS: u64 = 1 << 5;
/// `AP[2:1]` 0b01: reads and writes at EL1 and EL0.
const AP_EL0: u64 = 0b01 << 6;
/// `AP[2:1]` 0b10: reads at EL1 only.
const AP_EL1_READ: u64 = 0b10 << 6;
/// `SH`, inner shareable.
const INNER: u64 = 0b11 << 8;
/// `PXN`: not executed at EL1.
const PXN: u64 = 1 << 53;
/// `UXN`: not executed at EL0.
const UXN: u64 = 1 << 54;

/// `MAIR_EL1` for these tables: attribute 0, the only one, is normal write-back memory. Stage 2 makes devices of it.
pub const MAIR_EL1: u64 = 0xff;

impl Attributes {
    /// Of a stage-1 block or page that EL0 may use as stage 2 lets it, in one of the IPA spaces.
    #[must_use]
    pub const fn for_el0(non_secure: bool) -> Self {
        let space = if non_secure { NS } else { 0 };
        Self::of(space | AP_EL0 | INNER | AF | PXN)
    }

    /// Of a stage-1 page of code for EL1, that EL0 cannot use.
    #[must_use]
    pub const fn code_for_el1() -> Self {
        Self::of(AP_EL1_READ | INNER | AF | UXN)
    }
}

impl IpaSize {
    /// `TCR_EL1` for stage-1 tables of this size in `TTBR0_EL1`: 4 KiB granule, cacheable inner-shareable walks, `EPD1` (no
    /// translation by `TTBR1_EL1`), `IPS` 48 bits.
    #[must_use]
    pub const fn tcr_el1(self) -> u64 {
        const EPD1: u64 = 1 << 23;
        const IPS_48: u64 = 0b101 << 32;
        const WALKS_WRITE_BACK: u64 = 0b11 << 12 | 0b01 << 10 | 0b01 << 8;
        EPD1 | IPS_48 | WALKS_WRITE_BACK | self.t0sz()
    }
}
