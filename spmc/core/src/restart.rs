//! Starting a partition afresh after a fault, when its manifest says so (`lifecycle-support`, `abort-action` 2).
//!
//! The SPMC has kept a copy of the package since boot. Once no context of the stopped partition is on a PE any more, the PE
//! that the last one has left restores the image, zeroes all other memory of the partition, and runs its first context to
//! FFA_MSG_WAIT, before whoever waited for the partition learns that its call was ABORTED. Contexts pinned to other PEs are
//! started when they are next asked, which is answered with BUSY, or when a device interrupts them. A partition that fails while it starts stays stopped.
//!
//! What it had borrowed is relinquished before, and what it had sent is reclaimed. While others still have some of that, it is
//! held back, and started when the last of them lets go. If it has given pages of its image away, it stays stopped.

use core::{
    ops::ControlFlow,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

use spin::mutex::{TicketMutex, TicketMutexGuard};
use tantalum_stage2::{Access, Entry, Ipa, IpaRange, MemoryType, Ownership, Run, Tables};

use crate::{
    abi::{Target, Version},
    addr::{PAGE_SHIFT, PageRange, PhysAddr, World},
    fault::FaultHistory,
    id::{EndpointId, PeIndex},
    lifecycle::reset,
    machine::{Machine, TableMemory},
    mailbox::Buffers,
    partition::{Health, Multiplicity, OnPartition, Partition},
    spmc::{Pe, Running, Spmc},
    timer::bit,
    vcpu::{Model, State},
};

/// Bytes that are copied at a time, through the SPMC's stack.
const CHUNK: usize = 512;

/// What is held while a stopped partition is dealt with: nothing, for one that is not started afresh.
type Claim<'p> = Option<TicketMutexGuard<'p, ()>>;

/// How often people hear of the end of a partition that fails again and again.
const MAX_REPORTS: u8 = 8;

/// What a partition needs to be started afresh.
#[derive(Debug)]
pub struct Restart {
    /// The copy of its package, as it was after boot information was written.
    copy: PageRange,
    /// Its version and its buffers, as its manifest has them.
    version: Version,
    buffers: Option<Buffers>,
    /// It has failed to start.
    failed: AtomicBool,
    /// Others have memory of it: it can start when they let go.
    held_back: AtomicBool,
    /// How often people have heard of its end; one more when they no longer do.
    reports: AtomicU8,
    /// Held by the PE that looks whether the last context has left, and restores it then. Contexts that leave at the same
    /// time wait for it: each of them might have been taken for one that is still there.
    claim: TicketMutex<()>,
}

impl Restart {
    /// A partition whose package was copied to `copy`.
    #[must_use]
    pub const fn new(copy: PageRange, version: Version, buffers: Option<Buffers>) -> Self {
        Self {
            copy,
            version,
            buffers,
            failed: AtomicBool::new(false),
            held_back: AtomicBool::new(false),
            reports: AtomicU8::new(0),
            claim: TicketMutex::new(()),
        }
    }

    /// Whether people are to hear of this end too.
    pub(crate) fn may_report(&self) -> bool {
        let count = |reports: u8| (reports <= MAX_REPORTS).then_some(reports.saturating_add(1));
        self.reports
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, count)
            .is_ok_and(|reports| reports < MAX_REPORTS)
    }

    /// Whether it has failed to start.
    #[cfg(feature = "fake")]
    pub(crate) const fn failed(&self) -> &AtomicBool {
        &self.failed
    }

    /// It has failed to start: it stays stopped.
    pub(crate) fn give_up(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

impl Spmc {
    /// A context of a stopped partition has left the PE. After the last one, what it had borrowed and lent ends; then it is
    /// made ready to start on this PE, if it may and can: its first context to run.
    #[cold]
    #[inline(never)]
    pub(crate) fn bury<'s, M: Machine>(
        &'s self,
        pe: &Pe<'s>,
        machine: &mut M,
        partition: &'s Partition,
    ) -> Option<Running<'s>> {
        let claim = partition.restart.as_ref().map(|restart| restart.claim.lock());
        let _claim = self.settle(machine, partition, claim)?;
        let restart = partition.restart.as_ref()?;
        if !self.is_booted() || restart.failed.load(Ordering::Acquire) || !withdraw(partition) {
            return None;
        }
        self.release_work_for(partition.endpoint());
        // Before looking: who lets go after that sees it.
        if !restart.held_back.swap(true, Ordering::SeqCst) {
            self.held_back.fetch_add(1, Ordering::SeqCst);
        }
        if self.shares.has_shares(partition.endpoint()) {
            return None;
        }
        restart.held_back.store(false, Ordering::SeqCst);
        self.held_back.fetch_sub(1, Ordering::SeqCst);
        if !restore(machine, partition, restart.copy) {
            restart.give_up();
            return None;
        }
        self.take_buffers(machine, partition, restart.buffers);
        if let Some(notifications) = &partition.notifications {
            notifications.lock().clear();
        }
        for line in &partition.log {
            line.lock().clear();
        }
        partition.start_afresh(restart.version);
        let running = self.take_off(machine, pe.index, partition, true);
        if restart.reports.load(Ordering::Relaxed) <= MAX_REPORTS {
            machine.print(format_args!(
                "spmc: partition \"{}\" ({}) is started afresh\n",
                partition.name, partition.id
            ));
        }
        running
    }

    /// Whether a partition waits for others to let go of its memory before it starts afresh.
    #[inline]
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.held_back.load(Ordering::SeqCst) != 0
    }

    /// Memory was given back: a partition that was held back until then starts on this PE, its first context to run.
    pub(crate) fn release_held_back<'s, M: Machine>(&'s self, pe: &Pe<'s>, machine: &mut M) -> Option<Running<'s>> {
        let ready = |partition: &&Partition| is_held_back(partition) && !self.shares.has_shares(partition.endpoint());
        let mut ready = self.partitions.iter().filter(ready);
        ready.find_map(|partition| self.bury(pe, machine, partition))
    }

    /// Ends what a stopped partition had borrowed and lent, once no context of it is on a PE. `None`: there is one, or it is
    /// not stopped. Nobody else starts it afresh while the result, `claim`, is held.
    fn settle<'p, M: Machine>(&self, machine: &mut M, partition: &'p Partition, claim: Claim<'p>) -> Option<Claim<'p>> {
        if !partition.is_stopped()
            || partition
                .slots
                .iter()
                .any(|slot| matches!(*slot.lock(), State::OnPe(_)))
        {
            return None;
        }
        self.forget_mailbox(machine, partition);
        self.shares.forget(machine, self, partition.endpoint());
        Some(claim)
    }

    /// The same for all stopped partitions. A context that put itself away just when another PE stopped its partition has
    /// not done it, nor has that PE: whoever is in need of it does.
    #[cold]
    #[inline(never)]
    pub(crate) fn settle_all<M: Machine>(&self, machine: &mut M) {
        for partition in &self.partitions {
            // Another PE that has the claim is at it.
            let claim = match &partition.restart {
                Some(restart) => match restart.claim.try_lock() {
                    Some(claim) => Some(claim),
                    None => continue,
                },
                None => None,
            };
            let _ = self.settle(machine, partition, claim);
        }
    }

    /// The context of a partition that was started afresh on another PE, to be started on this one; or of one that nobody
    /// has started afresh yet, as [`Self::settle_all`] says.
    #[cold]
    pub(crate) fn late_start<'s, M: Machine>(
        &'s self,
        pe: &Pe<'s>,
        machine: &mut M,
        id: EndpointId,
    ) -> Option<Running<'s>> {
        let partition = self
            .find(id)
            .filter(|partition| partition.restart.is_some() && pe.booting.is_none())?;
        match partition.health() {
            Health::Ready => self.take_off(machine, pe.index, partition, false),
            Health::Stopped => {
                if is_held_back(partition) && self.shares.has_shares(id) {
                    return None;
                }
                self.bury(pe, machine, partition)
            }
            Health::Starting => None,
        }
    }

    /// Takes the context of this PE, which is off, to start it; the `first` of its partition starts at its entry point.
    pub(crate) fn take_off<'s, M: Machine>(
        &'s self,
        machine: &mut M,
        pe: PeIndex,
        partition: &'s Partition,
        first: bool,
    ) -> Option<Running<'s>> {
        let vcpu = partition.vcpu_on(pe);
        let slot = partition.slot(vcpu)?;
        let mut ctx = {
            let mut state = slot.lock();
            match core::mem::replace(&mut *state, State::OnPe(pe)) {
                State::Off(ctx) => ctx,
                other => {
                    *state = other;
                    return None;
                }
            }
        };
        self.forget_list_registers(machine, pe, partition, &ctx);
        reset(&mut ctx, partition, vcpu, first);
        ctx.watch.renew(partition.time_limits.start, &slot.interrupts);
        self.start_interrupts(machine, pe, partition, &slot.interrupts, first);
        Some(Running {
            partition,
            slot,
            vcpu,
            ctx,
            model: Model::Init,
            preempts: false,
            faults: FaultHistory::default(),
        })
    }

    /// A context has started. If it is the first after its partition was stopped, those of other PEs, which are off, may
    /// have got interrupts meanwhile, and could not be started for them.
    pub(crate) fn tell_others_of_start<M: Machine>(&self, machine: &mut M, pe: PeIndex, partition: &Partition) {
        if partition.restart.is_none() || partition.multiplicity == Multiplicity::Migratable {
            return;
        }
        let online = self.online.load(Ordering::SeqCst) & !bit(pe);
        for (other, slot) in (0..).map(PeIndex::new).zip(&partition.slots) {
            // Who has just raised one either finds the partition started, behind this lock, or is seen to have.
            let is_off = matches!(*slot.lock(), State::Off(_));
            if is_off && slot.interrupts.wanting() != 0 && online & bit(other) != 0 {
                machine.kick(self.cpu(other));
            }
        }
    }

    /// What others do for a partition that is gone, the normal world may bring to its end.
    fn release_work_for(&self, id: EndpointId) {
        for slot in self.partitions.iter().flat_map(|partition| &partition.slots) {
            if let State::Suspended { resumer, .. } = &mut *slot.lock()
                && resumer.endpoint == id
            {
                *resumer = Target::NORMAL_WORLD;
            }
        }
    }
}

