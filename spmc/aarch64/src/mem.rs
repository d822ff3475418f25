//! `memcpy`, `memmove` and `memset`, which the compiler calls: for the short, aligned blocks (registers, descriptors)
//! that the SPMC moves, in far fewer instructions than the portable ones of `compiler_builtins`, whose weak symbols
//! these replace. They access memory aligned, because the first Rust code runs with the MMU off.
#![expect(unsafe_code, reason = "global_asm: symbols that the compiler calls")]

use core::arch::global_asm;

global_asm!(
    r#"
.pushsection .text.tantalum_mem, "ax"
.balign 16
.global memmove
memmove:
    sub     x3, x0, x1
    cmp     x3, x2
    b.lo    5f
// x0: to, x1: from, x2: bytes. Returns x0.
.global memcpy
memcpy:
    orr     x3, x0, x1
    mov     x4, x0
    tst     x3, #7
    b.ne    3f
    subs    x2, x2, #32
    b.lo    2f
1:  ldp     x5, x6, [x1], #32
    ldp     x7, x8, [x1, #-16]
    stp     x5, x6, [x4], #32
    stp     x7, x8, [x4, #-16]
    subs    x2, x2, #32
    b.hs    1b
2:  tbz     x2, #4, 21f
    ldp     x5, x6, [x1], #16
    stp     x5, x6, [x4], #16
21: tbz     x2, #3, 22f
    ldr     x5, [x1], #8
    str     x5, [x4], #8
22: ands    x2, x2, #7
    b.eq    4f
    b       31f
3:  cbz     x2, 4f
31: ldrb    w5, [x1], #1
    strb    w5, [x4], #1
    subs    x2, x2, #1
    b.ne    31b
4:  ret

// memmove to behind the source's start: backwards. (When both are the same, nothing is left to do.)
5:  cbz     x3, 7f
    add     x4, x0, x2
    add     x1, x1, x2
    orr     x3, x4, x1
    orr     x3, x3, x2
    tst     x3, #7
    b.ne    61f
    cbz     x2, 7f
6:  ldr     x5, [x1, #-8]!
    str     x5, [x4, #-8]!
    subs    x2, x2, #8
    b.ne    6b
    ret
61: cbz     x2, 7f
62: ldrb    w5, [x1, #-1]!
    strb    w5, [x4, #-1]!
    subs    x2, x2, #1
    b.ne    62b
7:  ret

// x0: to, w1: value, x2: bytes. Returns x0.
.global memset
memset:
    mov     x4, x0
    tst     x0, #7
    b.ne    3f
    and     x1, x1, #0xff
    orr     x1, x1, x1, lsl #8
    orr     x1, x1, x1, lsl #16
    orr     x1, x1, x1, lsl #32
    subs    x2, x2, #32
    b.lo    2f
1:  stp     x1, x1, [x4], #32
    stp     x1, x1, [x4, #-16]
    subs    x2, x2, #32
    b.hs    1b
2:  tbz     x2, #4, 21f
    stp     x1, x1, [x4], #16
21: tbz     x2, #3, 22f
    str     x1, [x4], #8
22: ands    x2, x2, #7
    b.ne    31f
    ret
3:  cbz     x2, 4f
31: strb    w1, [x4], #1
    subs    x2, x2, #1
    b.ne    31b
4:  ret
.popsection
"#
);
