//! FFA_MSG_SEND2: a message from the sender's TX buffer into the receiver's RX buffer (FF-A 1.2, chapters 7 and 15).

use uuid::Uuid;

use crate::{
    abi::{FfaError, Route, V1_1, Version, low},
    addr::{PAGE_SIZE, PageRange, PhysAddr, World},
    discovery::Instance,
    id::EndpointId,
    machine::Machine,
    mailbox::{Buffers, Held},
    manifest::partition::MessagingMethod,
    notification::RX_FULL_SPM,
    notifying::DELAY_SRI,
    partition::Partition,
    spmc::{Pe, Spmc, success},
};

/// Bytes of the message header of FF-A 1.1.
const HEADER_BYTES_1_1: u32 = 20;
/// Bytes of the message header since FF-A 1.2: with the UUID of the service.
const HEADER_BYTES: u32 = 40;
/// Bytes that are copied at a time, through the SPMC's stack.
const CHUNK: usize = 512;

/// Header of a partition message, a private copy that was checked (FF-A 1.2, table "Partition message header").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// Where the payload is in TX.
    offset: u32,
    size: u32,
    route: Route,
    /// Nil: no service in particular.
    uuid: Uuid,
}

const fn header_bytes(version: Version) -> u32 {
    let Version(_, minor) = version;
    if minor >= 2 { HEADER_BYTES } else { HEADER_BYTES_1_1 }
}

fn word(bytes: &[u8], index: usize) -> u32 {
    bytes
        .as_chunks()
        .0
        .get(index)
        .map_or(0, |word| u32::from_le_bytes(*word))
}

impl Header {
    /// Reads the header at the start of TX, once, in the layout of the sender's version.
    fn read<M: Machine>(machine: &mut M, buffers: &Buffers, version: Version) -> Result<Self, FfaError> {
        let mut bytes = [0; HEADER_BYTES as usize];
        let own = header_bytes(version);
        let read = bytes.get_mut(..usize::try_from(own).unwrap_or(0)).unwrap_or_default();
        machine
            .copy_in(buffers.world, buffers.tx.base(), read)
            .map_err(|_| FfaError::Aborted)?;
        let (flags, reserved) = (word(&bytes, 0), word(&bytes, 1) | word(&bytes, 5));
        let uuid = bytes.last_chunk().copied().map_or(Uuid::nil(), Uuid::from_bytes);
        let header = Self {
            offset: word(&bytes, 2),
            size: word(&bytes, 4),
            route: Route::decode(u64::from(word(&bytes, 3))),
            uuid,
        };
        if flags | reserved != 0 || header.offset < own || header.route.source == header.route.destination {
            return Err(FfaError::InvalidParameters);
        }
        Ok(header)
    }

    /// The header as a receiver of `version` reads it, its payload right behind it.
    fn encode(&self, version: Version) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        let route = low(self.route.encode());
        let words = [0, 0, header_bytes(version), route, self.size];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        if let Some(uuid) = bytes.last_chunk_mut() {
            *uuid = self.uuid.into_bytes();
        }
        bytes
    }
}

impl Spmc {
    /// FFA_MSG_SEND2: w1 the sender (bits 31:16, from a hypervisor for its VM), w2 flags.
    ///
    /// # Errors
    /// `InvalidParameters` for a header or ids that cannot be, `Denied` when sender or receiver take no part in indirect
    /// messages or the sender has no TX, `Busy` when the receiver has no free RX, `Aborted` when it was stopped.
    pub(crate) fn send_indirect<M: Machine>(
        &self,
        instance: Instance<'_>,
        pe: &mut Pe<'_>,
        machine: &mut M,
        registers: &[u64; 8],
    ) -> Result<[u64; 8], FfaError> {
        let [_, w1, w2, ..] = *registers;
        let Route {
            source,
            destination: reserved,
        } = Route::decode(w1);
        let sender = match instance {
            Instance::NormalWorld if !source.is_secure() => source,
            Instance::Partition(partition) if source == EndpointId::NWD => {
                sends_indirect(partition)?;
                partition.endpoint()
            }
            _ => return Err(FfaError::InvalidParameters),
        };
        let flags = low(w2);
        if flags & !DELAY_SRI != 0 || reserved != EndpointId::NWD {
            return Err(FfaError::InvalidParameters);
        }
        let header = {
            let mut held = self.hold_mailbox(sender).ok_or(FfaError::InvalidParameters)?;
            let buffers = held.buffers().ok_or(FfaError::Denied)?;
            Header::read(machine, buffers, self.version_of(instance))?
        };
        if header.route.source != sender {
            return Err(FfaError::InvalidParameters);
        }
        let version = self.indirect_receiver(&header)?;
        self.deliver_message(machine, &header, version)?;
        if self.pend_framework(pe, machine, header.route.destination, RX_FULL_SPM) {
            self.schedule_receiver(pe, machine, flags & DELAY_SRI != 0);
        }
        Ok(success(0))
    }

