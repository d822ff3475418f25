//! RX/TX buffer pairs of endpoints, and what is delivered through them: FFA_RXTX_MAP, FFA_RXTX_UNMAP, FFA_RX_RELEASE,
//! FFA_PARTITION_INFO_GET (FF-A 1.2, chapters 7 and 13).

use arrayvec::ArrayVec;
use spin::mutex::{TicketMutex, TicketMutexGuard};

use arm_ffa::FuncId;

use crate::{
    abi::{FfaError, Route, V1_1, Version, low},
    addr::{PageRange, PhysAddr, World},
    discovery::Instance,
    id::EndpointId,
    machine::Machine,
    memory::{self, Buffer, Caller},
    messaging::uuid_from_registers,
    partition::Partition,
    spmc::{Spmc, success},
};

/// Bits of w3 of FFA_RXTX_MAP that hold the number of pages; the others are reserved.
pub(crate) const PAGE_COUNT_MASK: u32 = 0x3f;
/// Bit 0 of w5 of FFA_PARTITION_INFO_GET: only the number is asked for.
const COUNT_ONLY: u32 = 1;

/// The buffer pair of an endpoint. Both buffers have the same number of pages and lie in the same world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// Where both are.
    pub world: World,
    /// What the SPMC writes and the endpoint reads.
    pub rx: PageRange,
    /// What the endpoint writes and the SPMC reads.
    pub tx: PageRange,
    /// Whether the endpoint owns RX: it was given something and has not released it.
    pub rx_full: bool,
}

/// The place for the buffer pair of an endpoint.
///
/// Lock order: mailboxes in ascending order of the endpoints' ids (FFA_MSG_SEND2 holds those of sender and receiver); within
/// one, what the table in `spmc/docs/locking.md` says.
pub type Mailbox = TicketMutex<Option<Buffers>>;

/// VMs of the normal world that their hypervisor has passed buffers on for, at a time.
pub const MAX_VM_MAILBOXES: usize = 16;

/// The mailboxes of VMs, under one lock, which comes before those of partitions.
pub type VmMailboxes = TicketMutex<ArrayVec<(EndpointId, Buffers), MAX_VM_MAILBOXES>>;

/// The mailbox of an endpoint, locked.
pub(crate) enum Held<'a> {
    /// Of a partition, or of the normal world as one endpoint.
    Own(TicketMutexGuard<'a, Option<Buffers>>),
    /// Of a VM: all of them, and its place.
    Vm(
        TicketMutexGuard<'a, ArrayVec<(EndpointId, Buffers), MAX_VM_MAILBOXES>>,
        usize,
    ),
}

impl Held<'_> {
    /// The buffer pair, if there is one.
    pub(crate) fn buffers(&mut self) -> Option<&mut Buffers> {
        match self {
            Self::Own(mailbox) => mailbox.as_mut(),
            Self::Vm(mailboxes, place) => mailboxes.get_mut(*place).map(|(_, buffers)| buffers),
        }
    }
}

impl Spmc {
    /// FFA_RXTX_MAP: x1 TX, x2 RX, w3 the number of pages. All zero from the normal world: the hypervisor passes on the
    /// buffers of a VM, described in its own TX.
    ///
    /// # Errors
    /// `InvalidParameters` for addresses or counts that cannot be, `Denied` for memory that is not the caller's to read
    /// and write, or when it has a pair already, `NoMemory` when no more VMs can have one.
    pub(crate) fn map_buffers<M: Machine>(
        &self,
        instance: Instance<'_>,
        machine: &mut M,
        registers: &[u64; 8],
        wide: bool,
    ) -> Result<[u64; 8], FfaError> {
        let [_, x1, x2, x3, ..] = *registers;
        let address = |x: u64| if wide { x } else { u64::from(low(x)) };
        let (tx, rx, pages) = (address(x1), address(x2), low(x3));
        match instance {
            Instance::NormalWorld if tx | rx | u64::from(pages) == 0 => {
                let (vm, tx, rx) = self.passed_on(machine)?;
                let mut mailboxes = self.vm_mailboxes.lock();
                if mailboxes.iter().any(|(id, _)| *id == vm) {
                    return Err(FfaError::Denied);
                }
                if mailboxes.is_full() {
                    return Err(FfaError::NoMemory);
                }
                mailboxes.push((vm, self.take_pair(machine, vm, tx, rx)?));
            }
            _ => {
                let (tx, rx) = (page_range(tx, pages)?, page_range(rx, pages)?);
                let mut mailbox = self.mailbox(instance).lock();
                if mailbox.is_some() {
                    return Err(FfaError::Denied);
                }
                *mailbox = Some(self.take_pair(machine, instance.id(), tx, rx)?);
            }
        }
        Ok(success(0))
    }

