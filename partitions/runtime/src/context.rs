//! What each execution context of the program owns: a stack, and a record of the access that it is probing.
//!
//! The entry code picks the context, puts the stack pointer at the top of its stack and its address in `TPIDR_ELx`, which belongs to the runtime
//! library from then on. The vectors find the context there.

#![expect(
    unsafe_code,
    reason = "the thread pointer register holds the address of this context's record"
)]

use core::{
    arch::asm,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use crate::arch;

/// How many execution contexts, or in the normal world cores, one program can have.
pub const MAX_CONTEXTS: usize = 8;
/// The bytes of stack that each has.
pub const STACK_SIZE: usize = 32 * 1024;

/// A stack: uninitialised as far as Rust is concerned, and only ever touched through the stack pointer.
#[repr(C, align(16))]
pub(crate) struct Stack([u8; STACK_SIZE]);

/// The stacks of all contexts, in memory that the entry code does not zero. `static mut` because it is written behind the compiler's back; nothing
/// in Rust refers to its contents.
#[unsafe(link_section = ".noinit")]
pub(crate) static mut STACKS: [Stack; MAX_CONTEXTS] = [const { Stack([0; STACK_SIZE]) }; MAX_CONTEXTS];

/// The record of one execution context. The vectors know its layout.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Context {
    /// Where to go on if the instruction that is being probed faults; 0 when nothing is.
    pub(crate) resume: AtomicU64,
    /// `ESR_ELx` of the fault that the vectors caught.
    pub(crate) esr: AtomicU64,
    /// `FAR_ELx` of that fault.
    pub(crate) far: AtomicU64,
    /// `ELR_ELx` of that fault.
    pub(crate) elr: AtomicU64,
    /// Whether the context has told the SPM that it is initialised.
    pub(crate) initialised: AtomicBool,
}

impl Context {
    const fn new() -> Self {
        Self {
            resume: AtomicU64::new(0),
            esr: AtomicU64::new(0),
            far: AtomicU64::new(0),
            elr: AtomicU64::new(0),
            initialised: AtomicBool::new(false),
        }
    }
}

/// The records of all contexts.
pub(crate) static CONTEXTS: [Context; MAX_CONTEXTS] = [const { Context::new() }; MAX_CONTEXTS];

const _: () = assert!(
    size_of::<Context>() == 64,
    "the entry code indexes contexts by a shift of 6"
);

/// The record of the context that is running.
#[inline]
pub(crate) fn current() -> &'static Context {
    let address: u64;
    // SAFETY: reading the thread pointer of the current exception level changes nothing.
    unsafe {
        if arch::exception_level() == 0 {
            asm!("mrs {}, tpidr_el0", out(reg) address, options(nomem, nostack, preserves_flags));
        } else if arch::is_normal_world() {
            asm!("mrs {}, tpidr_el2", out(reg) address, options(nomem, nostack, preserves_flags));
        } else {
            asm!("mrs {}, tpidr_el1", out(reg) address, options(nomem, nostack, preserves_flags));
        }
    }
    let base = CONTEXTS.as_ptr().addr();
    let index = usize::try_from(address).unwrap_or(0).wrapping_sub(base) / size_of::<Context>();
    // A partition that has overwritten its own thread pointer gets the record of context 0 rather than a wild pointer.
    CONTEXTS.get(index).unwrap_or(&CONTEXTS[0])
}

/// The index of the context that is running: the number of the core in the normal world, of the vCPU in a partition.
#[must_use]
pub fn index() -> usize {
    let base = CONTEXTS.as_ptr().addr();
    (core::ptr::from_ref(current()).addr() - base) / size_of::<Context>()
}

/// Notes that the running context has finished its initialisation.
pub(crate) fn set_initialised() {
    current().initialised.store(true, Ordering::Relaxed);
}

/// Whether the running context has finished its initialisation.
pub(crate) fn is_initialised() -> bool {
    current().initialised.load(Ordering::Relaxed)
}
