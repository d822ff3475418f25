//! Stage-2 descriptors (D8.3.1, D8.3.2), 4 KiB granule, and what this crate keeps in those that hardware ignores.
//!
//! | bits 1:0 | level | what |
//! | --- | --- | --- |
//! | 0b11 | 0-2 | table; bits 11:2, ignored by hardware without `FEAT_HAFT`, count the entries of that table that are not 0 |
//! | 0b01 | 1-2 | block |
//! | 0b11 | 3 | page |
//! | 0bx0 | any | invalid: 0; or only an ownership; or, with AF set, a suspended block or page that lacks its valid bit |

use crate::{
    Entry, Level, OutputAddress, Ownership, TableAddr,
    attributes::{AF, ATTRIBUTE_BITS, Attributes, STATE},
};

/// Valid bit.
pub(crate) const VALID: u64 = 1;
/// Bit 1: a table (levels 0-2) or page (level 3) when set, else a block.
const PAGE: u64 = 0b10;
/// Output or next-table address.
pub(crate) const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// One in the count of a table descriptor.
pub(crate) const COUNT_ONE: u64 = 1 << 2;
/// The count of a table descriptor, 0 to 512.
pub(crate) const COUNT: u64 = 0x3ff << 2;
/// Entries in a table.
pub(crate) const ENTRIES: usize = 512;

/// A table descriptor for `table` with `count` entries that are not 0.
pub(crate) const fn table(table: TableAddr, count: u64) -> u64 {
    table.0 & ADDRESS | (count << 2) & COUNT | PAGE | VALID
}

/// Whether `descriptor` of a table of `level` points to a table.
pub(crate) const fn is_table(descriptor: u64, level: Level) -> bool {
    descriptor & (VALID | PAGE) == VALID | PAGE && !matches!(level, Level::Three)
}

/// The table that a table descriptor points to.
pub(crate) const fn next_table(descriptor: u64) -> TableAddr {
    TableAddr(descriptor & ADDRESS)
}

/// The count of a table descriptor.
pub(crate) const fn count(descriptor: u64) -> u64 {
    (descriptor & COUNT) >> 2
}

/// Whether a descriptor that is not a table's is valid.
pub(crate) const fn is_valid(descriptor: u64) -> bool {
    descriptor & VALID != 0
}

/// Whether a descriptor that is not a table's has an output: valid or suspended.
pub(crate) const fn is_occupied(descriptor: u64) -> bool {
    descriptor & AF != 0
}

/// A valid page or block descriptor.
pub(crate) const fn leaf(output: u64, attributes: u64, level: Level) -> u64 {
    output & ADDRESS | attributes | VALID | page_bit(level)
}

const fn page_bit(level: Level) -> u64 {
    match level {
        Level::Three => PAGE,
        _ => 0,
    }
}

/// What a descriptor that is not a table's says of the part of it that begins `offset` bytes behind its start, as a
/// descriptor of `level`.
pub(crate) const fn part(descriptor: u64, offset: u64, level: Level) -> u64 {
    if is_occupied(descriptor) {
        (descriptor & !PAGE | page_bit(level)).wrapping_add(offset)
    } else {
        descriptor
    }
}

/// What a descriptor that is not a table's says.
pub(crate) const fn entry(descriptor: u64) -> Entry {
    let output = OutputAddress(descriptor & ADDRESS);
    if !is_occupied(descriptor) {
        Entry::Empty(Ownership::of(descriptor))
    } else if is_valid(descriptor) {
        Entry::Mapped(output, Attributes::of(descriptor))
    } else {
        Entry::Suspended(output, Attributes::of(descriptor))
    }
}

/// Whether `descriptor`, found in a table of `level`, is one that this crate writes.
pub(crate) const fn is_well_formed(descriptor: u64, level: Level) -> bool {
    if is_table(descriptor, level) {
        descriptor & !(ADDRESS | COUNT | PAGE | VALID) == 0 && count(descriptor) <= 512
    } else if is_occupied(descriptor) {
        let size_bits = level.size().wrapping_sub(1);
        descriptor & !(ADDRESS | ATTRIBUTE_BITS | PAGE | VALID) == 0
            && descriptor & PAGE == page_bit(level)
            && descriptor & ADDRESS & size_bits == 0
            && !matches!(level, Level::Zero)
    } else {
        descriptor & !STATE == 0
    }
}