    /// Takes memory of `owner` for a buffer pair: its to read, and TX to write, and nobody else's, RAM, all in one world.
    fn take_pair<M: Machine>(
        &self,
        machine: &mut M,
        owner: EndpointId,
        tx: PageRange,
        rx: PageRange,
    ) -> Result<Buffers, FfaError> {
        if tx.overlaps(&rx) || tx.pages() != rx.pages() {
            return Err(FfaError::InvalidParameters);
        }
        let world = self.shares.hold(machine, self, owner, &tx, true)?;
        let error = match self.shares.hold(machine, self, owner, &rx, false) {
            Ok(same) if same == world => {
                return Ok(Buffers {
                    world,
                    rx,
                    tx,
                    rx_full: false,
                });
            }
            Ok(other) => {
                self.shares.unhold(machine, self, owner, &rx, other);
                FfaError::Denied
            }
            Err(error) => error,
        };
        self.shares.unhold(machine, self, owner, &tx, world);
        Err(error)
    }

    /// Gives the memory of a buffer pair back to its owner.
    fn give_back_pair<M: Machine>(&self, machine: &mut M, owner: EndpointId, buffers: &Buffers) {
        for range in [&buffers.tx, &buffers.rx] {
            self.shares.unhold(machine, self, owner, range, buffers.world);
        }
    }

    /// Gives a partition the buffers that its manifest asks for, if it has the memory.
    pub(crate) fn take_buffers<M: Machine>(&self, machine: &mut M, partition: &Partition, buffers: Option<Buffers>) {
        let mut mailbox = partition.mailbox.lock();
        *mailbox =
            buffers.and_then(|Buffers { tx, rx, .. }| self.take_pair(machine, partition.endpoint(), tx, rx).ok());
    }

    /// What was in the buffers of a partition that was stopped is nobody's any more.
    pub(crate) fn forget_mailbox<M: Machine>(&self, machine: &mut M, partition: &Partition) {
        let mut mailbox = partition.mailbox.lock();
        if let Some(buffers) = mailbox.take() {
            self.give_back_pair(machine, partition.endpoint(), &buffers);
        }
    }

    /// A memory management call. Who reclaims what a partition had that is gone need not wait for another end of it.
    pub(crate) fn memory_call<M: Machine>(
        &self,
        caller: Instance<'_>,
        machine: &mut M,
        function: FuncId,
        registers: &[u64; 8],
    ) -> Result<[u64; 8], FfaError> {
        let result = self.manage_memory(caller, machine, function, registers);
        if function == FuncId::MemReclaim && result == Err(FfaError::Denied) {
            self.settle_all(machine);
            return self.manage_memory(caller, machine, function, registers);
        }
        result
    }

    /// With the caller's mailbox held, so that its buffers stay its own meanwhile.
    #[inline(never)]
    fn manage_memory<M: Machine>(
        &self,
        instance: Instance<'_>,
        machine: &mut M,
        function: FuncId,
        registers: &[u64; 8],
    ) -> Result<[u64; 8], FfaError> {
        let mut mailbox = self.mailbox(instance).lock();
        let buffers = mailbox.map(|buffers| {
            let buffer = |range| Buffer {
                world: buffers.world,
                range,
            };
            memory::Buffers {
                tx: buffer(buffers.tx),
                rx: buffer(buffers.rx),
                rx_full: buffers.rx_full,
            }
        });
        let caller = Caller {
            id: instance.id(),
            version: self.version_of(instance),
        };
        let reply = self.shares.call(machine, self, caller, function, registers, buffers)?;
        if let Some(buffers) = mailbox.as_mut() {
            buffers.rx_full |= reply.fills_rx;
        }
        Ok(reply.registers)
    }

