//! Addresses, pages and page ranges.
//!
//! Every kind of address has its own type, so that an address of the normal world's choice, a partition's
//! intermediate physical address and a physical address cannot be mixed up. All arithmetic is checked: an address that
//! would wrap is `None` or an error, never a small number.
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

/// Bytes in a page. The SPMC and its partitions use the 4 KiB translation granule only.
pub const PAGE_SIZE: u64 = 4096;

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

/// Number of address bits that a page range may use: the largest physical address without FEAT_LPA.
pub const ADDRESS_BITS: u32 = 48;

/// First address that is beyond [`ADDRESS_BITS`].
pub const ADDRESS_LIMIT: u64 = 1 << ADDRESS_BITS;

/// Mask of the bits below a page.
const PAGE_MASK: u64 = PAGE_SIZE - 1;

/// Whether `value` is a multiple of [`PAGE_SIZE`].
#[must_use]
pub const fn is_page_aligned(value: u64) -> bool {
    value & PAGE_MASK == 0
}

/// Number of pages that `bytes` take, rounded up. Cannot overflow.
#[must_use]
pub const fn pages_for(bytes: u64) -> u64 {
    (bytes >> PAGE_SHIFT).saturating_add((bytes & PAGE_MASK != 0) as u64)
}

/// The physical address space that an address or an access belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum World {
    /// The secure physical address space.
    Secure,
    /// The non-secure physical address space.
    NonSecure,
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secure => "secure",
            Self::NonSecure => "non-secure",
        })
    }
}

/// Why a range of pages cannot be formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// The base, or the size in bytes, is not a multiple of [`PAGE_SIZE`].
    Misaligned,
    /// The range holds no page.
    Empty,
    /// The range wraps, or ends beyond [`ADDRESS_LIMIT`].
    OutOfRange,
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Misaligned => "is not a multiple of the page size 0x1000",
            Self::Empty => "holds no page",
            Self::OutOfRange => "ends beyond the 48-bit address space",
        })
    }
}

