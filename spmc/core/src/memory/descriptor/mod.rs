//! Memory transaction descriptors (FF-A 1.2, "Memory transaction descriptor", "Endpoint memory access descriptor",
//! "Composite memory region descriptor", "Constituent memory region descriptor").
//!
//! | part | bytes in 1.0 | in 1.1 | in 1.2 |
//! | --- | --- | --- | --- |
//! | header | 32 | 48 | 48 |
//! | endpoint memory access descriptor (EMAD), one a borrower | 16 | 16 | 32, with 16 that pass through |
//! | composite header: numbers of pages and of address ranges | 16 | 16 | 16 |
//! | constituent, one an address range | 16 | 16 | 16 |
//!
//! From 1.1 on the header says where the EMADs are and how long each is; either length is understood then. They must follow
//! the header, the composite header must follow them, and the constituents it, each on a multiple of 16 bytes: so that a
//! descriptor can be read once, in order (`Reader`), from a buffer that its owner may be changing.

mod reader;

pub use reader::Buffer;
pub(super) use reader::{Block, Reader, Writer};

use crate::{
    abi::{FfaError, V1_1, V1_2, Version},
    addr::{ADDRESS_LIMIT, PAGE_SIZE},
    id::EndpointId,
    machine::Machine,
    memory::share::Range,
};

/// Bytes of a constituent, of the composite header, and of a short EMAD: every part is a multiple of it.
pub const UNIT: u32 = 16;
/// Bytes of an EMAD of FF-A 1.2.
const LONG_EMAD: u32 = 32;
/// Bytes of the header of FF-A 1.0.
const SHORT_HEADER: u32 = 32;
/// Bytes of the header since FF-A 1.1.
const HEADER: u32 = 48;
/// As many borrowers as there can be partitions.
pub const MAX_BORROWERS: u32 = 255;

/// The form that descriptors have for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// FF-A 1.0.
    V1_0,
    /// FF-A 1.1.
    V1_1,
    /// FF-A 1.2.
    V1_2,
}

impl Layout {
    /// The form for an endpoint that speaks `version`.
    #[must_use]
    pub fn of(version: Version) -> Self {
        if version < V1_1 {
            Self::V1_0
        } else if version < V1_2 {
            Self::V1_1
        } else {
            Self::V1_2
        }
    }

    /// Bytes of the header.
    #[must_use]
    pub const fn header_bytes(self) -> u32 {
        match self {
            Self::V1_0 => SHORT_HEADER,
            Self::V1_1 | Self::V1_2 => HEADER,
        }
    }

    /// Bytes of an EMAD.
    #[must_use]
    pub const fn emad_bytes(self) -> u32 {
        match self {
            Self::V1_0 | Self::V1_1 => UNIT,
            Self::V1_2 => LONG_EMAD,
        }
    }

    /// Bytes before the first constituent in a descriptor of ours with `emads` EMADs.
    #[must_use]
    pub const fn constituents_offset(self, emads: u32) -> u32 {
        self.composite_offset(emads).saturating_add(UNIT)
    }

    const fn composite_offset(self, emads: u32) -> u32 {
        self.header_bytes()
            .saturating_add(self.emad_bytes().saturating_mul(emads))
    }
}

/// Bits of a word from `shift` on, as many as the result has.
#[expect(clippy::cast_possible_truncation, reason = "a field is cut out")]
const fn half(word: u64, shift: u32) -> u32 {
    word.wrapping_shr(shift) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "a field is cut out")]
const fn quarter(word: u64, shift: u32) -> u16 {
    word.wrapping_shr(shift) as u16
}

#[expect(clippy::cast_possible_truncation, reason = "a field is cut out")]
const fn byte(word: u64, shift: u32) -> u8 {
    word.wrapping_shr(shift) as u8
}

/// The header of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose memory it is, or was.
    pub sender: EndpointId,
    /// Memory region attributes.
    pub attributes: u16,
    /// Flags.
    pub flags: u32,
    /// Handle; 0 in what a sender sends.
    pub handle: u64,
    /// A number of the sender's choice, that a borrower must know.
    pub tag: u64,
    /// Bytes of each EMAD.
    pub emad_bytes: u32,
    /// Number of EMADs.
    pub emads: u32,
    /// Where the EMADs are.
    pub emad_offset: u32,
}

