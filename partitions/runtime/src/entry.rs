//! From the first instruction to `main`.
//!
//! The image may be anywhere: the entry code adds the difference between where it was linked (0) and where it is to every address in the image,
//! zeroes what follows the image, and sets up stack, thread pointer and vectors. The SPM starts secondary execution contexts, and the firmware
//! starts secondary cores of the normal world, at [`secondary_entry`], which finds all that done.

#![expect(
    unsafe_code,
    reason = "the first instructions of a program, and the links to the author's functions"
)]

use core::{
    arch::naked_asm,
    mem::offset_of,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    arch,
    boot::Boot,
    context::{self, CONTEXTS, Context, MAX_CONTEXTS, STACK_SIZE, STACKS},
    ffa::Permissions,
    mmu, vectors,
};

unsafe extern "Rust" {
    /// The author's main function, which `entry!` defines.
    safe fn __tantalum_main(boot: Boot) -> !;
    /// Whether the runtime library is to turn the MMU on, which `entry!` defines.
    safe static __TANTALUM_USES_MMU: bool;
    /// Whether the program is a partition at S-EL0, which `entry!` defines.
    pub(crate) safe static __TANTALUM_AT_EL0: bool;
}

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
    static __constants_start: u8;
    static __data_start: u8;
    static __bss_start: u8;
    static __bss_end: u8;
    static __rela_start: u8;
    static __rela_end: u8;
}

/// The only kind of relocation in an image: address = load address + addend.
const R_AARCH64_RELATIVE: u32 = 1027;

/// `FFA_MEM_PERM_SET`: data, to be read and written.
const DATA: u32 = Permissions::READ_WRITE.0;

/// Where the image starts, and the first address after it and its zeroed part.
#[must_use]
pub fn image_range() -> core::ops::Range<usize> {
    (&raw const __image_start).addr()..(&raw const __image_end).addr()
}

/// The first instruction of the image, where the primary context of a partition, or the boot core of the normal world, starts.
///
/// # Safety
///
/// For the loader only: expects the state that the FF-A boot protocol describes, or the one a BL33 is entered with, and runs once.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.entry")]
pub unsafe extern "C" fn _start() -> ! {
    naked_asm!(
        // FF-A says that all registers but x0-x4 are zero: keep what is not in x6.
        "orr x6, x6, x5", "orr x6, x6, x7", "orr x6, x6, x8", "orr x6, x6, x9", "orr x6, x6, x10", "orr x6, x6, x11",
        "orr x6, x6, x12", "orr x6, x6, x13", "orr x6, x6, x14", "orr x6, x6, x15", "orr x6, x6, x16", "orr x6, x6, x17",
        "orr x6, x6, x18", "orr x6, x6, x19", "orr x6, x6, x20", "orr x6, x6, x21", "orr x6, x6, x22", "orr x6, x6, x23",
        "orr x6, x6, x24", "orr x6, x6, x25", "orr x6, x6, x26", "orr x6, x6, x27", "orr x6, x6, x28", "orr x6, x6, x29",
        "orr x6, x6, x30",
        // At S-EL0 all pages are read-only and executable so far: make data of what follows the code, or stop.
        "adrp x7, {at_el0}",
        "ldrb w7, [x7, :lo12:{at_el0}]",
        "cbz w7, 7f",
        "mov x20, x0", "mov x21, x1", "mov x22, x2", "mov x23, x3", "mov x24, x4", "mov x26, x6",
        "mov w0, #0x89",
        "movk w0, #0xc400, lsl #16",
        "adrp x1, {constants_start}",
        "adrp x2, {image_end}",
        "sub x2, x2, x1",
        "lsr x2, x2, #12",
        "mov x3, #{data}",
        "mov x4, xzr", "mov x5, xzr", "mov x6, xzr", "mov x7, xzr",
        "svc #0",
        "tbnz w0, #6, 6f",
        "b .",
        "6: mov x0, x20", "mov x1, x21", "mov x2, x22", "mov x3, x23", "mov x4, x24", "mov x6, x26",
        "mov w7, #1",
        // Relocate: for each entry of 24 bytes (offset, type, addend) store base + addend at base + offset.
        "7: adrp x9, {image_start}",
        "add x9, x9, :lo12:{image_start}",
        "adrp x10, {rela_start}",
        "add x10, x10, :lo12:{rela_start}",
        "adrp x11, {rela_end}",
        "add x11, x11, :lo12:{rela_end}",
        "1: cmp x10, x11",
        "b.hs 3f",
        "ldp x12, x13, [x10], #16",
        "ldr x14, [x10], #8",
        "cmp w13, #{relative}",
        "b.ne 2f",
        "add x14, x14, x9",
        "str x14, [x9, x12]",
        "b 1b",
        // A kind of relocation that this code does not know: the image was linked wrongly. Stop where a debugger can see it.
        "2: b 2b",
        // Zero what the image file does not hold.
        "3: adrp x10, {bss_start}",
        "add x10, x10, :lo12:{bss_start}",
        "adrp x11, {bss_end}",
        "add x11, x11, :lo12:{bss_end}",
        "4: cmp x10, x11",
        "b.hs 5f",
        "stp xzr, xzr, [x10], #16",
        "b 4b",
        // The index of the context: x4 in a partition, 0 on the boot core of the normal world.
        "5: mov x5, #1",
        "cbnz w7, {common}",
        "mrs x9, CurrentEL",
        "cmp x9, #(2 << 2)",
        "csel x4, xzr, x4, eq",
        "b {common}",
        at_el0 = sym __TANTALUM_AT_EL0,
        constants_start = sym __constants_start,
        image_end = sym __image_end,
        data = const DATA,
        image_start = sym __image_start,
        rela_start = sym __rela_start,
        rela_end = sym __rela_end,
        bss_start = sym __bss_start,
        bss_end = sym __bss_end,
        relative = const R_AARCH64_RELATIVE,
        common = sym common,
    )
}

