//! The performance monitors, for their interrupt: one of each core that can be had without a device.

#![expect(unsafe_code, reason = "registers of the performance monitors")]

use core::arch::asm;

/// The interrupt, a PPI.
pub const INTERRUPT: u32 = 23;

/// Has the cycle counter seem to overflow, for a moment.
pub fn overflow() {
    // SAFETY: nothing counts events here. The interrupt is not this program's.
    unsafe {
        asm!(
            "mrs {control}, pmcr_el0",
            "orr {control}, {control}, #1",
            "msr pmcr_el0, {control}",
            "msr pmintenset_el1, {cycles}",
            "msr pmovsset_el0, {cycles}",
            "isb",
            "msr pmovsclr_el0, {cycles}",
            "msr pmintenclr_el1, {cycles}",
            "isb",
            control = out(reg) _,
            cycles = in(reg) 1_u64 << 31,
            options(nostack, preserves_flags),
        );
    }
}