impl Header {
    /// Reads the header of a descriptor in the form of `layout`; checks what does not depend on the call.
    ///
    /// # Errors
    /// `InvalidParameters`; those of [`Reader::block`].
    pub(super) fn read<M: Machine>(machine: &mut M, reader: &mut Reader, layout: Layout) -> Result<Self, FfaError> {
        let [first, handle] = reader.block(machine)?;
        let [tag, counts] = reader.block(machine)?;
        let mut header = Self {
            sender: EndpointId::new(quarter(first, 0)),
            attributes: quarter(first, 16),
            flags: half(first, 32),
            handle,
            tag,
            emad_bytes: half(counts, 0),
            emads: half(counts, 32),
            emad_offset: SHORT_HEADER,
        };
        if layout == Layout::V1_0 {
            // The place of the size is reserved, and so are attributes that no call knows in any version.
            if header.emad_bytes != 0 {
                return Err(FfaError::InvalidParameters);
            }
            header.emad_bytes = UNIT;
        } else {
            let [places, reserved] = reader.block(machine)?;
            if half(places, 32) != 0 || reserved != 0 {
                return Err(FfaError::InvalidParameters);
            }
            header.emad_offset = half(places, 0);
        }
        Ok(header)
    }

    /// Checks what is said of the EMADs, and goes where they are said to be. Whether they are there, whole blocks of them, the
    /// reader will find.
    ///
    /// # Errors
    /// `InvalidParameters`.
    pub(super) fn seek_emads(&self, reader: &mut Reader) -> Result<(), FfaError> {
        let known = matches!(self.emad_bytes, UNIT | LONG_EMAD);
        if !known || self.emads == 0 || self.emads > MAX_BORROWERS {
            return Err(FfaError::InvalidParameters);
        }
        reader.seek(self.emad_offset)
    }
}

/// An endpoint memory access descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emad {
    /// The borrower.
    pub borrower: EndpointId,
    /// Its permissions.
    pub permissions: u8,
    /// Flags.
    pub flags: u8,
    /// Where the composite header is; 0 when there is none.
    pub composite_offset: u32,
    /// What passes from sender to borrower as it is (FF-A 1.2).
    pub passed: Block,
}

impl Emad {
    /// Reads an EMAD of `bytes` bytes.
    ///
    /// # Errors
    /// `InvalidParameters`; those of [`Reader::block`].
    #[inline]
    pub(super) fn read<M: Machine>(machine: &mut M, reader: &mut Reader, bytes: u32) -> Result<Self, FfaError> {
        let [first, second] = reader.block(machine)?;
        let (passed, reserved) = if bytes == LONG_EMAD {
            let [third, fourth] = reader.block(machine)?;
            ([second, third], fourth)
        } else {
            ([0, 0], second)
        };
        if reserved != 0 {
            return Err(FfaError::InvalidParameters);
        }
        Ok(Self {
            borrower: EndpointId::new(quarter(first, 0)),
            permissions: byte(first, 16),
            flags: byte(first, 24),
            composite_offset: half(first, 32),
            passed,
        })
    }
}

/// The composite header: what the constituents add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Composite {
    /// Pages in all constituents.
    pub pages: u32,
    /// Number of constituents.
    pub constituents: u32,
}

impl Composite {
    /// Reads the composite header at `offset`, behind the EMADs of `header`, and checks that the descriptor, `total` bytes
    /// long, ends with the last constituent.
    ///
    /// # Errors
    /// `InvalidParameters`; those of [`Reader::block`].
    pub(super) fn read<M: Machine>(
        machine: &mut M,
        reader: &mut Reader,
        offset: u32,
        total: u32,
    ) -> Result<Self, FfaError> {
        reader.seek(offset)?;
        let [counts, reserved] = reader.block(machine)?;
        let composite = Self {
            pages: half(counts, 0),
            constituents: half(counts, 32),
        };
        let bytes = u64::from(composite.constituents).saturating_mul(u64::from(UNIT));
        let end = bytes.saturating_add(u64::from(reader.offset()));
        // Every constituent has a page at least.
        let plausible = composite.constituents != 0 && composite.constituents <= composite.pages;
        if reserved != 0 || !plausible || end != u64::from(total) {
            return Err(FfaError::InvalidParameters);
        }
        Ok(composite)
    }
}