/// Where every later context of a partition, or core of the normal world, starts.
///
/// # Safety
///
/// For the SPM or the firmware only, after [`_start`] has run.
#[unsafe(naked)]
unsafe extern "C" fn secondary() -> ! {
    naked_asm!(
        // FF-A says that all registers but x0-x4 are zero: keep what is not in x6.
        "orr x6, x6, x5", "orr x6, x6, x7", "orr x6, x6, x8", "orr x6, x6, x9", "orr x6, x6, x10", "orr x6, x6, x11",
        "orr x6, x6, x12", "orr x6, x6, x13", "orr x6, x6, x14", "orr x6, x6, x15", "orr x6, x6, x16", "orr x6, x6, x17",
        "orr x6, x6, x18", "orr x6, x6, x19", "orr x6, x6, x20", "orr x6, x6, x21", "orr x6, x6, x22", "orr x6, x6, x23",
        "orr x6, x6, x24", "orr x6, x6, x25", "orr x6, x6, x26", "orr x6, x6, x27", "orr x6, x6, x28", "orr x6, x6, x29",
        "orr x6, x6, x30",
        // The index of the context: x4 in a partition, and in the normal world the context id that CPU_ON was given, which is in x0.
        "mrs x9, CurrentEL",
        "cmp x9, #(2 << 2)",
        "csel x4, x0, x4, eq",
        "mov x5, #0",
        "b {common}",
        common = sym common,
    )
}

