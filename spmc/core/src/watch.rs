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
//! the innermost context whose time is counted spends any: one that runs on top of another, uncalled, spends its own.

use crate::{
    abi,
    interrupt::Line,
    machine::{Machine, NO_DEADLINE},
    manifest::partition::{self, NsInterruptsAction},
    report::Cause,
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
        let ticks = |limit: Option<u32>| match limit {
            None | Some(0) => NO_LIMIT,
            Some(limit) => u64::from(limit).saturating_mul(frequency / 1000).max(1),
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    left: u64,
    /// It spends it, from then on.
    since: Option<u64>,
}

impl Watch {
    /// With `limit` left.
    pub(crate) const fn new(limit: u64) -> Self {
        Self {
            left: limit,
            since: None,
        }
    }

    /// The same for a context that has the PE to itself from now on.
    #[inline]
    pub(crate) fn begin<M: Machine>(limit: u64, machine: &mut M) -> Self {
        let now = machine.now();
        machine.set_watchdog(deadline(limit, limit, now));
        Self {
            left: limit,
            since: Some(now),
        }
    }
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
        if let Some(since) = watch.since {
            let spent = now.saturating_sub(since).min(slice(limit));
            watch.left = watch.left.saturating_sub(spent);
        }
        watch.since = spends.then_some(now);
        Some((deadline(limit, watch.left, now), watch.left))
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
    let (mut counted, mut above) = (None, 0_usize);
    for running in pe.running.iter_mut().chain(pe.chain.iter_mut().rev()) {
        let found = running.count(now, counted.is_none());
        if counted.is_none() {
            counted = found;
            above = above.saturating_add(usize::from(found.is_none()));
        }
    }
    let (deadline, left) = counted.unwrap_or((NO_DEADLINE, 1));
    machine.set_watchdog(deadline);
    (left == 0).then_some(above)
}

impl Spmc {
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
