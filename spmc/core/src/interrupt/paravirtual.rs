//! The calls, by HVC, of partitions that have no interrupt controller of their own: function in x0, result in x0, all other
//! registers unchanged. Numbers and arguments are those that partitions for Hafnium use.

use crate::{
    abi::low,
    interrupt::{Line, Signal},
    spmc::{Action, Pe, Running},
};

/// First of the range of functions.
const FIRST: u32 = 0xff00;
/// Last of the range of functions.
const LAST: u32 = 0xff0f;
/// x1 interrupt, x2 on or off, x3 0 for a virtual IRQ and 1 for a virtual FIQ.
const ENABLE: u32 = 0xff03;
/// Takes the next pending interrupt.
const GET: u32 = 0xff04;
/// x1 the interrupt that was handled, x2 the same.
const DEACTIVATE: u32 = 0xff08;

/// Done.
const DONE: u64 = 0;
/// Not done: arguments that cannot be.
const FAILED: u64 = u64::MAX;
/// No interrupt is pending.
const NO_INTERRUPT: u64 = 0xffff_ffff;

/// Whether a call is one of these.
pub(crate) const fn is_paravirtual(function: u32) -> bool {
    matches!(function, FIRST..=LAST)
}

/// A call of the running context.
#[cold]
pub(crate) fn call(pe: &mut Pe<'_>, function: u32) -> Action {
    if let Some(running) = pe.running.as_mut() {
        let result = answer(running, function);
        running.assert_interrupts();
        if let Some(x0) = running.ctx.x.first_mut() {
            *x0 = result;
        }
    }
    Action::Run
}

fn answer(running: &Running<'_>, function: u32) -> u64 {
    let [_, x1, x2, x3, ..] = running.ctx.x;
    let interrupts = &running.slot.interrupts;
    let line = running.partition.line(low(x1));
    match (function, line) {
        (GET, _) => interrupts
            .take()
            .map_or(NO_INTERRUPT, |line| u64::from(running.partition.interrupt_id(line))),
        (ENABLE, Some(line)) => {
            let signal = match low(x3) {
                0 => Signal::Irq,
                1 => Signal::Fiq,
                _ => return FAILED,
            };
            interrupts.enable(line, x2 & 1 != 0, signal);
            DONE
        }
        (DEACTIVATE, Some(_)) if low(x1) == low(x2) => DONE,
        _ => FAILED,
    }
}

/// The lines that a context finds enabled at its start, as its manifest has it, and which of them are virtual FIQs.
pub(crate) const fn at_start(managed_exit: Option<Signal>, notifications: bool) -> (u64, u64) {
    let (mut enabled, mut fiq) = (0, 0);
    if let Some(signal) = managed_exit {
        enabled |= Line::MANAGED_EXIT.bit();
        if matches!(signal, Signal::Fiq) {
            fiq |= Line::MANAGED_EXIT.bit();
        }
    }
    if notifications {
        enabled |= Line::NOTIFICATION.bit();
    }
    (enabled, fiq)
}