    /// Reads the endpoint RX/TX descriptor in the hypervisor's TX, each word once: the VM, its TX and its RX (FF-A 1.2, table
    /// "Endpoint RX/TX descriptor").
    fn passed_on<M: Machine>(&self, machine: &mut M) -> Result<(EndpointId, PageRange, PageRange), FfaError> {
        let held = self.normal_world_mailbox.lock();
        let buffers = held.as_ref().ok_or(FfaError::InvalidParameters)?;
        let [ids, rx, tx, _] = words(machine, buffers, 0)?;
        let vm = EndpointId::new(u16::try_from(ids).map_err(|_| FfaError::InvalidParameters)?);
        if vm.is_secure() || vm == EndpointId::NWD {
            return Err(FfaError::InvalidParameters);
        }
        Ok((
            vm,
            constituent(machine, buffers, tx)?,
            constituent(machine, buffers, rx)?,
        ))
    }

    /// FFA_RXTX_UNMAP; w1 bits 31:16 a VM, from its hypervisor.
    ///
    /// # Errors
    /// `InvalidParameters` when there is no pair, or an id that is not the caller's to give.
    pub(crate) fn unmap_buffers<M: Machine>(
        &self,
        instance: Instance<'_>,
        machine: &mut M,
        registers: &[u64; 8],
    ) -> Result<[u64; 8], FfaError> {
        let [_, w1, ..] = *registers;
        let Route {
            source: id,
            destination: reserved,
        } = Route::decode(w1);
        // Until FF-A 1.0 an endpoint names itself.
        let own = id == EndpointId::NWD || (id == instance.id() && self.version_of(instance) < V1_1);
        if reserved != EndpointId::NWD || !own && !matches!(instance, Instance::NormalWorld) {
            return Err(FfaError::InvalidParameters);
        }
        if own {
            let mut mailbox = self.mailbox(instance).lock();
            let buffers = mailbox.take().ok_or(FfaError::InvalidParameters)?;
            self.give_back_pair(machine, instance.id(), &buffers);
        } else if !self.forget_vm_mailbox(machine, id) {
            return Err(FfaError::InvalidParameters);
        }
        Ok(success(0))
    }

    /// Drops the buffers of a VM. Says whether there were any.
    pub(crate) fn forget_vm_mailbox<M: Machine>(&self, machine: &mut M, id: EndpointId) -> bool {
        let mut mailboxes = self.vm_mailboxes.lock();
        let place = mailboxes.iter().position(|(vm, _)| *vm == id);
        let Some((vm, buffers)) = place.and_then(|place| mailboxes.swap_pop(place)) else {
            return false;
        };
        self.give_back_pair(machine, vm, &buffers);
        true
    }

    /// FFA_RX_RELEASE: the caller has read its RX buffer; w1 bits 15:0 a VM, from its hypervisor.
    ///
    /// # Errors
    /// `InvalidParameters` for an id that is not the caller's to give; `Denied` when the caller does not own the buffer.
    pub(crate) fn release_rx(&self, instance: Instance<'_>, registers: &[u64; 8]) -> Result<[u64; 8], FfaError> {
        self.hand_over_rx(instance, registers, false)
    }

    /// FFA_RX_ACQUIRE: the hypervisor (id in w1 bits 15:0: for that VM) wants to write to an RX buffer itself.
    ///
    /// # Errors
    /// `InvalidParameters` for an unknown VM; `Denied` when the buffer is full already, or there is none.
    pub(crate) fn acquire_rx(&self, registers: &[u64; 8]) -> Result<[u64; 8], FfaError> {
        self.hand_over_rx(Instance::NormalWorld, registers, true)
    }

