//! The EL2 physical timer: an interrupt of the normal world's after a while.

#![expect(unsafe_code, reason = "timer registers")]

use core::arch::asm;

use crate::arch;

/// Its interrupt, a PPI.
pub const INTERRUPT: u32 = 26;

/// Has the interrupt come in `milliseconds`; returns what the counter will be then.
pub fn start(milliseconds: u64) -> u64 {
    start_in(arch::ticks(milliseconds))
}

/// Has the interrupt come in so many ticks of the counter; returns what the counter will be then.
pub fn start_in(ticks: u64) -> u64 {
    let deadline = arch::counter() + ticks;
    // SAFETY: the timer of this exception level; its interrupt is masked at the processor and only polled.
    unsafe {
        asm!("msr cnthp_cval_el2, {}", "msr cnthp_ctl_el2, {}", "isb", in(reg) deadline, in(reg) 1_u64,
            options(nostack, preserves_flags));
    }
    deadline
}

/// Turns the timer off; its interrupt goes away.
pub fn stop() {
    // SAFETY: as for `start`.
    unsafe { asm!("msr cnthp_ctl_el2, xzr", "isb", options(nostack, preserves_flags)) };
}

/// Spins for a while.
pub fn delay(milliseconds: u64) {
    let end = arch::counter() + arch::ticks(milliseconds);
    while arch::counter() < end {
        core::hint::spin_loop();
    }
}
