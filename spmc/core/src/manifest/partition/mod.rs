//! A partition's manifest: the FF-A manifest binding of TF-A (`docs/components/ffa-manifest-binding.rst`), forms 1.0
//! and 1.1, with the properties that Hafnium, OP-TEE and TF-A's EL3 SPMC added to it.

mod regions;
mod root;
mod services;

use super::Report;
use super::dtb::Dtb;
use super::tree::{Node, Sink};
use crate::addr::{PageRange, PhysAddr, World};
use crate::id::SpId;
use crate::messaging::same_uuid;
use alloc::string::String;
use alloc::vec::Vec;
use arm_ffa::Version;
use core::fmt;
use uuid::Uuid;

/// Longest `description`, in characters.
pub const MAX_DESCRIPTION: usize = 255;
/// Most services (UUIDs) of one partition.
pub const MAX_SERVICES: usize = 64;
/// Most memory regions, and most device regions, of one partition.
pub const MAX_REGIONS: usize = 256;
/// Most interrupts, and most stream ids, of one region.
pub const MAX_REGION_ITEMS: usize = 256;
/// Highest `id` that a manifest can ask for: what finds a partition by its id takes memory up to the highest.
pub const MAX_ID: SpId = match SpId::from_vm_number(0x3ff) {
    Some(id) => id,
    None => SpId::FIRST,
};
/// Most `auxiliary-id` and `stream-endpoint-ids` entries.
pub const MAX_AUXILIARY_IDS: usize = 64;
/// Longest `tantalum,...-limit-ms`, an hour.
pub const MAX_TIME_LIMIT: u64 = 3_600_000;

/// A partition's manifest, validated. Fields are named after the properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionManifest {
    /// X.Y of `compatible = "arm,ffa-manifest-X.Y"`.
    pub binding: Version,
    /// `ffa-version`: the FF-A version that the partition expects, and the one it has until it calls FFA_VERSION.
    pub ffa_version: Version,
    /// UUIDs with their messaging methods: `uuid` and `messaging-method` (1.0) or the `services` node (1.1). Not empty,
    /// no duplicates, no nil UUID.
    pub services: Vec<Service>,
    /// `id`: the id that the partition is to have.
    pub id: Option<SpId>,
    /// `auxiliary-id`.
    pub auxiliary_ids: Vec<u16>,
    /// `stream-endpoint-ids`.
    pub stream_endpoint_ids: Vec<u32>,
    /// `description`.
    pub description: Option<String>,
    /// `execution-ctx-count`, at least 1.
    pub execution_ctx_count: u16,
    /// `exception-level`.
    pub exception_level: ExceptionLevel,
    /// `load-address`, page aligned.
    pub load_address: Option<PhysAddr>,
    /// `entrypoint-offset` in bytes from the load address; 0 where absent.
    pub entrypoint_offset: u64,
    /// `mem-size`, of OP-TEE: bytes of memory that the partition takes to be its own from its load address on.
    pub mem_size: Option<u64>,
    /// `image-size`, of StMM: bytes of memory that the partition's image needs.
    pub image_size: Option<u64>,
    /// `boot-order`: smaller boots first; absent boots last.
    pub boot_order: Option<u16>,
    /// `rx_tx-info`.
    pub rx_tx: Option<RxTx>,
    /// `ns-interrupts-action`, or the older `managed-exit`.
    pub ns_interrupts_action: NsInterruptsAction,
    /// `managed-exit-virq`: managed exit is signalled by a vIRQ rather than a vFIQ.
    pub managed_exit_virq: bool,
    /// `other-s-interrupts-action`.
    pub other_s_interrupts_action: OtherSInterruptsAction,
    /// `sri-interrupts-policy`.
    pub sri_policy: SriPolicy,
    /// `tantalum,virtual-gic`: our own.
    pub virtual_gic: bool,
    /// `tantalum,interrupt-limit-ms`, `tantalum,power-limit-ms`, `tantalum,start-limit-ms`: our own.
    pub time_limits: TimeLimits,
    /// `notification-support`.
    pub notification_support: bool,
    /// `has-primary-scheduler`.
    pub has_primary_scheduler: bool,
    /// `time-slice-mem`: the partition does not want long memory operations to be sliced.
    pub time_slice_mem: bool,
    /// `run-time-model`.
    pub run_time_model: Option<RunTimeModel>,
    /// `gp-register-num`: x0-x3, the register that holds the address of the boot information at entry.
    pub gp_register_num: Option<u8>,
    /// `boot-info` node: what the boot information is to hold.
    pub boot_info: Option<BootInfo>,
    /// `power-management-messages`.
    pub power_management: PowerManagement,
    /// `vm-availability-messages`.
    pub vm_availability: VmAvailability,
    /// `lifecycle-support`.
    pub lifecycle_support: bool,
    /// `abort-action`.
    pub abort_action: Option<AbortAction>,
    /// `live-activation-support`.
    pub live_activation_support: bool,
    /// `memory-regions/*`.
    pub memory_regions: Vec<MemoryRegion>,
    /// `device-regions/*`.
    pub device_regions: Vec<DeviceRegion>,
}

