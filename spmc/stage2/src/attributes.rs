//! Attributes of a mapping, held in the encoding of stage-2 descriptors (D8.3.2), without `FEAT_S2FWB`.

use core::fmt;

/// Descriptor bits that [`Attributes`] may have: MemAttr, S2AP, SH, AF, XN, software.
pub(crate) const ATTRIBUTE_BITS: u64 = MEM_ATTR | S2AP | SH | AF | XN | STATE;
const MEM_ATTR: u64 = 0xf << 2;
pub(crate) const S2AP: u64 = 0b11 << 6;
const SH: u64 = 0b11 << 8;
pub(crate) const AF: u64 = 1 << 10;
pub(crate) const XN: u64 = 0b11 << 53;
/// Software bits that hold the ownership. Bit 58, the fourth, stays clear.
pub(crate) const STATE: u64 = 0b111 << 55;

/// Memory type that stage 2 asks for; combined with stage 1's, the stricter wins (D8.6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryType {
    /// Device-nGnRnE.
    DeviceNGnRnE,
    /// Device-nGnRE.
    DeviceNGnRE,
    /// Device-nGRE.
    DeviceNGRE,
    /// Device-GRE.
    DeviceGRE,
    /// Normal, inner and outer non-cacheable.
    NormalNonCacheable,
    /// Normal, inner and outer write-through.
    NormalWriteThrough,
    /// Normal, inner and outer write-back.
    NormalWriteBack,
}

impl MemoryType {
    /// Whether it is one of the Device types.
    #[must_use]
    pub const fn is_device(self) -> bool {
        matches!(
            self,
            Self::DeviceNGnRnE | Self::DeviceNGnRE | Self::DeviceNGRE | Self::DeviceGRE
        )
    }

    /// `MemAttr[3:0]`.
    const fn bits(self) -> u64 {
        match self {
            Self::DeviceNGnRnE => 0b0000,
            Self::DeviceNGnRE => 0b0001,
            Self::DeviceNGRE => 0b0010,
            Self::DeviceGRE => 0b0011,
            Self::NormalNonCacheable => 0b0101,
            Self::NormalWriteThrough => 0b1010,
            Self::NormalWriteBack => 0b1111,
        }
    }
}

/// Shareability of Normal memory; ignored for Device and for non-cacheable memory, which are outer shareable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shareability {
    /// Non-shareable.
    None,
    /// Outer shareable.
    Outer,
    /// Inner shareable.
    Inner,
}

impl Shareability {
    /// `SH[1:0]`.
    const fn bits(self) -> u64 {
        match self {
            Self::None => 0b00,
            Self::Outer => 0b10,
            Self::Inner => 0b11,
        }
    }
}

/// Data access that stage 2 permits (S2AP).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// None: the mapping only holds the place.
    None,
    /// Reads.
    ReadOnly,
    /// Writes, but no reads.
    WriteOnly,
    /// Reads and writes.
    ReadWrite,
}

impl Access {
    /// `S2AP[1:0]`.
    const fn bits(self) -> u64 {
        match self {
            Self::None => 0b00,
            Self::ReadOnly => 0b01,
            Self::WriteOnly => 0b10,
            Self::ReadWrite => 0b11,
        }
    }
}

/// Instruction fetches that stage 2 permits (`XN[1:0]`).
///
/// [`Execute::El0`] and [`Execute::El1`] exist only with `FEAT_XNX`. Without it `XN[0]` is RES0 and `XN[1]` alone forbids:
/// pass what is asked for through [`Execute::without_xnx`] there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Execute {
    /// At no exception level.
    Never,
    /// At EL0 and EL1.
    Always,
    /// At EL0 only (`FEAT_XNX`).
    El0,
    /// At EL1 only (`FEAT_XNX`).
    El1,
}

impl Execute {
    /// `XN[1:0]`.
    const fn bits(self) -> u64 {
        match self {
            Self::Always => 0b00,
            Self::El0 => 0b01,
            Self::Never => 0b10,
            Self::El1 => 0b11,
        }
    }

    /// What a PE without `FEAT_XNX` can say: execution at one exception level becomes execution at both, since forbidding
    /// it would break the partition, whose stage 1 can still forbid the other level.
    #[must_use]
    pub const fn without_xnx(self) -> Self {
        match self {
            Self::Never => Self::Never,
            Self::Always | Self::El0 | Self::El1 => Self::Always,
        }
    }
}

