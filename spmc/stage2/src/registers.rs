//! Fields of `VTCR_EL2` and `VSTCR_EL2` that must agree with the tables.

use crate::IpaSize;

/// RES1 of `VTCR_EL2` and `VSTCR_EL2`.
const RES1: u64 = 1 << 31;
/// `TG0` 0b00 (4 KiB) needs no bits; `SH0` inner shareable, `ORGN0` and `IRGN0` write-back write-allocate.
const WALKS_WRITE_BACK: u64 = 0b11 << 12 | 0b01 << 10 | 0b01 << 8;

/// `VTCR_EL2.NSW` 0, `NSA` 1: walks of the non-secure IPA space read tables in secure memory, its output is non-secure
/// memory. To be ORed into [`IpaSize::vtcr_el2`].
pub const VTCR_EL2_OUTPUT_NON_SECURE: u64 = 1 << 30;

/// `VSTCR_EL2.SW` 0, `SA` 0: walks of the secure IPA space read tables in secure memory, its output is secure memory.
/// No bit of [`IpaSize::vstcr_el2`] needs to be changed for it.
pub const VSTCR_EL2_WALKS_SECURE: u64 = 0;

impl IpaSize {
    /// `T0SZ`, 64 less the address bits, in bits 5:0 of `VTCR_EL2` and `VSTCR_EL2`.
    #[must_use]
    pub const fn t0sz(self) -> u64 {
        match self {
            Self::Bits39 => 25,
            Self::Bits48 => 16,
        }
    }

    /// `SL0`, the root's level as a 4 KiB granule has it (0b01: level 1, 0b10: level 0), in bits 7:6 of `VTCR_EL2` and
    /// `VSTCR_EL2`.
    #[must_use]
    pub const fn sl0(self) -> u64 {
        match self {
            Self::Bits39 => 0b01,
            Self::Bits48 => 0b10,
        }
    }

    /// `VTCR_EL2` for tables of this size: `T0SZ`, `SL0`, 4 KiB granule, cacheable inner-shareable walks, RES1; no
    /// hardware update of access or dirty state (`HA`, `HD`, `HAFT` 0: table descriptors hold counts where `HAFT`
    /// would put a flag). The machine layer adds `PS` (bits 18:16), `VS` (bit 19) and
    /// [`VTCR_EL2_OUTPUT_NON_SECURE`].
    #[must_use]
    pub const fn vtcr_el2(self) -> u64 {
        RES1 | WALKS_WRITE_BACK | self.sl0() << 6 | self.t0sz()
    }

    /// `VSTCR_EL2` for tables of this size: `T0SZ`, `SL0`, 4 KiB granule, RES1. What it does not say (cacheability,
    /// `PS`, `VS`) is `VTCR_EL2`'s for both spaces.
    #[must_use]
    pub const fn vstcr_el2(self) -> u64 {
        RES1 | self.sl0() << 6 | self.t0sz()
    }
}
