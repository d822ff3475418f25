//! Patterns in the floating-point, SIMD, SVE and SME registers.
//!
//! The program is compiled to use none of them, so what one of these functions writes stays until another reads it, whatever calls are made
//! in between, unless somebody else changes it: which is what the tests want to know.

use core::arch::{asm, naked_asm};

use crate::arch;

/// The longest vector that the architecture allows, in bytes.
const LONGEST: usize = 256;
/// How many vector registers there are.
const VECTORS: usize = 32;

/// V0-V31, FPCR and FPSR.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Simd {
    v: [u64; 64],
    fpcr: u64,
    fpsr: u64,
}

impl Simd {
    /// Values that depend on `seed`. FPCR and FPSR get bits that any processor keeps.
    #[must_use]
    pub fn pattern(seed: u64) -> Self {
        let mut v = [0; 64];
        let mut value = seed;
        for word in &mut v {
            value = value
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *word = value;
        }
        // Alternative half precision, default NaN, flush-to-zero and rounding mode; the cumulative exception bits and saturation.
        let fpcr = (value >> 32 & 0x1f) << 22;
        let fpsr = (value >> 40 & 0x1f) | (value >> 45 & 1) << 27;
        Self { v, fpcr, fpsr }
    }

    /// What the registers hold now.
    #[must_use]
    pub fn read() -> Self {
        let mut state = Self {
            v: [0; 64],
            fpcr: 0,
            fpsr: 0,
        };
        enable();
        // SAFETY: `read_simd` writes exactly the structure that it is given.
        unsafe { asm!("bl {}", sym read_simd, inout("x0") &raw mut state => _, clobber_abi("C")) };
        state
    }

    /// Puts the values in the registers.
    pub fn write(&self) {
        enable();
        // SAFETY: `write_simd` only reads the structure; compiled code does not use the registers.
        unsafe { asm!("bl {}", sym write_simd, inout("x0") &raw const *self => _, clobber_abi("C")) };
    }

    /// Nothing in any register.
    pub const ZERO: Self = Self {
        v: [0; 64],
        fpcr: 0,
        fpsr: 0,
    };

    /// A mask of the registers that differ: bit N for VN, bit 32 for FPCR, bit 33 for FPSR.
    #[must_use]
    pub fn difference(&self, other: &Self) -> u64 {
        let mut mask = 0;
        for (i, (a, b)) in self.v.chunks(2).zip(other.v.chunks(2)).enumerate() {
            mask |= u64::from(a != b) << i;
        }
        mask | u64::from(self.fpcr != other.fpcr) << 32 | u64::from(self.fpsr != other.fpsr) << 33
    }
}

/// Lets this exception level use the registers.
pub fn enable() {
    // SAFETY: removing the traps of the program's own exception level changes no Rust state.
    unsafe {
        if arch::exception_level() == 0 {
            // Nothing traps at EL1, and what traps at EL2 is the SPM's matter.
        } else if arch::is_normal_world() {
            // CPTR_EL2 without VHE: clear TFP (10), TZ (8), TSM (12).
            asm!("mrs {t}, cptr_el2", "bic {t}, {t}, #(1 << 10)", "bic {t}, {t}, #(1 << 8)", "bic {t}, {t}, #(1 << 12)",
                "msr cptr_el2, {t}", "isb", t = out(reg) _, options(nostack, preserves_flags));
        } else {
            asm!("mrs {t}, cpacr_el1", "orr {t}, {t}, #(3 << 20)", "msr cpacr_el1, {t}", "isb", t = out(reg) _,
                options(nostack, preserves_flags));
        }
    }
}

#[unsafe(naked)]
unsafe extern "C" fn write_simd() {
    naked_asm!(
        ".arch_extension fp",
        ".arch_extension simd",
        "ldp q0, q1, [x0]",
        "ldp q2, q3, [x0, #32]",
        "ldp q4, q5, [x0, #64]",
        "ldp q6, q7, [x0, #96]",
        "ldp q8, q9, [x0, #128]",
        "ldp q10, q11, [x0, #160]",
        "ldp q12, q13, [x0, #192]",
        "ldp q14, q15, [x0, #224]",
        "ldp q16, q17, [x0, #256]",
        "ldp q18, q19, [x0, #288]",
        "ldp q20, q21, [x0, #320]",
        "ldp q22, q23, [x0, #352]",
        "ldp q24, q25, [x0, #384]",
        "ldp q26, q27, [x0, #416]",
        "ldp q28, q29, [x0, #448]",
        "ldp q30, q31, [x0, #480]",
        "ldr x1, [x0, #512]",
        "ldr x2, [x0, #520]",
        "msr fpcr, x1",
        "msr fpsr, x2",
        "ret",
    )
}

