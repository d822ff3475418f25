//! Isolation in time: how long a partition may keep the normal world's interrupts away.
//!
//! An interrupt of the normal world preempts a partition, unless it is told and ends its work in its own way (managed exit),
//! has them queued, starts, or works for firmware: handles an interrupt on top of the normal world, or a power message. Then
//! its time is counted from the moment on at which the interrupts are held back, and whom it calls meanwhile spends it too.
//! When none is left, its partition is stopped as by a fault. Whoever works for it is preempted, and goes on when the normal
//! world lets it.
//!
//! Time is taken off in [`SLICES`] of the limit, each with a deadline of its own ([`Machine::set_watchdog`]), and never more
//! than one slice for one deadline: what a host, a debugger or EL3 keeps a PE for at a stretch is not the partition's time. Only
//! the innermost context whose time is counted spends any: one that runs on top of another, uncalled, spends its own. One that
//! starts, since another has called it, has its own as well, and the caller spends up to a slice meanwhile.

#[cfg(feature = "fake")]
pub(crate) mod kept;

use crate::{
    abi,
    id::PeIndex,
    interrupt::{Line, VirtualInterrupts},
    machine::{InterruptChange, Machine, NO_DEADLINE},
    manifest::partition::{self, NsInterruptsAction},
    report::{self, Cause},
    scheduling::set_aside,
    spmc::{Action, Attention, Pe, Running, Spmc},
    vcpu::{Framework, Model, Suspension},
};

/// Parts of a limit that are counted one by one.
pub const SLICES: u64 = 8;

/// Where a manifest does not say, in milliseconds.
const INTERRUPT_LIMIT: u32 = 100;
const POWER_LIMIT: u32 = 5_000;
const START_LIMIT: u32 = 30_000;

/// As much time as it wants.
pub const NO_LIMIT: u64 = u64::MAX;

/// How long a partition may keep the normal world's interrupts away, in ticks of [`Machine::now`]; [`NO_LIMIT`] for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// For a managed exit, and for an interrupt that it is run for.
    pub interrupt: u64,
    /// For a request, when it has interrupts queued.
    pub queued: u64,
    /// For a power message, or a request of firmware.
    pub firmware: u64,
    /// To start, on one PE.
    pub start: u64,
}

impl TimeLimits {
    /// Those of a manifest. `frequency` is [`Machine::frequency`].
    #[must_use]
    pub fn new(limits: &partition::TimeLimits, frequency: u64) -> Self {
        // Firmware that has not said how fast the counter is must not be the end of all partitions.
        let ticks = |limit: Option<u32>| match u64::from(limit.unwrap_or(0)).saturating_mul(frequency / 1000) {
            0 => NO_LIMIT,
            ticks => ticks,
        };
        Self {
            interrupt: ticks(limits.interrupt.or(Some(INTERRUPT_LIMIT))),
            queued: ticks(limits.interrupt),
            firmware: ticks(limits.power.or(Some(POWER_LIMIT))),
            start: ticks(limits.start.or(Some(START_LIMIT))),
        }
    }
}

/// Why the normal world's interrupts are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// The partition starts.
    Start,
    /// It was run for an interrupt.
    Interrupt,
    /// It was told to give up the PE.
    ManagedExit,
    /// It has them queued.
    Queued,
    /// It has a power message.
    Power,
    /// It works for a logical partition of EL3.
    Firmware,
}

/// The time that a context has left, while it holds back the normal world's interrupts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    left: u64,
    /// It spends it, from then on; [`NO_DEADLINE`] when it does not.
    since: u64,
    /// The [`Pace::stretch`] of the handler that it was last.
    stretch: u32,
    /// [`VirtualInterrupts::events`](crate::interrupt::VirtualInterrupts::events) when it had all of its time.
    events: u32,
    /// An interrupt of its devices was disabled.
    stormed: bool,
}

impl Watch {
    /// With nothing left.
    pub(crate) const NEW: Self = Self {
        left: 0,
        since: NO_DEADLINE,
        stretch: 0,
        events: 0,
        stormed: false,
    };

    /// `limit` is left. The interrupts are those of the context.
    pub(crate) fn renew(&mut self, limit: u64, interrupts: &VirtualInterrupts) {
        self.left = limit;
        self.since = NO_DEADLINE;
        self.events = interrupts.events();
        self.stretch = 0;
    }
}

