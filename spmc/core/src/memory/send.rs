//! FFA_MEM_DONATE, FFA_MEM_LEND, FFA_MEM_SHARE, FFA_MEM_FRAG_TX: the sender's side.

use super::{
    Buffer, Caller, MAX_CLEAR_PAGES, MemoryManager, Outcome, Partitions, State,
    descriptor::{Composite, Emad, Header, Layout, Reader, UNIT, constituent},
    permission::{FLAG_CLEAR, Kind, check_memory, check_send, check_sent},
    plan::{Estate, zero},
    share::{Full, Range, Sending, Share},
};
use crate::{
    abi::FfaError,
    id::EndpointId,
    machine::{Machine, TableMemory},
};

impl From<Full> for FfaError {
    fn from(_: Full) -> Self {
        Self::NoMemory
    }
}

impl MemoryManager {
    /// FFA_MEM_DONATE, FFA_MEM_LEND or FFA_MEM_SHARE: the first `fragment` bytes, all or some, of a descriptor of `total`
    /// bytes are in `tx`. The header, the borrowers and the composite header must be among them.
    ///
    /// # Errors
    /// `InvalidParameters` for what is wrong in the descriptor; `Denied` for a sender that is not the caller, memory that is not the
    /// sender's alone, attributes that it can't have, or permissions that it doesn't have; `NoMemory`; `Aborted` when memory can't be accessed. Nothing has changed then, but
    /// that memory which was to be zeroed may be, in part.
    pub fn send<M: Machine, P: Partitions>(
        &self,
        machine: &mut M,
        partitions: &P,
        caller: Caller,
        kind: Kind,
        [total, fragment]: [u32; 2],
        tx: Buffer,
    ) -> Result<Outcome, FfaError> {
        if fragment > total {
            return Err(FfaError::InvalidParameters);
        }
        tx.holds(fragment)?;
        let mut reader = Reader::new(tx, fragment);
        let header = Header::read(machine, &mut reader, Layout::of(caller.version))?;
        if !caller.acts_for(header.sender) {
            return Err(FfaError::Denied);
        }
        if header.handle != 0 {
            return Err(FfaError::InvalidParameters);
        }
        check_send(kind, header.emads, header.attributes, header.flags)?;
        let state = &mut *self.state.lock();
        let mut budget = state.shares.admit(header.sender)?;
        let mut share = Share::new(header.sender, kind, header.flags | kind.type_flag(), header.tag);
        let handle = state.shares.take_place().ok_or(FfaError::NoMemory)?;
        let result = begin(
            machine,
            partitions,
            &mut share,
            &header,
            &mut reader,
            [total, fragment],
            &mut budget,
        )
        .and_then(|()| state.collect(machine, partitions, &mut share, &mut reader, &mut budget));
        state.settle(machine, partitions, handle, share, result)
    }

    /// FFA_MEM_FRAG_TX: the next `fragment` bytes of a descriptor are in `tx`. Any PE may go on with what another began.
    ///
    /// # Errors
    /// `InvalidParameters` for a handle that is not the caller's, is not being sent, or a wrong length; the transaction is
    /// as before then. Otherwise as [`MemoryManager::send`], and the transaction is undone.
    pub fn frag_tx<M: Machine, P: Partitions>(
        &self,
        machine: &mut M,
        partitions: &P,
        caller: Caller,
        handle: u64,
        [fragment, endpoint]: [u32; 2],
        tx: Buffer,
    ) -> Result<Outcome, FfaError> {
        let state = &mut *self.state.lock();
        let share = state.shares.get(handle).filter(|share| caller.acts_for(share.owner));
        let share = share.ok_or(FfaError::InvalidParameters)?;
        let sending = share.sending.as_mut().ok_or(FfaError::InvalidParameters)?;
        let left = u64::from(sending.constituents).saturating_mul(u64::from(UNIT));
        let right = fragment != 0 && fragment.is_multiple_of(UNIT) && u64::from(fragment) <= left;
        if !right || !names(caller, endpoint, share.owner) {
            return Err(FfaError::InvalidParameters);
        }
        tx.holds(fragment)?;
        let mut reader = Reader::new(tx, fragment);
        sending.received = sending.received.saturating_add(fragment);
        let owner = share.owner;
        // Taken out of the table meanwhile, so that what is stored more is charged to its owner when it is back.
        let mut budget = state.shares.budget_of(owner);
        let Some(mut share) = state.shares.take_out(handle) else {
            return Err(FfaError::InvalidParameters);
        };
        let result = state.collect(machine, partitions, &mut share, &mut reader, &mut budget);
        state.settle(machine, partitions, handle, share, result)
    }
}

/// Whether w4 of FFA_MEM_FRAG_TX and FRAG_RX names the endpoint that it must: a hypervisor names the VM, or leaves it 0; a
/// partition must leave it 0.
pub(super) fn names(caller: Caller, w4: u32, owner: EndpointId) -> bool {
    w4 == 0 || caller.is_normal_world() && w4 == u32::from(owner.as_u16()) << 16
}