/// How long the partition may keep the normal world's interrupts away, in milliseconds; 0 for ever, `None` where its manifest
/// does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeLimits {
    /// For a managed exit, for an interrupt that it is run for, or, if it has interrupts queued, for a request.
    pub interrupt: Option<u32>,
    /// For a power message, or a request of EL3.
    pub power: Option<u32>,
    /// To start on one PE.
    pub start: Option<u32>,
}

/// A service of a partition, known by its UUID. Aligned, so that a UUID is moved in words rather than bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub struct Service {
    /// The UUID, in canonical order.
    pub uuid: Uuid,
    /// How messages reach it and what it sends.
    pub messaging: MessagingMethod,
}

impl Service {
    /// Whether `uuid` is its.
    #[must_use]
    pub fn has(&self, uuid: &Uuid) -> bool {
        same_uuid(&self.uuid, uuid)
    }
}

bitflags::bitflags! {
    /// `messaging-method`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MessagingMethod: u16 {
        /// Bit 0: receives direct requests (FFA_MSG_SEND_DIRECT_REQ).
        const DIRECT_REQ_RECEIVE = 1 << 0;
        /// Bit 1: sends direct requests (FFA_MSG_SEND_DIRECT_REQ).
        const DIRECT_REQ_SEND = 1 << 1;
        /// Bit 2: sends and receives indirect messages (FFA_MSG_SEND2).
        const INDIRECT = 1 << 2;
        /// Bit 9: receives FFA_MSG_SEND_DIRECT_REQ2.
        const DIRECT_REQ2_RECEIVE = 1 << 9;
        /// Bit 10: sends FFA_MSG_SEND_DIRECT_REQ2.
        const DIRECT_REQ2_SEND = 1 << 10;
    }

    /// `sri-interrupts-policy`: when the schedule receiver interrupt is raised for a partition with a pending
    /// interrupt.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct SriPolicy: u8 {
        /// Bit 0: while the execution context is in the waiting state.
        const WAITING = 1 << 0;
        /// Bit 1: as it enters the waiting state.
        const ENTRY_TO_WAITING = 1 << 1;
    }

    /// `power-management-messages`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct PowerManagement: u8 {
        /// Bit 0: CPU_OFF.
        const CPU_OFF = 1 << 0;
        /// Bit 1: CPU_SUSPEND.
        const CPU_SUSPEND = 1 << 1;
        /// Bit 2: resume from CPU_SUSPEND.
        const CPU_RESUME = 1 << 2;
    }

    /// `vm-availability-messages`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct VmAvailability: u8 {
        /// Bit 0: a VM was created.
        const CREATED = 1 << 0;
        /// Bit 1: a VM was destroyed.
        const DESTROYED = 1 << 1;
    }

    /// Access that a region's `attributes` ask for.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Access: u8 {
        /// Bit 0: read.
        const READ = 1 << 0;
        /// Bit 1: write.
        const WRITE = 1 << 1;
        /// Bit 2: execute.
        const EXECUTE = 1 << 2;
    }
}

/// `exception-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionLevel {
    /// 1: S-EL0.
    SEl0,
    /// 2: S-EL1.
    SEl1,
}

/// `ns-interrupts-action`: what a non-secure interrupt does while the partition runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NsInterruptsAction {
    /// 0: it is queued.
    Queued,
    /// 1: it is signalled after a managed exit.
    ManagedExit,
    /// 2: it is signalled: the partition is preempted.
    #[default]
    Signaled,
}

/// `other-s-interrupts-action`: what another partition's secure interrupt does while the partition runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OtherSInterruptsAction {
    /// 0: it is queued.
    Queued,
    /// 1: it is signalled: the partition is preempted.
    #[default]
    Signaled,
}

/// `run-time-model` (binding 1.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunTimeModel {
    /// 0: run to completion.
    RunToCompletion,
    /// 1: preemptible.
    Preemptible,
}

/// `abort-action` (FF-A 1.3): what becomes of the partition after an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortAction {
    /// 0: it is stopped.
    Stop,
    /// 1: it is destroyed.
    Destroy,
    /// 2: it is started again.
    Restart,
    /// 3: the abort is passed on.
    Propagate,
}

