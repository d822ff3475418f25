//! The timer of an execution context: the EL1 physical timer, whose interrupt is [`crate::interrupts::TIMER`].

#![expect(unsafe_code, reason = "timer registers")]

use core::arch::asm;

use crate::arch;

/// Bits of the control register: the timer runs, its interrupt is masked, its time has come.
pub const ENABLE: u64 = 1;
/// See [`ENABLE`].
pub const MASK: u64 = 2;
/// See [`ENABLE`].
pub const STATUS: u64 = 4;

/// Has the interrupt come when the counter is `deadline`.
pub fn set(deadline: u64) {
    // SAFETY: the timer is this context's.
    unsafe {
        asm!("msr cntp_cval_el0, {}", "msr cntp_ctl_el0, {}", "isb", in(reg) deadline, in(reg) ENABLE,
            options(nostack, preserves_flags));
    }
}

/// Has the interrupt come in so many ticks; returns what the counter will be then.
pub fn set_in(ticks: u64) -> u64 {
    let deadline = arch::counter().saturating_add(ticks);
    set(deadline);
    deadline
}

/// Writes the control register.
pub fn control(value: u64) {
    // SAFETY: the timer is this context's.
    unsafe { asm!("msr cntp_ctl_el0, {}", "isb", in(reg) value, options(nostack, preserves_flags)) };
}

/// Turns it off.
pub fn stop() {
    control(0);
}

/// Control register, compare value, and what is left, a 32-bit number.
#[must_use]
pub fn read() -> [u64; 3] {
    let (control, compare, left): (u64, u64, u64);
    // SAFETY: reading the registers changes nothing.
    unsafe {
        asm!("mrs {}, cntp_ctl_el0", "mrs {}, cntp_cval_el0", "mrs {}, cntp_tval_el0",
            out(reg) control, out(reg) compare, out(reg) left, options(nomem, nostack, preserves_flags));
    }
    [control, compare, left]
}