/// Reads all that comes before the constituents.
fn begin<M: Machine, P: Partitions>(
    machine: &mut M,
    partitions: &P,
    share: &mut Share,
    header: &Header,
    reader: &mut Reader,
    [total, fragment]: [u32; 2],
    budget: &mut u32,
) -> Result<(), FfaError> {
    header.seek_emads(reader)?;
    let mut composite_offset = None;
    let mut secure = false;
    for _ in 0..header.emads {
        let emad = Emad::read(machine, reader, header.emad_bytes)?;
        let known = is_borrower(partitions, &emad, header.sender, share, machine);
        let same = composite_offset
            .replace(emad.composite_offset)
            .is_none_or(|first| first == emad.composite_offset);
        if !known || !same {
            return Err(FfaError::InvalidParameters);
        }
        check_sent(share.kind, emad.permissions, emad.flags)?;
        secure |= emad.borrower.is_secure();
        if !emad.borrower.is_secure() && header.sender.is_secure() {
            // Secure memory never goes to the normal world, nor does what a partition has of the normal world's.
            return Err(FfaError::Denied);
        }
        share.add_borrower(machine, emad.borrower, emad.permissions, emad.passed, budget)?;
    }
    if !secure {
        // VMs among themselves are the hypervisor's business.
        return Err(FfaError::InvalidParameters);
    }
    let composite = Composite::read(machine, reader, composite_offset.unwrap_or(0), total)?;
    share.sending = Some(Sending {
        constituents: composite.constituents,
        pages: composite.pages.into(),
        received: fragment,
    });
    Ok(())
}

/// Whether an EMAD names another endpoint than the sender and the borrowers so far, one that there is.
fn is_borrower<M: TableMemory, P: Partitions>(
    partitions: &P,
    emad: &Emad,
    sender: EndpointId,
    share: &Share,
    memory: &M,
) -> bool {
    let id = emad.borrower;
    let exists = !id.is_secure() || partitions.space(id).is_some_and(|space| !space.stopped);
    exists && id != sender && share.find(memory, id).is_none()
}

impl State {
    /// Puts a share into its place that has come so far, or undoes it.
    fn settle<M: Machine, P: Partitions>(
        &mut self,
        machine: &mut M,
        partitions: &P,
        handle: u64,
        share: Share,
        result: Result<(), FfaError>,
    ) -> Result<Outcome, FfaError> {
        if let Err(error) = result {
            self.shares.put(handle, None);
            self.undo(machine, partitions, share);
            return Err(error);
        }
        let outcome = match share.sending {
            Some(Sending { received, .. }) => Outcome::SendMore {
                handle,
                received,
                sender: share.owner,
            },
            None => Outcome::Sent { handle },
        };
        self.shares.put(handle, Some(share));
        Ok(outcome)
    }

    /// Takes the constituents that `reader` still has into the share; opens it with the last one. On an error the share is to
    /// be undone.
    fn collect<M: Machine, P: Partitions>(
        &mut self,
        machine: &mut M,
        partitions: &P,
        share: &mut Share,
        reader: &mut Reader,
        budget: &mut u32,
    ) -> Result<(), FfaError> {
        let mut sending = share.sending.ok_or(FfaError::Aborted)?;
        let mut estate = Estate::of(share.owner, partitions, &mut self.map).ok_or(FfaError::Aborted)?;
        let mut batch = [Range::NONE; BATCH as usize];
        while !reader.is_done() && sending.constituents != 0 {
            let blocks = reader.blocks(machine, sending.constituents.min(BATCH))?;
            let mut pages = 0_u64;
            for (place, block) in batch.iter_mut().zip(blocks) {
                *place = constituent(*block)?;
                pages = pages.wrapping_add(place.pages());
            }
            sending.pages = sending.pages.checked_sub(pages).ok_or(FfaError::InvalidParameters)?;
            let count = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
            sending.constituents = sending.constituents.saturating_sub(count);
            let batch = batch.get(..blocks.len()).unwrap_or_default();
            take(machine, &mut estate, share, batch, budget)?;
        }
        share.sending = Some(sending);
        if sending.constituents != 0 {
            return Ok(());
        }
        if sending.pages != 0 {
            return Err(FfaError::InvalidParameters);
        }
        open(machine, &mut estate, share)
    }
}

/// Constituents that are taken in at a time. Each step over all of them is a short loop.
const BATCH: u32 = 32;

/// Claims ranges of the owner's, for the share.
fn take<M: Machine>(
    machine: &mut M,
    estate: &mut Estate<'_>,
    share: &mut Share,
    ranges: &[Range],
    budget: &mut u32,
) -> Result<(), FfaError> {
    let (claimed, result) = estate.claim(machine, ranges, &mut share.memory);
    let added = share.add_ranges(machine, ranges.get(..claimed).unwrap_or_default(), budget);
    if added < claimed {
        let world = share.memory.map(|memory| memory.world);
        estate.release(machine, ranges.get(added..claimed).unwrap_or_default(), world);
        return Err(FfaError::NoMemory);
    }
    result.map_err(|error| match ranges.get(claimed) {
        Some(range) => explain(machine, share, *range, error),
        None => error,
    })
}

/// The error for a range that can't be claimed: one that the sender names twice is its mistake.
#[cold]
fn explain<M: Machine>(machine: &M, share: &Share, range: Range, error: FfaError) -> FfaError {
    let twice = error == FfaError::Denied && share.overlaps(machine, range);
    if twice { FfaError::InvalidParameters } else { error }
}

/// All constituents have come: checks what could not be checked before, takes the owner's access away if need be, and opens
/// the share.
fn open<M: Machine>(machine: &mut M, estate: &mut Estate<'_>, share: &mut Share) -> Result<(), FfaError> {
    let memory = share.memory.ok_or(FfaError::Aborted)?;
    for place in 0..share.borrowers {
        let borrower = share.borrower(machine, place).ok_or(FfaError::Aborted)?;
        check_memory(share.kind, share.borrowers, share.flags, memory, borrower.sent)?;
    }
    let clear = share.flags & FLAG_CLEAR != 0;
    if clear && share.pages > MAX_CLEAR_PAGES {
        return Err(FfaError::NoMemory);
    }
    estate.withdraw(machine, share)?;
    if clear {
        zero(machine, share)?;
    }
    share.sending = None;
    Ok(())
}
