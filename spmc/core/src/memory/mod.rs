//! Memory management: FFA_MEM_DONATE, LEND, SHARE, RETRIEVE_REQ, RELINQUISH, RECLAIM, FRAG_TX, FRAG_RX (FF-A 1.2, chapter 16
//! and 17, "Memory management interfaces").
//!
//! [`MemoryManager`] is all there is of it; [`MemoryManager::call`] takes a call's registers, the other methods one call
//! each. What it needs of the rest of the SPMC is a [`Caller`], the caller's buffers and [`Partitions`].
//!
//! * [`descriptor`]: what is in the buffers, in the forms of FF-A 1.0, 1.1 and 1.2.
//! * [`permission`]: what may be asked for and what is granted.
//! * `share`, `store`: what is remembered of each share, without a heap; quotas.
//! * `plan`, `normal_world`: whose each page is.
//!
//! Lock order: the caller's mailbox (held by whoever calls, so that the buffers stay the caller's), the share table, the
//! stage-2 tables of one partition at a time.
//!
//! Work in a step is bounded by the caller's TX buffer when something is sent, and by what an owner may store otherwise;
//! see [`MAX_CLEAR_PAGES`] for zeroing.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod call;
mod check;
pub mod descriptor;
mod normal_world;
pub mod permission;
mod plan;
mod retrieve;
mod send;
mod share;
mod store;

use alloc::vec::Vec;

use spin::mutex::TicketMutex;

pub use self::{
    call::{Buffers, Outcome, Reply},
    descriptor::Buffer,
    plan::{Partitions, Space},
    share::{Limits, SHARE_BYTES},
};
use self::{
    normal_world::NormalWorldMap,
    permission::{FLAG_CLEAR_AFTER, Kind},
    plan::{Estate, Tenant, zero},
    share::{Range, Share, Shares},
};
use crate::{
    abi::{FfaError, Version},
    addr::{PageRange, World},
    id::EndpointId,
    machine::{Machine, TableMemory},
    manifest::spmc::{MemoryKind, MemoryRange},
};

/// Pages that are zeroed in one call at most: the PE takes no interrupt meanwhile, and the share table is locked.
pub const MAX_CLEAR_PAGES: u64 = 16 * 1024;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// A partition; [`EndpointId::NWD`] for all of the normal world, whose hypervisor names its VMs in descriptors.
    pub id: EndpointId,
    /// The version of FF-A that it speaks.
    pub version: Version,
}

impl Caller {
    const fn is_normal_world(&self) -> bool {
        !self.id.is_secure()
    }

    /// Whether the caller may act for `owner`: a partition for itself, the normal world for all in it.
    fn acts_for(&self, owner: EndpointId) -> bool {
        if self.is_normal_world() {
            !owner.is_secure()
        } else {
            self.id == owner
        }
    }
}

/// What the lock guards.
#[derive(Debug)]
struct State {
    shares: Shares,
    map: NormalWorldMap,
}

/// All shares, and whose the normal world's memory is. See the module's documentation.
#[derive(Debug)]
pub struct MemoryManager {
    state: TicketMutex<State>,
}

impl MemoryManager {
    /// No shares yet. `declared` is the memory that the SPMC manifest declares; `taken` those ranges of the normal world's
    /// that are a partition's by its manifest. Allocates on the heap, about 200 bytes a share, and from the table memory:
    /// call it while booting.
    ///
    /// # Errors
    /// `NoMemory`.
    pub fn new<M: TableMemory>(
        memory: &mut M,
        declared: &[MemoryRange],
        taken: impl Iterator<Item = PageRange>,
        limits: Limits,
    ) -> Result<Self, FfaError> {
        let mut normal_world = Vec::new();
        for MemoryRange { kind, range } in declared {
            match kind {
                MemoryKind::NsMemory => normal_world.push((*range, false)),
                MemoryKind::NsDeviceMemory => normal_world.push((*range, true)),
                MemoryKind::Memory | MemoryKind::DeviceMemory => {}
            }
        }
        let mut map = NormalWorldMap::new(normal_world);
        for range in taken {
            map.reserve(memory, &range)?;
        }
        Ok(Self {
            state: TicketMutex::new(State {
                shares: Shares::new(limits),
                map,
            }),
        })
    }