#[unsafe(naked)]
unsafe extern "C" fn read_simd() {
    naked_asm!(
        ".arch_extension fp",
        ".arch_extension simd",
        "stp q0, q1, [x0]",
        "stp q2, q3, [x0, #32]",
        "stp q4, q5, [x0, #64]",
        "stp q6, q7, [x0, #96]",
        "stp q8, q9, [x0, #128]",
        "stp q10, q11, [x0, #160]",
        "stp q12, q13, [x0, #192]",
        "stp q14, q15, [x0, #224]",
        "stp q16, q17, [x0, #256]",
        "stp q18, q19, [x0, #288]",
        "stp q20, q21, [x0, #320]",
        "stp q22, q23, [x0, #352]",
        "stp q24, q25, [x0, #384]",
        "stp q26, q27, [x0, #416]",
        "stp q28, q29, [x0, #448]",
        "stp q30, q31, [x0, #480]",
        "mrs x1, fpcr",
        "mrs x2, fpsr",
        "str x1, [x0, #512]",
        "str x2, [x0, #520]",
        "ret",
    )
}

/// Z0-Z31, P0-P15 and FFR, each register in a slot of the longest size. Only the normal world has SVE.
#[repr(C, align(16))]
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sve {
    z: [[u8; LONGEST]; VECTORS],
    p: [[u8; LONGEST / 8]; 17],
}

impl Sve {
    /// All zero. The structure is too large for the stack: make it a static.
    pub const ZERO: Self = Self {
        z: [[0; LONGEST]; VECTORS],
        p: [[0; LONGEST / 8]; 17],
    };

    /// Takes on values that depend on `seed`, for vectors of `length` bytes. The last of the predicates is FFR, which holds a prefix of ones as FFR
    /// must.
    pub fn set_pattern(&mut self, seed: u64, length: usize) {
        let mut value = seed;
        let mut byte = || {
            value = value
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((value >> 56) & 0xff) as u8
        };
        self.z.iter_mut().for_each(|z| z.fill(0));
        self.p.iter_mut().for_each(|p| p.fill(0));
        self.z
            .iter_mut()
            .for_each(|z| z[..length].iter_mut().for_each(|b| *b = byte()));
        self.p[..16]
            .iter_mut()
            .for_each(|p| p[..length / 8].iter_mut().for_each(|b| *b = byte()));
        self.p[16][..length / 16].fill(0xff);
    }

    /// Takes on what the registers hold now. Without `with_ffr` FFR is left alone, as streaming mode needs.
    pub fn read(&mut self, with_ffr: bool) {
        self.z.iter_mut().for_each(|z| z.fill(0));
        self.p.iter_mut().for_each(|p| p.fill(0));
        enable();
        // SAFETY: `read_sve` writes into the slots of the structure, none longer than the longest vector.
        unsafe {
            asm!("bl {}", sym read_sve, inout("x0") &raw mut *self => _, inout("x1") u64::from(with_ffr) => _,
                clobber_abi("C"));
        }
    }

    /// Puts the values in the registers. Without `with_ffr` FFR is left alone, as streaming mode needs.
    pub fn write(&self, with_ffr: bool) {
        enable();
        // SAFETY: `write_sve` only reads the structure; compiled code does not use the registers.
        unsafe {
            asm!("bl {}", sym write_sve, inout("x0") &raw const *self => _, inout("x1") u64::from(with_ffr) => _,
                clobber_abi("C"));
        }
    }

    /// A mask of the registers that differ: bit N for ZN, bit 32+N for PN, bit 48 for FFR.
    #[must_use]
    pub fn difference(&self, other: &Self) -> u64 {
        let mut mask = 0;
        for (i, (a, b)) in self.z.iter().zip(&other.z).enumerate() {
            mask |= u64::from(a != b) << i;
        }
        for (i, (a, b)) in self.p.iter().zip(&other.p).enumerate() {
            mask |= u64::from(a != b) << (32 + i);
        }
        mask
    }
}

/// Applies `$line` to the registers 0 to 31.
macro_rules! each_z {
    ($a:literal, $b:literal, $c:literal) => {
        concat!(
            ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n",
            $a,
            "\n",
            $b,
            "\n",
            $c,
            "\n.endr"
        )
    };
}