/// How handlers on a PE follow each other: without a break they share the time of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Counts the breaks, from 1.
    stretch: u32,
    /// When the last handler ended.
    ended: u64,
    /// Whether the next secure interrupt was there already then; or when the last one came for which nobody was to be run.
    pub(crate) crowded: bool,
    /// A partition that failed on top of something was started afresh since the last break.
    pub(crate) afresh: bool,
}

impl Pace {
    pub(crate) const NEW: Self = Self {
        stretch: 1,
        ended: 0,
        crowded: false,
        afresh: false,
    };
}

/// The shortest break is the limit divided by two to the power of this: about what EL3 takes to go to the normal world and
/// back.
const SHORTEST_BREAK: u32 = 15;
/// As many interrupts of its devices without a break are a storm.
const STORM: u32 = 32;

/// The running context, which nobody has called, ends its handler, or its start.
#[inline]
pub(crate) fn handler_ends<M: Machine>(pace: &mut Pace, machine: &mut M, running: &mut Running<'_>) {
    let now = machine.now();
    (pace.ended, pace.crowded) = (now, machine.secure_interrupt_pending());
    running.ctx.watch.account(running.partition.time_limits.interrupt, now);
}

impl Running<'_> {
    /// Why the time of this context is counted, if it is.
    #[inline]
    pub(crate) fn holding(&self) -> Option<Holding> {
        match self.model {
            Model::Init => Some(Holding::Start),
            Model::SecureInterrupt => Some(Holding::Interrupt),
            Model::Framework(Framework::Power) => Some(Holding::Power),
            _ if !self.slot.interrupts.is_active(Line::MANAGED_EXIT) => None,
            Model::DirectRequest { requester, .. } if requester.is_el3_logical() => Some(Holding::Firmware),
            _ if self.partition.ns_interrupts == NsInterruptsAction::Queued => Some(Holding::Queued),
            _ => Some(Holding::ManagedExit),
        }
    }

    /// How long it may hold back the normal world's interrupts.
    #[inline]
    pub(crate) const fn limit(&self, holding: Holding) -> u64 {
        let limits = &self.partition.time_limits;
        match holding {
            Holding::Start => limits.start,
            Holding::Interrupt | Holding::ManagedExit => limits.interrupt,
            Holding::Queued => limits.queued,
            Holding::Power | Holding::Firmware => limits.firmware,
        }
    }
}

impl Running<'_> {
    /// Takes off the time that was spent until `now`, if it is counted. Returns the next deadline, if it `spends` more from
    /// now on, and what is left.
    fn count(&mut self, now: u64, spends: bool) -> Option<(u64, u64)> {
        let limit = self.limit(self.holding()?);
        if limit == NO_LIMIT {
            return Some((NO_DEADLINE, NO_LIMIT));
        }
        let watch = &mut self.ctx.watch;
        watch.account(limit, now);
        watch.since = if spends { now } else { NO_DEADLINE };
        Some((deadline(limit, watch.left, now), watch.left))
    }
}

impl Watch {
    /// Takes off what was spent until `now`.
    #[inline]
    fn account(&mut self, limit: u64, now: u64) {
        let spent = now.saturating_sub(self.since).min(slice(limit));
        self.left = self.left.saturating_sub(spent);
        self.since = NO_DEADLINE;
    }
}

#[inline]
const fn slice(limit: u64) -> u64 {
    (limit / SLICES).saturating_add(1)
}

/// When the next slice of `limit` is over that begins `now`.
#[inline]
fn deadline(limit: u64, left: u64, now: u64) -> u64 {
    if limit == NO_LIMIT {
        return NO_DEADLINE;
    }
    now.saturating_add(left.min(slice(limit)))
}

/// Who holds back the normal world's interrupts on the PE has changed, or a deadline has passed: counts the time of whoever
/// does so now. When that has none left: how many contexts are on top of it.
#[cold]
#[inline(never)]
pub(crate) fn watch<M: Machine>(pe: &mut Pe<'_>, machine: &mut M) -> Option<usize> {
    pe.attention.remove(Attention::WATCH);
    if pe.running.is_none() {
        machine.set_watchdog(NO_DEADLINE);
        return None;
    }
    watch_contexts(pe, machine)
}

