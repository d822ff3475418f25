//! Exception vectors: an access that is being probed goes on at its resume address, an interrupt goes to its handler, anything else is fatal and
//! explained.

#![expect(unsafe_code, reason = "exception vectors are assembly")]

use core::{arch::naked_asm, mem::offset_of};

use crate::{
    arch,
    context::Context,
    interrupts::{self, Kind},
    probe::Fault,
};

/// One table of vectors for exception level `$el`.
macro_rules! vectors {
    ($name:ident, $el:literal, $section:literal) => {
        /// The vector table. Never called: its address goes to `VBAR_ELx`.
        #[unsafe(naked)]
        #[unsafe(link_section = $section)]
        pub(crate) unsafe extern "C" fn $name() -> ! {
            naked_asm!(
                ".balign 0x800",
                // Current EL with SP_EL0: the library never uses it.
                "mov x0, #0", "b 99f", ".balign 0x80",
                "mov x0, #1", "b 99f", ".balign 0x80",
                "mov x0, #2", "b 99f", ".balign 0x80",
                "mov x0, #3", "b 99f", ".balign 0x80",
                // Current EL with SP_ELx, synchronous: was something being probed?
                "stp x16, x17, [sp, #-16]!",
                concat!("mrs x16, tpidr_", $el),
                concat!("mrs x17, elr_", $el),
                "str x17, [x16, #{elr}]",
                "ldr x17, [x16, #{resume}]",
                "cbz x17, 98f",
                concat!("msr elr_", $el, ", x17"),
                "str xzr, [x16, #{resume}]",
                concat!("mrs x17, esr_", $el),
                "str x17, [x16, #{esr}]",
                concat!("mrs x17, far_", $el),
                "str x17, [x16, #{far}]",
                "ldp x16, x17, [sp], #16",
                "eret",
                ".balign 0x80",
                // IRQ, FIQ, SError.
                "stp x0, x1, [sp, #-176]!", "mov x0, #5", "b 96f", ".balign 0x80",
                "stp x0, x1, [sp, #-176]!", "mov x0, #6", "b 96f", ".balign 0x80",
                "mov x0, #7", "b 99f", ".balign 0x80",
                // Lower EL, AArch64 and AArch32: there is no lower EL.
                "mov x0, #8", "b 99f", ".balign 0x80",
                "mov x0, #9", "b 99f", ".balign 0x80",
                "mov x0, #10", "b 99f", ".balign 0x80",
                "mov x0, #11", "b 99f", ".balign 0x80",
                "mov x0, #12", "b 99f", ".balign 0x80",
                "mov x0, #13", "b 99f", ".balign 0x80",
                "mov x0, #14", "b 99f", ".balign 0x80",
                "mov x0, #15", "b 99f", ".balign 0x80",
                "96: stp x2, x3, [sp, #16]",
                "stp x4, x5, [sp, #32]",
                "stp x6, x7, [sp, #48]",
                "stp x8, x9, [sp, #64]",
                "stp x10, x11, [sp, #80]",
                "stp x12, x13, [sp, #96]",
                "stp x14, x15, [sp, #112]",
                "stp x16, x17, [sp, #128]",
                "stp x18, x30, [sp, #144]",
                concat!("mrs x1, elr_", $el),
                concat!("mrs x2, spsr_", $el),
                "stp x1, x2, [sp, #160]",
                "bl {interrupt}",
                "ldp x1, x2, [sp, #160]",
                concat!("msr elr_", $el, ", x1"),
                concat!("msr spsr_", $el, ", x2"),
                "ldp x18, x30, [sp, #144]",
                "ldp x16, x17, [sp, #128]",
                "ldp x14, x15, [sp, #112]",
                "ldp x12, x13, [sp, #96]",
                "ldp x10, x11, [sp, #80]",
                "ldp x8, x9, [sp, #64]",
                "ldp x6, x7, [sp, #48]",
                "ldp x4, x5, [sp, #32]",
                "ldp x2, x3, [sp, #16]",
                "ldp x0, x1, [sp], #176",
                "eret",
                "98: mov x0, #4",
                concat!("99: mrs x1, esr_", $el),
                concat!("mrs x2, far_", $el),
                concat!("mrs x3, elr_", $el),
                "b {fatal}",
                resume = const offset_of!(Context, resume),
                esr = const offset_of!(Context, esr),
                far = const offset_of!(Context, far),
                elr = const offset_of!(Context, elr),
                interrupt = sym interrupt,
                fatal = sym unexpected_exception,
            )
        }
    };
}

vectors!(el1, "el1", ".text.vectors.el1");
vectors!(el2, "el2", ".text.vectors.el2");

/// Hands an interrupt to the program's handler, or explains it.
extern "C" fn interrupt(vector: u64, elr: u64) {
    match interrupts::handler() {
        Some(handler) => handler(if vector == 5 { Kind::Irq } else { Kind::Fiq }),
        None => unexpected_exception(vector, 0, 0, elr),
    }
}

/// Explains an exception that the program did not ask for, and ends it.
extern "C" fn unexpected_exception(vector: u64, esr: u64, far: u64, elr: u64) -> ! {
    let kind = match vector % 4 {
        0 => "synchronous exception",
        1 => "IRQ",
        2 => "FIQ",
        _ => "SError",
    };
    let fault = Fault { esr, far, elr, at: elr };
    panic!(
        "unexpected {kind} at EL{} (vector {vector}): {fault}",
        arch::exception_level()
    );
}