#[unsafe(naked)]
unsafe extern "C" fn write_sve() {
    naked_asm!(
        ".arch_extension sve",
        "mov x2, x0",
        "add x3, x0, #{predicates}",
        "cbz x1, 1f",
        "add x4, x3, #512",
        "ldr p0, [x4]",
        "wrffr p0.b",
        "1:",
        each_z!("ldr z\\n, [x2]", "add x2, x2, #256", ""),
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "ldr p\\n, [x3]",
        "add x3, x3, #32",
        ".endr",
        "ret",
        predicates = const LONGEST * VECTORS,
    )
}

#[unsafe(naked)]
unsafe extern "C" fn read_sve() {
    naked_asm!(
        ".arch_extension sve",
        "mov x2, x0",
        "add x3, x0, #{predicates}",
        each_z!("str z\\n, [x2]", "add x2, x2, #256", ""),
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "str p\\n, [x3]",
        "add x3, x3, #32",
        ".endr",
        "cbz x1, 1f",
        "rdffr p0.b",
        "str p0, [x3]",
        "sub x3, x3, #512",
        "ldr p0, [x3]",
        "1: ret",
        predicates = const LONGEST * VECTORS,
    )
}

/// Lets the normal world use the longest vectors there are, and returns their length in bytes.
#[must_use]
pub fn longest_vector() -> usize {
    enable();
    let length: u64;
    // SAFETY: changes the vector length of this exception level; compiled code uses no vectors.
    unsafe {
        asm!(".arch_extension sve", "msr S3_4_C1_C2_0, {l}", "isb", "rdvl {n}, #1", l = in(reg) 0xf_u64, n = out(reg) length,
            options(nostack, preserves_flags));
    }
    usize::try_from(length).unwrap_or(0).min(LONGEST)
}

/// The normal world's streaming state (SME).
#[derive(Debug)]
pub struct Streaming;

impl Streaming {
    /// Enters streaming mode and turns the ZA array on; returns the length of a streaming vector in bytes.
    #[must_use]
    pub fn start() -> usize {
        enable();
        let length: u64;
        // SAFETY: SMCR_EL2 and the streaming mode bits concern only registers that compiled code does not use. SMCR keeps FA64 clear, so that
        // streaming mode is as narrow as on any processor.
        unsafe {
            asm!("msr S3_4_C1_C2_6, {l}", "isb", ".inst 0xd503477f", ".arch_extension sve", "rdvl {n}, #1",
                l = in(reg) 0xf_u64, n = out(reg) length, options(nostack, preserves_flags));
        }
        usize::try_from(length).unwrap_or(0).min(LONGEST)
    }

    /// Leaves streaming mode and turns ZA off.
    pub fn stop() {
        // SAFETY: as for `start`. The instruction is SMSTOP.
        unsafe { asm!(".inst 0xd503467f", options(nostack, preserves_flags)) };
    }

    /// `SVCR`: bit 0 is streaming mode, bit 1 is ZA.
    #[must_use]
    pub fn svcr() -> u64 {
        let value: u64;
        // SAFETY: reading the register changes nothing; SME is there when this is called.
        unsafe { asm!("mrs {}, S3_3_C4_C2_2", out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }

    /// Fills the rows of ZA with bytes that depend on `seed`.
    pub fn fill_array(seed: u64, length: usize) {
        let mut row = [0_u8; LONGEST];
        for index in 0..length {
            row[..length].fill(row_byte(seed, index));
            // SAFETY: loads one row of ZA, which is on; the buffer is as long as the longest row.
            unsafe {
                asm!(".arch_extension sme", "mov w12, {i:w}", "ldr za[w12, 0], [{p}]", i = in(reg) index, p = in(reg) row.as_ptr(),
                    out("x12") _, options(nostack, preserves_flags));
            }
        }
    }

    /// How many rows of ZA do not hold what [`Self::fill_array`] put there.
    #[must_use]
    pub fn damaged_rows(seed: u64, length: usize) -> usize {
        let mut row = [0_u8; LONGEST];
        let mut damaged = 0;
        for index in 0..length {
            // SAFETY: stores one row of ZA, which is on; the buffer is as long as the longest row.
            unsafe {
                asm!(".arch_extension sme", "mov w12, {i:w}", "str za[w12, 0], [{p}]", i = in(reg) index, p = in(reg) row.as_mut_ptr(),
                    out("x12") _, options(nostack, preserves_flags));
            }
            damaged += usize::from(row[..length].iter().any(|byte| *byte != row_byte(seed, index)));
        }
        damaged
    }
}

fn row_byte(seed: u64, index: usize) -> u8 {
    ((seed.wrapping_add(index as u64).wrapping_mul(0x9e37_79b9)) & 0xff) as u8
}
