//! Secure memory that nobody has: for copies of the packages of partitions that may be started afresh, and for memory regions
//! whose address is the SPMC's to choose.

use alloc::vec::Vec;

use crate::{
    addr::{PageRange, World},
    machine::Machine,
    manifest::{SpmcManifest, spmc::MemoryKind, system},
    restart::copy,
};

/// The free parts of the secure RAM that the SPMC manifest declares.
pub(super) struct Spare {
    ram: Vec<PageRange>,
    taken: Vec<PageRange>,
}

impl Spare {
    pub(super) fn new(manifest: &SpmcManifest, accepted: &[system::Partition], reserved: &[system::Reserved]) -> Self {
        let ram = manifest
            .memory
            .iter()
            .filter(|range| range.kind == MemoryKind::Memory)
            .map(|range| range.range);
        // Packages of partitions that were left out stay where they are.
        let mut taken: Vec<PageRange> = manifest.partitions.iter().map(|entry| entry.memory).collect();
        taken.extend(reserved.iter().map(|reserved| reserved.range));
        for partition in accepted {
            taken.extend(partition.region_ranges.iter().flatten());
            taken.extend(partition.manifest.device_regions.iter().map(|region| region.range));
        }
        Self {
            ram: ram.collect(),
            taken,
        }
    }

    /// Takes as many pages as `image` has and copies it there. `None` when there are not so many in one piece.
    pub(super) fn keep<M: Machine>(&mut self, machine: &mut M, image: PageRange) -> Option<PageRange> {
        let place = self.take(image.pages())?;
        copy(machine, World::Secure, image.base(), place).then_some(place)
    }

    /// Takes so many pages. `None` when there are not so many in one piece.
    pub(super) fn take(&mut self, pages: u64) -> Option<PageRange> {
        let starts = self
            .ram
            .iter()
            .map(PageRange::base)
            .chain(self.taken.iter().map(PageRange::end));
        let free = |range: &PageRange| {
            self.ram.iter().any(|ram| ram.contains_range(range))
                && !self.taken.iter().any(|taken| taken.overlaps(range))
        };
        let mut candidates = starts.filter_map(|start| PageRange::new(start, pages).ok());
        let place = candidates.find(free)?;
        self.taken.push(place);
        Some(place)
    }
}
