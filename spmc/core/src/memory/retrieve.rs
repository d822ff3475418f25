//! FFA_MEM_RETRIEVE_REQ and RESP, FFA_MEM_FRAG_RX: the borrower's side, and the hypervisor's question what a share holds.

use super::{
    Buffer, Caller, MAX_CLEAR_PAGES, MemoryManager, Outcome, Partitions, State,
    descriptor::{
        Composite, Emad, Header, Layout, Reader, UNIT, Writer, composite_block, composite_offset, write_emad,
        write_header,
    },
    permission::{
        EMAD_OTHER, FLAG_BYPASS, FLAG_CLEAR, FLAG_CLEAR_RELINQUISH, FLAG_TYPE, Granted, Kind, Permissions, Transaction,
        alignment_mask,
    },
    plan::{Estate, Tenant},
    send::names,
    share::{Borrower, Share, Shares},
};
use crate::{abi::FfaError, machine::Machine};

impl MemoryManager {
    /// FFA_MEM_RETRIEVE_REQ: the descriptor of `total` bytes in `tx` asks for a share. The response goes to `rx`, which the
    /// caller must not own: it does then.
    ///
    /// # Errors
    /// `InvalidParameters` for what is wrong in the descriptor, or doesn't match what the sender sent; `Denied` for more than
    /// the sender permits, or what the caller has already; `NoMemory`; `Aborted` when a buffer can't be accessed. Nothing has
    /// changed then.
    pub fn retrieve<M: Machine, P: Partitions>(
        &self,
        machine: &mut M,
        partitions: &P,
        caller: Caller,
        [total, fragment]: [u32; 2],
        tx: Buffer,
        rx: Buffer,
    ) -> Result<Outcome, FfaError> {
        if fragment != total {
            return Err(FfaError::InvalidParameters);
        }
        let layout = Layout::of(caller.version);
        tx.holds(fragment)?;
        let mut reader = Reader::new(tx, fragment);
        let header = Header::read(machine, &mut reader, layout)?;
        let state = &mut *self.state.lock();
        if caller.is_normal_world() {
            return state.hypervisor_retrieve(machine, layout, &header, rx);
        }
        let own = state.match_request(machine, caller, &header, &mut reader)?;
        state.retrieve(machine, partitions, layout, &header, own, rx)
    }

    /// FFA_MEM_FRAG_RX: the caller wants the next fragment, from byte `offset` on, of a response.
    ///
    /// # Errors
    /// `InvalidParameters` unless a response to the caller goes on there; `Aborted` when RX can't be written.
    pub fn frag_rx<M: Machine>(
        &self,
        machine: &mut M,
        caller: Caller,
        handle: u64,
        [offset, endpoint]: [u32; 2],
        rx: Buffer,
    ) -> Result<Outcome, FfaError> {
        let layout = Layout::of(caller.version);
        let state = &mut *self.state.lock();
        let share = state.shares.get(handle).ok_or(FfaError::InvalidParameters)?;
        let (emads, to, first) = if caller.is_normal_world() {
            (share.borrowers, None, share.hypervisor_next)
        } else {
            let (place, borrower) = share.find(machine, caller.id).ok_or(FfaError::InvalidParameters)?;
            (1, Some((place, borrower)), borrower.next)
        };
        let sent = first
            .checked_mul(UNIT)
            .and_then(|bytes| bytes.checked_add(layout.constituents_offset(emads)));
        if first == 0 || sent != Some(offset) || !names(caller, endpoint, share.owner) {
            return Err(FfaError::InvalidParameters);
        }
        let mut writer = Writer::new(rx);
        let room = u32::try_from(rx.range.bytes()).unwrap_or(u32::MAX);
        let next = write_ranges(machine, &mut writer, share, first, room)?;
        let fragment = next.wrapping_sub(first).saturating_mul(UNIT);
        let sender = if caller.is_normal_world() {
            share.owner
        } else {
            caller.id
        };
        state.advance(machine, handle, to, next);
        Ok(Outcome::Fragment {
            handle,
            fragment,
            sender,
        })
    }
}

/// The caller among the borrowers, and what it asks for.
struct Own {
    place: u32,
    borrower: Borrower,
    granted: Granted,
}

