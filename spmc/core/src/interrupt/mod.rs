//! Virtual interrupts of an execution context: what is pending for it, and what it wants to hear of.
//!
//! Each context has 64 *lines*. The first 16 have the number of their virtual interrupt, the next are those that the SPMC
//! raises ([`Line::TIMER`] and so on), the others are the device interrupts of the partition's manifest, in their order.
//! A line is pending or it is not: raising it again while it is pending changes nothing, as at a real interrupt controller,
//! and nothing overflows.
//!
//! [`VirtualInterrupts`] knows nothing of calls and PEs: [`paravirtual`] has the calls, [`Spmc::pend`] finds the context.

pub mod distributor;
pub(crate) mod paravirtual;
pub(crate) mod physical;
pub mod virtual_gic;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use spin::mutex::TicketMutex;

use crate::{
    context::Context,
    id::VcpuIndex,
    machine::Machine,
    manifest::partition::NsInterruptsAction,
    partition::Partition,
    spmc::{Pe, Running, Spmc},
    timer::Timer,
    vcpu::{Slot, State},
};

/// Lines of a context that are no device's.
pub const SOFTWARE_LINES: usize = 19;
/// Lines that have the number of their interrupt.
const NUMBERED_LINES: usize = 16;
/// The virtual interrupts of the others of the SPMC: timer, managed exit, notification. For partitions that make calls, and for
/// those with a virtual interrupt controller, where software generated interrupts have 0 to 15, and a timer the number that
/// drivers expect.
pub(crate) const NAMED_LINES: [[u32; SOFTWARE_LINES - NUMBERED_LINES]; 2] = [[3, 4, 5], [30, 16, 17]];
/// Most device interrupts of a partition.
pub const MAX_DEVICE_INTERRUPTS: usize = 64 - SOFTWARE_LINES;

/// A virtual interrupt of a context, below 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line(u8);

impl Line {
    /// The context's timer.
    pub const TIMER: Self = Self(16);
    /// The normal world has an interrupt: the partition is to give up the PE in its own way (managed exit).
    pub const MANAGED_EXIT: Self = Self(17);
    /// A notification is pending.
    pub const NOTIFICATION: Self = Self(18);
    /// Another context of the partition wants attention.
    pub const IPI: Self = Self(9);

    /// The line with a number; `None` for 64 and above.
    #[must_use]
    pub fn new(number: usize) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| *number < 64).map(Self)
    }

    /// The lowest line of a bitmap.
    #[must_use]
    pub fn lowest(lines: u64) -> Option<Self> {
        Self::new(usize::try_from(lines.trailing_zeros()).ok()?)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> usize {
        self.0 as usize
    }

    /// Its bit.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1_u64.wrapping_shl(self.0 as u32)
    }
}

/// How a virtual interrupt is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// As a virtual IRQ.
    Irq,
    /// As a virtual FIQ.
    Fiq,
}

/// The virtual interrupts of one execution context.
///
/// Any PE may raise one. `enabled` and `fiq` are the context's own, changed only by the PE that it is on, or by its partition's
/// [`distributor`], under the lock of that. No order between
/// the accesses is needed but the one of the slot's lock: who raises a line looks at the slot afterwards, who takes the
/// context out of the slot looks at the lines afterwards; so either the one finds the context on a PE, which it tells, or the
/// other finds the line pending.
#[derive(Debug, Default)]
pub struct VirtualInterrupts {
    pending: AtomicU64,
    /// Device interrupts with a level that the context has taken and not deactivated. Besides, the timer's while it is armed,
    /// and [`Line::MANAGED_EXIT`] while the context's time is counted ([`crate::watch`]).
    active: AtomicU64,
    enabled: AtomicU64,
    fiq: AtomicU64,
    /// Pending lines that the context was run for, or that the scheduler was told of: not again for them.
    told: AtomicU64,
    /// What raises [`Line::TIMER`].
    pub(crate) timer: TicketMutex<Timer>,
    /// How many interrupts of devices have come, and which was the last: [`Line`] in bits 5:0.
    events: AtomicU32,
    /// Pending lines that the context is not run for, since that is left to the scheduler of the normal world.
    left: AtomicU64,
}

/// Lines that are no reason to run a context that waits.
const UNSCHEDULED: u64 = Line::MANAGED_EXIT.bit() | Line::NOTIFICATION.bit();

