//! Exception vectors of EL2.
//!
//! Exceptions from a partition end [`enter`](crate::enter::enter). Exceptions of the SPMC itself are either expected
//! (an access to foreign memory, or to a register that EL3 may withhold: the `.fixups` table says where to go on) or a
//! bug, which is reported ([`crate::panic::unexpected`]). `.fixups` holds pairs of addresses: instruction, landing.
#![expect(unsafe_code, reason = "vectors are assembly")]

use core::{arch::global_asm, mem::offset_of};

use crate::{
    enter::{FRAME_CONTEXT, Reason},
    pe::Core,
};
use tantalum_core::context::Context;

unsafe extern "C" {
    /// The vector table.
    pub fn tantalum_vectors();
}

global_asm!(
    r#"
// From a partition. The stack pointer is where enter() left it: two words of scratch space, and the context.
.macro leave_context reason
    .balign 0x80
    stp     x0, x1, [sp]
    ldr     x0, [sp, #{frame_context}]
    mov     w1, #\reason
    stp     x2, x3, [x0, #(2 * 8)]
    stp     x4, x5, [x0, #(4 * 8)]
    stp     x6, x7, [x0, #(6 * 8)]
    stp     x8, x9, [x0, #(8 * 8)]
    stp     x10, x11, [x0, #(10 * 8)]
    stp     x12, x13, [x0, #(12 * 8)]
    stp     x14, x15, [x0, #(14 * 8)]
    stp     x16, x17, [x0, #(16 * 8)]
    stp     x18, x19, [x0, #(18 * 8)]
    stp     x20, x21, [x0, #(20 * 8)]
    stp     x22, x23, [x0, #(22 * 8)]
    stp     x24, x25, [x0, #(24 * 8)]
    stp     x26, x27, [x0, #(26 * 8)]
    stp     x28, x29, [x0, #(28 * 8)]
    b       tantalum_left
.endm

// From the SPMC itself: find out whether there is a stack left (bit 15 of a valid stack pointer is set), without a
// register to spare.
.macro own_exception kind
    .balign 0x80
    sub     sp, sp, #{own_frame}
    add     sp, sp, x0
    sub     x0, sp, x0
    tbz     x0, #15, 1f
    sub     x0, sp, x0
    sub     sp, sp, x0
    stp     x0, x1, [sp]
    mov     w1, #\kind
    b       tantalum_own_exception
1:  b       tantalum_overflow
.endm

.pushsection .text.vectors, "ax"
.balign 0x800
.global tantalum_vectors
tantalum_vectors:
    own_exception 0
    own_exception 1
    own_exception 2
    own_exception 3

    own_exception 4
    own_exception 5
    own_exception 6
    own_exception 7

    leave_context {synchronous}
    leave_context {irq}
    leave_context {fiq}
    leave_context {serror}

    // EL1 is always AArch64, so that these can't be.
    leave_context {unknown}
    leave_context {unknown}
    leave_context {unknown}
    leave_context {unknown}
    .balign 0x80

// The second half of leave_context: the rest of the registers, then return from enter() with the reason.
tantalum_left:
    ldp     x2, x3, [sp]
    mrs     x4, elr_el2
    mrs     x5, spsr_el2
    str     x30, [x0, #(30 * 8)]
    stp     x2, x3, [x0]
    stp     x4, x5, [x0, #{pc}]
    mov     w0, w1
    ldp     x19, x20, [sp, #32]
    ldp     x21, x22, [sp, #48]
    ldp     x23, x24, [sp, #64]
    ldp     x25, x26, [sp, #80]
    ldp     x27, x28, [sp, #96]
    ldp     x29, x30, [sp, #112]
    add     sp, sp, #128
    ret

// An exception of the SPMC, with x0 and x1 saved and the kind in w1.
tantalum_own_exception:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    mrs     x0, elr_el2
    ldr     x2, =__fixups_start
    ldr     x3, =__fixups_end
1:  cmp     x2, x3
    b.hs    3f
    ldp     x4, x5, [x2], #16
    cmp     x4, x0
    b.ne    1b
    msr     elr_el2, x5
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp]
    add     sp, sp, #{own_frame}
    eret
    dsb     nsh
    isb
3:  mov     w0, w1
    add     x1, sp, #{own_frame}
    b       {unexpected}

// The stack has overflowed: report on the PE's emergency stack, or on the boot PE's before there is one.
tantalum_overflow:
    mov     x1, x0
    mov     w0, #16
    mrs     x2, tpidr_el2
    cbz     x2, 4f
    ldr     x2, [x2, #{emergency}]
    b       5f
4:  ldr     x2, =__window_end
5:  mov     sp, x2
    b       {unexpected}
.ltorg
.popsection
"#,
    frame_context = const FRAME_CONTEXT,
    own_frame = const 48,
    synchronous = const Reason::Synchronous as u32,
    irq = const Reason::Irq as u32,
    fiq = const Reason::Fiq as u32,
    serror = const Reason::SError as u32,
    unknown = const Reason::Unknown as u32,
    pc = const offset_of!(Context, pc),
    emergency = const Core::EMERGENCY,
    unexpected = sym crate::panic::unexpected,
);
const _: () = assert!(offset_of!(Context, x) == 0 && offset_of!(Context, pstate) == offset_of!(Context, pc) + 8);