/// Whether a partition is to start when others let go of its memory.
fn is_held_back(partition: &Partition) -> bool {
    let restart = partition.restart.as_ref();
    restart.is_some_and(|restart| restart.held_back.load(Ordering::SeqCst))
}

/// Takes all contexts of a stopped partition out of play. `false`: one is on a PE still.
fn withdraw(partition: &Partition) -> bool {
    partition.slots.iter().all(|slot| {
        let mut state = slot.lock();
        let off = match core::mem::replace(&mut *state, State::OnPe(PeIndex::new(0))) {
            State::OnPe(pe) => State::OnPe(pe),
            State::Off(ctx) | State::Waiting(ctx) | State::Stopped(ctx) | State::Suspended { ctx, .. } => {
                State::Off(ctx)
            }
        };
        *state = off;
        !matches!(*state, State::OnPe(_))
    })
}

/// The image as it was loaded; zeroes in all else that the partition owns and can write to in the secure world, donations
/// of others included.
fn restore<M: Machine>(machine: &mut M, partition: &Partition, saved: PageRange) -> bool {
    let memory = partition.memory;
    let Ok(image) = PageRange::new(memory.base(), saved.pages()) else {
        return false;
    };
    if !crate::s_el0::reset_permissions(machine, partition, true) {
        return false;
    }
    let tables = partition.tables.lock();
    let (mut at, mut intact) = (0, 0);
    while let Some(own) = next_own(&tables.secure, &OnPartition::new(machine, partition.roots), at) {
        if machine.zero(World::Secure, own).is_err() {
            return false;
        }
        at = own.end().as_u64();
        intact += own.intersection(&image).map_or(0, |part| part.pages());
    }
    drop(tables);
    let copied = intact == image.pages() && copy(machine, World::Secure, saved.base(), image);
    let copied = copied && crate::s_el0::reset_permissions(machine, partition, false);
    machine.synchronise_code(World::Secure, memory);
    copied
}

