//! The SPMC's own manifest: compatible with `arm,ffa-core-manifest-1.0`, in the layout of TF-A's and Hafnium's users.

mod root;
mod vms;

use super::Report;
use super::tree::{Node, Sink};
use crate::addr::{PageRange, PhysAddr, World};
use crate::id::{EndpointId, SpId};
use alloc::string::String;
use alloc::vec::Vec;
use arm_ffa::Version;
use core::fmt;

/// Most `vmN` nodes that are read.
pub const MAX_PARTITIONS: usize = 256;
/// Most `cpu` nodes that are read.
pub const MAX_CPUS: usize = 512;
/// Most ranges of memory that are read, of all kinds together.
pub const MAX_MEMORY_RANGES: usize = 256;
/// Most SMC function ids in one `smc_whitelist`.
pub const MAX_SMC_WHITELIST: usize = 256;
/// Most distributor or redistributor regions.
pub const MAX_GIC_REGIONS: u64 = 64;

/// The SPMC manifest, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpmcManifest {
    /// `/attribute`: what the SPMD was told about the SPMC.
    pub attribute: Attribute,
    /// `/hypervisor/vmN`, in order of N. One that is wrong is left out, with an error.
    pub partitions: Vec<VmEntry>,
    /// `/cpus/*`: MPIDRs in the order of the nodes, which by Hafnium's convention is the boot CPU first. Not empty, no
    /// duplicates.
    pub cpus: Vec<Mpidr>,
    /// Ranges of memory that partitions may be given, in the order of the nodes.
    pub memory: Vec<MemoryRange>,
    /// `interrupt-controller`, if the manifest describes it.
    pub interrupt_controller: Option<InterruptController>,
}

/// `/attribute`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// `spmc_id`. Always 0x8000.
    pub spmc_id: EndpointId,
    /// `maj_ver` and `min_ver`: the FF-A version that the SPMD shows for the SPMC.
    pub version: Version,
    /// `load_address`: base of the SPMC's image.
    pub load_address: Option<PhysAddr>,
    /// `binary_size`: bytes from `load_address` that the SPMD takes to be the SPMC's.
    pub binary_size: Option<u64>,
    /// `entrypoint`. The SPMD does not use it.
    pub entrypoint: Option<PhysAddr>,
}

/// The affinity fields of an MPIDR: Aff3 in bits 39:32, Aff2-Aff0 in bits 23:0, all else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mpidr(u64);

impl Mpidr {
    /// Bits of MPIDR_EL1 that are affinity fields.
    pub const MASK: u64 = 0xff_00ff_ffff;

    /// The affinity fields of `raw` (as in MPIDR_EL1), all other bits dropped.
    #[must_use]
    pub const fn from_register(raw: u64) -> Self {
        Self(raw & Self::MASK)
    }

    /// The affinity fields.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// One `/hypervisor/vmN` node. All of them have `is_ffa_partition`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmEntry {
    /// N of `vmN`, at least 1.
    pub number: u16,
    /// The partition's id: 0x8000 + N.
    pub id: SpId,
    /// `debug_name`, 1 to 63 printable characters.
    pub name: String,
    /// `load_address` and `mem_size`: the partition's memory, its package at the start.
    pub memory: PageRange,
    /// `vcpu_count`.
    pub vcpu_count: Option<u16>,
    /// `smc_whitelist`: SMC function ids that the partition may call and that are passed on to EL3.
    pub smc_whitelist: Vec<u32>,
    /// `smc_whitelist_permissive`: all SMCs are passed on.
    pub smc_whitelist_permissive: bool,
}

/// What a range of memory in the SPMC manifest may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemoryKind {
    /// `memory`: secure RAM.
    Memory,
    /// `ns-memory`: non-secure RAM.
    NsMemory,
    /// `device-memory`: secure devices.
    DeviceMemory,
    /// `ns-device-memory`: non-secure devices.
    NsDeviceMemory,
}

impl MemoryKind {
    /// The kind of which the memory regions of `world` are.
    #[must_use]
    pub const fn memory(world: World) -> Self {
        match world {
            World::Secure => Self::Memory,
            World::NonSecure => Self::NsMemory,
        }
    }

    /// The kind of which the device regions of `world` are.
    #[must_use]
    pub const fn device(world: World) -> Self {
        match world {
            World::Secure => Self::DeviceMemory,
            World::NonSecure => Self::NsDeviceMemory,
        }
    }

    /// Which world it belongs to.
    #[must_use]
    pub const fn world(self) -> World {
        match self {
            Self::Memory | Self::DeviceMemory => World::Secure,
            Self::NsMemory | Self::NsDeviceMemory => World::NonSecure,
        }
    }

    /// The kind that `device_type` calls `name`.
    fn from_device_type(name: &str) -> Option<Self> {
        match name {
            "memory" => Some(Self::Memory),
            "ns-memory" => Some(Self::NsMemory),
            "device-memory" => Some(Self::DeviceMemory),
            "ns-device-memory" => Some(Self::NsDeviceMemory),
            _ => None,
        }
    }
}

impl fmt::Display for MemoryKind {
    /// The value of `device_type`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::NsMemory => "ns-memory",
            Self::DeviceMemory => "device-memory",
            Self::NsDeviceMemory => "ns-device-memory",
        })
    }
}

/// A range of one `memory@...` node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// What it is.
    pub kind: MemoryKind,
    /// Its pages.
    pub range: PageRange,
}

/// The GICv3, where the manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterruptController {
    /// Distributor regions, at least one.
    pub distributors: Vec<PageRange>,
    /// Redistributor regions, at least one.
    pub redistributors: Vec<PageRange>,
}

impl SpmcManifest {
    /// Reads the SPMC manifest from `blob`, which starts with a device tree and may be longer than it.
    ///
    /// Returns `None` after adding at least one error to `report`: the SPMC cannot boot.
    #[inline(never)]
    #[must_use]
    pub fn parse(blob: &[u8], report: &mut Report) -> Option<Self> {
        let mut sink = Sink::new(None, report);
        let root = Node::root(blob, &mut sink)?;
        root::parse(&root, &mut sink)
    }

    /// The ranges of memory of one kind.
    pub fn ranges(&self, kind: MemoryKind) -> impl Iterator<Item = PageRange> + '_ {
        self.memory
            .iter()
            .filter(move |memory| memory.kind == kind)
            .map(|memory| memory.range)
    }
}
