//! System registers of EL1 that belong to whoever runs: patterns in them must survive what others do.

use core::arch::asm;

/// One register, and the bits of it that a pattern may set without doing harm.
#[derive(Debug)]
pub struct Register {
    /// The architectural name.
    pub name: &'static str,
    mask: u64,
    read: fn() -> u64,
    write: fn(u64),
}

impl Register {
    /// What the register holds.
    #[must_use]
    pub fn read(&self) -> u64 {
        (self.read)()
    }

    /// Writes the part of `value` that does no harm.
    pub fn write(&self, value: u64) {
        (self.write)(value & self.mask);
    }

    /// A value for this register: different for each seed and each register, within what the register keeps.
    #[must_use]
    pub fn pattern(&self, seed: u64, index: usize) -> u64 {
        (seed.wrapping_add(index as u64 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15) & self.mask
    }
}

/// Makes a list of registers. A read may not change anything, and a write no more than the list's documentation says.
macro_rules! registers {
    ($($name:literal: $mask:expr),* $(,)?) => {
        &[$(Register {
            name: $name,
            mask: $mask,
            read: || {
                let value: u64;
                // SAFETY: reading the register changes nothing.
                unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
                value
            },
            write: |value| {
                // SAFETY: nothing that the program does depends on the register, as the list's documentation says.
                unsafe { asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nomem, nostack, preserves_flags)) };
            },
        }),*]
    };
}

/// Aligned to a page, within 39 bits.
const PAGE: u64 = 0x7f_ffff_f000;
/// Aligned to an instruction.
const CODE: u64 = 0x7f_ffff_fffc;

/// Registers that a partition at EL1 does not need itself: its vectors and tables are elsewhere, and it takes no exception meanwhile.
pub static PARTITION: &[Register] = registers! {
    "tpidr_el0": u64::MAX,
    "tpidrro_el0": u64::MAX,
    "contextidr_el1": 0xffff_ffff,
    "afsr0_el1": 0,
    "afsr1_el1": 0,
    "amair_el1": 0,
    "far_el1": u64::MAX,
    "esr_el1": 0xffff_ffff,
    "elr_el1": CODE,
    "spsr_el1": 0xf000_0000,
    "sp_el0": !0xf,
    "par_el1": 0xffff_ffff_f000,
    "cntkctl_el1": 0x3,
    "csselr_el1": 0x1,
    "ttbr1_el1": PAGE,
};

/// Registers of EL1 that the normal-world driver, at EL2, does not need.
pub static NORMAL_WORLD: &[Register] = registers! {
    "sctlr_el1": 0x0000_0000_0000_1806,
    "ttbr0_el1": PAGE,
    "ttbr1_el1": PAGE,
    "tcr_el1": 0x0000_0007_3f3f_3f3f,
    "mair_el1": 0xffff_ffff_ffff_ffff,
    "vbar_el1": 0x7f_ffff_f800,
    "cpacr_el1": 0x0030_0000,
    "tpidr_el0": u64::MAX,
    "tpidrro_el0": u64::MAX,
    "tpidr_el1": u64::MAX,
    "contextidr_el1": 0xffff_ffff,
    "afsr0_el1": 0xffff_ffff,
    "afsr1_el1": 0xffff_ffff,
    "amair_el1": u64::MAX,
    "far_el1": u64::MAX,
    "esr_el1": 0xffff_ffff,
    "elr_el1": CODE,
    "spsr_el1": 0xf000_0000,
    "sp_el0": !0xf,
    "sp_el1": !0xf,
    "par_el1": 0xffff_ffff_f000,
    "cntkctl_el1": 0x3ff,
    "cntv_cval_el0": 0x7fff_ffff_ffff_ffff,
    "cntv_ctl_el0": 0x2,
    "cntp_cval_el0": 0x7fff_ffff_ffff_ffff,
    "cntp_ctl_el0": 0x2,
    "csselr_el1": 0xf,
    "mdscr_el1": 0x1000,
    "pmccfiltr_el0": 0xfc00_0000,
};