impl State {
    /// Matches a borrower's request with the share that it is about.
    fn match_request<M: Machine>(
        &mut self,
        machine: &mut M,
        caller: Caller,
        header: &Header,
        reader: &mut Reader,
    ) -> Result<Own, FfaError> {
        let share = requested(&mut self.shares, header)?;
        if share.owner != header.sender || share.tag != header.tag {
            return Err(FfaError::InvalidParameters);
        }
        // The only one named may be the caller; otherwise all must be.
        let named = if header.flags & FLAG_BYPASS != 0 {
            1
        } else {
            share.borrowers
        };
        if header.emads != named {
            return Err(FfaError::InvalidParameters);
        }
        header.seek_emads(reader)?;
        let mut seen = [0_u64; 4];
        let (mut own, mut ranges) = (None, 0);
        for _ in 0..header.emads {
            let emad = Emad::read(machine, reader, header.emad_bytes)?;
            let (place, borrower) = share.find(machine, emad.borrower).ok_or(FfaError::InvalidParameters)?;
            let first = mark(&mut seen, place);
            let other = emad.borrower != caller.id;
            let flags_are_right = emad.flags == 0 || other && emad.flags == EMAD_OTHER;
            let same = ranges == 0 || emad.composite_offset == ranges;
            if !first || !flags_are_right || !same {
                return Err(FfaError::InvalidParameters);
            }
            ranges = emad.composite_offset;
            if other {
                Permissions::decode(emad.permissions)?;
            } else {
                own = Some((place, borrower, emad.permissions));
            }
        }
        if ranges != 0 {
            no_ranges(machine, reader, ranges)?;
        }
        let (place, borrower, permissions) = own.ok_or(FfaError::InvalidParameters)?;
        let transaction = Transaction {
            kind: share.kind,
            borrowers: share.borrowers,
            flags: share.flags,
            memory: share.memory.ok_or(FfaError::Aborted)?,
            sent: borrower.sent,
            again: borrower.again,
        };
        transaction.check_attributes(header.attributes)?;
        let granted = transaction.grant(permissions)?;
        transaction.check_flags(header.flags, granted)?;
        Ok(Own {
            place,
            borrower,
            granted,
        })
    }

    /// Lets a borrower have what it asks for, and writes the first fragment of the response.
    fn retrieve<M: Machine, P: Partitions>(
        &mut self,
        machine: &mut M,
        partitions: &P,
        layout: Layout,
        header: &Header,
        Own {
            place,
            mut borrower,
            granted,
        }: Own,
        rx: Buffer,
    ) -> Result<Outcome, FfaError> {
        let share = requested(&mut self.shares, header)?;
        if borrower.retrieved.is_some() {
            return Err(FfaError::Denied);
        }
        let clears = header.flags & FLAG_CLEAR_RELINQUISH != 0;
        if clears && share.pages > MAX_CLEAR_PAGES {
            return Err(FfaError::NoMemory);
        }
        if !is_aligned(machine, share, alignment_mask(header.flags)) {
            return Err(FfaError::Denied);
        }
        let mut tenant = Tenant::of(borrower.id, partitions).ok_or(FfaError::Aborted)?;
        tenant.map(machine, share, granted)?;
        let emad = Emad {
            borrower: borrower.id,
            permissions: granted.encode(),
            flags: 0,
            composite_offset: composite_offset(layout, 1),
            passed: share.passed(machine, place),
        };
        let written = respond(machine, layout, header.handle, share, rx, 1, |_, _, _| Some(emad));
        let (outcome, next) = match written {
            Ok(written) => written,
            Err(error) => {
                tenant.unmap(machine, share);
                return Err(error);
            }
        };
        drop(tenant);
        borrower.retrieved = Some(granted);
        borrower.again = true;
        share.retrieved = share.retrieved.saturating_add(1);
        share.clear_relinquish |= clears;
        if share.kind == Kind::Donate
            && let Some(mut estate) = Estate::of(share.owner, partitions, &mut self.map)
        {
            estate.give_away(machine, share);
        }
        self.advance(machine, header.handle, Some((place, borrower)), next);
        Ok(outcome)
    }

    /// A retrieve request of the hypervisor: the handle and nothing else. It is told all that it, or a VM of its, has sent,
    /// since it may not have kept it; nothing changes by that.
    fn hypervisor_retrieve<M: Machine>(
        &mut self,
        machine: &mut M,
        layout: Layout,
        header: &Header,
        rx: Buffer,
    ) -> Result<Outcome, FfaError> {
        let plain = header.emads == 0 && header.flags == 0 && header.attributes == 0 && header.tag == 0;
        let share = requested(&mut self.shares, header)?;
        if !plain || share.owner.is_secure() {
            return Err(FfaError::InvalidParameters);
        }
        let emads = share.borrowers;
        let emad = |machine: &M, share: &Share, place| {
            let borrower = share.borrower(machine, place)?;
            Some(Emad {
                borrower: borrower.id,
                permissions: borrower.retrieved.map_or(borrower.sent, Granted::encode),
                flags: 0,
                composite_offset: composite_offset(layout, emads),
                passed: share.passed(machine, place),
            })
        };
        let (outcome, next) = respond(machine, layout, header.handle, share, rx, emads, emad)?;
        self.advance(machine, header.handle, None, next);
        Ok(outcome)
    }