impl VirtualInterrupts {
    /// The context starts: enables the lines `enabled`, those in `fiq` as virtual FIQs. Only what devices have raised is
    /// still pending.
    pub fn reset(&self, enabled: u64, fiq: u64) {
        self.pending.fetch_and(u64::MAX << SOFTWARE_LINES, Relaxed);
        self.enabled.store(enabled, Relaxed);
        self.fiq.store(fiq, Relaxed);
        self.told.store(0, Relaxed);
        self.left.store(0, Relaxed);
        *self.timer.lock() = Timer::default();
        self.deactivate(Line::TIMER);
        self.deactivate(Line::MANAGED_EXIT);
    }

    /// Forgets what devices have raised, what of it was taken, and what of it was told. Until it has started, the context
    /// wants all of them.
    pub(crate) fn forget_devices(&self) {
        for lines in [&self.told, &self.left, &self.pending] {
            lines.fetch_and((1 << SOFTWARE_LINES) - 1, Relaxed);
        }
        self.active.store(0, Relaxed);
        self.enabled.fetch_or(u64::MAX << SOFTWARE_LINES, Relaxed);
    }

    /// Makes a line pending, whether it is enabled or not.
    pub fn pend(&self, line: Line) {
        self.pending.fetch_or(line.bit(), Relaxed);
    }

    /// An interrupt of a device has come. Only for people, and to tell a storm: PEs may overwrite each other's.
    #[inline]
    pub(crate) fn count_event(&self, line: Line) {
        let count = self.events.load(Relaxed).wrapping_add(64) & !63;
        self.events.store(count | u32::from(line.0), Relaxed);
    }

    /// Where the count of interrupts of devices is, for [`Self::events_since`].
    pub(crate) fn events(&self) -> u32 {
        self.events.load(Relaxed) & !63
    }

    /// How many have come since the count was `earlier`, which may have gone round.
    pub(crate) fn events_since(&self, earlier: u32) -> u32 {
        self.events().wrapping_sub(earlier) >> 6
    }

    /// The last of them.
    pub(crate) fn last_event(&self) -> Line {
        Line((self.events.load(Relaxed) & 63) as u8)
    }

    /// Makes a line not pending.
    pub fn withdraw(&self, line: Line) {
        // In this order: raised again in between, it is pending, and was not told of.
        self.told.fetch_and(!line.bit(), Relaxed);
        self.left.fetch_and(!line.bit(), Relaxed);
        self.pending.fetch_and(!line.bit(), Relaxed);
    }

    /// Enables or disables a line. What is pending stays so.
    pub fn enable(&self, line: Line, on: bool, signal: Signal) {
        let set = |bits: &AtomicU64, on| {
            if on {
                bits.fetch_or(line.bit(), Relaxed);
            } else {
                bits.fetch_and(!line.bit(), Relaxed);
            }
        };
        set(&self.fiq, signal == Signal::Fiq);
        set(&self.enabled, on);
    }

    /// Enables these lines and no others, those in `fiq` as virtual FIQs.
    pub(crate) fn enable_all(&self, enabled: u64, fiq: u64) {
        self.enabled.store(enabled, Relaxed);
        self.fiq.store(fiq, Relaxed);
    }

    /// Takes the pending and enabled line with the lowest number.
    pub fn take(&self) -> Option<Line> {
        let line = Line::lowest(self.deliverable())?;
        self.withdraw(line);
        Some(line)
    }

    /// A line was taken and is to be deactivated.
    pub(crate) fn activate(&self, line: Line) {
        self.active.fetch_or(line.bit(), Relaxed);
    }

    /// Deactivates a line. `false` when it was not active.
    pub(crate) fn deactivate(&self, line: Line) -> bool {
        self.active.fetch_and(!line.bit(), Relaxed) & line.bit() != 0
    }

    /// Deactivates all lines of devices and says which were active.
    pub(crate) fn take_active(&self) -> u64 {
        const DEVICES: u64 = u64::MAX << SOFTWARE_LINES;
        self.active.fetch_and(!DEVICES, Relaxed) & DEVICES
    }

