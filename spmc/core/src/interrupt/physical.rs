//! Interrupts of devices, and the SPMC-scheduled mode: from the interrupt controller to the partition that owns the device
//! (FF-A 1.2, chapter 9).
//!
//! An interrupt is acknowledged, which drops its priority, and stays active while its partition has not handled it: a level
//! that is still high does not come back, an edge that comes meanwhile is kept by the interrupt controller. It is
//! deactivated when the partition says so, or has had its turn: takes the next interrupt, waits for a message, or responds.
//! An edge is deactivated when the partition takes it.
//!
//! A context that waits is run for its interrupts, on top of whatever has the PE, which then goes on as it was. Nothing of
//! that is done at once: a PE that has something to look after ([`Attention::DUE`]) does so at the end of the step, when it
//! is known what would run next.

use core::sync::atomic::{
    AtomicU16,
    Ordering::{Relaxed, SeqCst},
};

use crate::{
    abi::{self, Target},
    fault::FaultHistory,
    id::{PeIndex, VcpuIndex},
    interrupt::{Line, SOFTWARE_LINES, VirtualInterrupts},
    machine::{InterruptChange, KICK_INTERRUPT, Machine, NO_DEADLINE, TIMER_INTERRUPT},
    manifest::{
        partition::{Interrupt, InterruptKind, OtherSInterruptsAction, SriPolicy, Trigger},
        spmc::Mpidr,
    },
    partition::{Health, Multiplicity, Partition},
    spmc::{Action, Attention, Pe, Running, Spmc, reply},
    timer::bit,
    vcpu::{Model, State, Unavailable, take_waiting},
    watch::watch,
};

/// A device interrupt, whose it is, and which of its lines.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) id: u32,
    partition: u16,
    line: Line,
    /// It is not private to a PE.
    shared: bool,
    /// The PE that it is to come to while that is on; none in particular when there is none.
    pub(crate) pe: AtomicU16,
}

/// All device interrupts, by ascending number.
pub(crate) fn sources(partitions: &[Partition], cpus: &[Mpidr]) -> alloc::vec::Vec<Source> {
    let mut sources = alloc::vec::Vec::new();
    for (index, partition) in (0..).zip(partitions) {
        for (place, device) in partition.devices.iter().enumerate() {
            if let Some(line) = Line::new(place.saturating_add(SOFTWARE_LINES)) {
                let pe = device
                    .target
                    .and_then(|target| cpus.iter().position(|cpu| *cpu == target))
                    .and_then(|pe| u16::try_from(pe).ok());
                sources.push(Source {
                    id: device.id,
                    partition: index,
                    line,
                    shared: device.kind == InterruptKind::Spi,
                    pe: AtomicU16::new(pe.unwrap_or(u16::MAX)),
                });
            }
        }
    }
    crate::sort::sort_by_key(&mut sources, |source| source.id);
    sources
}

/// The device that a line belongs to.
pub(crate) fn device(partition: &Partition, line: Line) -> Option<&Interrupt> {
    partition.devices.get(line.number().checked_sub(SOFTWARE_LINES)?)
}

impl Spmc {
    /// Where shared interrupts are to come to.
    #[cfg(feature = "fake")]
    pub(crate) fn routes(&self) -> impl Iterator<Item = &AtomicU16> {
        self.sources.iter().map(|source| &source.pe)
    }

    /// The PE whose copy of a private interrupt a partition has: each its own, or one for all.
    fn home(&self, pe: PeIndex, partition: &Partition, device: &Interrupt) -> Mpidr {
        match partition.multiplicity {
            Multiplicity::Pinned => self.cpu(pe),
            Multiplicity::Migratable => device.target.unwrap_or(self.cpu(PeIndex::new(0))),
        }
    }

    /// The device interrupts that are private to PEs, as far as the interrupt controller of `pe` is to be set up for them.
    pub fn private_interrupts(&self, pe: PeIndex) -> impl Iterator<Item = &Interrupt> {
        let own = self.cpu(pe);
        self.partitions().iter().flat_map(move |partition| {
            let is_own =
                move |device: &&Interrupt| device.kind == InterruptKind::Ppi && self.home(pe, partition, device) == own;
            partition.devices.iter().filter(is_own)
        })
    }