    /// Changes the owner of an RX buffer, which must be the other one.
    fn hand_over_rx(&self, instance: Instance<'_>, registers: &[u64; 8], full: bool) -> Result<[u64; 8], FfaError> {
        let [_, w1, ..] = *registers;
        let Route {
            source: reserved,
            destination: asked,
        } = Route::decode(w1);
        let id = match instance {
            Instance::NormalWorld if !asked.is_secure() => asked,
            Instance::Partition(partition) if asked == EndpointId::NWD => partition.endpoint(),
            _ => return Err(FfaError::InvalidParameters),
        };
        if reserved != EndpointId::NWD {
            return Err(FfaError::InvalidParameters);
        }
        let mut held = self.hold_mailbox(id).ok_or(FfaError::InvalidParameters)?;
        match held.buffers() {
            Some(buffers) if buffers.rx_full != full => {
                buffers.rx_full = full;
                Ok(success(0))
            }
            _ => Err(FfaError::Denied),
        }
    }

    /// Locks the mailbox of an endpoint. `None`: no such endpoint, or a VM that no buffers were passed on for.
    pub(crate) fn hold_mailbox(&self, id: EndpointId) -> Option<Held<'_>> {
        if id == EndpointId::NWD {
            return Some(Held::Own(self.normal_world_mailbox.lock()));
        }
        if id.is_secure() {
            return self.find(id).map(|partition| Held::Own(partition.mailbox.lock()));
        }
        let mailboxes = self.vm_mailboxes.lock();
        let place = mailboxes.iter().position(|(vm, _)| *vm == id)?;
        Some(Held::Vm(mailboxes, place))
    }

    /// FFA_PARTITION_INFO_GET: descriptors into RX, in the size of the caller's version; or only their number.
    ///
    /// # Errors
    /// `InvalidParameters` for a UUID that nobody has or reserved flags, `Busy` without a free RX buffer, `NoMemory` when
    /// it is too small.
    pub(crate) fn partition_info_get<M: Machine>(
        &self,
        instance: Instance<'_>,
        machine: &mut M,
        registers: &[u64; 8],
    ) -> Result<[u64; 8], FfaError> {
        let [_, w1, w2, w3, w4, w5, ..] = *registers;
        let half = |first: u64, second: u64| u64::from(low(first)) | (u64::from(low(second)) << 32);
        let uuid = uuid_from_registers(half(w1, w2), half(w3, w4));
        let flags = low(w5);
        let version = self.version_of(instance);
        if flags & !COUNT_ONLY != 0 {
            return Err(FfaError::InvalidParameters);
        }
        let count = self.count_descriptors(instance, uuid);
        if count == 0 {
            return Err(FfaError::InvalidParameters);
        }
        let count = u64::try_from(count).map_err(|_| FfaError::NoMemory)?;
        let mut result = success(count);
        if flags & COUNT_ONLY != 0 {
            return Ok(result);
        }
        let size = if version < V1_1 {
            DESCRIPTOR_BYTES_1_0
        } else {
            DESCRIPTOR_BYTES
        };
        let mut mailbox = self.mailbox(instance).lock();
        let buffers = mailbox
            .as_mut()
            .filter(|buffers| !buffers.rx_full)
            .ok_or(FfaError::Busy)?;
        let bytes = count
            .checked_mul(size)
            .filter(|bytes| *bytes <= buffers.rx.bytes())
            .ok_or(FfaError::NoMemory)?;
        let mut to = buffers.rx.base();
        // As many as were counted: a partition may be stopped meanwhile, none can come.
        let mut written_count = 0_u64;
        let mut write = |words: [u64; 3]| -> Result<(), FfaError> {
            let mut descriptor = [0; 24];
            for (bytes, word) in descriptor.chunks_exact_mut(8).zip(words) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            let length = usize::try_from(size).unwrap_or(0);
            let written = descriptor.get(..length).unwrap_or_default();
            machine
                .copy_out(buffers.world, to, written)
                .map_err(|_| FfaError::Aborted)?;
            to = to.checked_add(size).ok_or(FfaError::NoMemory)?;
            written_count = written_count.saturating_add(1);
            Ok(())
        };
        let mut written: Result<(), FfaError> = Ok(());
        self.each_descriptor(instance, uuid, &mut |words| {
            if written.is_ok() {
                written = write(words);
            }
        });
        written?;
        debug_assert!(to.offset_from(buffers.rx.base()) <= Some(bytes));
        let [_, _, w2, ..] = &mut result;
        *w2 = written_count;
        buffers.rx_full = true;
        if version >= V1_1 {
            let [_, _, _, w3, ..] = &mut result;
            *w3 = size;
        }
        Ok(result)
    }

    pub(crate) fn mailbox<'a>(&'a self, instance: Instance<'a>) -> &'a Mailbox {
        match instance {
            Instance::NormalWorld => &self.normal_world_mailbox,
            Instance::Partition(partition) => &partition.mailbox,
        }
    }

    pub(crate) fn version_of(&self, instance: Instance<'_>) -> Version {
        match instance {
            Instance::NormalWorld => self.normal_world_version(),
            Instance::Partition(partition) => partition.version(),
        }
    }
}

