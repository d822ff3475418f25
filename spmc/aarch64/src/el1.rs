//! EL1 system registers, switched when another context or the normal world owns them.
//!
//! The list is that of [`El1Registers`]. `ACTLR_EL1` is not switched: partitions can't reach it (`HCR_EL2.TACR`).
//! Other EL1 registers that exist are trapped, or without effect while `HCRX_EL2` is 0 ([`crate::control`]).
#![expect(unsafe_code, reason = "system registers are read and written by assembly")]

use core::{arch::asm, mem::offset_of};

use tantalum_core::context::El1Registers;

/// Applies `$do` to pairs of fields that lie beside each other.
macro_rules! each_pair {
    ($do:ident, $registers:expr) => {
        $do!($registers, cpacr, "cpacr_el1", ttbr0, "ttbr0_el1");
        $do!($registers, ttbr1, "ttbr1_el1", tcr, "tcr_el1");
        $do!($registers, mair, "mair_el1", amair, "amair_el1");
        $do!($registers, vbar, "vbar_el1", esr, "esr_el1");
        $do!($registers, far, "far_el1", elr, "elr_el1");
        $do!($registers, spsr, "spsr_el1", sp_el0, "sp_el0");
        $do!($registers, sp_el1, "sp_el1", tpidr_el0, "tpidr_el0");
        $do!($registers, tpidrro_el0, "tpidrro_el0", tpidr_el1, "tpidr_el1");
        $do!($registers, contextidr, "contextidr_el1", par, "par_el1");
        $do!($registers, afsr0, "afsr0_el1", afsr1, "afsr1_el1");
        $do!($registers, csselr, "csselr_el1", cntkctl, "cntkctl_el1");
    };
}

macro_rules! save_pair {
    ($registers:expr, $a:ident, $a_register:literal, $b:ident, $b_register:literal) => {
        const { assert!(offset_of!(El1Registers, $a) + 8 == offset_of!(El1Registers, $b)) };
        // SAFETY: reads two system registers of EL1 into two adjacent fields of a structure that is borrowed mutably.
        unsafe {
            asm!(
                concat!("mrs {a}, ", $a_register),
                concat!("mrs {b}, ", $b_register),
                "stp {a}, {b}, [{registers}, #{offset}]",
                registers = in(reg) &raw mut *$registers,
                a = out(reg) _,
                b = out(reg) _,
                offset = const offset_of!(El1Registers, $a),
                options(nostack, preserves_flags),
            );
        }
    };
}

macro_rules! load_pair {
    ($registers:expr, $a:ident, $a_register:literal, $b:ident, $b_register:literal) => {
        // SAFETY: writes two system registers of EL1, which have no effect at EL2, from two adjacent fields of a
        // structure that is borrowed.
        unsafe {
            asm!(
                "ldp {a}, {b}, [{registers}, #{offset}]",
                concat!("msr ", $a_register, ", {a}"),
                concat!("msr ", $b_register, ", {b}"),
                registers = in(reg) &raw const *$registers,
                a = out(reg) _,
                b = out(reg) _,
                offset = const offset_of!(El1Registers, $a),
                options(nostack, preserves_flags),
            );
        }
    };
}

/// Saves the registers of EL1 that are live in the PE.
#[inline]
pub fn save(registers: &mut El1Registers) {
    // SAFETY: reads a system register.
    unsafe { asm!("mrs {}, sctlr_el1", out(reg) registers.sctlr, options(nostack, preserves_flags)) };
    each_pair!(save_pair, registers);
}

/// Makes `registers` live in the PE. An exception return to EL1 follows before they matter.
#[inline]
pub fn load(registers: &El1Registers) {
    // SAFETY: SCTLR_EL1 has no effect at EL2.
    unsafe { asm!("msr sctlr_el1, {}", in(reg) registers.sctlr, options(nostack, preserves_flags)) };
    each_pair!(load_pair, registers);
}