    /// Nothing is pending, and nothing active.
    #[inline(always)]
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.pending.load(Relaxed) | self.active.load(Relaxed) == 0
    }

    /// The lines that a context that waits is to be run for, by the SPMC.
    #[must_use]
    pub fn wanting(&self) -> u64 {
        self.untold() & !self.left.load(Relaxed)
    }

    /// The lines that the scheduler of the normal world is to run it for, and was not told of.
    pub(crate) fn to_schedule(&self) -> u64 {
        self.untold() & self.left.load(Relaxed)
    }

    fn untold(&self) -> u64 {
        self.deliverable() & !self.told.load(Relaxed) & !UNSCHEDULED
    }

    /// Leaves lines to the scheduler.
    pub(crate) fn leave(&self, lines: u64) {
        self.left.fetch_or(lines, Relaxed);
    }

    /// The context is run for these lines, or the scheduler told of them.
    pub(crate) fn tell(&self, lines: u64) {
        self.told.fetch_or(lines, Relaxed);
    }

    /// Whether a line is pending.
    #[must_use]
    pub fn is_pending(&self, line: Line) -> bool {
        self.pending.load(Relaxed) & line.bit() != 0
    }

    /// Whether a line was taken and not deactivated.
    #[must_use]
    pub fn is_active(&self, line: Line) -> bool {
        self.active.load(Relaxed) & line.bit() != 0
    }

    /// Whether a line is enabled.
    #[must_use]
    pub fn is_enabled(&self, line: Line) -> bool {
        self.enabled.load(Relaxed) & line.bit() != 0
    }

    /// The lines that are pending and enabled.
    #[inline(always)]
    #[must_use]
    pub fn deliverable(&self) -> u64 {
        self.pending.load(Relaxed) & self.enabled.load(Relaxed)
    }

    /// Takes a line out of what is pending; what was told of it stays so.
    pub(crate) fn take_out(&self, line: Line) {
        self.pending.fetch_and(!line.bit(), Relaxed);
    }

    /// A line that was told of was taken.
    pub(crate) fn untell(&self, line: Line) {
        self.told.fetch_and(!line.bit(), Relaxed);
    }

    /// No interrupt has come yet.
    #[cfg(feature = "fake")]
    pub(crate) fn forget_events(&self) {
        self.events.store(0, Relaxed);
    }

    /// All of it but the timer and the events.
    #[cfg(feature = "fake")]
    pub(crate) fn words(&self) -> [&AtomicU64; 6] {
        let Self {
            pending,
            active,
            enabled,
            fiq,
            told,
            timer: _,
            left,
            events: _,
        } = self;
        [pending, active, enabled, fiq, told, left]
    }

    /// Whether a line is signalled as a virtual FIQ.
    pub(crate) fn is_fiq(&self, line: Line) -> bool {
        self.fiq.load(Relaxed) & line.bit() != 0
    }

    /// Has a context of `partition`, whose these are, find asserted what is pending.
    #[inline(always)]
    pub(crate) fn assert(&self, ctx: &mut Context, partition: &Partition) {
        let deliverable = self.deliverable();
        (ctx.signals.irq, ctx.signals.fiq) = (false, false);
        if deliverable != 0 {
            self.assert_lines(ctx, partition, deliverable);
        }
    }

    #[cold]
    #[inline(never)]
    fn assert_lines(&self, ctx: &mut Context, partition: &Partition, lines: u64) {
        if ctx.signals.gic {
            virtual_gic::fill(ctx, self, partition);
        } else {
            let fiq = self.fiq.load(Relaxed);
            (ctx.signals.irq, ctx.signals.fiq) = (lines & !fiq != 0, lines & fiq != 0);
        }
    }
}

impl Running<'_> {
    /// Asserts the virtual interrupts that are pending now. To be done whenever the context gets a PE, or is told of one.
    #[inline(always)]
    pub(crate) fn assert_interrupts(&mut self) {
        self.slot.interrupts.assert(&mut self.ctx, self.partition);
    }
}

impl Running<'_> {
    /// An interrupt of the normal world has come, and the partition ends its work in its own way, if it wants to (managed
    /// exit): it is told, and the interrupt waits until it has responded. `false`: it is preempted.
    pub(crate) fn begin_managed_exit(&mut self) -> bool {
        let wanted = self.partition.ns_interrupts == NsInterruptsAction::ManagedExit
            && self.slot.interrupts.is_enabled(Line::MANAGED_EXIT);
        if wanted {
            self.slot.interrupts.pend(Line::MANAGED_EXIT);
            self.slot.interrupts.activate(Line::MANAGED_EXIT);
            let limit = self.partition.time_limits.interrupt;
            self.ctx.watch.renew(limit, &self.slot.interrupts);
            self.ctx.mask_ns_interrupts = true;
            self.assert_interrupts();
        }
        wanted
    }
}