    /// The device interrupts that are not.
    pub fn shared_interrupts(&self) -> impl Iterator<Item = &Interrupt> {
        let devices = self.partitions().iter().flat_map(|partition| &partition.devices);
        devices.filter(|device| device.kind == InterruptKind::Spi)
    }

    /// Changes the interrupt of a device. `None`: the line is no device's.
    pub(crate) fn change<M: Machine>(
        &self,
        machine: &mut M,
        pe: PeIndex,
        partition: &Partition,
        line: Line,
        change: InterruptChange,
    ) -> Option<()> {
        let device = device(partition, line)?;
        machine.change_interrupt(self.home(pe, partition, device), device.id, change);
        Some(())
    }

    /// A context of `partition` is about to start on `pe`: its devices may interrupt. With the first one, after boot or
    /// afresh, nothing is left of what was before.
    pub(crate) fn start_interrupts<M: Machine>(
        &self,
        machine: &mut M,
        pe: PeIndex,
        partition: &Partition,
        interrupts: &VirtualInterrupts,
        first: bool,
    ) {
        if first {
            for slot in &partition.slots {
                slot.interrupts.forget_devices();
            }
            if let Some(mut gic) = partition.distributor() {
                gic.reset();
            }
        }
        self.deactivate(machine, pe, partition, interrupts);
        partition.reset_interrupts(interrupts);
        for (place, device) in partition.devices.iter().enumerate() {
            let private = device.kind == InterruptKind::Ppi && partition.multiplicity == Multiplicity::Pinned;
            let Some(line) = Line::new(place.saturating_add(SOFTWARE_LINES)) else {
                continue;
            };
            if first || private && !interrupts.is_pending(line) {
                let _ = self.change(machine, pe, partition, line, InterruptChange::Deactivate);
            }
            if (first || private) && partition.lets_through(partition.vcpu_on(pe), line) {
                let _ = self.change(machine, pe, partition, line, InterruptChange::Enable);
            }
        }
    }

    /// The PE has come up. Private interrupts of contexts that are pinned to it come with them, here are the others.
    pub(crate) fn enable_private<M: Machine>(&self, machine: &mut M, pe: PeIndex) {
        let own = self.cpu(pe);
        for partition in self
            .partitions()
            .iter()
            .filter(|partition| partition.health() == Health::Ready)
        {
            for (place, device) in partition
                .devices
                .iter()
                .enumerate()
                .filter(|(_, device)| device.kind == InterruptKind::Ppi)
            {
                let line = Line::new(place.saturating_add(SOFTWARE_LINES));
                if partition.multiplicity == Multiplicity::Migratable
                    && self.home(pe, partition, device) == own
                    && line.is_some_and(|line| partition.lets_through(VcpuIndex::new(0), line))
                {
                    machine.change_interrupt(own, device.id, InterruptChange::Enable);
                }
            }
        }
    }

    /// Sends shared interrupts to the PEs that they are to come to, or, where such a one is off, to the first that is on. To be
    /// done whenever a PE has come up or goes off.
    pub(crate) fn route_interrupts<M: Machine>(&self, machine: &mut M) {
        // The last one to have the lock sees all PEs as they are.
        let _routing = self.routing.lock();
        let online = self.online.load(SeqCst);
        let Ok(first) = u16::try_from(online.trailing_zeros()) else {
            return;
        };
        for source in self.sources.iter().filter(|source| source.shared && online != 0) {
            let wanted = PeIndex::new(source.pe.load(Relaxed));
            let is_on = online & bit(wanted) != 0;
            let cpu = self.cpu(if is_on { wanted } else { PeIndex::new(first) });
            machine.change_interrupt(cpu, source.id, InterruptChange::Route(cpu));
        }
    }

    /// Has a shared interrupt of a device come to another PE. `None`: it is not one, or there is no such PE.
    pub(crate) fn route_to<M: Machine>(&self, machine: &mut M, id: u32, pe: u32) -> Option<()> {
        let place = self.sources.binary_search_by_key(&id, |source| source.id).ok()?;
        let source = self.sources.get(place).filter(|source| source.shared)?;
        let pe = u16::try_from(pe)
            .ok()
            .filter(|pe| usize::from(*pe) < self.cpus().len())?;
        source.pe.store(pe, Relaxed);
        self.route_interrupts(machine);
        Some(())
    }

