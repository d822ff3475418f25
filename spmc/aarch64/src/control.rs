//! System registers of EL2 that stay as they are while partitions run: what a partition may do, and what traps.
//!
//! EL3 gives both worlds their own copy of nearly all of these, so they are set once, when a PE comes up. A register or
//! bit that belongs to an extension is touched only where the ID registers have it.
#![expect(unsafe_code, reason = "writes control registers of EL2")]

use tantalum_stage2::{IpaSize, VSTCR_EL2_WALKS_SECURE, VTCR_EL2_OUTPUT_NON_SECURE};

use crate::{
    features::Features,
    sysreg::{self, try_write},
};

/// Bits of `HCR_EL2`.
pub mod hcr {
    /// Stage 2 on.
    pub const VM: u64 = 1 << 0;
    /// Set/way invalidation cleans as well.
    pub const SWIO: u64 = 1 << 1;
    /// Stage-1 walks may not read device memory.
    pub const PTW: u64 = 1 << 2;
    /// FIQs come to EL2: normal-world and Group 0 interrupts.
    pub const FMO: u64 = 1 << 3;
    /// IRQs come to EL2: secure interrupts.
    pub const IMO: u64 = 1 << 4;
    /// SErrors come to EL2.
    pub const AMO: u64 = 1 << 5;
    /// Virtual FIQ pending.
    pub const VF: u64 = 1 << 6;
    /// Virtual IRQ pending.
    pub const VI: u64 = 1 << 7;
    /// TLB and instruction cache maintenance of EL1 reaches all PEs: a context may have run on another one before.
    pub const FB: u64 = 1 << 9;
    /// Barriers of EL1 reach at least the inner shareable domain.
    pub const BSU_INNER: u64 = 1 << 10;
    /// WFI traps: it would hold up the normal world of the PE.
    pub const TWI: u64 = 1 << 13;
    /// WFE traps, for the same reason.
    pub const TWE: u64 = 1 << 14;
    /// ID group 1 (`REVIDR_EL1`, `AIDR_EL1`, `SMIDR_EL1`) traps.
    pub const TID1: u64 = 1 << 16;
    /// ID group 3 (feature registers) traps: the policy shows what a partition may use.
    pub const TID3: u64 = 1 << 18;
    /// SMC traps.
    pub const TSC: u64 = 1 << 19;
    /// Implementation defined registers trap.
    pub const TIDCP: u64 = 1 << 20;
    /// `ACTLR_EL1` traps.
    pub const TACR: u64 = 1 << 21;
    /// Set/way cache maintenance traps.
    pub const TSW: u64 = 1 << 22;
    /// EL1 is AArch64.
    pub const RW: u64 = 1 << 31;
    /// Limited ordering registers trap.
    pub const TLOR: u64 = 1 << 35;
    /// Error records trap.
    pub const TERR: u64 = 1 << 36;
    /// Memory tagging's `GMID_EL1` traps. (With `ATA` 0 the other registers trap, and tags are not used.)
    pub const TID5: u64 = 1 << 58;
}

/// `HCR_EL2` with no virtual interrupt pending. What is not there is off: `E2H` (no VHE), `API` and `APK` (pointer
/// authentication traps), `ATA` (memory tagging), `FIEN`, `EnSCXT`, `AMVOFFEN`, nested virtualisation. `TEA` is off: a
/// synchronous external abort is the partition's own to take, as on hardware without a hypervisor.
#[must_use]
pub const fn hcr(features: &Features) -> u64 {
    let mut value = hcr::VM
        | hcr::SWIO
        | hcr::PTW
        | hcr::FMO
        | hcr::IMO
        | hcr::AMO
        | hcr::FB
        | hcr::BSU_INNER
        | hcr::TWI
        | hcr::TWE
        | hcr::TID1
        | hcr::TID3
        | hcr::TSC
        | hcr::TIDCP
        | hcr::TACR
        | hcr::TSW
        | hcr::RW;
    if features.lor {
        value |= hcr::TLOR;
    }
    if features.ras {
        value |= hcr::TERR;
    }
    if features.mte {
        value |= hcr::TID5;
    }
    value
}

/// Bits of `CPTR_EL2` (`E2H` 0). They hold for the SPMC itself as well, which uses none of this.
pub mod cptr {
    /// RES1.
    pub const RES1: u64 = 0x22ff;
    /// SVE traps. RES1 without SVE.
    pub const TZ: u64 = 1 << 8;
    /// FP, Advanced SIMD and SVE trap.
    pub const TFP: u64 = 1 << 10;
    /// SME traps. RES1 without SME.
    pub const TSM: u64 = 1 << 12;
    /// Trace registers trap.
    pub const TTA: u64 = 1 << 20;
    /// Activity monitors trap.
    pub const TAM: u64 = 1 << 30;
}

/// `CPTR_EL2` while no FP state of a partition is live. [`crate::simd`] clears bits of it.
#[must_use]
pub const fn cptr(features: &Features) -> u64 {
    let value = cptr::RES1 | cptr::TZ | cptr::TFP | cptr::TSM | cptr::TTA;
    if features.amu { value | cptr::TAM } else { value }
}

