//! Starting a partition afresh after a fault, when its manifest says so (`lifecycle-support`, `abort-action` 2).
//!
//! The SPMC has kept a copy of the package since boot. Once no context of the stopped partition is on a PE any more, the PE
//! that the last one has left restores the image, zeroes all other memory of the partition, and runs its first context to
//! FFA_MSG_WAIT, before whoever waited for the partition learns that its call was ABORTED. Contexts pinned to other PEs are
//! started when they are next asked, which is answered with BUSY. A partition that fails while it starts stays stopped.
//!
//! All memory of the partition is taken to be its own. Memory sharing, once partitions can use it, has to end what the stopped
//! partition has lent or borrowed first, or hold the restart back.

use core::sync::atomic::{AtomicBool, Ordering};

use spin::mutex::TicketMutex;

use crate::{
    abi::{Target, Version},
    addr::{PageRange, PhysAddr, World},
    fault::FaultHistory,
    id::{EndpointId, PeIndex},
    lifecycle::reset,
    machine::Machine,
    mailbox::Buffers,
    manifest::partition::Access,
    partition::{Health, Partition},
    spmc::{Pe, Running, Spmc},
    vcpu::{Model, State},
};

/// Bytes that are copied at a time, through the SPMC's stack.
const CHUNK: usize = 512;

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
    /// Held by the PE that restores it. Nobody waits for it.
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
            claim: TicketMutex::new(()),
        }
    }

    /// It has failed to start: it stays stopped.
    pub(crate) fn give_up(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

impl Spmc {
    /// Makes a stopped partition ready to start on this PE, if it may and can: its first context to run.
    #[cold]
    #[inline(never)]
    pub(crate) fn restart<'s, M: Machine>(
        &'s self,
        pe: &Pe<'s>,
        machine: &mut M,
        partition: &'s Partition,
    ) -> Option<Running<'s>> {
        let restart = partition.restart.as_ref()?;
        let _claim = restart.claim.try_lock()?;
        let may = self.is_booted() && partition.is_stopped() && !restart.failed.load(Ordering::Acquire);
        if !may || !withdraw(partition) {
            return None;
        }
        self.release_work_for(partition.endpoint());
        if !restore(machine, partition, restart.copy) {
            restart.give_up();
            return None;
        }
        *partition.mailbox.lock() = restart.buffers;
        if let Some(notifications) = &partition.notifications {
            notifications.lock().clear();
        }
        for line in &partition.log {
            line.lock().clear();
        }
        partition.start_afresh(restart.version);
        let running = take_off(pe.index, partition, true);
        machine.print(format_args!(
            "spmc: partition \"{}\" ({}) is started afresh\n",
            partition.name, partition.id
        ));
        running
    }

    /// The context of a partition that was started afresh on another PE, to be started on this one.
    #[cold]
    pub(crate) fn late_start<'s>(&'s self, pe: &Pe<'s>, id: EndpointId) -> Option<Running<'s>> {
        let partition = self
            .find(id)
            .filter(|partition| partition.restart.is_some() && pe.booting.is_none())?;
        if partition.health() != Health::Ready {
            return None;
        }
        take_off(pe.index, partition, false)
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

/// Takes the context of this PE, which is off, to start it.
fn take_off(pe: PeIndex, partition: &Partition, first: bool) -> Option<Running<'_>> {
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
    reset(&mut ctx, partition, vcpu, first);
    Some(Running {
        partition,
        slot,
        vcpu,
        ctx,
        model: Model::Init,
        faults: FaultHistory::default(),
    })
}

/// The image as it was loaded; zeroes in what else the partition could write to and nobody else has.
fn restore<M: Machine>(machine: &mut M, partition: &Partition, saved: PageRange) -> bool {
    let own = |region: &&crate::partition::Region| {
        region.world == World::Secure && !region.device && region.access.contains(Access::WRITE)
    };
    let memory = partition.memory;
    for region in partition.regions.iter().filter(own) {
        if machine.zero(World::Secure, region.range).is_err() {
            return false;
        }
    }
    let Ok(image) = PageRange::new(memory.base(), saved.pages()) else {
        return false;
    };
    let copied = copy(machine, World::Secure, saved.base(), image);
    machine.synchronise_code(World::Secure, memory);
    copied
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