/// Gives context x4 its stack, record and vectors, and goes on in Rust with x0-x3 as they were at entry, and x4-x6.
#[unsafe(naked)]
unsafe extern "C" fn common() -> ! {
    naked_asm!(
        "cmp x4, #{contexts}",
        "1: b.hs 1b",
        "adrp x9, {stacks}",
        "add x9, x9, :lo12:{stacks}",
        "mov x10, #{stack_size}",
        "madd x9, x4, x10, x9",
        "add x9, x9, x10",
        "mov sp, x9",
        "adrp x10, {records}",
        "add x10, x10, :lo12:{records}",
        "add x10, x10, x4, lsl #6",
        "adrp x11, {at_el0}",
        "ldrb w11, [x11, :lo12:{at_el0}]",
        "cbz w11, 4f",
        "msr tpidr_el0, x10",
        "b 3f",
        "4: mrs x11, CurrentEL",
        "cmp x11, #(2 << 2)",
        "b.eq 2f",
        "adrp x12, {vectors_el1}",
        "add x12, x12, :lo12:{vectors_el1}",
        "msr vbar_el1, x12",
        "msr tpidr_el1, x10",
        "b 3f",
        "2: adrp x12, {vectors_el2}",
        "add x12, x12, :lo12:{vectors_el2}",
        "msr vbar_el2, x12",
        "msr tpidr_el2, x10",
        "3: isb",
        "mov x29, xzr",
        "mov x30, xzr",
        "b {start}",
        contexts = const MAX_CONTEXTS,
        stacks = sym STACKS,
        stack_size = const STACK_SIZE,
        records = sym CONTEXTS,
        at_el0 = sym __TANTALUM_AT_EL0,
        vectors_el1 = sym vectors::el1,
        vectors_el2 = sym vectors::el2,
        start = sym start,
    )
}

const _: () = assert!(
    offset_of!(Context, resume) == 0,
    "the vectors expect the resume address first"
);
const _: () = assert!(
    STACK_SIZE == 0x8000,
    "the entry code loads the size of a stack with one instruction"
);

/// Rust from here on.
extern "C" fn start(x0: u64, x1: u64, x2: u64, x3: u64, index: usize, is_first: bool, leftovers: u64) -> ! {
    static TABLES_READY: AtomicBool = AtomicBool::new(false);

    if __TANTALUM_AT_EL0 {
        let constants = (&raw const __constants_start).addr()..(&raw const __data_start).addr();
        // What was relocated stays as it is. If the SPM does not think so, it can be written: no reason to give up.
        let _ = crate::ffa::SMC.mem_perm_set(constants, Permissions::READ_ONLY);
    } else if __TANTALUM_USES_MMU {
        if is_first {
            mmu::map_default();
            TABLES_READY.store(true, Ordering::Release);
        }
        if TABLES_READY.load(Ordering::Acquire) {
            mmu::enable();
        }
    }
    let boot = Boot::new([x0, x1, x2, x3], index, is_first, leftovers);
    if is_first && !arch::is_normal_world() {
        crate::ffa::negotiate_version(boot.manifest_version().unwrap_or(crate::ffa::VERSION));
    }
    debug_assert_eq!(index, context::index());
    __tantalum_main(boot)
}

/// The address at which further contexts or cores are to start.
#[must_use]
pub fn secondary_entry() -> u64 {
    (secondary as unsafe extern "C" fn() -> ! as usize) as u64
}

/// Makes a function the program: `entry!(main)`, where `main` is `fn(Boot) -> !`.
///
/// A partition at S-EL0 has `entry!(main, level = el0)`. Its code is executable, its constants can be read and its data be written when it starts.
///
/// It is called once on each execution context. The MMU is on by then, with the image mapped as normal memory and everything else in the first
/// gigabyte as device memory; `entry!(main, mmu = off)` leaves it off.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        $crate::entry!($main, mmu = true, el0 = false);
    };
    ($main:path, mmu = off) => {
        $crate::entry!($main, mmu = false, el0 = false);
    };
    ($main:path, level = el0) => {
        $crate::entry!($main, mmu = false, el0 = true);
    };
    ($main:path, mmu = $mmu:literal, el0 = $el0:literal) => {
        /// The name by which the runtime library calls the program.
        #[unsafe(no_mangle)]
        fn __tantalum_main(boot: $crate::Boot) -> ! {
            let main: fn($crate::Boot) -> ! = $main;
            main(boot)
        }

        /// Whether the runtime library turns the MMU on.
        #[unsafe(no_mangle)]
        static __TANTALUM_USES_MMU: bool = $mmu;

        /// Whether it runs at S-EL0.
        #[unsafe(no_mangle)]
        static __TANTALUM_AT_EL0: bool = $el0;
    };
}