    /// The PE goes off, and is not among those that are on any more: what devices have raised for its contexts goes elsewhere.
    pub(crate) fn leave_interrupts<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M) {
        self.route_interrupts(machine);
        let online = self.online.load(SeqCst);
        let Ok(other) = u16::try_from(online.trailing_zeros()) else {
            return;
        };
        let pinned = |partition: &&Partition| partition.multiplicity == Multiplicity::Pinned && !partition.is_stopped();
        let mut moved = false;
        for partition in self.partitions.iter().filter(pinned) {
            let Some(slot) = partition.slot(partition.vcpu_on(pe.index)) else {
                continue;
            };
            self.deactivate(machine, pe.index, partition, &slot.interrupts);
            if let State::Off(ctx) = &mut *slot.lock() {
                self.forget_list_registers(machine, pe.index, partition, ctx);
                ctx.virtual_gic.list.fill(0);
            }
            for (place, device) in partition.devices.iter().enumerate() {
                let line = Line::new(place.saturating_add(SOFTWARE_LINES)).filter(|line| {
                    online != 0 && device.kind == InterruptKind::Spi && slot.interrupts.is_pending(*line)
                });
                if let Some(line) = line {
                    slot.interrupts.withdraw(line);
                    self.pend(pe, machine, partition, VcpuIndex::new(other), line);
                    // That context may have to be started for it.
                    moved = true;
                }
            }
        }
        if pe.attention.contains(Attention::SCHEDULE_RECEIVER) && online != 0 {
            machine.raise_schedule_receiver(self.cpu(PeIndex::new(other)));
        }
        pe.attention.remove(Attention::SCHEDULE_RECEIVER | Attention::LEAVING);
        // Nothing is run here any more: who waits with interrupts and is not pinned is run by that one too, as is who waits for
        // memory.
        pe.attention.remove(Attention::DUE);
        let is_due = |partition: &Partition| {
            let slot = partition.slot(partition.vcpu_on(pe.index));
            partition.multiplicity == Multiplicity::Migratable
                && slot.is_some_and(|slot| slot.interrupts.wanting() != 0)
        };
        if online != 0 && (moved || self.holds_back() || self.partitions.iter().any(is_due)) {
            machine.kick(self.cpu(PeIndex::new(other)));
        }
    }

    /// A partition was stopped: its devices do not interrupt any more.
    pub(crate) fn stop_interrupts<M: Machine>(&self, machine: &mut M, pe: PeIndex, partition: &Partition) {
        for device in &partition.devices {
            machine.change_interrupt(self.home(pe, partition, device), device.id, InterruptChange::Disable);
        }
    }

    /// What the context has taken and not deactivated is handled.
    pub(crate) fn deactivate<M: Machine>(
        &self,
        machine: &mut M,
        pe: PeIndex,
        partition: &Partition,
        interrupts: &VirtualInterrupts,
    ) {
        let mut active = interrupts.take_active();
        while let Some(line) = Line::lowest(active) {
            active &= !line.bit();
            let _ = self.change(machine, pe, partition, line, InterruptChange::Deactivate);
        }
    }

    /// The next interrupt of the running context. Those that it took before are handled.
    pub(crate) fn take_interrupt<M: Machine>(
        &self,
        machine: &mut M,
        pe: PeIndex,
        running: &Running<'_>,
    ) -> Option<Line> {
        let interrupts = &running.slot.interrupts;
        let line = interrupts.take();
        self.deactivate(machine, pe, running.partition, interrupts);
        self.timer_handled(machine, pe, interrupts, line);
        let line = line?;
        match device(running.partition, line).map(|device| device.trigger) {
            Some(Trigger::Level) => interrupts.activate(line),
            Some(Trigger::Edge) => {
                let _ = self.change(machine, pe, running.partition, line, InterruptChange::Deactivate);
            }
            None => {}
        }
        Some(line)
    }

    /// The running context has handled an interrupt.
    pub(crate) fn deactivate_interrupt<M: Machine>(
        &self,
        machine: &mut M,
        pe: PeIndex,
        running: &Running<'_>,
        line: Line,
    ) {
        let interrupts = &running.slot.interrupts;
        if line == Line::TIMER {
            self.timer_handled(machine, pe, interrupts, None);
        } else if device(running.partition, line).is_some() && interrupts.deactivate(line) {
            let _ = self.change(machine, pe, running.partition, line, InterruptChange::Deactivate);
        }
    }

    /// A secure interrupt came while a context ran.
    #[cold]
    #[inline(never)]
    pub(crate) fn secure_interrupt<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        self.acknowledge(pe, machine);
        match pe.running.as_mut() {
            Some(running) if !running.partition.is_stopped() => {
                running.assert_interrupts();
                Action::Run
            }
            _ => self.leave_stopped(pe, machine),
        }
    }

    /// FFA_INTERRUPT from the SPMD: a secure interrupt came while the normal world ran. It ends with
    /// FFA_NORMAL_WORLD_RESUME and nothing else, whatever is run before.
    pub(crate) fn secure_interrupt_in_normal_world<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M) -> Action {
        self.acknowledge(pe, machine);
        reply(pe, Ok([abi::FFA_NORMAL_WORLD_RESUME, 0, 0, 0, 0, 0, 0, 0]))
    }

    /// Takes one interrupt; others that are pending come in turn. A spurious one is harmless.
    fn acknowledge<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M) {
        let Some(id) = machine.acknowledge_secure_interrupt() else {
            return;
        };
        let own = self.cpu(pe.index);
        if matches!(id, KICK_INTERRUPT | TIMER_INTERRUPT) {
            if id == TIMER_INTERRUPT {
                self.timer_interrupt(pe, machine);
                pe.attention.insert(Attention::WATCH);
            } else {
                self.take_in_timers(machine, pe.index);
                pe.attention.insert(Attention::DUE);
            }
            machine.change_interrupt(own, id, InterruptChange::Deactivate);
            return;
        }
        let owner = self.sources.binary_search_by_key(&id, |source| source.id).ok();
        let source = owner.and_then(|place| self.sources.get(place));
        let partition = source.and_then(|source| self.partitions().get(usize::from(source.partition)));
        match source.zip(partition).filter(|(_, partition)| !partition.is_stopped()) {
            Some((source, partition)) => {
                let vcpu = partition.vcpu_on(pe.index);
                if let Some(slot) = partition.slot(vcpu) {
                    slot.interrupts.count_event(source.line);
                }
                self.pend(pe, machine, partition, vcpu, source.line);
                // Even if the context is off.
                pe.attention.insert(Attention::DUE);
            }
            None => {
                // Nobody's: not again. Unless its partition was started afresh by another PE meanwhile.
                machine.change_interrupt(own, id, InterruptChange::Disable);
                if partition.is_some_and(|partition| !partition.is_stopped()) {
                    machine.change_interrupt(own, id, InterruptChange::Enable);
                }
                machine.change_interrupt(own, id, InterruptChange::Deactivate);
            }
        }
    }

    /// An interrupt was raised for a context that waits: who is to run it?
    pub(crate) fn raised_while_waiting<M: Machine>(
        &self,
        pe: &mut Pe<'_>,
        machine: &mut M,
        partition: &Partition,
        vcpu: VcpuIndex,
        line: Line,
    ) {
        if partition.sri_policy.contains(SriPolicy::WAITING) {
            if let Some(slot) = partition.slot(vcpu) {
                slot.interrupts.leave(line.bit());
            }
            self.schedule_receiver(pe, machine, false);
        } else if partition.multiplicity == Multiplicity::Pinned && vcpu.as_u16() != pe.index.as_u16() {
            machine.kick(self.cpu(PeIndex::new(vcpu.as_u16())));
        } else {
            pe.attention.insert(Attention::DUE);
        }
    }

    /// The running context, still on its PE, has nothing more to do: it waits, or has responded.
    #[inline(always)]
    pub(crate) fn rests<M: Machine>(
        &self,
        attention: &mut Attention,
        machine: &mut M,
        pe: PeIndex,
        running: &Running<'_>,
    ) {
        if !running.slot.interrupts.is_quiet() {
            self.rests_with_interrupts(attention, machine, pe, running);
        }
    }

    #[cold]
    #[inline(never)]
    fn rests_with_interrupts<M: Machine>(
        &self,
        attention: &mut Attention,
        machine: &mut M,
        pe: PeIndex,
        running: &Running<'_>,
    ) {
        let interrupts = &running.slot.interrupts;
        interrupts.withdraw(Line::MANAGED_EXIT);
        if interrupts.deactivate(Line::MANAGED_EXIT) {
            attention.insert(Attention::WATCH);
        }
        self.deactivate(machine, pe, running.partition, interrupts);
        self.timer_rests(machine, pe, interrupts);
        let wanting = interrupts.wanting();
        if wanting == 0 {
            return;
        }
        attention.insert(if running.partition.sri_policy.contains(SriPolicy::ENTRY_TO_WAITING) {
            interrupts.leave(wanting);
            Attention::SCHEDULE_RECEIVER
        } else {
            Attention::DUE
        });
    }

    /// The end of a step after which `action` would be done, and the PE has something to look after.
    #[cold]
    #[inline(never)]
    pub(crate) fn attend<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, mut action: Action) -> Action {
        while pe.attention.contains(Attention::WATCH)
            && let Some(above) = watch(pe, machine)
        {
            if !self.quiet_storm(pe, machine, above) {
                action = self.cut_short(pe, machine, above);
            }
        }
        if pe.attention.contains(Attention::DUE)
            && may_be_interrupted(pe)
            && let Some(interrupted) = self.take_due(pe, machine)
        {
            if let Some(mut preempted) = pe.running.replace(interrupted) {
                machine.park(&mut preempted.ctx);
                pe.chain.push(preempted);
            }
            if pe.attention.contains(Attention::WATCH) {
                // It has all of its time.
                let _ = watch(pe, machine);
            }
            action = Action::Run;
        } else if pe.pace.crowded {
            // What came was no reason to run a handler.
            pe.pace.crowded = machine.secure_interrupt_pending();
        }
        if pe.attention.contains(Attention::REASSERT) {
            pe.attention.remove(Attention::REASSERT);
            if let Some(running) = pe.running.as_mut() {
                running.assert_interrupts();
            }
        }
        if pe.attention.contains(Attention::SCHEDULE_RECEIVER) && action == Action::NormalWorld {
            pe.attention.remove(Attention::SCHEDULE_RECEIVER);
            machine.raise_schedule_receiver(self.cpu(pe.index));
        }
        action
    }

    /// Takes a context of this PE that waits and has interrupts. When there is none, nothing is due any more.
    fn take_due<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Option<Running<'s>> {
        if self.holds_back()
            && let Some(running) = self.release_held_back(pe, machine)
        {
            pe.attention.insert(Attention::WATCH);
            return Some(Running {
                preempts: true,
                ..running
            });
        }
        for (place, partition) in self.partitions.iter().enumerate() {
            let vcpu = partition.vcpu_on(pe.index);
            let Some(slot) = partition.slot(vcpu) else { continue };
            let wanting = slot.interrupts.wanting();
            let Some(mut line) = Line::lowest(wanting).filter(|_| !partition.is_stopped()) else {
                continue;
            };
            let ctx = match take_waiting(slot, pe.index) {
                Ok(ctx) => ctx,
                Err(Unavailable::Off) => match self.late_start(pe, machine, partition.endpoint()) {
                    // Started afresh on another PE: here now, and then it is run for the interrupt.
                    Some(running) => {
                        pe.attention.insert(Attention::WATCH);
                        return Some(Running {
                            preempts: true,
                            ..running
                        });
                    }
                    None => continue,
                },
                Err(_) => continue,
            };
            slot.interrupts.tell(wanting);
            let mut running = Running {
                partition,
                slot,
                vcpu,
                ctx,
                model: Model::SecureInterrupt,
                preempts: true,
                faults: FaultHistory::default(),
            };
            if partition.el1.is_some() {
                // At S-EL0 there is no exception to take: it is told of this one now.
                line = self.take_interrupt(machine, pe.index, &running).unwrap_or(line);
            }
            let id = u64::from(partition.interrupt_id(line));
            abi::put(&mut running.ctx.x, [abi::FFA_INTERRUPT, 0, id, 0, 0, 0, 0, 0]);
            running.ctx.mask_ns_interrupts = true;
            running.assert_interrupts();
            self.handler_begins(pe, machine, &mut running);
            let later = self.partitions.iter().skip(place).skip(1);
            let mut slots = later.filter_map(|partition| partition.slot(partition.vcpu_on(pe.index)));
            if slots.all(|slot| slot.interrupts.wanting() == 0) {
                pe.attention.remove(Attention::DUE);
            }
            return Some(running);
        }
        pe.attention.remove(Attention::DUE);
        None
    }

    /// Goes on with what a context has run on top of.
    pub(crate) fn go_back<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        match pe.chain.pop() {
            Some(preempted) => {
                pe.attention.insert(Attention::WATCH);
                self.resume_caller(pe, machine, preempted)
            }
            // The normal world's registers are as they were when it was to run.
            None => {
                machine.set_watchdog(NO_DEADLINE);
                Action::NormalWorld
            }
        }
    }

    /// FFA_NOTIFICATION_INFO_GET: the next context that the scheduler of the normal world is to run for its interrupts.
    pub(crate) fn each_to_schedule(&self, tell: &mut dyn FnMut(Target) -> bool) {
        for partition in self
            .partitions()
            .iter()
            .filter(|partition| !partition.sri_policy.is_empty())
        {
            for (vcpu, slot) in (0..).map(VcpuIndex::new).zip(&partition.slots) {
                let lines = slot.interrupts.to_schedule();
                let target = Target {
                    endpoint: partition.endpoint(),
                    vcpu,
                };
                if lines != 0 && !partition.is_stopped() && tell(target) {
                    slot.interrupts.tell(lines);
                }
            }
        }
    }
}