fn page_range(base: u64, pages: u32) -> Result<PageRange, FfaError> {
    if pages & !PAGE_COUNT_MASK != 0 {
        return Err(FfaError::InvalidParameters);
    }
    PageRange::new(PhysAddr::new(base), u64::from(pages)).map_err(|_| FfaError::InvalidParameters)
}

/// Four words at an offset of TX.
fn words<M: Machine>(machine: &mut M, buffers: &Buffers, offset: u64) -> Result<[u32; 4], FfaError> {
    let mut bytes = [0; 16];
    if offset.saturating_add(16) > buffers.tx.bytes() {
        return Err(FfaError::InvalidParameters);
    }
    let from = buffers
        .tx
        .base()
        .checked_add(offset)
        .ok_or(FfaError::InvalidParameters)?;
    machine
        .copy_in(buffers.world, from, &mut bytes)
        .map_err(|_| FfaError::Aborted)?;
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    Ok(words)
}

/// A composite memory region descriptor at an offset of TX, which must be one range.
fn constituent<M: Machine>(machine: &mut M, buffers: &Buffers, offset: u32) -> Result<PageRange, FfaError> {
    let offset = u64::from(offset);
    let [total, ranges, ..] = words(machine, buffers, offset)?;
    let [low, high, pages, _] = words(machine, buffers, offset.saturating_add(16))?;
    if offset % 8 != 0 || offset < 16 || ranges != 1 || total != pages {
        return Err(FfaError::InvalidParameters);
    }
    page_range(u64::from(low) | (u64::from(high) << 32), pages)
}

/// Size of a descriptor of FF-A 1.0: no UUID.
const DESCRIPTOR_BYTES_1_0: u64 = 8;
/// Size of a descriptor of FF-A 1.1 and 1.2.
const DESCRIPTOR_BYTES: u64 = 24;

/// The buffers that a partition's manifest asks for (`rx_tx-info`).
#[must_use]
pub(crate) fn from_manifest(rx: PageRange, tx: PageRange, world: World) -> Option<Buffers> {
    (rx.pages() == tx.pages() && !rx.overlaps(&tx)).then_some(Buffers {
        world,
        rx,
        tx,
        rx_full: false,
    })
}

/// FFA_MSG_WAIT: a partition that waits has read its RX, unless it says otherwise.
pub(crate) fn release_at_wait(partition: &Partition) {
    if let Some(buffers) = partition.mailbox.lock().as_mut() {
        buffers.rx_full = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_of_a_manifest_is_two_ranges_of_one_size() {
        let range = |page: u64, pages| PageRange::new(PhysAddr::new(page << 12), pages).unwrap();
        let pair = |rx, tx| from_manifest(rx, tx, World::Secure);
        let right = pair(range(4, 2), range(6, 2)).unwrap();
        assert!(!right.rx_full && right.rx == range(4, 2) && right.tx == range(6, 2));
        assert!(pair(range(4, 2), range(6, 1)).is_none());
        assert!(pair(range(4, 2), range(5, 2)).is_none());
        assert!(pair(range(4, 1), range(4, 1)).is_none());
    }
}
