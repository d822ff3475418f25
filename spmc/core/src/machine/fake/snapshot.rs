//! States of a [`System`] that can be compared, kept and put back, for models that visit all of them.
//!
//! A state is taken to [`Part`]s, of which most are the same in most states: who keeps many states keeps each part once.
//! Left out is what the interrupt and scheduling policy does not act on, and what models of it do not change:
//! * registers of contexts (of the normal world, x0-x2 are kept while its PE does something else first), so that none is a
//!   partition's at S-EL0, which is told of interrupts in them,
//! * whether virtual interrupts are asserted, and interrupts of the normal world masked, in a context that is not on a PE:
//!   it is put back with the wrong ones, which must not matter,
//! * memory and tables, mailboxes, notifications, shares, what was printed and how much more may be,
//! * the time: times are kept as how far off they are, and those that have passed are alike.
//!
//! The time that is counted of contexts with limits ([`crate::watch`]) is kept, as far as it matters.

use core::sync::atomic::Ordering::Relaxed;
use std::{boxed::Box, vec::Vec};

use crate::{
    context::Context,
    fault::FaultHistory,
    framework::Relay,
    id::{EndpointId, PeIndex, VcpuIndex},
    interrupt::virtual_gic::VirtualGic,
    machine::{
        NO_DEADLINE,
        fake::{FakeInterrupt, FakePe, Owner, System},
    },
    partition::Partition,
    spmc::{Attention, Pe, Running},
    timer::Timer,
    vcpu::{Model, Slot, State, Suspension},
    watch::{Pace, kept::KeptWatch},
};

/// What time it is in a state that was put back.
const NOW: u64 = 1 << 40;

/// Part of the state of a [`System`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Part(Kept);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kept {
    All {
        online: u64,
        homeless: bool,
        routes: Vec<u16>,
        schedule_receiver: bool,
        interrupts: Vec<(u32, FakeInterrupt)>,
    },
    Pe(KeptPe),
    Partition {
        health: u8,
        version: u32,
        failed: bool,
    },
    Slot {
        state: KeptState,
        words: [u64; 6],
        timer: Timer,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct KeptPe {
    owner: Owner,
    normal_world: [u64; 3],
    /// Callers, and who runs.
    contexts: Vec<OnPe>,
    booting: Option<usize>,
    relay: Option<Relay>,
    late: Option<usize>,
    attention: Attention,
    pace: [bool; 2],
    group0: u32,
    kicked: bool,
    deadline: u64,
    watchdog: u64,
    timer_active: bool,
}

/// What is kept of a context wherever it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct KeptContext {
    virtual_gic: VirtualGic,
    /// What is left of its time, and how long ago it began to be spent.
    watch: KeptWatch,
}

