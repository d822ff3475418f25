//! Exception vectors: an access that is being probed goes on at its resume address, anything else is fatal and explained.

#![expect(unsafe_code, reason = "exception vectors are assembly")]

use core::{arch::naked_asm, mem::offset_of};

use crate::{arch, context::Context, probe::Fault};

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
                "mov x0, #5", "b 99f", ".balign 0x80",
                "mov x0, #6", "b 99f", ".balign 0x80",
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
                "98: mov x0, #4",
                concat!("99: mrs x1, esr_", $el),
                concat!("mrs x2, far_", $el),
                concat!("mrs x3, elr_", $el),
                "b {fatal}",
                resume = const offset_of!(Context, resume),
                esr = const offset_of!(Context, esr),
                far = const offset_of!(Context, far),
                elr = const offset_of!(Context, elr),
                fatal = sym unexpected_exception,
            )
        }
    };
}

vectors!(el1, "el1", ".text.vectors.el1");
vectors!(el2, "el2", ".text.vectors.el2");

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
