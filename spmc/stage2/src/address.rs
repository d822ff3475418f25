//! Addresses, ranges and sizes of the translation.

/// Bytes in a page, the smallest unit of translation.
pub const PAGE_SIZE: u64 = 0x1000;

/// Output addresses are below this: 48 bits, the most without `FEAT_LPA`.
const OUTPUT_LIMIT: u64 = 1 << 48;

/// Intermediate physical address: what a partition's stage 1 produces, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipa(pub u64);

/// Physical address that a page or block translates to, in bytes.
///
/// Which physical address space it lies in (secure or non-secure) is a matter of the tables' register, not of a
/// descriptor: `VSTCR_EL2.SA` for the secure IPA space, `VTCR_EL2.NSA` for the non-secure one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputAddress(pub u64);

impl OutputAddress {
    /// Whether `bytes` bytes from here on can be the output of page descriptors: aligned to a page, below 2^48.
    pub(crate) const fn is_valid_for(self, bytes: u64) -> bool {
        self.0 & (PAGE_SIZE - 1) == 0
            && match self.0.checked_add(bytes) {
                Some(end) => end <= OUTPUT_LIMIT,
                None => false,
            }
    }
}

/// A range of pages of the IPA space: aligned to pages, never empty, never wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpaRange {
    start: u64,
    end: u64,
}

impl IpaRange {
    /// `pages` pages from `start` on. `None` when `start` is not aligned to a page, `pages` is 0, or the end is above
    /// 2^64 - 4096.
    #[must_use]
    pub const fn new(start: Ipa, pages: u64) -> Option<Self> {
        let Some(bytes) = pages.checked_mul(PAGE_SIZE) else {
            return None;
        };
        let Some(end) = start.0.checked_add(bytes) else {
            return None;
        };
        if pages == 0 || start.0 & (PAGE_SIZE - 1) != 0 {
            return None;
        }
        Some(Self { start: start.0, end })
    }

    /// A range that the crate itself cuts out of a valid one.
    pub(crate) const fn cut(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// First address.
    #[must_use]
    pub const fn start(self) -> Ipa {
        Ipa(self.start)
    }

    /// First address behind the range, in bytes.
    #[must_use]
    pub const fn end(self) -> Ipa {
        Ipa(self.end)
    }

    /// Length in pages, at least 1.
    #[must_use]
    pub const fn pages(self) -> u64 {
        self.bytes() / PAGE_SIZE
    }

    /// Length in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.end.wrapping_sub(self.start)
    }

    /// Whether `ipa` lies in the range.
    #[must_use]
    pub const fn contains(self, ipa: Ipa) -> bool {
        self.start <= ipa.0 && ipa.0 < self.end
    }
}

/// Size of an IPA space, which decides the level of the root table (one page, never concatenated).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpaSize {
    /// 39 bits (512 GiB), root at level 1.
    Bits39,
    /// 48 bits (256 TiB), root at level 0. Only where `ID_AA64MMFR0_EL1.PARange` is 44 bits or more.
    Bits48,
}

impl IpaSize {
    /// Address bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bits39 => 39,
            Self::Bits48 => 48,
        }
    }

    /// First address above the space, in bytes.
    #[must_use]
    pub const fn limit(self) -> Ipa {
        Ipa(1_u64.wrapping_shl(self.bits()))
    }

    /// Level of the root table.
    #[must_use]
    pub const fn root_level(self) -> Level {
        match self {
            Self::Bits39 => Level::One,
            Self::Bits48 => Level::Zero,
        }
    }
}

/// Level of a table or of the descriptors in it (D8.2.7). Its value is the lowest address bit that selects an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Level {
    /// 512 GiB an entry, tables only.
    Zero = 39,
    /// 1 GiB an entry.
    One = 30,
    /// 2 MiB an entry.
    Two = 21,
    /// 4 KiB an entry, pages only.
    Three = 12,
}

impl Level {
    /// The level's number, 0 to 3.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Zero => 0,
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    /// Lowest address bit that selects an entry.
    #[inline]
    pub(crate) const fn shift(self) -> u32 {
        self as u32
    }

    /// Whether entries of this level are smaller than those of `other`.
    #[inline]
    pub(crate) const fn is_finer_than(self, other: Self) -> bool {
        self.shift() < other.shift()
    }

    /// Bytes that one entry translates.
    #[must_use]
    #[inline]
    pub const fn size(self) -> u64 {
        1_u64.wrapping_shl(self.shift())
    }

    /// The level of the tables that entries of this level point to; level 3 for itself, which has none.
    #[inline]
    pub(crate) const fn below(self) -> Self {
        match self {
            Self::Zero => Self::One,
            Self::One => Self::Two,
            Self::Two | Self::Three => Self::Three,
        }
    }

    /// Index of the entry for `ipa`, below 512.
    #[inline]
    pub(crate) const fn index(self, ipa: u64) -> usize {
        (ipa.wrapping_shr(self.shift()) & 511) as usize
    }

    /// Start of the entry that `ipa` lies in.
    #[inline]
    pub(crate) const fn floor(self, ipa: u64) -> u64 {
        ipa & !self.size().wrapping_sub(1)
    }

    /// Whether `address` is a multiple of an entry's size.
    #[inline]
    pub(crate) const fn aligned(self, address: u64) -> bool {
        address & self.size().wrapping_sub(1) == 0
    }

    /// The coarsest level at which `address` is the start of an entry.
    pub(crate) const fn of_boundary(address: u64) -> Self {
        if !Self::Two.aligned(address) {
            Self::Three
        } else if !Self::One.aligned(address) {
            Self::Two
        } else if !Self::Zero.aligned(address) {
            Self::One
        } else {
            Self::Zero
        }
    }
}