impl KeptContext {
    fn new(ctx: &Context, partition: &Partition, all: &System<'_>) -> Self {
        let paces = all.pes.iter().map(|pe| &pe.pace);
        Self {
            virtual_gic: ctx.virtual_gic.clone(),
            watch: KeptWatch::new(&ctx.watch, &partition.time_limits, all.machine.counter, paces),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OnPe {
    partition: EndpointId,
    vcpu: VcpuIndex,
    model: Model,
    preempts: bool,
    masked: bool,
    asserted: (bool, bool),
    kept: KeptContext,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum KeptState {
    Off(KeptContext),
    Waiting(KeptContext),
    OnPe(PeIndex),
    Suspended {
        kept: KeptContext,
        model: Model,
        why: Suspension,
        resumer: crate::abi::Target,
    },
    Stopped,
}

impl System<'_> {
    /// Shows the virtual CPU interface of each context, with its partition's id, wherever the context is.
    pub fn each_virtual_gic(&self, tell: &mut dyn FnMut(EndpointId, &VirtualGic)) {
        for partition in self.spmc.partitions() {
            for slot in &partition.slots {
                match &*slot.lock() {
                    State::Off(ctx) | State::Waiting(ctx) | State::Suspended { ctx, .. } | State::Stopped(ctx) => {
                        tell(partition.endpoint(), &ctx.virtual_gic);
                    }
                    State::OnPe(_) => {}
                }
            }
        }
        for running in self.pes.iter().flat_map(|pe| pe.chain.iter().chain(&pe.running)) {
            tell(running.partition.endpoint(), &running.ctx.virtual_gic);
        }
    }
}

impl OnPe {
    fn new(running: &Running<'_>, all: &System<'_>) -> Self {
        // Nobody faults in these models.
        let Running {
            partition,
            slot: _,
            vcpu,
            ctx,
            model,
            preempts,
            faults: _,
        } = running;
        Self {
            partition: partition.endpoint(),
            vcpu: *vcpu,
            model: *model,
            preempts: *preempts,
            masked: ctx.mask_ns_interrupts,
            asserted: (ctx.signals.irq, ctx.signals.fiq),
            kept: KeptContext::new(ctx, partition, all),
        }
    }
}

fn context(partition: &Partition, slot: &Slot, kept: &KeptContext) -> Box<Context> {
    let vcpu = partition.slots.iter().position(|other| core::ptr::eq(other, slot));
    let vmpidr = vcpu.and_then(|vcpu| u64::try_from(vcpu).ok());
    let mut ctx = Box::new(Context::new(partition.roots, vmpidr.expect("its own")));
    ctx.watch = kept.watch.watch(NOW);
    ctx.signals.gic = partition.gic.is_some();
    ctx.virtual_gic = kept.virtual_gic.clone();
    ctx.signals.list = ctx.virtual_gic.list.iter().any(|entry| *entry != 0);
    ctx
}

/// A context that waits, with nothing right that is to be set when it gets a PE.
fn parked(partition: &Partition, slot: &Slot, kept: &KeptContext) -> Box<Context> {
    let mut ctx = context(partition, slot, kept);
    let wrong = slot.interrupts.deliverable() == 0;
    (ctx.signals.irq, ctx.signals.fiq) = (wrong, wrong);
    ctx
}

impl KeptState {
    fn new(slot: &Slot, partition: &Partition, all: &System<'_>) -> Self {
        match &*slot.lock() {
            State::Off(ctx) => Self::Off(KeptContext::new(ctx, partition, all)),
            State::Waiting(ctx) => Self::Waiting(KeptContext::new(ctx, partition, all)),
            State::OnPe(pe) => Self::OnPe(*pe),
            State::Suspended {
                ctx,
                model,
                why,
                resumer,
            } => Self::Suspended {
                kept: KeptContext::new(ctx, partition, all),
                model: *model,
                why: *why,
                resumer: *resumer,
            },
            State::Stopped(_) => Self::Stopped,
        }
    }

    fn state(&self, partition: &Partition, slot: &Slot) -> State {
        match self {
            Self::Off(kept) => State::Off(parked(partition, slot, kept)),
            Self::Waiting(kept) => State::Waiting(parked(partition, slot, kept)),
            Self::OnPe(pe) => State::OnPe(*pe),
            Self::Suspended {
                kept,
                model,
                why,
                resumer,
            } => State::Suspended {
                ctx: parked(partition, slot, kept),
                model: *model,
                why: *why,
                resumer: *resumer,
            },
            Self::Stopped => State::Stopped(Box::new(Context::new(partition.roots, 0))),
        }
    }
}

fn off(time: u64, now: u64) -> u64 {
    if time == NO_DEADLINE {
        time
    } else {
        time.saturating_sub(now)
    }
}

fn back(off: u64) -> u64 {
    NOW.saturating_add(off)
}

impl<'s> System<'s> {
    /// The state, in as many parts in each of its states, and in the same order.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let spmc = self.spmc;
        let mut parts = Vec::with_capacity(16);
        parts.push(Kept::All {
            online: spmc.online.load(Relaxed),
            homeless: spmc.homeless.load(Relaxed),
            routes: spmc.routes().map(|route| route.load(Relaxed)).collect(),
            schedule_receiver: self.machine.schedule_receiver_raised != 0,
            interrupts: self.machine.interrupts.iter().map(|(id, irq)| (*id, *irq)).collect(),
        });
        for pe in 0..self.pes.len() {
            parts.push(Kept::Pe(self.keep_pe(pe)));
        }
        for partition in spmc.partitions() {
            let (health, version) = partition.life();
            parts.push(Kept::Partition {
                health: health.load(Relaxed),
                version: version.load(Relaxed),
                failed: partition
                    .restart
                    .as_ref()
                    .is_some_and(|restart| restart.failed().load(Relaxed)),
            });
            for slot in &partition.slots {
                let now = self.machine.counter;
                parts.push(Kept::Slot {
                    state: KeptState::new(slot, partition, self),
                    words: slot.interrupts.words().map(|word| word.load(Relaxed)),
                    timer: slot.interrupts.timer.lock().with_times(|time| off(time, now)),
                });
            }
        }
        parts.into_iter().map(Part).collect()
    }

    fn keep_pe(&self, index: usize) -> KeptPe {
        let Pe {
            normal_world: [x0, x1, x2, ..],
            index: _,
            running,
            chain,
            booting,
            relay,
            late,
            attention,
            pace,
        } = &self.pes[index];
        let FakePe {
            live: _,
            group0,
            kicked,
            deadline,
            watchdog,
            timer_active,
            el3_calls: _,
            el3_answers: _,
        } = &self.machine.pes[index];
        KeptPe {
            owner: self.owners[index],
            normal_world: if running.is_some() { [*x0, *x1, *x2] } else { [0; 3] },
            contexts: {
                let all = chain.iter().chain(running);
                all.map(|running| OnPe::new(running, self)).collect()
            },
            booting: *booting,
            relay: *relay,
            late: *late,
            attention: *attention,
            pace: pace.kept(self.spmc.partitions().iter().map(|partition| &partition.time_limits)),
            group0: *group0,
            kicked: *kicked,
            deadline: off(*deadline, self.machine.counter),
            watchdog: off(*watchdog, self.machine.counter),
            timer_active: *timer_active,
        }
    }

    /// Puts a state back that this system was in.
    pub fn put_back<'p>(&mut self, parts: impl IntoIterator<Item = &'p Part>) {
        self.machine.counter = NOW;
        self.machine.console.clear();
        self.machine.invalidated.clear();
        self.machine.synchronised.clear();
        self.left.clear();
        let spmc = self.spmc;
        let slots = |partition: &'s Partition| partition.slots.iter().map(move |slot| (partition, slot));
        let mut slots = spmc.partitions().iter().flat_map(slots);
        let (mut pes, mut partitions) = (0.., spmc.partitions().iter());
        for Part(part) in parts {
            match part {
                Kept::All {
                    online,
                    homeless,
                    routes,
                    schedule_receiver,
                    interrupts,
                } => {
                    spmc.online.store(*online, Relaxed);
                    spmc.homeless.store(*homeless, Relaxed);
                    for (route, kept) in spmc.routes().zip(routes) {
                        route.store(*kept, Relaxed);
                    }
                    self.machine.schedule_receiver_raised = usize::from(*schedule_receiver);
                    self.machine.interrupts = interrupts.iter().copied().collect();
                }
                Kept::Pe(kept) => self.put_pe(pes.next().expect("a PE"), kept),
                Kept::Partition {
                    health,
                    version,
                    failed,
                } => {
                    let partition = partitions.next().expect("a partition");
                    partition.life().0.store(*health, Relaxed);
                    partition.life().1.store(*version, Relaxed);
                    if let Some(restart) = &partition.restart {
                        restart.failed().store(*failed, Relaxed);
                    }
                }
                Kept::Slot { state, words, timer } => {
                    let (partition, slot) = slots.next().expect("a context");
                    for (word, kept) in slot.interrupts.words().into_iter().zip(words) {
                        word.store(*kept, Relaxed);
                    }
                    slot.interrupts.forget_events();
                    *slot.interrupts.timer.lock() = timer.with_times(back);
                    *slot.lock() = state.state(partition, slot);
                }
            }
        }
    }

    fn put_pe(&mut self, index: usize, kept: &KeptPe) {
        self.owners[index] = kept.owner;
        let spmc = self.spmc;
        let mut contexts = kept.contexts.iter().map(|kept| {
            let partition = spmc.find(kept.partition).expect("it was there");
            let slot = partition.slot(kept.vcpu).expect("it was there");
            let mut ctx = context(partition, slot, &kept.kept);
            ctx.mask_ns_interrupts = kept.masked;
            (ctx.signals.irq, ctx.signals.fiq) = kept.asserted;
            Running {
                partition,
                slot,
                vcpu: kept.vcpu,
                ctx,
                model: kept.model,
                preempts: kept.preempts,
                faults: FaultHistory::default(),
            }
        });
        let pe = &mut self.pes[index];
        pe.normal_world = [0; 18];
        pe.normal_world[..3].copy_from_slice(&kept.normal_world);
        pe.chain.clear();
        pe.chain
            .extend(contexts.by_ref().take(kept.contexts.len().saturating_sub(1)));
        pe.running = contexts.next();
        pe.booting = kept.booting;
        pe.relay = kept.relay;
        pe.late = kept.late;
        pe.attention = kept.attention;
        pe.pace = Pace::put_back(index, kept.pace);
        self.machine.pes[index] = FakePe {
            group0: kept.group0,
            kicked: kept.kicked,
            deadline: back(kept.deadline),
            watchdog: back(kept.watchdog),
            timer_active: kept.timer_active,
            ..FakePe::default()
        };
        if let (Owner::Partition(..), Some(running)) = (kept.owner, &mut pe.running) {
            self.machine.set_current(index);
            self.machine.enter(&mut running.ctx);
        }
    }
}
