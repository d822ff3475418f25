//! Loops over memory that may fault.
#![expect(unsafe_code, reason = "the loops are assembly, with fix-ups for faults")]

use core::arch::global_asm;

global_asm!(
    r#"
.macro may_fault instruction:vararg
9:  \instruction
    .pushsection .fixups, "a"
    .balign 8
    .quad 9b, 8f
    .popsection
.endm

.pushsection .text.tantalum_copy, "ax"
.global tantalum_copy
tantalum_copy:
    subs    x2, x2, #16
    b.lo    2f
1:  may_fault ldp x3, x4, [x1]
    may_fault stp x3, x4, [x0]
    add     x1, x1, #16
    add     x0, x0, #16
    subs    x2, x2, #16
    b.hs    1b
2:  adds    x2, x2, #16
    b.eq    4f
3:  may_fault ldrb w3, [x1]
    may_fault strb w3, [x0]
    add     x1, x1, #1
    add     x0, x0, #1
    subs    x2, x2, #1
    b.ne    3b
4:  mov     x0, #0
    ret
8:  mov     x0, #1
    ret

.global tantalum_zero
tantalum_zero:
    mrs     x2, dczid_el0
    tbnz    x2, #4, 2f
    and     x2, x2, #0xf
    mov     x3, #4
    lsl     x2, x3, x2
1:  may_fault dc zva, x0
    add     x0, x0, x2
    subs    x1, x1, x2
    b.ne    1b
    mov     x0, #0
    ret
2:  may_fault stp xzr, xzr, [x0]
    add     x0, x0, #16
    subs    x1, x1, #16
    b.ne    2b
    mov     x0, #0
    ret
8:  mov     x0, #1
    ret

.global tantalum_clean
tantalum_clean:
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4
    mov     x3, #4
    lsl     x2, x3, x2
    add     x1, x0, x1
1:  may_fault dc civac, x0
    add     x0, x0, x2
    cmp     x0, x1
    b.lo    1b
    dsb     sy
    mov     x0, #0
    ret
8:  mov     x0, #1
    ret
.popsection
"#
);

unsafe extern "C" {
    fn tantalum_copy(to: usize, from: usize, bytes: usize) -> u64;
    fn tantalum_zero(start: usize, bytes: usize) -> u64;
    fn tantalum_clean(start: usize, bytes: usize) -> u64;
}

/// A fault in one of the loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Copies `bytes` bytes. Where the copy stopped at a fault is not known.
///
/// # Errors
/// [`Fault`] when an access has faulted.
///
/// # Safety
/// Both ranges must be the caller's to access so; no Rust reference to either, except that `to` or `from` may be a
/// slice borrowed by the caller.
#[inline]
pub unsafe fn copy(to: usize, from: usize, bytes: usize) -> Result<(), Fault> {
    // SAFETY: the caller's promise; faults are recovered from.
    match unsafe { tantalum_copy(to, from, bytes) } {
        0 => Ok(()),
        _ => Err(Fault),
    }
}

/// Zeroes whole pages: `start` and `bytes` are multiples of 4 KiB, and `bytes` is not 0. (`DC ZVA` works on at most
/// 2 KiB at a time.)
///
/// # Errors
/// [`Fault`] when an access has faulted.
///
/// # Safety
/// The memory must be the caller's to overwrite, Normal memory, with no Rust reference to it.
#[inline]
pub unsafe fn zero(start: usize, bytes: usize) -> Result<(), Fault> {
    debug_assert!(bytes != 0 && (start | bytes).is_multiple_of(crate::layout::PAGE));
    // SAFETY: the caller's promise; faults are recovered from.
    match unsafe { tantalum_zero(start, bytes) } {
        0 => Ok(()),
        _ => Err(Fault),
    }
}

/// Cleans and invalidates memory to the point of coherency.
///
/// # Errors
/// [`Fault`] when an access has faulted.
///
/// # Safety
/// The memory must be mapped, or the caller content with a fault.
#[inline]
pub unsafe fn clean(start: usize, bytes: usize) -> Result<(), Fault> {
    // SAFETY: the caller's promise; faults are recovered from.
    match unsafe { tantalum_clean(start, bytes) } {
        0 => Ok(()),
        _ => Err(Fault),
    }
}
