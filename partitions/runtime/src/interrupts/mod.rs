//! Interrupts of a partition, by the calls that the SPM has for those without an interrupt controller, or, where the processor
//! shows one, by its registers ([`gic`]). At S-EL0 there is nothing to take them: the result of waiting for a message tells of
//! them. The SPM's own interrupts have the numbers of the calls here, whatever they have at an interrupt controller.
//! of waiting for a message tells of them.

#![expect(
    unsafe_code,
    reason = "a function pointer in an atomic, and the interrupt masks of the processor"
)]

use core::{
    arch::asm,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};

mod gic;

use crate::{
    arch,
    ffa::{FuncId, Registers, SMC, registers},
};

/// The SPM's timer.
pub const TIMER: u32 = 3;
/// The normal world has an interrupt: the partition is to respond soon.
pub const MANAGED_EXIT: u32 = 4;
/// A notification is pending.
pub const NOTIFICATION: u32 = 5;
/// Another context has called [`send`].
pub const IPI: u32 = 9;

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

/// What [`has_gic`] has found out, 0 before.
static GIC: AtomicU32 = AtomicU32::new(0);

static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

pub(crate) fn handler() -> Option<Handler> {
    let handler = HANDLER.load(Ordering::Acquire);
    // SAFETY: what is there was put there by `listen`, from a `Handler`.
    (!handler.is_null()).then(|| unsafe { core::mem::transmute::<*mut (), Handler>(handler) })
}

/// Whether there is a CPU interface. Looked up once: to ask the processor is a trap.
fn has_gic() -> bool {
    const KNOWN: u32 = 1 << 1;
    let known = GIC.load(Ordering::Relaxed);
    if known != 0 {
        return known & 1 != 0;
    }
    let has = arch::has_gic();
    GIC.store(KNOWN | u32::from(has), Ordering::Relaxed);
    has
}

/// Lets all interrupts through to the processor, which has them masked or handles them.
fn let_through() {
    if has_gic() {
        gic::set_up();
    }
}

/// Has interrupts of this context handled by `handler`, which is the same for all contexts.
pub fn listen(handler: Handler) {
    HANDLER.store(handler as *mut (), Ordering::Release);
    let_through();
    if has_gic() {
        // For those that make calls their manifest enables it.
        gic::enable(MANAGED_EXIT, true, Kind::Fiq);
    }
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
    if arch::exception_level() == 0 {
        return SMC.call(&registers(values))[0];
    }
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
    if has_gic() {
        gic::set_up();
        return gic::enable(id, on, kind);
    }
    call(&[0xff03, u64::from(id), u64::from(on), u64::from(kind == Kind::Fiq)]) == 0
}

/// Takes the next interrupt that is pending.
#[must_use]
pub fn take() -> Option<u32> {
    if has_gic() {
        gic::set_up();
        return gic::take();
    }
    u32::try_from(call(&[0xff04, 0, 0, 0]))
        .ok()
        .filter(|id| *id != u32::MAX)
}

/// Says that an interrupt was handled. `false`: the partition does not have it.
pub fn deactivate(id: u32) -> bool {
    if has_gic() {
        gic::end(id);
        return true;
    }
    call(&[0xff08, u64::from(id), u64::from(id), 0]) == 0
}

/// Has an interrupt come to another context: the one on the core with this index.
pub fn route(id: u32, core: usize) -> bool {
    if has_gic() {
        return gic::route(id, core);
    }
    call(&[0xff09, u64::from(id), 0, core as u64]) == 0
}

/// Interrupts another context of this partition. `false`: there is no such context, or it is this one.
pub fn send(context: usize) -> bool {
    if has_gic() {
        gic::set_up();
        return gic::send(context);
    }
    call(&[0xff0a, context as u64, 0, 0]) == 0
}

/// The interrupt that the result of a call tells of, if it was run for one.
#[must_use]
pub fn told(result: &Registers) -> Option<u32> {
    let id = (result[0] == FuncId::Interrupt32 as u64).then_some((result[2] & 0xffff_ffff) as u32)?;
    Some(if arch::exception_level() != 0 && has_gic() {
        gic::name(id)
    } else {
        id
    })
}

/// Whether an IRQ is pending, as far as the processor says: at S-EL0 it may be.
#[must_use]
pub fn is_pending() -> bool {
    const IRQ: u64 = 1 << 7;
    if arch::exception_level() == 0 {
        return true;
    }
    let pending: u64;
    // SAFETY: reading the register changes nothing.
    unsafe { asm!("isb", "mrs {}, isr_el1", out(reg) pending, options(nomem, nostack, preserves_flags)) };
    pending & IRQ != 0
}
