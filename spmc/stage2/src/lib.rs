//! Stage-2 translation tables of secure partitions (VMSAv8-64, 4 KiB granule), over abstract table memory.
//!
//! Source: Arm ARM (DDI 0487), D8 "The AArch64 Virtual Memory System Architecture": D8.2 (translation process, 4 KiB
//! granule without `FEAT_LPA2`), D8.3 (descriptor formats), D8.17 (TLB maintenance, break-before-make).
//!
//! * [`Tables`] is one tree: a partition has two, one for its secure and one for its non-secure IPA space. Stage 1 of partitions
//!   at S-EL0 is one more, for all of them ([`Attributes::for_el0`]).
//! * Whatever can fail happens before anything changes: an operation that returns an error has changed nothing that a
//!   partition or [`Tables::walk`] could see, and leaves no table behind.
//! * What a TLB may still hold after a change is in the [`Invalidate`] token that the operation returns, together with
//!   the tables that it took out of the tree; [`Invalidate::complete`] invalidates first, and frees them then.
//! * Tables are changed under the caller's lock. Hardware walks them meanwhile; each descriptor is written whole.
//!
//! # Faults while a block is split
//! Splitting a live block must break before it makes (D8.17.1): for the time of one TLB invalidation the whole block is
//! invalid, and another PE of the same partition may take a stage-2 translation fault on an address that no operation
//! named. Who handles a stage-2 fault therefore takes the lock of the tables, and when [`Tables::translate`] now gives a
//! mapping that permits the access, resumes the context at the same instruction. Mapping with [`Granule::Pages`] avoids
//! splits.
//!
//! # Visibility
//! An invalid descriptor that becomes valid needs no TLB invalidation, but a `DSB ISHST` between its write and the next
//! walk that relies on it: the machine layer issues one before it enters a partition after a descriptor was written.
#![no_std]
#![forbid(unsafe_code)]
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

#[cfg(any(test, feature = "fake"))]
extern crate std;

mod address;
mod attributes;
mod descriptor;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod invalidate;
mod registers;
mod stage1;
mod tables;

pub use address::{Ipa, IpaRange, IpaSize, Level, OutputAddress, PAGE_SIZE};
pub use attributes::{Access, Attributes, Execute, MemoryType, Ownership, Shareability};
pub use invalidate::{Invalidate, Tlb, WithTlb};
pub use registers::{VSTCR_EL2_WALKS_SECURE, VTCR_EL2_OUTPUT_NON_SECURE};
pub use stage1::MAIR_EL1;
pub use tables::{Entry, Error, Granule, Mapping, Run, Tables, Violation};

/// Physical address of a 4 KiB page that holds a translation table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableAddr(pub u64);

/// Memory that tables live in: 4 KiB pages of 512 descriptors each.
///
/// Callers pass only table addresses that [`TableMemory::allocate_table`] returned and that were not freed since.
pub trait TableMemory {
    /// A zeroed table page, or `None` when memory has run out.
    fn allocate_table(&mut self) -> Option<TableAddr>;
    /// How many pages there are for [`TableMemory::allocate_table`], where that is known.
    fn free_tables(&self) -> usize {
        usize::MAX
    }
    /// Takes back a table page. No translation register and no live descriptor may point to it any more, and TLB
    /// maintenance for it must be complete.
    fn free_table(&mut self, table: TableAddr);
    /// Reads a descriptor; `index` is taken modulo 512.
    fn read_descriptor(&self, table: TableAddr, index: usize) -> u64;
    /// Writes a descriptor, visible to table walks of all PEs after the next TLB maintenance or barrier; `index` is
    /// taken modulo 512. Walks see writes in the order in which they were made, so that who finds a new table finds its
    /// entries too (a store with release semantics).
    fn write_descriptor(&mut self, table: TableAddr, index: usize, value: u64);
    /// Reads as many descriptors as there is room for, from `index` on; all within the table.
    fn read_descriptors(&self, table: TableAddr, index: usize, into: &mut [u64]) {
        for (offset, word) in into.iter_mut().enumerate() {
            *word = self.read_descriptor(table, index.wrapping_add(offset));
        }
    }
    /// Writes descriptors from `index` on; all within the table.
    fn write_descriptors<T: Copy + Into<u64>>(&mut self, table: TableAddr, index: usize, from: &[T]) {
        for (offset, word) in from.iter().enumerate() {
            self.write_descriptor(table, index.wrapping_add(offset), (*word).into());
        }
    }
    /// Writes what `change` makes of a descriptor. Returns what it was.
    fn update_descriptor(&mut self, table: TableAddr, index: usize, change: impl FnOnce(u64) -> u64) -> u64 {
        let old = self.read_descriptor(table, index);
        self.write_descriptor(table, index, change(old));
        old
    }
}

#[cfg(test)]
mod tests;