    /// FFA_MEM_RELINQUISH: the caller gives up what the descriptor at the start of `tx` names.
    ///
    /// # Errors
    /// `InvalidParameters` for a handle that is not the caller's to relinquish, `Denied` when it may not ask for what it
    /// asks for, `Aborted` when its buffer can't be read.
    pub fn relinquish<M: Machine, P: Partitions>(
        &self,
        machine: &mut M,
        partitions: &P,
        caller: Caller,
        tx: Buffer,
    ) -> Result<Outcome, FfaError> {
        let asked = descriptor::Relinquish::read(machine, tx)?;
        if asked.endpoint != caller.id || caller.is_normal_world() || asked.flags & !FLAG_CLEAR_AFTER != 0 {
            return Err(FfaError::InvalidParameters);
        }
        let clear = asked.flags & FLAG_CLEAR_AFTER != 0;
        let state = &mut *self.state.lock();
        let share = state.shares.get(asked.handle).ok_or(FfaError::InvalidParameters)?;
        let (_, borrower) = share.find(machine, caller.id).ok_or(FfaError::InvalidParameters)?;
        let granted = borrower.retrieved.ok_or(FfaError::InvalidParameters)?;
        if share.kind == Kind::Donate || clear && share.kind == Kind::Share {
            return Err(FfaError::InvalidParameters);
        }
        let device = share.memory.is_some_and(|memory| memory.device);
        if clear && (!granted.write || device) {
            return Err(FfaError::Denied);
        }
        if clear && share.pages > MAX_CLEAR_PAGES {
            return Err(FfaError::NoMemory);
        }
        share.clear_relinquish |= clear;
        state.leave(machine, partitions, asked.handle, caller.id);
        Ok(Outcome::Done)
    }

    /// FFA_MEM_RECLAIM: the caller takes back what nobody has any more. Also ends a transaction that is being sent.
    ///
    /// # Errors
    /// `InvalidParameters` for a handle that is not the caller's or unknown flags; `Denied` while a borrower has the memory,
    /// or when it is to be zeroed and the owner may not write it.
    pub fn reclaim<M: Machine, P: Partitions>(
        &self,
        machine: &mut M,
        partitions: &P,
        caller: Caller,
        handle: u64,
        flags: u32,
    ) -> Result<Outcome, FfaError> {
        let state = &mut *self.state.lock();
        let share = state
            .shares
            .get(handle)
            .filter(|share| caller.acts_for(share.owner) && !share.orphan);
        let share = share.ok_or(FfaError::InvalidParameters)?;
        if flags & !FLAG_CLEAR_AFTER != 0 {
            return Err(FfaError::InvalidParameters);
        }
        if share.retrieved != 0 {
            return Err(FfaError::Denied);
        }
        if flags & FLAG_CLEAR_AFTER != 0 && share.sending.is_none() {
            let may = share.memory.is_some_and(|memory| memory.writable && !memory.device);
            if !may {
                return Err(FfaError::Denied);
            }
            if share.pages > MAX_CLEAR_PAGES {
                return Err(FfaError::NoMemory);
            }
            zero(machine, share)?;
        }
        if let Some(share) = state.shares.remove(handle) {
            state.undo(machine, partitions, share);
        }
        Ok(Outcome::Done)
    }

    /// An endpoint is no more: it relinquishes whatever it has, zeroed where that was asked for, and what it has sent is
    /// reclaimed, or will be when the last borrower relinquishes. The pages of a partition stay its own, whatever becomes of
    /// it. To be called when none of its contexts runs any more; takes time linear in its shares.
    pub fn forget<M: Machine, P: Partitions>(&self, machine: &mut M, partitions: &P, id: EndpointId) {
        let places = self.state.lock().shares.limits().shares;
        for place in 0..places {
            // Each may be a lot to zero: others have their turn in between. None of its can come any more.
            let state = &mut *self.state.lock();
            let Some(handle) = state.shares.handle_at(place) else {
                continue;
            };
            state.leave(machine, partitions, handle, id);
            let Some(share) = state
                .shares
                .get(handle)
                .filter(|share| share.owner == id && !share.is_given())
            else {
                continue;
            };
            share.orphan = true;
            if share.retrieved == 0
                && let Some(share) = state.shares.remove(handle)
            {
                state.undo(machine, partitions, share);
            }
        }
    }

