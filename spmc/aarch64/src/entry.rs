//! Entry from EL3: the boot PE at the start of the image, the others at [`secondary_entry`].
//!
//! Both arrive at EL2 with the MMU off and all exceptions masked. Until the MMU is on, memory is accessed as Device
//! memory: what is written goes around the caches, so lines that the caches may hold for it are cleaned and
//! invalidated before, and invalidated again (nothing dirty can be there any more) before the MMU goes on. What the
//! secondary PEs read here is cleaned to the point of coherency by the boot PE ([`publish`]).
#![expect(unsafe_code, reason = "entry code and the tables that it reads")]

use core::{
    arch::{asm, global_asm},
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{el3, layout, sysreg};

/// What turns the MMU on, for [`TRANSLATION`].
#[repr(C)]
#[derive(Debug)]
pub struct Translation {
    /// `MAIR_EL2`.
    pub mair: AtomicU64,
    /// `TCR_EL2`.
    pub tcr: AtomicU64,
    /// `TTBR0_EL2`.
    pub ttbr0: AtomicU64,
    /// `SCTLR_EL2`.
    pub sctlr: AtomicU64,
}

/// Registers of the SPMC's own translation, the same on all PEs.
pub static TRANSLATION: Translation = Translation {
    mair: AtomicU64::new(0),
    tcr: AtomicU64::new(0),
    ttbr0: AtomicU64::new(0),
    sctlr: AtomicU64::new(0),
};

/// What a secondary PE looks up by its affinity.
#[repr(C)]
#[derive(Debug)]
pub struct Secondary {
    /// Affinity fields of `MPIDR_EL1`.
    pub affinity: u64,
    /// Initial stack pointer.
    pub stack: u64,
    /// Argument of [`crate::boot::secondary`].
    pub argument: u64,
}

/// Address of the first [`Secondary`], and how many there are.
#[repr(C)]
#[derive(Debug)]
pub struct Secondaries {
    /// Address of the first.
    pub first: AtomicU64,
    /// How many.
    pub count: AtomicU64,
}

/// All PEs that may enter, the boot PE among them.
pub static SECONDARIES: Secondaries = Secondaries {
    first: AtomicU64::new(0),
    count: AtomicU64::new(0),
};

/// Address of the UART's data register, for messages before there is a stack; 0 before the boot PE has set it.
pub static EARLY_UART: AtomicU64 = AtomicU64::new(0);

/// Affinity fields of `MPIDR_EL1`.
pub const AFFINITY: u64 = 0xff_00ff_ffff;

global_asm!(
    r#"
.pushsection .text.entry, "ax"
.global _start
_start:
    mrs     x19, cntpct_el0
    mov     x20, x0
    msr     daifset, #0xf

    // A platform whose EL3 did not accept our secondary entry point sends the other PEs here.
    adr     x9, 52f
    ldr     w10, [x9]
    cbnz    w10, {secondary}

    bl      10f
    mov     w10, #1
    adr     x9, 52f
    str     w10, [x9]

    ldr     x0, =__bss_start
    ldr     x1, =__bss_end
1:  cmp     x0, x1
    b.hs    2f
    stp     xzr, xzr, [x0], #16
    b       1b
2:
    ldr     x9, =__window_end
    mov     sp, x9
    mov     x29, xzr
    mov     x30, xzr
    bl      tantalum_early

    bl      10f
    bl      20f
    mov     x0, x20
    mov     x1, x19
    b       tantalum_primary

// Cleans and invalidates what is used while the MMU is off: the image with .bss, and the boot area.
10: mrs     x3, ctr_el0
    ubfx    x3, x3, #16, #4
    mov     x2, #4
    lsl     x2, x2, x3
    ldr     x0, =__window_start
    ldr     x1, =__bss_end
11: dc      civac, x0
    add     x0, x0, x2
    cmp     x0, x1
    b.lo    11b
    ldr     x0, =__boot_tables_start
    ldr     x1, =__window_end
12: dc      civac, x0
    add     x0, x0, x2
    cmp     x0, x1
    b.lo    12b
    dsb     sy
    ret

// Turns the MMU on.
20: adrp    x9, {translation}
    add     x9, x9, :lo12:{translation}
    ldr     x0, [x9, #{mair}]
    ldr     x1, [x9, #{tcr}]
    ldr     x2, [x9, #{ttbr0}]
    ldr     x3, [x9, #{sctlr}]
    msr     mair_el2, x0
    msr     tcr_el2, x1
    msr     ttbr0_el2, x2
    isb
    tlbi    alle2
    tlbi    alle1
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el2, x3
    isb
    ret

.global {secondary}
{secondary}:
    msr     daifset, #0xf
    mrs     x9, mpidr_el1
    mov     x10, #0xffffff
    movk    x10, #0xff, lsl #32
    and     x9, x9, x10
    adrp    x10, {secondaries}
    add     x10, x10, :lo12:{secondaries}
    ldr     x11, [x10, #{first}]
    ldr     x12, [x10, #{count}]
    adr     x14, 51f
    cbz     x12, 40f
    adr     x14, 50f
30: cbz     x12, 40f
    ldr     x13, [x11, #{affinity}]
    cmp     x13, x9
    b.eq    31f
    add     x11, x11, #{entry_bytes}
    sub     x12, x12, #1
    b       30b
31: ldr     x19, [x11, #{stack}]
    ldr     x20, [x11, #{argument}]
    ldr     x9, ={vectors}
    msr     vbar_el2, x9
    msr     tpidr_el2, xzr
    bl      20b
    mov     sp, x19
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x20
    b       {secondary_main}

// No such PE in the manifest, or no SPMC: say so (x14), and fail.
40: adrp    x13, {early_uart}
    ldr     x13, [x13, :lo12:{early_uart}]
    cbz     x13, 44f
41: ldrb    w15, [x14], #1
    cbz     w15, 44f
    mov     w16, #0x10000
42: ldr     w17, [x13, #0x18]
    tbz     w17, #5, 43f
    subs    w16, w16, #1
    b.ne    42b
43: str     w15, [x13]
    b       41b
44: ldr     x0, ={ffa_error}
    mov     x1, #0
    ldr     x2, ={code}
    mov     x3, #0
    mov     x4, #0
    mov     x5, #0
    mov     x6, #0
    mov     x7, #0
45: smc     #0
    // Whatever the normal world asks for on this PE has the same answer. EL3's own requests (the PE goes off) need a
    // response, of function 2, or 9 for "not supported" to function 8, a version.
    ldr     x9, ={request}
    cmp     w0, w9
    b.ne    44b
    lsr     w9, w1, #16
    mov     w10, #0xffff
    cmp     w9, w10
    b.ne    44b
    ror     w1, w1, #16
    and     w9, w2, #0xff
    mov     w10, #9
    mov     w11, #2
    cmp     w9, #8
    csel    w2, w10, w11, eq
    orr     w2, w2, #0x80000000
    csetm   w3, eq
    ldr     x0, ={response}
    b       45b
.ltorg
// 1 from when the boot PE has entered: written once, while the MMU is off, and read-only afterwards, like all code.
52: .word   0
50: .asciz  "\r\ntantalum: a PE has entered that the SPMC manifest's /cpus does not name: it gets no service\r\n"
51: .asciz  "\r\ntantalum: a PE has entered, but the SPMC has not booted: it gets no service\r\n"
.balign 4
.popsection
"#,
    translation = sym TRANSLATION,
    mair = const offset_of!(Translation, mair),
    tcr = const offset_of!(Translation, tcr),
    ttbr0 = const offset_of!(Translation, ttbr0),
    sctlr = const offset_of!(Translation, sctlr),
    secondaries = sym SECONDARIES,
    first = const offset_of!(Secondaries, first),
    count = const offset_of!(Secondaries, count),
    affinity = const offset_of!(Secondary, affinity),
    stack = const offset_of!(Secondary, stack),
    argument = const offset_of!(Secondary, argument),
    entry_bytes = const size_of::<Secondary>(),
    vectors = sym crate::vectors::tantalum_vectors,
    secondary = sym secondary_entry,
    secondary_main = sym crate::boot::secondary,
    early_uart = sym EARLY_UART,
    ffa_error = const el3::FFA_ERROR,
    request = const el3::FFA_MSG_SEND_DIRECT_REQ,
    response = const el3::FFA_MSG_SEND_DIRECT_RESP,
    code = const el3::code::INVALID_PARAMETERS,
);
const _: () = assert!(
    AFFINITY == 0xff_00ff_ffff,
    "the entry code has this mask in two instructions"
);

unsafe extern "C" {
    /// Where PEs other than the boot PE enter, each time that they are turned on.
    pub fn secondary_entry();
}

/// Cleans `bytes` bytes at `start` to the point of coherency, for PEs whose MMU is off.
pub fn clean(start: usize, bytes: usize) {
    let line = 4_usize << (sysreg::ctr_el0::read() >> 16 & 0xf);
    let mut address = start & !(line - 1);
    while address < start + bytes {
        // SAFETY: cleaning a cache line does not change what memory holds; the callers' memory is mapped.
        unsafe { asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags)) };
        address += line;
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Lets the PEs of `secondaries` enter.
pub fn publish(secondaries: &'static [Secondary]) {
    SECONDARIES
        .first
        .store(secondaries.as_ptr().addr() as u64, Ordering::Relaxed);
    SECONDARIES.count.store(secondaries.len() as u64, Ordering::Relaxed);
    clean(secondaries.as_ptr().addr(), size_of_val(secondaries));
    // The variables that the entry code reads lie in .bss.
    clean(layout::data().start, layout::data().len());
}
