//! Identifiers of endpoints, execution contexts, PEs and translation regimes.
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

use core::fmt;

/// A 16-bit FF-A endpoint id (FF-A 1.2, "Partition identification and discovery"). Bit 15 set means the secure world.
///
/// Any 16-bit value can be one: whether an endpoint with that id exists, and who may claim it, is checked elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct EndpointId(u16);

impl EndpointId {
    /// The normal world's hypervisor, or its only OS when there is no hypervisor.
    pub const HYPERVISOR: Self = Self(0);
    /// The normal world as one endpoint: the same id as [`Self::HYPERVISOR`].
    pub const NWD: Self = Self::HYPERVISOR;
    /// The SPMC itself.
    pub const SPMC: Self = Self(0x8000);
    /// The SPMD at EL3.
    pub const SPMD: Self = Self(0xffff);
    /// The first id of EL3's logical partitions.
    pub const EL3_LOGICAL_FIRST: Self = Self(0xffc0);
    /// The last id of EL3's logical partitions.
    pub const EL3_LOGICAL_LAST: Self = Self(0xfffe);

    /// Bit 15: the endpoint is in the secure world.
    const SECURE: u16 = 0x8000;

    /// Wraps a raw id.
    #[must_use]
    pub const fn new(raw: u16) -> Self {
        Self(raw)
    }

    /// The raw id.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Whether the id belongs to the secure world.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        self.0 & Self::SECURE != 0
    }

    /// Whether the id is one of EL3's logical partitions.
    #[must_use]
    pub const fn is_el3_logical(self) -> bool {
        Self::EL3_LOGICAL_FIRST.0 <= self.0 && self.0 <= Self::EL3_LOGICAL_LAST.0
    }
}

// Numbers are shown as 64-bit ones here and elsewhere: the code that shows a number is there once for each type.
impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", u64::from(self.0))
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointId({:#06x})", u64::from(self.0))
    }
}

/// The id of a partition that this SPMC runs: secure, and none of SPMC, SPMD or EL3's logical partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SpId(EndpointId);

impl SpId {
    /// The lowest id that a partition can have.
    pub const FIRST: Self = Self(EndpointId(0x8001));
    /// The highest id that a partition can have.
    pub const LAST: Self = Self(EndpointId(EndpointId::EL3_LOGICAL_FIRST.0 - 1));

    /// The partition id `raw`, or `None` when `raw` is outside 0x8001-0xffbf.
    #[must_use]
    pub const fn new(raw: u16) -> Option<Self> {
        if Self::FIRST.0.0 <= raw && raw <= Self::LAST.0.0 {
            Some(Self(EndpointId(raw)))
        } else {
            None
        }
    }

    /// The id of the partition that the SPMC manifest calls `vm<number>`: 0x8000 + number. `None` for 0 and for
    /// numbers whose id would be outside 0x8001-0xffbf.
    #[must_use]
    pub const fn from_vm_number(number: u16) -> Option<Self> {
        match EndpointId::SECURE.checked_add(number) {
            Some(raw) => Self::new(raw),
            None => None,
        }
    }

    /// The id as any endpoint's.
    #[must_use]
    pub const fn endpoint(self) -> EndpointId {
        self.0
    }

    /// The raw id.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0.0
    }
}

impl From<SpId> for EndpointId {
    fn from(id: SpId) -> Self {
        id.0
    }
}

impl TryFrom<EndpointId> for SpId {
    type Error = EndpointId;

    fn try_from(id: EndpointId) -> Result<Self, EndpointId> {
        Self::new(id.0).ok_or(id)
    }
}

impl fmt::Display for SpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a normal-world endpoint: the hypervisor (or only OS), or one of its VMs. Bit 15 is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VmId(EndpointId);

impl VmId {
    /// The hypervisor or only OS.
    pub const HYPERVISOR: Self = Self(EndpointId::HYPERVISOR);

    /// The VM id `raw`, or `None` when bit 15 says that it is a secure endpoint.
    #[must_use]
    pub const fn new(raw: u16) -> Option<Self> {
        if EndpointId(raw).is_secure() {
            None
        } else {
            Some(Self(EndpointId(raw)))
        }
    }

    /// The id as any endpoint's.
    #[must_use]
    pub const fn endpoint(self) -> EndpointId {
        self.0
    }

    /// The raw id.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0.0
    }
}

impl From<VmId> for EndpointId {
    fn from(id: VmId) -> Self {
        id.0
    }
}

impl TryFrom<EndpointId> for VmId {
    type Error = EndpointId;

    fn try_from(id: EndpointId) -> Result<Self, EndpointId> {
        Self::new(id.0).ok_or(id)
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! index {
    ($(#[$meta:meta])* $name:ident, $format:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u16);

        impl $name {
            /// Wraps a raw number.
            #[must_use]
            pub const fn new(raw: u16) -> Self {
                Self(raw)
            }

            /// The raw number.
            #[must_use]
            pub const fn as_u16(self) -> u16 {
                self.0
            }

            /// The number as an index into a slice.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, u64::from(self.0))
            }
        }
    };
}

index! {
    /// The number of an execution context (vCPU) within its partition.
    VcpuIndex, "{}"
}

index! {
    /// The linear number of a PE (core): what TF-A passes in x4.
    PeIndex, "{}"
}

index! {
    /// A VMID, the tag of a partition's stage-2 translations in the TLB.
    Vmid, "{:#06x}"
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;

    #[test]
    fn bit_15_is_the_secure_world() {
        assert!(EndpointId::SPMC.is_secure() && EndpointId::SPMD.is_secure());
        assert!(!EndpointId::NWD.is_secure() && !EndpointId::new(0x7fff).is_secure());
    }

    #[test]
    fn el3_logical_partitions_are_between_0xffc0_and_0xfffe() {
        let is = |raw| EndpointId::new(raw).is_el3_logical();
        assert_eq!(
            [is(0xffbf), is(0xffc0), is(0xfffe), is(0xffff)],
            [false, true, true, false]
        );
    }

    #[test]
    fn partition_ids_exclude_the_reserved_ones() {
        let ok = |raw| SpId::new(raw).is_some();
        assert_eq!(
            [ok(0x8000), ok(0x8001), ok(0xffbf), ok(0xffc0), ok(0x7fff), ok(0)],
            [false, true, true, false, false, false]
        );
        assert_eq!(SpId::try_from(EndpointId::SPMD), Err(EndpointId::SPMD));
    }

    #[test]
    fn vm_numbers_give_hafniums_ids() {
        assert_eq!(SpId::from_vm_number(0), None);
        assert_eq!(SpId::from_vm_number(1).map(SpId::as_u16), Some(0x8001));
        assert_eq!(SpId::from_vm_number(0x7fbf).map(SpId::as_u16), Some(0xffbf));
        assert_eq!(SpId::from_vm_number(0x7fc0), None);
        assert_eq!(SpId::from_vm_number(0xffff), None);
    }

    #[test]
    fn normal_world_ids_have_bit_15_clear() {
        assert!(VmId::new(0x7fff).is_some() && VmId::new(0x8000).is_none());
        assert_eq!(EndpointId::from(VmId::HYPERVISOR), EndpointId::NWD);
        assert_eq!(VmId::try_from(EndpointId::SPMC), Err(EndpointId::SPMC));
    }

    #[test]
    fn ids_print_in_hex() {
        assert_eq!(EndpointId::new(1).to_string(), "0x0001");
        assert_eq!(SpId::FIRST.to_string(), "0x8001");
        assert_eq!(Vmid::new(3).to_string(), "0x0003");
        assert_eq!(VcpuIndex::new(3).to_string(), "3");
    }
}