/// `MDCR_EL2`: debug, performance monitors, profiling and trace trap. `HPMN` stays as EL3 has set it; the buffers of
/// profiling and trace (`E2PB`, `E2TB`) belong to EL2.
const fn mdcr(features: &Features, current: u64) -> u64 {
    const HPMN: u64 = 0x1f;
    const TPMCR: u64 = 1 << 5;
    const TPM: u64 = 1 << 6;
    const TDA: u64 = 1 << 9;
    const TDOSA: u64 = 1 << 10;
    const TDRA: u64 = 1 << 11;
    const TPMS: u64 = 1 << 14;
    const TTRF: u64 = 1 << 19;
    const TDCC: u64 = 1 << 27;
    let mut value = current & HPMN | TDA | TDOSA | TDRA;
    if features.pmu {
        value |= TPM | TPMCR;
    }
    if features.spe {
        value |= TPMS;
    }
    if features.trace_filter {
        value |= TTRF;
    }
    if features.fgt {
        value |= TDCC;
    }
    value
}

/// `CNTHCTL_EL2` (`E2H` 0): the counters can be read, the physical timer traps (`EL1PCEN` 0). The virtual timer, one
/// for both worlds, traps where `FEAT_ECV` allows it; elsewhere it is switched ([`crate::pe`]).
const fn cnthctl(features: &Features) -> u64 {
    const EL1PCTEN: u64 = 1 << 0;
    const EL1TVT: u64 = 1 << 13;
    if features.ecv { EL1PCTEN | EL1TVT } else { EL1PCTEN }
}

/// `ICH_HCR_EL2` where a partition has not asked for it: no virtual CPU interface (`En` 0), all of a partition's accesses to the interrupt controller's
/// registers trap.
pub const ICH_HCR: u64 = {
    const TC: u64 = 1 << 10;
    const TALL0: u64 = 1 << 11;
    const TALL1: u64 = 1 << 12;
    const TDIR: u64 = 1 << 14;
    TC | TALL0 | TALL1 | TDIR
};

/// `ICC_SRE_EL2`: system registers for EL2, but `ICC_SRE_EL1` traps (`Enable` 0).
const ICC_SRE: u64 = {
    const SRE: u64 = 1 << 0;
    const DFB: u64 = 1 << 1;
    const DIB: u64 = 1 << 2;
    SRE | DFB | DIB
};

/// Writes `VSTCR_EL2`, which EL3 does not keep when a PE is powered down.
#[inline]
pub fn write_vstcr(size: IpaSize) {
    // SAFETY: says how the secure stage-2 tables of partitions are walked, which is the same as before.
    unsafe { sysreg::vstcr_el2::write(size.vstcr_el2() | VSTCR_EL2_WALKS_SECURE) };
}

/// Sets up this PE, for partitions with address spaces of `size`. Their stage-2 roots are loaded with each context.
pub fn initialise(features: &Features, size: IpaSize) {
    let vs = if features.vmid16 { 1 << 19 } else { 0 };
    // SAFETY: none of these registers changes translation or control flow of EL2: they say what traps from EL1 and EL0
    // and how these are translated. CPTR_EL2 makes FP trap at EL2 too, which the SPMC does not use (soft float).
    unsafe {
        sysreg::hcr_el2::write(hcr(features));
        sysreg::hstr_el2::write(0);
        sysreg::cptr_el2::write(cptr(features));
        sysreg::mdcr_el2::write(mdcr(features, sysreg::mdcr_el2::read()));
        sysreg::cnthctl_el2::write(cnthctl(features));
        sysreg::cntvoff_el2::write(0);
        sysreg::vtcr_el2::write(size.vtcr_el2() | VTCR_EL2_OUTPUT_NON_SECURE | features.pa_range << 16 | vs);
        write_vstcr(size);
        sysreg::vpidr_el2::write(sysreg::midr_el1::read());
        sysreg::icc_sre_el2::write(ICC_SRE);
        sysreg::ich_hcr_el2::write(ICH_HCR);
        fine_grained(features);
    }
    sysreg::isb();
}

/// Extensions whose registers EL3 may withhold although the ID registers show them: then they are off for EL1 too.
///
/// # Safety
/// The values affect EL1 and EL0 only.
unsafe fn fine_grained(features: &Features) {
    // SAFETY: all of these concern EL1 and EL0 only.
    unsafe {
        if features.hcx {
            // All newer extensions that EL2 must enable: off.
            let _ = try_write!("S3_4_C1_C2_2", 0_u64);
        }
        if features.fgt {
            // HFGRTR, HFGWTR, HFGITR, HDFGRTR, HDFGWTR. 0: what was there before the fine-grained traps is ruled by the
            // other registers; what came later (bits whose names start with n) traps: TPIDR2_EL0, ACCDATA_EL1, branch
            // records, guarded control stacks, permission indirection and so on.
            let _ = try_write!("S3_4_C1_C1_4", 0_u64);
            let _ = try_write!("S3_4_C1_C1_5", 0_u64);
            let _ = try_write!("S3_4_C1_C1_6", 0_u64);
            let _ = try_write!("S3_4_C3_C1_4", 0_u64);
            let _ = try_write!("S3_4_C3_C1_5", 0_u64);
        }
        if features.mpam {
            // MPAM2_EL2: TRAPMPAM0EL1, TRAPMPAM1EL1; the SPMC runs in the default partition.
            let _ = try_write!("S3_4_C10_C5_0", 0b11_u64 << 48);
        }
    }
}