/// `boot-info` node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootInfo {
    /// `ffa_manifest`: the partition's manifest.
    pub ffa_manifest: bool,
    /// `hob_list`: a list of hand-off blocks.
    pub hob_list: bool,
}

/// `rx_tx-info` node: which memory regions are the RX and TX buffers. Both have the same number of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxTx {
    /// Index into [`PartitionManifest::memory_regions`] of the RX buffer.
    pub rx: usize,
    /// Index into [`PartitionManifest::memory_regions`] of the TX buffer.
    pub tx: usize,
}

/// Where a memory region lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// `base-address`.
    Fixed(PageRange),
    /// `load-address-relative-offset`: bytes from the partition's load address, page aligned.
    Relative(u64),
    /// Neither: the SPMC chooses.
    Any,
}

/// A node below `memory-regions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    /// The node's name.
    pub name: String,
    /// `description`.
    pub description: Option<String>,
    /// `base-address` or `load-address-relative-offset`.
    pub placement: Placement,
    /// `pages-count`, at least 1.
    pub pages: u32,
    /// Bits 0-2 of `attributes`: R, RW, RX or (S-EL1 only) RWX. Never executable when non-secure.
    pub access: Access,
    /// Bit 3 of `attributes`.
    pub world: World,
    /// `smmu-id`, `stream-ids`, `stream-ids-access-permissions`.
    pub dma: Option<Dma>,
}

/// A node below `device-regions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRegion {
    /// The node's name.
    pub name: String,
    /// `description`.
    pub description: Option<String>,
    /// `base-address` and `pages-count`.
    pub range: PageRange,
    /// Bits 0-2 of `attributes`: R or RW.
    pub access: Access,
    /// Bit 3 of `attributes`.
    pub world: World,
    /// `interrupts`, with the targets of `interrupts-target`.
    pub interrupts: Vec<Interrupt>,
    /// `smmu-id`, `stream-ids`.
    pub dma: Option<Dma>,
    /// `exclusive-access`: no other partition may have this region.
    pub exclusive_access: bool,
}

/// What a DMA-capable device upstream of an SMMU uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dma {
    /// `smmu-id`.
    pub smmu_id: Option<u32>,
    /// `stream-ids`.
    pub stream_ids: Vec<u32>,
    /// `stream-ids-access-permissions`: one for each stream id, or none at all.
    pub access: Vec<Access>,
}

/// One interrupt of a device region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// The INTID.
    pub id: u32,
    /// Bits 7:0 of the attributes.
    pub priority: u8,
    /// Bit 8 of the attributes.
    pub world: World,
    /// Bit 9 of the attributes.
    pub trigger: Trigger,
    /// Bits 11:10 of the attributes.
    pub kind: InterruptKind,
    /// `interrupts-target`: affinity of the PE that it is routed to, as in MPIDR_EL1.
    pub target: Option<super::spmc::Mpidr>,
}

/// How an interrupt is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Edge triggered.
    Edge,
    /// Level sensitive.
    Level,
}

/// Class of a device's interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptKind {
    /// Private to a PE, INTID 16-31 (extended 1056-1119).
    Ppi,
    /// Shared, INTID 32-1019 (extended 4096-5119).
    Spi,
}

impl fmt::Display for InterruptKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ppi => "PPI",
            Self::Spi => "SPI",
        })
    }
}

impl PartitionManifest {
    /// Reads the manifest of the partition `name` from `blob`, which starts with a device tree and may be longer.
    ///
    /// Returns `None` after adding at least one error to `report`.
    #[must_use]
    pub fn parse(name: &str, blob: &[u8], report: &mut Report) -> Option<Self> {
        let mut sink = Sink::new(Some(name), report);
        let root = Node::root(blob, &mut sink)?;
        root::parse(&root, &mut sink)
    }

    /// The manifest `blob`, which [`PartitionManifest::parse`] has read, with a `base-address` in each of its memory regions
    /// that `addresses` gives one, in their order. `None` when it is too big by that.
    #[must_use]
    pub fn with_addresses(blob: &[u8], addresses: &[Option<PhysAddr>]) -> Option<Vec<u8>> {
        let dtb = Dtb::new(blob).ok()?;
        let mut addresses = addresses.iter();
        let mut placed = Vec::new();
        for parent in dtb.root().children().filter(|node| node.name() == "memory-regions") {
            for (node, address) in parent.children().zip(&mut addresses) {
                if let Some(address) = address {
                    placed.push((node, address.as_u64()));
                }
            }
        }
        dtb.with_addresses("base-address", &placed)
    }

    /// The messaging methods of all services together.
    #[must_use]
    pub fn messaging(&self) -> MessagingMethod {
        self.services
            .iter()
            .fold(MessagingMethod::empty(), |all, service| all | service.messaging)
    }
}
