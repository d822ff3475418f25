//! The calls, by HVC, of partitions that have no interrupt controller of their own: function in x0, result in x0, all other
//! registers unchanged. Numbers and arguments are those that partitions for Hafnium use.

use crate::{
    abi::low,
    addr::World,
    id::{PeIndex, VcpuIndex},
    interrupt::{Line, Signal, VirtualInterrupts},
    machine::{InterruptChange, Machine},
    spmc::{Action, Pe, Running, Spmc},
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
/// x1 interrupt, x2 what of it, x3 how it is to be.
const RECONFIGURE: u32 = 0xff09;

/// x1 the context of the partition that gets the interrupt [`Line::IPI`].
const SEND_IPI: u32 = 0xff0a;

/// What [`RECONFIGURE`] changes: the PE that it is routed to, by its linear index.
const TARGET: u32 = 0;
/// The world that it belongs to.
const SECURITY: u32 = 1;
/// Whether it comes at all.
const STATUS: u32 = 2;

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

impl Spmc {
    /// A call of the running context.
    #[cold]
    #[inline(never)]
    pub(crate) fn paravirtual_call<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M, function: u32) -> Action {
        let sent = if function == SEND_IPI {
            self.send_ipi(pe, machine)
        } else {
            None
        };
        if let Some(running) = pe.running.as_mut() {
            let result = sent.or_else(|| self.paravirtual(pe.index, machine, running, function));
            running.assert_interrupts();
            if let Some(x0) = running.ctx.x.first_mut() {
                *x0 = result.unwrap_or(FAILED);
            }
        }
        Action::Run
    }

    /// Raises the interrupt of another context of the running partition.
    fn send_ipi<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M) -> Option<u64> {
        let running = pe.running.as_ref()?;
        let [_, x1, ..] = running.ctx.x;
        let (partition, vcpu) = (running.partition, VcpuIndex::new(u16::try_from(low(x1)).ok()?));
        if vcpu == running.vcpu || partition.gic.is_some() {
            return None;
        }
        partition.slot(vcpu)?;
        self.pend(pe, machine, partition, vcpu, Line::IPI);
        Some(DONE)
    }

    fn paravirtual<M: Machine>(
        &self,
        pe: PeIndex,
        machine: &mut M,
        running: &Running<'_>,
        function: u32,
    ) -> Option<u64> {
        let [_, x1, x2, x3, ..] = running.ctx.x;
        if running.partition.gic.is_some() {
            // It has registers for all of this.
            return None;
        }
        if function == GET {
            let line = self.take_interrupt(machine, pe, running);
            return Some(line.map_or(NO_INTERRUPT, |line| u64::from(running.partition.interrupt_id(line))));
        }
        let line = running.partition.line(low(x1))?;
        match function {
            ENABLE => enable(&running.slot.interrupts, line, low(x2) & 1 != 0, low(x3))?,
            DEACTIVATE if low(x1) == low(x2) => self.deactivate_interrupt(machine, pe, running, line),
            RECONFIGURE => self.reconfigure(machine, pe, running, line, low(x2), low(x3))?,
            _ => return None,
        }
        Some(DONE)
    }

    /// Changes how a device interrupt of the running context gets to it.
    fn reconfigure<M: Machine>(
        &self,
        machine: &mut M,
        pe: PeIndex,
        running: &Running<'_>,
        line: Line,
        what: u32,
        value: u32,
    ) -> Option<()> {
        let change = match (what, value) {
            (TARGET, index) => return self.route_to(machine, running.partition.interrupt_id(line), index),
            (SECURITY, 0) => InterruptChange::World(World::NonSecure),
            (SECURITY, 1) => InterruptChange::World(World::Secure),
            (STATUS, 0) => InterruptChange::Disable,
            (STATUS, 1) => InterruptChange::Enable,
            _ => return None,
        };
        self.change(machine, pe, running.partition, line, change)
    }
}

fn enable(interrupts: &VirtualInterrupts, line: Line, on: bool, signal: u32) -> Option<()> {
    let signal = match signal {
        0 => Signal::Irq,
        1 => Signal::Fiq,
        _ => return None,
    };
    interrupts.enable(line, on, signal);
    Some(())
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