macro_rules! address {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a raw address. Nothing is checked: an address alone gives no right to use it.
            #[must_use]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The raw address.
            #[must_use]
            pub const fn as_u64(self) -> u64 {
                self.0
            }

            /// Whether the address is a multiple of [`PAGE_SIZE`].
            #[must_use]
            pub const fn is_page_aligned(self) -> bool {
                is_page_aligned(self.0)
            }

            /// The first address of the page that holds this one.
            #[must_use]
            pub const fn page_base(self) -> Self {
                Self(self.0 & !PAGE_MASK)
            }

            /// The offset in bytes within the page, less than [`PAGE_SIZE`].
            #[must_use]
            pub const fn page_offset(self) -> u64 {
                self.0 & PAGE_MASK
            }

            /// The address `bytes` further on, or `None` if that wraps.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// The distance in bytes from `base` to this address, or `None` if this one lies below.
            #[must_use]
            pub const fn offset_from(self, base: Self) -> Option<u64> {
                self.0.checked_sub(base.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// A physical address. Which of the two physical address spaces it lies in is said by a [`World`] beside it.
    PhysAddr
}

address! {
    /// An intermediate physical address: what a partition believes to be physical, translated by stage 2.
    Ipa
}

address! {
    /// A virtual address of the SPMC's own stage-1 translation.
    VirtAddr
}

macro_rules! page_range {
    ($(#[$meta:meta])* $name:ident of $addr:ident) => {
        $(#[$meta])*
        ///
        /// Invariant: `base` is page aligned, `pages` is at least 1, and `base + pages * PAGE_SIZE` does not exceed
        /// [`ADDRESS_LIMIT`]. Every constructor checks it, so that all further arithmetic is free of overflow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            base: u64,
            end: u64,
        }

        impl $name {
            /// The range of `pages` pages from `base`.
            ///
            /// # Errors
            ///
            /// A misaligned base, no page at all, or an end beyond [`ADDRESS_LIMIT`].
            pub const fn new(base: $addr, pages: u64) -> Result<Self, RangeError> {
                match pages.checked_mul(PAGE_SIZE) {
                    Some(bytes) => Self::from_bytes(base, bytes),
                    None => Err(RangeError::OutOfRange),
                }
            }

            /// The range of `bytes` bytes from `base`.
            ///
            /// # Errors
            ///
            /// As [`Self::new`]; also when `bytes` is not a multiple of [`PAGE_SIZE`].
            pub const fn from_bytes(base: $addr, bytes: u64) -> Result<Self, RangeError> {
                let base = base.as_u64();
                if !is_page_aligned(base) || !is_page_aligned(bytes) {
                    return Err(RangeError::Misaligned);
                }
                if bytes == 0 {
                    return Err(RangeError::Empty);
                }
                match base.checked_add(bytes) {
                    Some(end) if end <= ADDRESS_LIMIT => Ok(Self { base, end }),
                    _ => Err(RangeError::OutOfRange),
                }
            }

            /// The first address of the range.
            #[must_use]
            pub const fn base(&self) -> $addr {
                $addr::new(self.base)
            }

            /// The first address after the range.
            #[must_use]
            pub const fn end(&self) -> $addr {
                $addr::new(self.end)
            }

            /// The last byte of the range.
            #[must_use]
            pub const fn last(&self) -> $addr {
                $addr::new(self.end.saturating_sub(1))
            }

            /// Bytes in the range, a multiple of [`PAGE_SIZE`], never 0.
            #[must_use]
            pub const fn bytes(&self) -> u64 {
                self.end.saturating_sub(self.base)
            }

            /// Pages in the range, never 0.
            #[must_use]
            pub const fn pages(&self) -> u64 {
                self.bytes() >> PAGE_SHIFT
            }

            /// Whether `address` lies in the range.
            #[must_use]
            pub const fn contains(&self, address: $addr) -> bool {
                self.base <= address.as_u64() && address.as_u64() < self.end
            }

            /// Whether all of `other` lies in this range.
            #[must_use]
            pub const fn contains_range(&self, other: &Self) -> bool {
                self.base <= other.base && other.end <= self.end
            }

            /// Whether the two ranges have a page in common.
            #[must_use]
            pub const fn overlaps(&self, other: &Self) -> bool {
                self.base < other.end && other.base < self.end
            }

            /// The pages that both ranges have, or `None` when they have none in common.
            #[must_use]
            pub const fn intersection(&self, other: &Self) -> Option<Self> {
                let base = if self.base > other.base { self.base } else { other.base };
                let end = if self.end < other.end { self.end } else { other.end };
                if base < end { Some(Self { base, end }) } else { None }
            }

            /// The base address of each page, in ascending order.
            pub fn page_addresses(&self) -> impl Iterator<Item = $addr> + use<> {
                let base = self.base;
                (0..self.pages()).map(move |page| $addr::new(base.saturating_add(page << PAGE_SHIFT)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}-{:#x}", self.base, self.last().as_u64())
            }
        }
    };
}

page_range! {
    /// A range of physical pages.
    PageRange of PhysAddr
}

page_range! {
    /// A range of pages of intermediate physical addresses.
    IpaRange of Ipa
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn range(base: u64, pages: u64) -> PageRange {
        PageRange::new(PhysAddr::new(base), pages).unwrap()
    }

    #[test]
    fn addresses_know_their_page() {
        let address = PhysAddr::new(0x1234_5678);
        assert!(!address.is_page_aligned());
        assert_eq!(address.page_base(), PhysAddr::new(0x1234_5000));
        assert_eq!(address.page_offset(), 0x678);
        assert!(address.page_base().is_page_aligned());
        assert_eq!(std::format!("{address} {address:?}"), "0x12345678 PhysAddr(0x12345678)");
    }

    #[test]
    fn address_arithmetic_is_checked() {
        assert_eq!(Ipa::new(u64::MAX).checked_add(1), None);
        assert_eq!(Ipa::new(1).checked_add(1), Some(Ipa::new(2)));
        assert_eq!(VirtAddr::new(1).offset_from(VirtAddr::new(2)), None);
        assert_eq!(VirtAddr::new(5).offset_from(VirtAddr::new(2)), Some(3));
    }

    #[test]
    fn pages_for_rounds_up() {
        assert_eq!(pages_for(0), 0);
        assert_eq!(pages_for(1), 1);
        assert_eq!(pages_for(4096), 1);
        assert_eq!(pages_for(4097), 2);
        assert_eq!(pages_for(u64::MAX), 1 << 52);
    }

    #[test]
    fn ranges_that_cannot_be_are_refused() {
        let new = |base, pages| PageRange::new(PhysAddr::new(base), pages);
        assert_eq!(new(1, 1), Err(RangeError::Misaligned));
        assert_eq!(new(0, 0), Err(RangeError::Empty));
        assert_eq!(new(0x1000, u64::MAX), Err(RangeError::OutOfRange));
        assert_eq!(new(!0xfff, 1), Err(RangeError::OutOfRange));
        assert_eq!(new(ADDRESS_LIMIT, 1), Err(RangeError::OutOfRange));
        assert_eq!(new(0, (ADDRESS_LIMIT >> PAGE_SHIFT) + 1), Err(RangeError::OutOfRange));
        assert_eq!(
            PageRange::from_bytes(PhysAddr::new(0), 0x1001),
            Err(RangeError::Misaligned)
        );
        assert!(new(0, ADDRESS_LIMIT >> PAGE_SHIFT).is_ok());
        assert!(new(ADDRESS_LIMIT - PAGE_SIZE, 1).is_ok());
    }

    #[test]
    fn range_accessors() {
        let r = range(0x2000, 3);
        assert_eq!(
            (r.base(), r.end(), r.last()),
            (PhysAddr::new(0x2000), PhysAddr::new(0x5000), PhysAddr::new(0x4fff))
        );
        assert_eq!((r.bytes(), r.pages()), (0x3000, 3));
        assert!(r.contains(PhysAddr::new(0x2000)) && r.contains(PhysAddr::new(0x4fff)));
        assert!(!r.contains(PhysAddr::new(0x1fff)) && !r.contains(PhysAddr::new(0x5000)));
        assert_eq!(std::format!("{r}"), "0x2000-0x4fff");
        let pages: std::vec::Vec<_> = r.page_addresses().map(PhysAddr::as_u64).collect();
        assert_eq!(pages, [0x2000, 0x3000, 0x4000]);
    }

    #[test]
    fn overlap_and_intersection_agree() {
        let a = range(0x2000, 2);
        for (base, pages, common) in [
            (0x0, 2, None),
            (0x1000, 2, Some((0x2000, 1))),
            (0x3000, 9, Some((0x3000, 1))),
            (0x4000, 1, None),
        ] {
            let b = range(base, pages);
            assert_eq!(a.intersection(&b), common.map(|(base, pages)| range(base, pages)));
            assert_eq!(a.intersection(&b), b.intersection(&a));
            assert_eq!(a.overlaps(&b), common.is_some());
        }
        assert!(a.contains_range(&range(0x3000, 1)));
        assert!(!a.contains_range(&range(0x3000, 2)));
    }
}
