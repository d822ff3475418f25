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
        let (mut ram, mut taken) = (Vec::new(), Vec::new());
        for range in manifest.ranges(MemoryKind::Memory) {
            ram.push(range);
        }
        // Packages of partitions that were left out stay where they are.
        for entry in &manifest.partitions {
            taken.push(entry.memory);
        }
        for reserved in reserved {
            taken.push(reserved.range);
        }
        for partition in accepted {
            for range in partition.region_ranges.iter().flatten() {
                taken.push(*range);
            }
            for region in &partition.manifest.device_regions {
                taken.push(region.range);
            }
        }
        Self { ram, taken }
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
