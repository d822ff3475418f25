//! Interrupts of a partition at S-EL1, by the calls that the SPM has for those without an interrupt controller.

#![expect(
    unsafe_code,
    reason = "a function pointer in an atomic, and the interrupt masks of the processor"
)]

use core::{
    arch::asm,
    sync::atomic::{AtomicPtr, Ordering},
};

/// The SPM's timer.
pub const TIMER: u32 = 3;
/// The normal world has an interrupt: the partition is to respond soon.
pub const MANAGED_EXIT: u32 = 4;
/// A notification is pending.
pub const NOTIFICATION: u32 = 5;

/// How an interrupt comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// As an IRQ.
    Irq,
    /// As a FIQ.
    Fiq,
}

/// What a program does with interrupts, on the stack of the context that takes them and with interrupts masked.
pub type Handler = fn(Kind);

static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

pub(crate) fn handler() -> Option<Handler> {
    let handler = HANDLER.load(Ordering::Acquire);
    // SAFETY: what is there was put there by `listen`, from a `Handler`.
    (!handler.is_null()).then(|| unsafe { core::mem::transmute::<*mut (), Handler>(handler) })
}

/// Has interrupts of this context handled by `handler`, which is the same for all contexts.
pub fn listen(handler: Handler) {
    HANDLER.store(handler as *mut (), Ordering::Release);
    // SAFETY: there is a handler now.
    unsafe { asm!("msr daifclr, #3", options(nostack)) };
}

/// Masks all interrupts of this context.
pub fn mask() {
    // SAFETY: what comes meanwhile stays pending.
    unsafe { asm!("msr daifset, #3", options(nostack)) };
}

/// A call of the SPM: x0-x3. Returns x0.
fn call(values: &[u64; 4]) -> u64 {
    let result;
    // SAFETY: a call by the SMC calling convention, which preserves x18-x30.
    unsafe {
        asm!(
            "hvc #0",
            inout("x0") values[0] => result, inout("x1") values[1] => _, inout("x2") values[2] => _, inout("x3") values[3] => _,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _, out("x11") _,
            out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _, options(nostack)
        );
    }
    result
}

/// Enables an interrupt, or disables it. `false`: the partition does not have it.
pub fn enable(id: u32, on: bool, kind: Kind) -> bool {
    call(&[0xff03, u64::from(id), u64::from(on), u64::from(kind == Kind::Fiq)]) == 0
}

/// Takes the next interrupt that is pending.
#[must_use]
pub fn take() -> Option<u32> {
    u32::try_from(call(&[0xff04, 0, 0, 0]))
        .ok()
        .filter(|id| *id != u32::MAX)
}

/// Says that an interrupt was handled. `false`: the partition does not have it.
pub fn deactivate(id: u32) -> bool {
    call(&[0xff08, u64::from(id), u64::from(id), 0]) == 0
}

/// Has an interrupt come to another context: the one on the core with this index.
pub fn route(id: u32, core: usize) -> bool {
    call(&[0xff09, u64::from(id), 0, core as u64]) == 0
}
