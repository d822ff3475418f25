//! FP, Advanced SIMD, SVE and SME state: the normal world's stays in the registers until a partition first uses FP.
//!
//! EL3 does not switch this state. Normally all of it traps at S-EL2 and below (`CPTR_EL2.TFP`, `TZ`, `TSM`), which
//! leaves the registers alone. A partition's first FP instruction traps; then everything that the normal world has in
//! the vector and predicate registers is saved, at the full vector length and in streaming mode if that is on, and the
//! partition's V registers are loaded. Partitions never get SVE or SME. `ZA` and `ZT0` stay in place: partitions can't
//! reach them.
//!
//! Parking a context stores its V registers and turns the trap on again; the normal world's state is put back before
//! leaving for it. What another context or the normal world had is never visible, because nobody gets past the trap
//! without all registers being loaded.
//!
//! `ZCR_EL2` and `SMCR_EL2` are one register for both worlds and hold the normal world's values (TF-A 2.12). `ZCR_EL2` is
//! set to the longest vectors while its state is moved, for an EL3 that does switch it. `SMCR_EL2` is left alone:
//! changing the length with `ZA` in use could change `ZA`, and beyond its own length the normal world has nothing.
//!
//! TF-A must let S-EL2 use what the processor has (`ENABLE_SVE_FOR_SWD=1`, `ENABLE_SME_FOR_SWD=1`, on QEMU together
//! with `..._FOR_NS`, which its platform turns on by itself). With a TF-A that does not, on a processor with SVE, the
//! first FP instruction of a partition stops the machine in EL3; the SPMC can't find that out beforehand. Partitions
//! without FP work there.
#![expect(unsafe_code, reason = "moves the registers by assembly")]

use alloc::{boxed::Box, vec};
use core::arch::global_asm;

use tantalum_core::context::SimdRegisters;

use crate::{control::cptr, features::Features, sysreg};

/// Longest vector of the architecture.
const VECTOR_BYTES: usize = 256;
/// Z0-Z31, P0-P15, FFR.
const SCALABLE_BYTES: usize = 32 * VECTOR_BYTES + 17 * VECTOR_BYTES / 8;
/// Bytes that the normal world's state takes at most.
pub const AREA_BYTES_MAX: usize = SCALABLE_BYTES;
/// V0-V31.
const FIXED_BYTES: usize = 32 * 16;

/// `SVCR.SM`.
const SVCR_SM: u64 = 1;
/// `ZCR_EL2` for the longest vectors.
const ZCR_LONGEST: u64 = 0xf;
/// `SMCR_EL2.FA64`.
const SMCR_FA64: u64 = 1 << 31;