    /// A response, to a borrower or the hypervisor, has got as far as `next`. The transaction of a donation ends with its
    /// response.
    fn advance<M: Machine>(&mut self, machine: &mut M, handle: u64, to: Option<(u32, Borrower)>, next: u32) {
        let Some(share) = self.shares.get(handle) else { return };
        let next = if next < share.ranges() { next } else { 0 };
        match to {
            Some((place, borrower)) => share.set_borrower(machine, place, Borrower { next, ..borrower }),
            None => share.hypervisor_next = next,
        }
        let Some((_, receiver)) = to.filter(|_| share.kind == Kind::Donate) else {
            return;
        };
        if next != 0 {
            self.shares.transfer(handle, receiver.id);
        } else if let Some(share) = self.shares.remove(handle) {
            share.free(machine);
        }
    }
}

/// The open share that a retrieve request is about.
fn requested<'a>(shares: &'a mut Shares, header: &Header) -> Result<&'a mut Share, FfaError> {
    shares
        .get(header.handle)
        .filter(|share| share.sending.is_none())
        .ok_or(FfaError::InvalidParameters)
}

/// A composite header in a request, at `offset`, must be empty: where the memory is to be is not the borrower's to say, since
/// its IPAs are PAs. (arm-ffa writes one into every descriptor.)
fn no_ranges<M: Machine>(machine: &mut M, reader: &mut Reader, offset: u32) -> Result<(), FfaError> {
    reader.seek(offset)?;
    if reader.block(machine)? == [0, 0] {
        Ok(())
    } else {
        Err(FfaError::InvalidParameters)
    }
}

/// Notes that a place was seen; whether it is the first time.
fn mark(seen: &mut [u64; 4], place: u32) -> bool {
    let Some(word) = seen.get_mut((place / 64) as usize) else {
        return false;
    };
    let bit = 1_u64.wrapping_shl(place);
    let first = *word & bit == 0;
    *word |= bit;
    first
}

/// Whether all ranges begin at a multiple of `mask` + 1 bytes.
fn is_aligned<M: Machine>(machine: &M, share: &Share, mask: u64) -> bool {
    if mask == 0 {
        return true;
    }
    let mut ranges = share.ranges_from(machine, 0);
    core::iter::from_fn(|| ranges.next(machine, share)).all(|range| range.address() & mask == 0)
}

/// Writes the first fragment of a response with `emads` EMADs, and as many ranges as fit. Returns the range that comes next.
fn respond<M: Machine>(
    machine: &mut M,
    layout: Layout,
    handle: u64,
    share: &Share,
    rx: Buffer,
    emads: u32,
    emad: impl Fn(&M, &Share, u32) -> Option<Emad>,
) -> Result<(Outcome, u32), FfaError> {
    let memory = share.memory.ok_or(FfaError::Aborted)?;
    let head = layout.constituents_offset(emads);
    let room = u32::try_from(rx.range.bytes()).unwrap_or(u32::MAX);
    let room = room.checked_sub(head).ok_or(FfaError::NoMemory)?;
    let total = share
        .ranges()
        .checked_mul(UNIT)
        .and_then(|bytes| bytes.checked_add(head))
        .ok_or(FfaError::NoMemory)?;
    let header = Header {
        sender: share.owner,
        attributes: memory.attributes(),
        flags: share.flags & (FLAG_CLEAR | FLAG_TYPE),
        handle,
        tag: share.tag,
        emad_bytes: layout.emad_bytes(),
        emads,
        emad_offset: layout.header_bytes(),
    };
    let mut writer = Writer::new(rx);
    write_header(machine, &mut writer, layout, &header)?;
    for place in 0..emads {
        let emad = emad(machine, share, place).ok_or(FfaError::Aborted)?;
        write_emad(machine, &mut writer, layout, &emad)?;
    }
    let pages = u32::try_from(share.pages).map_err(|_| FfaError::NoMemory)?;
    let composite = composite_block(Composite {
        pages,
        constituents: share.ranges(),
    });
    writer.block(machine, composite)?;
    let next = write_ranges(machine, &mut writer, share, 0, room)?;
    let fragment = next.saturating_mul(UNIT).saturating_add(head);
    Ok((Outcome::Retrieved { total, fragment }, next))
}

/// Writes ranges from `first` on into `room` bytes, and all out. Returns the range that comes next.
fn write_ranges<M: Machine>(
    machine: &mut M,
    writer: &mut Writer,
    share: &Share,
    first: u32,
    room: u32,
) -> Result<u32, FfaError> {
    let until = share.ranges().min(first.saturating_add(room / UNIT));
    let mut ranges = share.ranges_from(machine, first);
    writer.fill(machine, until.saturating_sub(first), |machine| {
        let range = ranges.next(machine, share)?;
        Some([range.address(), range.pages()])
    })?;
    writer.flush(machine)?;
    Ok(until)
}