/// A constituent: an address range.
///
/// # Errors
/// `InvalidParameters` for one that is not of whole pages below 2^48, is empty, or has reserved bits.
#[inline(always)]
pub(super) fn constituent([address, pages]: Block) -> Result<Range, FfaError> {
    // Of fewer than 2^32 pages from an address up to 2^48: the sum can't wrap.
    let end = address.wrapping_add(pages.wrapping_mul(PAGE_SIZE));
    let is_right = pages != 0 && pages >> 32 == 0 && address % PAGE_SIZE == 0 && address < ADDRESS_LIMIT;
    if !is_right || end > ADDRESS_LIMIT {
        return Err(FfaError::InvalidParameters);
    }
    // So large a range is nobody's.
    Range::new(address, pages).ok_or(FfaError::Denied)
}

/// Writes a header.
///
/// # Errors
/// Those of [`Writer::block`].
pub(super) fn write_header<M: Machine>(
    machine: &mut M,
    writer: &mut Writer,
    layout: Layout,
    header: &Header,
) -> Result<(), FfaError> {
    let first = u64::from(header.sender.as_u16()) | u64::from(header.attributes) << 16 | u64::from(header.flags) << 32;
    writer.block(machine, [first, header.handle])?;
    let count = u64::from(header.emads) << 32;
    match layout {
        Layout::V1_0 => writer.block(machine, [header.tag, count]),
        Layout::V1_1 | Layout::V1_2 => {
            writer.block(machine, [header.tag, count | u64::from(layout.emad_bytes())])?;
            writer.block(machine, [u64::from(layout.header_bytes()), 0])
        }
    }
}

/// Writes an EMAD, without flags: those in a response are MBZ.
///
/// # Errors
/// Those of [`Writer::block`].
pub(super) fn write_emad<M: Machine>(
    machine: &mut M,
    writer: &mut Writer,
    layout: Layout,
    emad: &Emad,
) -> Result<(), FfaError> {
    let first =
        u64::from(emad.borrower.as_u16()) | u64::from(emad.permissions) << 16 | u64::from(emad.composite_offset) << 32;
    let [second, third] = emad.passed;
    match layout {
        Layout::V1_0 | Layout::V1_1 => writer.block(machine, [first, 0]),
        Layout::V1_2 => {
            writer.block(machine, [first, second])?;
            writer.block(machine, [third, 0])
        }
    }
}

/// The composite header as a block.
pub(super) const fn composite_block(composite: Composite) -> Block {
    [composite.pages as u64 | (composite.constituents as u64) << 32, 0]
}

/// Where the composite header is in a descriptor of ours.
pub(super) const fn composite_offset(layout: Layout, emads: u32) -> u32 {
    layout.composite_offset(emads)
}

/// The start of a FFA_MEM_RELINQUISH descriptor (FF-A 1.2, "Descriptor to relinquish a memory region"): one endpoint only,
/// since there are no proxies or dependent devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relinquish {
    /// Which share.
    pub handle: u64,
    /// Flags.
    pub flags: u32,
    /// Who relinquishes.
    pub endpoint: EndpointId,
}

impl Relinquish {
    /// Reads the descriptor at the start of `tx`.
    ///
    /// # Errors
    /// `InvalidParameters` unless it names exactly one endpoint; those of [`Reader::block`].
    pub(super) fn read<M: Machine>(machine: &mut M, tx: Buffer) -> Result<Self, FfaError> {
        let mut reader = Reader::new(tx, UNIT.saturating_mul(2));
        let [handle, counts] = reader.block(machine)?;
        if half(counts, 32) != 1 {
            return Err(FfaError::InvalidParameters);
        }
        let [endpoints, _] = reader.block(machine)?;
        Ok(Self {
            handle,
            flags: half(counts, 0),
            endpoint: EndpointId::new(quarter(endpoints, 0)),
        })
    }
}
