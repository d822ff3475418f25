//! The SPMC's own manifest: compatible with `arm,ffa-core-manifest-1.0`, in the layout of TF-A's and Hafnium's users.

use super::Report;
use crate::addr::{PageRange, PhysAddr};
use crate::id::SpId;
use alloc::string::String;
use alloc::vec::Vec;
use arm_ffa::Version;

/// Most `vmN` nodes that are read.
pub const MAX_PARTITIONS: usize = 256;
/// Most `cpu` nodes that are read.
pub const MAX_CPUS: usize = 512;
/// Most ranges of memory that are read, of all kinds together.
pub const MAX_MEMORY_RANGES: usize = 256;
/// Most SMC function ids in one `smc_whitelist`.
pub const MAX_SMC_WHITELIST: usize = 256;
/// Most distributor or redistributor regions.
pub const MAX_GIC_REGIONS: usize = 64;

/// The SPMC manifest, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpmcManifest {
    /// `/attribute`: what the SPMD was told about the SPMC.
    pub attribute: Attribute,
    /// `/hypervisor/vmN`, in order of N.
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
    pub spmc_id: u16,
    /// `maj_ver` and `min_ver`: the FF-A version that the SPMD shows for the SPMC.
    pub version: Version,
    /// `load_address`: base of the SPMC's image.
    pub load_address: Option<PhysAddr>,
    /// `binary_size`: bytes of the SPMC's image, page aligned or not.
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

/// One `/hypervisor/vmN` node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmEntry {
    /// N of `vmN`, at least 1.
    pub number: u16,
    /// The partition's id: 0x8000 + N.
    pub id: SpId,
    /// `debug_name`, at most 63 printable characters.
    pub name: String,
    /// `is_ffa_partition`.
    pub is_ffa_partition: bool,
    /// `hyp_loaded`: there is no package, the SPMC is to load the partition itself.
    pub hyp_loaded: bool,
    /// `load_address` and `mem_size`: the partition's memory, package at its start. `None` when there is no
    /// `load_address` (its manifest must have one then).
    pub memory: Option<PageRange>,
    /// `mem_size` in bytes, a multiple of the page size.
    pub mem_size: u64,
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
    #[must_use]
    pub fn parse(blob: &[u8], report: &mut Report) -> Option<Self> {
        let _ = (blob, report);
        None
    }

    /// The ranges of memory of one kind.
    pub fn ranges(&self, kind: MemoryKind) -> impl Iterator<Item = PageRange> + '_ {
        self.memory.iter().filter(move |memory| memory.kind == kind).map(|memory| memory.range)
    }
}