/// Whether a context with an interrupt may be run on top of what the PE would go on with. What must not be interrupted
/// comes to its end first: a partition that starts, a power message, one that has other partitions' interrupts queued, and
/// whom that one has called.
fn may_be_interrupted(pe: &Pe<'_>) -> bool {
    if pe.booting.is_some() || pe.relay.is_some() || pe.chain.len() == pe.chain.capacity() {
        return false;
    }
    let mut callers = pe.chain.iter().rev();
    let mut next = pe.running.as_ref();
    while let Some(running) = next {
        if running.model == Model::Init
            || running.partition.other_s_interrupts == OtherSInterruptsAction::Queued
            || running.partition.is_stopped()
        {
            return false;
        }
        next = if running.preempts { None } else { callers.next() };
    }
    true
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::sync::OnceLock;

    use crate::{
        abi::V1_2,
        machine::fake::{Builder, System},
        manifest::partition::Trigger,
        spmc::Spmc,
    };

    const DEVICE: u32 = 40;
    const FFA_INTERRUPT: u64 = 0x8400_0062;

    static SPMC: OnceLock<Spmc> = OnceLock::new();

    fn starts_afresh() {
        if let Some(spmc) = SPMC.get() {
            spmc.partitions()[0].start_afresh(V1_2);
        }
    }

    #[test]
    fn interrupt_of_a_partition_that_another_pe_starts_afresh_meanwhile_stays_enabled() {
        let (spmc, machine) = Builder::new(1)
            .partition_with("a", |a| a.device_interrupt(DEVICE, Trigger::Edge).restart())
            .build();
        let spmc = SPMC.get_or_init(|| spmc);
        let mut system = System::booted(spmc, machine);
        system.set_checking(false);
        for meanwhile in [Some(starts_afresh as fn()), None] {
            assert!(spmc.partitions()[0].stop());
            system.machine.meanwhile = meanwhile;
            system.machine.raise(DEVICE);
            system.nwd(0, &[FFA_INTERRUPT]);
            assert_eq!(system.machine.interrupts[&DEVICE].enabled, meanwhile.is_some());
        }
    }
}