/// The first pages from an address on that are a partition's own, RAM, and open to it to write.
fn next_own<M: TableMemory>(tables: &Tables, machine: &M, from: u64) -> Option<PageRange> {
    let left = tables.ipa_size().limit().0.checked_sub(from)? >> PAGE_SHIFT;
    let mut found = None;
    let visit = |run: Run| match run.entry {
        Entry::Mapped(output, attributes)
            if attributes.memory() == MemoryType::NormalWriteBack
                && attributes.access() == Access::ReadWrite
                && attributes.ownership() == Ownership::Owned =>
        {
            found = PageRange::new(PhysAddr::new(output.0), run.range.pages()).ok();
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    };
    let _ = tables.walk(machine, IpaRange::new(Ipa(from), left)?, visit);
    found
}

/// Copies as many bytes as `to` has.
pub(crate) fn copy<M: Machine>(machine: &mut M, world: World, from: PhysAddr, to: PageRange) -> bool {
    let mut chunk = [0; CHUNK];
    let mut done = 0;
    while done < to.bytes() {
        let (Some(source), Some(target)) = (from.checked_add(done), to.base().checked_add(done)) else {
            return false;
        };
        if machine.copy_in(world, source, &mut chunk).is_err() || machine.copy_out(world, target, &chunk).is_err() {
            return false;
        }
        done = done.saturating_add(CHUNK as u64);
    }
    true
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{thread, time::Duration};

    use crate::machine::fake::{Builder, Owner, PartitionBuilder, System};

    #[test]
    fn contexts_that_leave_at_the_same_time_wait_for_each_other() {
        let (spmc, machine) = Builder::new(2).partition_with("a", PartitionBuilder::restart).build();
        let claim = &spmc.partitions[0].restart.as_ref().unwrap().claim;
        // Another PE has seen the context of this one on its PE still, and is about to give up.
        let held = claim.lock();
        thread::scope(|scope| {
            let last = scope.spawn(|| {
                let mut system = System::booted(&spmc, machine);
                system.nwd(0, &[0x8400_006f, 0x8001, 0, 0, 0, 0, 0, 0]);
                assert_eq!(system.owner(0), Owner::Partition(0x8001, 0));
                system.smc(0, &[0x8400_0090]);
                assert_eq!(system.owner(0), Owner::Partition(0x8001, 0), "it is started afresh");
                system.smc(0, &[0x8400_006b]);
                system.owner(0)
            });
            thread::sleep(Duration::from_millis(300));
            drop(held);
            assert_eq!(last.join().unwrap(), Owner::NormalWorld);
        });
    }
}