/// Whose a page is and what became of it, from the point of view of the partition whose tables say so.
///
/// Kept in software bits 55-57 of the descriptor, in invalid ones too. The hardware ignores it; its meaning is the
/// policy's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ownership {
    /// Nothing is known: never mapped, or no longer the partition's business.
    #[default]
    None = 0,
    /// Owned, and nobody else has access.
    Owned = 1,
    /// Owned, shared with others, still accessible here.
    Shared = 2,
    /// Owned, lent to others, not accessible here.
    Lent = 3,
    /// Was owned, given away in a donation that its receiver has not completed.
    Donated = 4,
    /// Not owned: somebody shared or lent it.
    Borrowed = 5,
    /// Owned, in use as an RX or TX buffer: must not be given away.
    Buffer = 6,
    /// Owned by several from the start, a device that their manifests share: must not be given away.
    Device = 7,
}

impl Ownership {
    const ALL: [Self; 8] = [
        Self::None,
        Self::Owned,
        Self::Shared,
        Self::Lent,
        Self::Donated,
        Self::Borrowed,
        Self::Buffer,
        Self::Device,
    ];

    /// The bits of a descriptor that say so.
    pub(crate) const fn bits(self) -> u64 {
        (self as u64) << 55
    }

    /// What the bits of a descriptor say.
    pub(crate) const fn of(descriptor: u64) -> Self {
        match (descriptor >> 55) & 0b111 {
            0 => Self::None,
            1 => Self::Owned,
            2 => Self::Shared,
            3 => Self::Lent,
            4 => Self::Donated,
            5 => Self::Borrowed,
            6 => Self::Buffer,
            _ => Self::Device,
        }
    }

    /// Every value, in the order of their encoding.
    #[must_use]
    pub const fn all() -> [Self; 8] {
        Self::ALL
    }
}

/// Attributes of a page or block: memory type, shareability, access, execution, ownership.
///
/// The access flag is always set (no access-flag faults), dirty-bit management and the contiguous hint never.
/// Stage-2 descriptors have no NS bit: see [`OutputAddress`](crate::OutputAddress).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attributes(u64);

impl Attributes {
    /// Attributes of memory that is inner shareable when Normal, and outer shareable when Device.
    #[must_use]
    pub const fn new(memory: MemoryType, access: Access, execute: Execute, ownership: Ownership) -> Self {
        let shareability = if memory.is_device() {
            Shareability::Outer
        } else {
            Shareability::Inner
        };
        Self(
            memory.bits() << 2
                | access.bits() << 6
                | shareability.bits() << 8
                | AF
                | execute.bits() << 53
                | ownership.bits(),
        )
    }

    /// The attributes in a valid or suspended descriptor.
    pub(crate) const fn of(descriptor: u64) -> Self {
        Self(descriptor & ATTRIBUTE_BITS)
    }

    /// Descriptor bits.
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The same with another shareability.
    #[must_use]
    pub const fn with_shareability(self, shareability: Shareability) -> Self {
        Self(self.0 & !SH | shareability.bits() << 8)
    }

    /// The same with other permissions.
    #[must_use]
    pub const fn with_permissions(self, access: Access, execute: Execute) -> Self {
        Self(self.0 & !(S2AP | XN) | access.bits() << 6 | execute.bits() << 53)
    }

    /// The same with another ownership.
    #[must_use]
    pub const fn with_ownership(self, ownership: Ownership) -> Self {
        Self(self.0 & !STATE | ownership.bits())
    }

    /// Memory type.
    #[must_use]
    pub const fn memory(self) -> MemoryType {
        match (self.0 >> 2) & 0xf {
            0b1111 => MemoryType::NormalWriteBack,
            0b1010 => MemoryType::NormalWriteThrough,
            0b0101 => MemoryType::NormalNonCacheable,
            0b0011 => MemoryType::DeviceGRE,
            0b0010 => MemoryType::DeviceNGRE,
            0b0001 => MemoryType::DeviceNGnRE,
            _ => MemoryType::DeviceNGnRnE,
        }
    }

    /// Shareability.
    #[must_use]
    pub const fn shareability(self) -> Shareability {
        match (self.0 >> 8) & 0b11 {
            0b10 => Shareability::Outer,
            0b11 => Shareability::Inner,
            _ => Shareability::None,
        }
    }

    /// Data access.
    #[must_use]
    pub const fn access(self) -> Access {
        match (self.0 >> 6) & 0b11 {
            0b00 => Access::None,
            0b01 => Access::ReadOnly,
            0b10 => Access::WriteOnly,
            _ => Access::ReadWrite,
        }
    }

    /// Instruction fetches.
    #[must_use]
    pub const fn execute(self) -> Execute {
        match (self.0 >> 53) & 0b11 {
            0b00 => Execute::Always,
            0b01 => Execute::El0,
            0b10 => Execute::Never,
            _ => Execute::El1,
        }
    }

    /// Ownership.
    #[must_use]
    pub const fn ownership(self) -> Ownership {
        Ownership::of(self.0)
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attributes")
            .field("memory", &self.memory())
            .field("shareability", &self.shareability())
            .field("access", &self.access())
            .field("execute", &self.execute())
            .field("ownership", &self.ownership())
            .finish()
    }
}