global_asm!(
    r#"
.arch armv9-a+sve+sme
.pushsection .text.tantalum_simd, "ax"

.macro fixed_registers instruction
    \instruction q0, q1, [x0]
    \instruction q2, q3, [x0, #32]
    \instruction q4, q5, [x0, #64]
    \instruction q6, q7, [x0, #96]
    \instruction q8, q9, [x0, #128]
    \instruction q10, q11, [x0, #160]
    \instruction q12, q13, [x0, #192]
    \instruction q14, q15, [x0, #224]
    \instruction q16, q17, [x0, #256]
    \instruction q18, q19, [x0, #288]
    \instruction q20, q21, [x0, #320]
    \instruction q22, q23, [x0, #352]
    \instruction q24, q25, [x0, #384]
    \instruction q26, q27, [x0, #416]
    \instruction q28, q29, [x0, #448]
    \instruction q30, q31, [x0, #480]
.endm

.global tantalum_fixed_save
tantalum_fixed_save:
    fixed_registers stp
    ret

.global tantalum_fixed_load
tantalum_fixed_load:
    fixed_registers ldp
    ret

// x0: the area, x1: whether FFR is there.
.global tantalum_scalable_save
tantalum_scalable_save:
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    str     z\n, [x0, #\n, mul vl]
    .endr
    addvl   x0, x0, #16
    addvl   x0, x0, #16
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    str     p\n, [x0, #\n, mul vl]
    .endr
    cbz     x1, 1f
    rdffr   p0.b
    str     p0, [x0, #16, mul vl]
1:  ret

.global tantalum_scalable_load
tantalum_scalable_load:
    mov     x2, x0
    addvl   x2, x2, #16
    addvl   x2, x2, #16
    cbz     x1, 1f
    ldr     p0, [x2, #16, mul vl]
    wrffr   p0.b
1:  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    ldr     p\n, [x2, #\n, mul vl]
    .endr
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    ldr     z\n, [x0, #\n, mul vl]
    .endr
    ret
.popsection
.arch armv8-a
"#
);

unsafe extern "C" {
    fn tantalum_fixed_save(area: *mut u128);
    fn tantalum_fixed_load(area: *const u128);
    fn tantalum_scalable_save(area: *mut u128, with_ffr: u64);
    fn tantalum_scalable_load(area: *const u128, with_ffr: u64);
}

/// The normal world's state while it is not in the registers.
#[derive(Debug, Default)]
struct Displaced {
    fpcr: u64,
    fpsr: u64,
    fpmr: u64,
    svcr: u64,
    zcr: u64,
    smcr: u64,
}

/// Who has the FP registers of a PE, and where the normal world's are meanwhile.
#[derive(Debug)]
pub struct Simd {
    features: Features,
    /// `CPTR_EL2` when everything traps.
    closed: u64,
    /// The context that is live on the PE has its V registers loaded.
    live: bool,
    /// The normal world's state is in `area` and `saved`.
    displaced: bool,
    saved: Displaced,
    area: Box<[u128]>,
}

impl Simd {
    /// The state of a PE that has come up. Allocates.
    #[must_use]
    pub fn new(features: &Features) -> Self {
        let bytes = if features.sve || features.sme {
            SCALABLE_BYTES
        } else {
            FIXED_BYTES
        };
        Self {
            features: *features,
            closed: cptr(features),
            live: false,
            displaced: false,
            saved: Displaced::default(),
            area: vec![0; bytes.div_ceil(16)].into_boxed_slice(),
        }
    }

    /// Forgets everything: the PE has just come up.
    pub fn reset(&mut self) {
        self.live = false;
        self.displaced = false;
    }

    /// Whether the live context has its FP registers loaded.
    #[inline]
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// Sets `CPTR_EL2`.
    #[inline]
    fn set_cptr(&self, value: u64) {
        // SAFETY: the SPMC's Rust code uses no FP, so that what traps at EL2 does not matter to it.
        unsafe { sysreg::cptr_el2::write(value) };
        sysreg::isb();
    }

    /// A partition has used FP for the first time since it was loaded: its registers go in.
    pub fn load(&mut self, registers: &SimdRegisters) {
        if !self.displaced {
            self.save_normal_world();
        }
        // SVE and SME keep trapping.
        self.set_cptr(self.closed & !cptr::TFP);
        // SAFETY: FP does not trap now; the normal world's registers are saved; `v` has 32 quadwords.
        unsafe {
            tantalum_fixed_load(registers.v.as_ptr());
            sysreg::fpcr::write(registers.fpcr);
            sysreg::fpsr::write(registers.fpsr);
        }
        self.live = true;
    }

    /// The live context is parked: stores its registers, if they are in the PE.
    pub fn store(&mut self, registers: &mut SimdRegisters) {
        if !self.live {
            return;
        }
        // SAFETY: FP does not trap while a context's registers are live; `v` has 32 quadwords.
        unsafe { tantalum_fixed_save(registers.v.as_mut_ptr()) };
        registers.fpcr = sysreg::fpcr::read();
        registers.fpsr = sysreg::fpsr::read();
        self.discard();
    }

    /// The registers of the live context are no longer wanted.
    #[inline]
    pub fn discard(&mut self) {
        if self.live {
            self.live = false;
            self.set_cptr(self.closed);
        }
    }

    /// The normal world's state goes back, if it was displaced. The live context must have been parked.
    #[inline]
    pub fn restore_normal_world(&mut self) {
        if self.displaced {
            self.restore();
        }
    }

    /// Sets SVE's full vector length. Returns whether `FFR` can be accessed: in streaming mode only with `FA64`, and
    /// where the normal world has that off there is nothing in it.
    fn lengthen(&self, streaming: bool) -> bool {
        if self.features.sve {
            // SAFETY: the length is that of the normal world's registers; `shorten` puts it back.
            unsafe { sysreg::zcr_el2::write(ZCR_LONGEST) };
            sysreg::isb();
        }
        if streaming {
            self.features.fa64 && self.saved.smcr & SMCR_FA64 != 0
        } else {
            self.features.sve
        }
    }

    /// The vector length as the normal world has it.
    fn shorten(&self) {
        if self.features.sve {
            // SAFETY: the value is the one that the normal world had.
            unsafe { sysreg::zcr_el2::write(self.saved.zcr) };
            sysreg::isb();
        }
    }

    fn all_open(&self) -> u64 {
        let mut value = self.closed & !cptr::TFP;
        if self.features.sve {
            value &= !cptr::TZ;
        }
        if self.features.sme {
            value &= !cptr::TSM;
        }
        value
    }

    fn save_normal_world(&mut self) {
        self.set_cptr(self.all_open());
        self.saved.fpcr = sysreg::fpcr::read();
        self.saved.fpsr = sysreg::fpsr::read();
        if self.features.fpmr {
            self.saved.fpmr = sysreg::fpmr::read();
        }
        if self.features.sve {
            self.saved.zcr = sysreg::zcr_el2::read();
        }
        if self.features.sme {
            self.saved.svcr = sysreg::svcr::read();
            self.saved.smcr = sysreg::smcr_el2::read();
        }
        let streaming = self.saved.svcr & SVCR_SM != 0;
        if self.features.sve || streaming {
            let ffr = self.lengthen(streaming);
            // SAFETY: nothing traps, and the area has room for the longest vectors.
            unsafe { tantalum_scalable_save(self.area.as_mut_ptr(), u64::from(ffr)) };
            if streaming {
                // SAFETY: leaves streaming mode, which zeroes Z, P and FFR: they were saved. ZA stays.
                unsafe { sysreg::svcr::write(self.saved.svcr & !SVCR_SM) };
            }
            self.shorten();
        } else {
            // SAFETY: FP does not trap, and the area has room for 32 quadwords.
            unsafe { tantalum_fixed_save(self.area.as_mut_ptr()) };
        }
        self.displaced = true;
    }

    #[cold]
    fn restore(&mut self) {
        self.set_cptr(self.all_open());
        let streaming = self.saved.svcr & SVCR_SM != 0;
        // SAFETY: nothing traps; the area holds what was saved, at the same vector length.
        unsafe {
            if streaming {
                sysreg::svcr::write(self.saved.svcr);
            }
            if self.features.sve || streaming {
                let ffr = self.lengthen(streaming);
                tantalum_scalable_load(self.area.as_ptr(), u64::from(ffr));
                self.shorten();
            } else {
                tantalum_fixed_load(self.area.as_ptr());
            }
            sysreg::fpcr::write(self.saved.fpcr);
            sysreg::fpsr::write(self.saved.fpsr);
            if self.features.fpmr {
                sysreg::fpmr::write(self.saved.fpmr);
            }
        }
        self.displaced = false;
        self.live = false;
        self.set_cptr(self.closed);
    }
}
