//! RX/TX buffer pairs of endpoints, and what is delivered through them: FFA_RXTX_MAP, FFA_RXTX_UNMAP, FFA_RX_RELEASE,
//! FFA_PARTITION_INFO_GET (FF-A 1.2, chapters 7 and 13).

use spin::mutex::TicketMutex;
use tantalum_stage2::{Access, Ipa, MemoryType};

use crate::{
    abi::{FfaError, V1_1, Version, low},
    addr::{PageRange, PhysAddr, World},
    discovery::Instance,
    machine::{Machine, TableMemory},
    manifest::spmc::MemoryKind,
    messaging::uuid_from_registers,
    partition::{Partition, Stage2Tables},
    spmc::{Spmc, success},
};

/// Bits of w3 of FFA_RXTX_MAP that hold the number of pages; the others are reserved.
const PAGE_COUNT_MASK: u32 = 0x3f;
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
/// Lock order: a leaf, but for the log line and the console; never two at a time.
pub type Mailbox = TicketMutex<Option<Buffers>>;

impl Spmc {
    /// FFA_RXTX_MAP: x1 TX, x2 RX, w3 the number of pages.
    ///
    /// # Errors
    /// `InvalidParameters` for addresses or counts that cannot be, `Denied` for memory that is not the caller's to read
    /// and write, or when it has a pair already.
    pub(crate) fn map_buffers<M: Machine>(
        &self,
        instance: Instance<'_>,
        machine: &M,
        registers: &[u64; 8],
        wide: bool,
    ) -> Result<[u64; 8], FfaError> {
        let [_, x1, x2, x3, ..] = *registers;
        let address = |x: u64| if wide { x } else { u64::from(low(x)) };
        let pages = low(x3);
        if pages & !PAGE_COUNT_MASK != 0 {
            return Err(FfaError::InvalidParameters);
        }
        let range = |base| PageRange::new(PhysAddr::new(base), u64::from(pages)).map_err(|_| FfaError::InvalidParameters);
        let (tx, rx) = (range(address(x1))?, range(address(x2))?);
        if tx.overlaps(&rx) {
            return Err(FfaError::InvalidParameters);
        }
        let mut mailbox = self.mailbox(instance).lock();
        if mailbox.is_some() {
            return Err(FfaError::Denied);
        }
        let world = match instance {
            Instance::NormalWorld => self.normal_world_may_map(&tx).and(self.normal_world_may_map(&rx))?,
            Instance::Partition(partition) => {
                let tables = partition.tables.lock();
                partition_may_map(&tables, machine, &tx, &rx)?
            }
        };
        *mailbox = Some(Buffers { world, rx, tx, rx_full: false });
        Ok(success(0))
    }

    /// FFA_RXTX_UNMAP.
    ///
    /// # Errors
    /// `InvalidParameters` when there is no pair, or an id is given.
    pub(crate) fn unmap_buffers(&self, instance: Instance<'_>, registers: &[u64; 8]) -> Result<[u64; 8], FfaError> {
        let [_, w1, ..] = *registers;
        if low(w1) != 0 {
            return Err(FfaError::InvalidParameters);
        }
        self.mailbox(instance).lock().take().ok_or(FfaError::InvalidParameters)?;
        Ok(success(0))
    }

    /// FFA_RX_RELEASE: the caller has read its RX buffer.
    ///
    /// # Errors
    /// `InvalidParameters` for another endpoint's id; `Denied` when the caller does not own the buffer.
    pub(crate) fn release_rx(&self, instance: Instance<'_>, registers: &[u64; 8]) -> Result<[u64; 8], FfaError> {
        let [_, w1, ..] = *registers;
        if low(w1) != 0 {
            return Err(FfaError::InvalidParameters);
        }
        match self.mailbox(instance).lock().as_mut() {
            Some(buffers) if buffers.rx_full => {
                buffers.rx_full = false;
                Ok(success(0))
            }
            _ => Err(FfaError::Denied),
        }
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
        let count = self.descriptors(instance, uuid).count();
        if count == 0 {
            return Err(FfaError::InvalidParameters);
        }
        let count = u64::try_from(count).map_err(|_| FfaError::NoMemory)?;
        let mut result = success(count);
        if flags & COUNT_ONLY != 0 {
            return Ok(result);
        }
        let size = if version < V1_1 { DESCRIPTOR_BYTES_1_0 } else { DESCRIPTOR_BYTES };
        let mut mailbox = self.mailbox(instance).lock();
        let buffers = mailbox.as_mut().filter(|buffers| !buffers.rx_full).ok_or(FfaError::Busy)?;
        let bytes = count.checked_mul(size).filter(|bytes| *bytes <= buffers.rx.bytes()).ok_or(FfaError::NoMemory)?;
        let mut to = buffers.rx.base();
        for words in self.descriptors(instance, uuid) {
            let mut descriptor = [0; 24];
            for (bytes, word) in descriptor.chunks_exact_mut(8).zip(words) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            let length = usize::try_from(size).unwrap_or(0);
            let written = descriptor.get(..length).unwrap_or_default();
            machine.copy_out(buffers.world, to, written).map_err(|_| FfaError::Aborted)?;
            to = to.checked_add(size).ok_or(FfaError::NoMemory)?;
        }
        debug_assert_eq!(to.offset_from(buffers.rx.base()), Some(bytes));
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

    /// The normal world's buffers are in its own RAM: declared as such, and not given to a partition.
    fn normal_world_may_map(&self, range: &PageRange) -> Result<World, FfaError> {
        let is_ram = self.declared.iter().any(|ram| ram.kind == MemoryKind::NsMemory && ram.range.contains_range(range));
        let is_taken = self.partitions().iter().flat_map(|partition| partition.regions.iter()).any(|region| {
            region.world == World::NonSecure && region.range.overlaps(range)
        });
        if is_ram && !is_taken { Ok(World::NonSecure) } else { Err(FfaError::Denied) }
    }
}

/// Size of a descriptor of FF-A 1.0: no UUID.
const DESCRIPTOR_BYTES_1_0: u64 = 8;
/// Size of a descriptor of FF-A 1.1 and 1.2.
const DESCRIPTOR_BYTES: u64 = 24;

/// A partition's buffers are in its own memory: mapped for it to read and write, all in one of its spaces, Normal memory.
fn partition_may_map<M: TableMemory>(
    tables: &Stage2Tables,
    memory: &M,
    tx: &PageRange,
    rx: &PageRange,
) -> Result<World, FfaError> {
    for (space, world) in [(&tables.secure, World::Secure), (&tables.non_secure, World::NonSecure)] {
        let open = |page: PhysAddr| {
            space.translate(memory, Ipa(page.as_u64())).is_some_and(|mapping| {
                mapping.attributes.access() == Access::ReadWrite
                    && mapping.attributes.memory() == MemoryType::NormalWriteBack
                    && mapping.output.0 == page.as_u64()
            })
        };
        if tx.page_addresses().chain(rx.page_addresses()).all(open) {
            return Ok(world);
        }
    }
    Err(FfaError::Denied)
}

/// The buffers that a partition's manifest asks for (`rx_tx-info`).
#[must_use]
pub(crate) fn from_manifest(rx: PageRange, tx: PageRange, world: World) -> Option<Buffers> {
    (rx.pages() == tx.pages() && !rx.overlaps(&tx)).then_some(Buffers { world, rx, tx, rx_full: false })
}

/// What was in the buffers of a partition that was stopped is nobody's any more.
pub(crate) fn forget(partition: &Partition) {
    *partition.mailbox.lock() = None;
}
