//! Entering a partition's context, and coming back.
#![expect(unsafe_code, reason = "the switch of registers is assembly")]

use core::{arch::naked_asm, mem::offset_of};

use tantalum_core::context::Context;

/// Why [`enter`] has returned.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A synchronous exception.
    Synchronous = 0,
    /// An IRQ.
    Irq = 1,
    /// A FIQ.
    Fiq = 2,
    /// An SError.
    SError = 3,
    /// A vector that should not have been taken.
    Unknown = 4,
}

/// Offset in the frame of [`enter`] of the context's address.
pub const FRAME_CONTEXT: usize = 16;

/// Bit 3 of PSTATE.M, set in the modes of EL2 and EL3 only.
const MODE_EL2: u64 = 1 << 3;

/// Enters `context` until an exception is taken to EL2. The vectors ([`crate::vectors`]) store its registers and return
/// from here.
///
/// Frame, 128 bytes: 0 scratch space of the vectors, 16 context, 32 x19-x28, 112 x29, x30.
///
/// # Safety
/// `context` must be valid and not be accessed by anyone else meanwhile. Its EL1 registers and stage-2 roots must have
/// been loaded.
#[unsafe(naked)]
pub unsafe extern "C" fn enter(context: *mut Context) -> Reason {
    naked_asm!(
        "sub     sp, sp, #128",
        "stp     x19, x20, [sp, #32]",
        "stp     x21, x22, [sp, #48]",
        "stp     x23, x24, [sp, #64]",
        "stp     x25, x26, [sp, #80]",
        "stp     x27, x28, [sp, #96]",
        "stp     x29, x30, [sp, #112]",
        "str     x0, [sp, #{frame_context}]",
        "ldp     x1, x2, [x0, #{pc}]",
        // Whatever the policy may have written there: no mode of EL2.
        "and     x2, x2, #~{mode_el2}",
        "msr     elr_el2, x1",
        "msr     spsr_el2, x2",
        "ldp     x2, x3, [x0, #(2 * 8)]",
        "ldp     x4, x5, [x0, #(4 * 8)]",
        "ldp     x6, x7, [x0, #(6 * 8)]",
        "ldp     x8, x9, [x0, #(8 * 8)]",
        "ldp     x10, x11, [x0, #(10 * 8)]",
        "ldp     x12, x13, [x0, #(12 * 8)]",
        "ldp     x14, x15, [x0, #(14 * 8)]",
        "ldp     x16, x17, [x0, #(16 * 8)]",
        "ldp     x18, x19, [x0, #(18 * 8)]",
        "ldp     x20, x21, [x0, #(20 * 8)]",
        "ldp     x22, x23, [x0, #(22 * 8)]",
        "ldp     x24, x25, [x0, #(24 * 8)]",
        "ldp     x26, x27, [x0, #(26 * 8)]",
        "ldp     x28, x29, [x0, #(28 * 8)]",
        "ldr     x30, [x0, #(30 * 8)]",
        "ldp     x0, x1, [x0]",
        "eret",
        // Nothing behind an exception return is executed, not even speculatively.
        "dsb     nsh",
        "isb",
        frame_context = const FRAME_CONTEXT,
        pc = const offset_of!(Context, pc),
        mode_el2 = const MODE_EL2,
    )
}