#[cold]
#[inline(never)]
fn watch_contexts<M: Machine>(pe: &mut Pe<'_>, machine: &mut M) -> Option<usize> {
    let now = machine.now();
    let (mut counted, mut above, mut called) = (None, 0_usize, false);
    for running in pe.running.iter_mut().chain(pe.chain.iter_mut().rev()) {
        // Who has called one that starts pays when it goes on: otherwise two partitions could keep the PE, one that fails
        // over and over, and one that calls it.
        if !called {
            let found = running.count(now, counted.is_none());
            if counted.is_none() {
                called = found.is_some();
                counted = found;
                above = above.saturating_add(usize::from(found.is_none()));
            }
        }
        called &= !running.preempts;
    }
    let (deadline, left) = counted.unwrap_or((NO_DEADLINE, 1));
    machine.set_watchdog(deadline);
    (left == 0).then_some(above)
}

impl Spmc {
    /// A context that has waited is about to run for an interrupt, on top of what the PE has: it has all of its time if there
    /// was a break since the last one.
    #[inline]
    pub(crate) fn handler_begins<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M, running: &mut Running<'_>) {
        let limit = running.partition.time_limits.interrupt;
        let now = machine.now();
        let pace = &mut pe.pace;
        if !pace.crowded && now.saturating_sub(pace.ended) >= limit.wrapping_shr(SHORTEST_BREAK) {
            pace.stretch = pace.stretch.wrapping_add(1).max(1);
            pace.afresh = false;
        }
        let watch = &mut running.ctx.watch;
        if watch.stretch != pace.stretch {
            watch.renew(limit, &running.slot.interrupts);
            watch.stretch = pace.stretch;
        } else if watch.left < limit / 2 {
            // A storm comes to its end between two of its interrupts, rather than in the middle of one.
            self.quiet(machine, pe.index, running);
        }
        let watch = &mut running.ctx.watch;
        if pe.running.is_none() {
            watch.since = now;
            machine.set_watchdog(deadline(limit, watch.left, now));
        } else {
            pe.attention.insert(Attention::WATCH);
        }
    }

    /// The context that has `above` contexts on top of it has no time left. `true`: that is because its devices interrupt it
    /// without end, and it has time now that this was ended.
    #[cold]
    #[inline(never)]
    pub(crate) fn quiet_storm<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M, above: usize) -> bool {
        let mut contexts = pe.running.iter_mut().chain(pe.chain.iter_mut().rev());
        let quieted = contexts
            .nth(above)
            .is_some_and(|running| self.quiet(machine, pe.index, running));
        if quieted {
            pe.attention.insert(Attention::WATCH);
        }
        quieted
    }

    /// Disables the interrupt that has come over and over, and gives the context new time, once in its life.
    #[cold]
    #[inline(never)]
    fn quiet<M: Machine>(&self, machine: &mut M, pe: PeIndex, running: &mut Running<'_>) -> bool {
        let Some(holding) = running.holding() else {
            return false;
        };
        let (limit, partition) = (running.limit(holding), running.partition);
        let interrupts = &running.slot.interrupts;
        let watch = &mut running.ctx.watch;
        let count = interrupts.events_since(watch.events);
        if watch.stormed || count < STORM {
            return false;
        }
        (watch.left, watch.events, watch.stormed) = (limit, interrupts.events(), true);
        let line = interrupts.last_event();
        let _ = self.change(machine, pe, partition, line, InterruptChange::Disable);
        report::storm(machine, partition, partition.interrupt_id(line), count);
        true
    }

    /// Stops the partition of the context that has `above` contexts on top of it, which works for it, and are preempted.
    #[cold]
    pub(crate) fn cut_short<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, above: usize) -> Action {
        for _ in 0..above {
            if pe
                .running
                .as_ref()
                .is_some_and(|running| running.partition.is_stopped())
            {
                return self.leave_stopped(pe, machine);
            }
            let target = set_aside(pe, machine, Suspension::Preempted).unwrap_or(0);
            if let Some(caller) = pe.running.as_mut() {
                abi::put(&mut caller.ctx.x, [abi::FFA_INTERRUPT, target, 0, 0, 0, 0, 0, 0]);
            }
        }
        let holding = pe
            .running
            .as_ref()
            .and_then(Running::holding)
            .unwrap_or(Holding::Queued);
        let limit = pe.running.as_ref().map_or(0, |running| running.limit(holding));
        let milliseconds = limit / (machine.frequency() / 1000).max(1);
        let cause = Cause::TimeOut { holding, milliseconds };
        self.stop_running(pe, machine, &cause)
    }
}
