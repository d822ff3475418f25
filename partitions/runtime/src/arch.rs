//! The few things a program asks of the processor itself: who am I, what time is it, wait.

#![expect(
    unsafe_code,
    reason = "reads of identification and counter registers, and the wait hints, have no safe form"
)]

use core::arch::asm;

use crate::entry::__TANTALUM_AT_EL0;

/// Reads a system register by name, at the exception level that the program runs at.
macro_rules! read_register {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading the registers that this module names changes nothing and is allowed at EL1 and above.
        unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }};
}

/// The exception level the program runs at: 0 or 1 in a partition, 2 in the normal-world driver.
#[inline]
#[must_use]
pub fn exception_level() -> u64 {
    if __TANTALUM_AT_EL0 {
        return 0;
    }
    (read_register!("CurrentEL") >> 2) & 3
}

/// Whether this program is the normal-world driver, which runs at EL2.
#[inline]
#[must_use]
pub fn is_normal_world() -> bool {
    exception_level() == 2
}

/// `MPIDR_EL1` without its flag bits: what PSCI calls a core, and in a partition the number of the execution context (0 at S-EL0, which has one).
#[must_use]
pub fn mpidr() -> u64 {
    if __TANTALUM_AT_EL0 {
        return 0;
    }
    read_register!("mpidr_el1") & 0xff_00ff_ffff
}

/// The counter that every program may read: `CNTVCT_EL0` in a partition, `CNTPCT_EL0` in the normal world.
#[inline]
#[must_use]
pub fn counter() -> u64 {
    // SAFETY: an instruction barrier has no effect on memory; without it the counter could be read early.
    unsafe { asm!("isb", options(nomem, nostack, preserves_flags)) };
    if is_normal_world() {
        read_register!("cntpct_el0")
    } else {
        read_register!("cntvct_el0")
    }
}

/// Counter ticks a second.
#[must_use]
pub fn counter_frequency() -> u64 {
    read_register!("cntfrq_el0")
}

/// How many counter ticks `milliseconds` take.
#[must_use]
pub fn ticks(milliseconds: u64) -> u64 {
    counter_frequency().saturating_mul(milliseconds) / 1000
}

/// The `ID_AA64PFR0_EL1` field that starts at bit `shift`. 0 at S-EL0, which cannot read it.
fn pfr0(shift: u32) -> u64 {
    if __TANTALUM_AT_EL0 {
        return 0;
    }
    (read_register!("id_aa64pfr0_el1") >> shift) & 0xf
}

/// Whether the processor shows the registers of an interrupt controller to this program.
#[must_use]
pub fn has_gic() -> bool {
    pfr0(24) != 0
}

/// Whether the processor shows SVE to this program.
#[must_use]
pub fn has_sve() -> bool {
    pfr0(32) != 0
}

/// Whether the processor shows SME to this program.
#[must_use]
pub fn has_sme() -> bool {
    !__TANTALUM_AT_EL0 && (read_register!("id_aa64pfr1_el1") >> 24) & 0xf != 0
}

/// Whether SME lets streaming mode run all of SVE (`FEAT_SME_FA64`).
#[must_use]
pub fn has_sme_full_sve() -> bool {
    has_sme() && read_register!("S3_0_C0_C4_5") >> 63 != 0
}

/// A random number that the processor makes (`RNDR`), or `None` when it has no such instruction (`FEAT_RNG`) or, tried again and again, no entropy.
#[must_use]
pub fn random() -> Option<u64> {
    if read_register!("id_aa64isar0_el1") >> 60 == 0 {
        return None;
    }
    for _ in 0..1000 {
        let (value, failed): (u64, u64);
        // SAFETY: reading the register, which was found to exist, changes nothing but the flags that tell whether it went well.
        unsafe {
            asm!("mrs {}, S3_3_C2_C4_0", "cset {}, eq", out(reg) value, out(reg) failed, options(nomem, nostack))
        };
        if failed == 0 {
            return Some(value);
        }
        core::hint::spin_loop();
    }
    None
}

/// `ID_AA64MMFR0_EL1.PARange`, capped at the 48 bits that the tables of [`crate::mmu`] can express.
#[must_use]
pub(crate) fn physical_address_range() -> u64 {
    (read_register!("id_aa64mmfr0_el1") & 0xf).min(5)
}

/// Waits for an interrupt to be pending, masked or not.
pub fn wait_for_interrupt() {
    // SAFETY: waiting changes no memory; the barrier makes earlier stores visible to whoever wakes us.
    unsafe { asm!("dsb sy", "wfi", options(nostack, preserves_flags)) };
}

/// Lets some thousands of instructions go by, so that an interrupt that is pending is taken.
pub fn wait_a_little() {
    for _ in 0..2000 {
        core::hint::spin_loop();
    }
}

/// Stops this core for good, using as little power as it can.
pub fn halt() -> ! {
    loop {
        // SAFETY: waiting changes no memory.
        unsafe { asm!("wfe", options(nomem, nostack, preserves_flags)) };
    }
}