    /// Whether the receiver of a message takes indirect messages; the version whose header it gets.
    fn indirect_receiver(&self, header: &Header) -> Result<Version, FfaError> {
        let Route { source, destination } = header.route;
        if !destination.is_secure() {
            // Between VMs it is the hypervisor's matter; so is which of its VMs take messages.
            let version = self.normal_world_version();
            return match source.is_secure() {
                true if version >= V1_1 => Ok(version),
                true => Err(FfaError::Denied),
                false => Err(FfaError::InvalidParameters),
            };
        }
        let receiver = self.find(destination).ok_or(FfaError::InvalidParameters)?;
        if receiver.is_stopped() {
            return Err(FfaError::Aborted);
        }
        let messaging = if header.uuid.is_nil() {
            receiver.messaging
        } else {
            let service = receiver.services.iter().find(|service| service.has(&header.uuid));
            service.ok_or(FfaError::InvalidParameters)?.messaging
        };
        let version = receiver.version();
        if messaging.contains(MessagingMethod::INDIRECT) && version >= V1_1 {
            Ok(version)
        } else {
            Err(FfaError::Denied)
        }
    }

    /// Copies a message while the mailboxes of both are held, so that neither can unmap its buffers meanwhile.
    fn deliver_message<M: Machine>(&self, machine: &mut M, header: &Header, version: Version) -> Result<(), FfaError> {
        let Route { source, destination } = header.route;
        let hold = |id| self.hold_mailbox(id).ok_or(FfaError::InvalidParameters);
        let (mut from, mut to): (Held<'_>, Held<'_>);
        if source < destination {
            from = hold(source)?;
            to = hold(destination)?;
        } else {
            to = hold(destination)?;
            from = hold(source)?;
        }
        let from = from.buffers().ok_or(FfaError::Denied)?;
        let to = to.buffers().filter(|buffers| !buffers.rx_full).ok_or(FfaError::Busy)?;
        copy_message(machine, header, version, from, to)?;
        to.rx_full = true;
        Ok(())
    }
}

fn sends_indirect(partition: &Partition) -> Result<(), FfaError> {
    if partition.messaging.contains(MessagingMethod::INDIRECT) {
        Ok(())
    } else {
        Err(FfaError::Denied)
    }
}

/// Header and payload from TX to RX; what is behind them in RX is zeroed. The sender may write TX meanwhile: what arrives
/// then is its own doing, and within the bounds that were checked.
fn copy_message<M: Machine>(
    machine: &mut M,
    header: &Header,
    version: Version,
    from: &Buffers,
    to: &Buffers,
) -> Result<(), FfaError> {
    let own = u64::from(header_bytes(version));
    let (offset, size) = (u64::from(header.offset), u64::from(header.size));
    let total = own.saturating_add(size);
    if offset.saturating_add(size) > from.tx.bytes() || total > to.rx.bytes() {
        return Err(FfaError::InvalidParameters);
    }
    let at = |range: &PageRange, offset| range.base().checked_add(offset).ok_or(FfaError::InvalidParameters);
    let bytes = header.encode(version);
    let written = bytes.get(..usize::try_from(own).unwrap_or(0)).unwrap_or_default();
    machine
        .copy_out(to.world, to.rx.base(), written)
        .map_err(|_| FfaError::Aborted)?;
    let mut chunk = [0; CHUNK];
    let mut done = 0;
    while done < size {
        let length = usize::try_from(size.saturating_sub(done)).unwrap_or(CHUNK).min(CHUNK);
        let piece = chunk.get_mut(..length).unwrap_or_default();
        machine
            .copy_in(from.world, at(&from.tx, offset.saturating_add(done))?, piece)
            .map_err(|_| FfaError::Aborted)?;
        machine
            .copy_out(to.world, at(&to.rx, own.saturating_add(done))?, piece)
            .map_err(|_| FfaError::Aborted)?;
        done = done.saturating_add(CHUNK as u64);
    }
    zero_behind(machine, to.world, at(&to.rx, total)?, to.rx.end()).ok_or(FfaError::Aborted)
}

/// Zeroes from `start` up to `end`, which is the start of a page and at most 64 pages away.
fn zero_behind<M: Machine>(machine: &mut M, world: World, start: PhysAddr, end: PhysAddr) -> Option<()> {
    const ZEROES: [u8; CHUNK] = [0; CHUNK];
    let mut at = start;
    while at < end && at.page_offset() != 0 {
        let left = PAGE_SIZE.saturating_sub(at.page_offset());
        let piece = ZEROES
            .get(..usize::try_from(left).unwrap_or(CHUNK).min(CHUNK))
            .unwrap_or_default();
        machine.copy_out(world, at, piece).ok()?;
        at = at.checked_add(u64::try_from(piece.len()).unwrap_or(left))?;
    }
    match end.offset_from(at) {
        Some(bytes) if bytes > 0 => machine.zero(world, PageRange::from_bytes(at, bytes).ok()?).ok(),
        _ => Some(()),
    }
}