impl Partition {
    /// The line of a virtual interrupt, if the partition has it.
    #[must_use]
    pub fn line(&self, id: u32) -> Option<Line> {
        if let Some(place) = self.named_lines().iter().position(|named| *named == id) {
            return Line::new(place.saturating_add(NUMBERED_LINES));
        }
        let number = usize::try_from(id).ok()?;
        if number < NUMBERED_LINES {
            return Line::new(number);
        }
        let place = self.devices.iter().position(|device| device.id == id)?;
        Line::new(place.saturating_add(SOFTWARE_LINES))
    }

    /// The interrupts of a context that starts.
    pub(crate) fn reset_interrupts(&self, interrupts: &VirtualInterrupts) {
        let managed_exit = (self.ns_interrupts == NsInterruptsAction::ManagedExit).then_some(self.managed_exit);
        let (mut enabled, fiq) = paravirtual::at_start(managed_exit, self.notifications.is_some());
        if self.gic.is_some() {
            enabled = 0;
        }
        if self.el1.is_some() {
            // At S-EL0: the SPMC tells of them with FFA_INTERRUPT. Interrupts stay masked in its PSTATE.
            enabled = u64::MAX << SOFTWARE_LINES | Line::TIMER.bit();
        }
        interrupts.reset(enabled, fiq);
        self.follow_distributor();
    }

    /// The number by which the partition knows a line.
    #[must_use]
    pub fn interrupt_id(&self, line: Line) -> u32 {
        let number = line.number();
        if let Some(device) = number
            .checked_sub(SOFTWARE_LINES)
            .and_then(|place| self.devices.get(place))
        {
            return device.id;
        }
        let named = number
            .checked_sub(NUMBERED_LINES)
            .and_then(|place| self.named_lines().get(place));
        named.copied().unwrap_or(u32::from(line.0))
    }

    #[inline]
    fn named_lines(&self) -> &'static [u32; SOFTWARE_LINES - NUMBERED_LINES] {
        let [by_call, by_register] = &NAMED_LINES;
        if self.gic.is_some() { by_register } else { by_call }
    }
}

impl Spmc {
    /// Makes a line of a context pending, and sees to it that the context is told, wherever it is.
    pub(crate) fn pend<M: Machine>(
        &self,
        pe: &mut Pe<'_>,
        machine: &mut M,
        partition: &Partition,
        vcpu: VcpuIndex,
        line: Line,
    ) {
        if let Some(slot) = partition.slot(vcpu) {
            slot.interrupts.pend(line);
            self.notify(pe, machine, partition, vcpu, line);
        }
    }

    /// A line of a context is pending: sees to it that the context is told, wherever it is.
    pub(crate) fn notify<M: Machine>(
        &self,
        pe: &mut Pe<'_>,
        machine: &mut M,
        partition: &Partition,
        vcpu: VcpuIndex,
        line: Line,
    ) {
        let Some(slot) = partition.slot(vcpu) else {
            return;
        };
        if self.tell(pe, machine, slot) && slot.interrupts.wanting() & line.bit() != 0 {
            self.raised_while_waiting(pe, machine, partition, vcpu, line);
        }
    }

    /// Makes the notification pending interrupt of a context pending. That is no reason to run one that waits: the scheduler
    /// of the normal world is told of notifications.
    pub(crate) fn alert<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M, slot: &Slot) {
        slot.interrupts.pend(Line::NOTIFICATION);
        self.tell(pe, machine, slot);
    }

    /// Tells a context that is on a PE of a pending line. `true`: it waits. Otherwise it finds the line pending when it is next
    /// taken to run.
    fn tell<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M, slot: &Slot) -> bool {
        let on = match &*slot.lock() {
            State::OnPe(on) => *on,
            state => return matches!(state, State::Waiting(_)),
        };
        if on != pe.index {
            machine.kick(self.cpu(on));
        } else if let Some(running) = pe.running.as_mut() {
            running.assert_interrupts();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_when_their_count_goes_round() {
        let interrupts = VirtualInterrupts::default();
        interrupts.events.store(!63, Relaxed);
        let earlier = interrupts.events();
        for count in 1..40 {
            interrupts.count_event(Line::IPI);
            assert_eq!(interrupts.events_since(earlier), count);
        }
        assert_eq!(interrupts.last_event(), Line::IPI);
    }
}