    /// Whether a share of `owner` is still with a borrower, or being sent. What was given away is none.
    #[must_use]
    pub fn has_shares(&self, owner: EndpointId) -> bool {
        let state = self.state.lock();
        state
            .shares
            .iter()
            .any(|(_, share)| share.owner == owner && !share.is_given())
    }

    /// Number of shares, of all owners.
    #[must_use]
    pub fn shares(&self) -> u32 {
        self.state.lock().shares.len()
    }

    /// Marks pages of `owner` (of the normal world, for any id of its) that are put to a use in which they must not be passed
    /// on: its RX and TX buffers. They must be memory of its alone that it may read, and write if `writes`; what it may not
    /// write it must not execute either. Says in which world they are.
    ///
    /// # Errors
    /// `Denied` when they are not, were passed on, or are in such use already; `NoMemory`.
    pub fn hold<M: Machine, P: Partitions>(
        &self,
        machine: &mut M,
        partitions: &P,
        owner: EndpointId,
        range: &PageRange,
        writes: bool,
    ) -> Result<World, FfaError> {
        let state = &mut *self.state.lock();
        let mut estate = Estate::of(owner, partitions, &mut state.map).ok_or(FfaError::InvalidParameters)?;
        estate.hold(machine, Range::of(range)?, writes)
    }

    /// Ends what [`MemoryManager::hold`] began, for the same pages, in the world that it said.
    pub fn unhold<M: Machine, P: Partitions>(
        &self,
        machine: &mut M,
        partitions: &P,
        owner: EndpointId,
        range: &PageRange,
        world: World,
    ) {
        let state = &mut *self.state.lock();
        let range = Range::of(range);
        if let (Some(mut estate), Ok(range)) = (Estate::of(owner, partitions, &mut state.map), range) {
            estate.release(machine, &[range], Some(world));
        }
    }
}

impl State {
    /// `id` has the memory of a share no more, if it had.
    fn leave<M: Machine, P: Partitions>(&mut self, machine: &mut M, partitions: &P, handle: u64, id: EndpointId) {
        let Some(share) = self.shares.get(handle) else { return };
        let Some((place, mut borrower)) = share.find(machine, id).filter(|(_, b)| b.retrieved.is_some()) else {
            return;
        };
        if share.kind == Kind::Donate {
            // It has the memory for good; only the rest of the response was still to be fetched.
            if let Some(share) = self.shares.remove(handle) {
                share.free(machine);
            }
            return;
        }
        if let Some(mut tenant) = Tenant::of(id, partitions) {
            tenant.unmap(machine, share);
        }
        borrower.retrieved = None;
        borrower.next = 0;
        share.set_borrower(machine, place, borrower);
        share.retrieved = share.retrieved.saturating_sub(1);
        if share.retrieved == 0 && core::mem::take(&mut share.clear_relinquish) {
            // Memory that a borrower could write can be written, unless it is gone; then there is nothing to zero.
            let _ = zero(machine, share);
        }
        let ends = share.retrieved == 0 && share.orphan;
        if ends && let Some(share) = self.shares.remove(handle) {
            self.undo(machine, partitions, share);
        }
    }

    /// Gives the pages of a share that nobody has back to its owner, and forgets it.
    fn undo<M: Machine, P: Partitions>(&mut self, machine: &mut M, partitions: &P, share: Share) {
        if let Some(mut estate) = Estate::of(share.owner, partitions, &mut self.map) {
            estate.restore(machine, &share);
        }
        share.free(machine);
    }
}
