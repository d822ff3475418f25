//! Checks across the SPMC manifest and all partitions, and the list of partitions to boot.

use super::{Package, PartitionManifest, Report, SpmcManifest};
use crate::addr::PageRange;
use crate::id::SpId;
use alloc::string::String;
use alloc::vec::Vec;

/// A partition whose package and manifest were read without an error.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Index into [`SpmcManifest::partitions`].
    pub vm: usize,
    /// The package's layout.
    pub package: Package,
    /// The manifest.
    pub manifest: PartitionManifest,
}

/// A partition to boot.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its id.
    pub id: SpId,
    /// Its name (`debug_name`).
    pub name: String,
    /// Index into [`SpmcManifest::partitions`].
    pub vm: usize,
    /// Its memory: where its package was loaded, and all the RAM that comes with it.
    pub memory: PageRange,
    /// The package's layout within `memory`.
    pub package: Package,
    /// Its manifest.
    pub manifest: PartitionManifest,
    /// One for each of `manifest.memory_regions`: where it lies. `None` when the SPMC has to choose.
    pub region_ranges: Vec<Option<PageRange>>,
}

/// Checks all partitions against each other, against the SPMC's own memory `spmc_memory` and against the ranges that the
/// SPMC manifest declares, and returns those to boot, in boot order.
///
/// A partition that cannot be accepted is left out and gets one error; of two that are in conflict it is the one that
/// comes later in the SPMC manifest.
#[must_use]
pub fn check(
    spmc: &SpmcManifest,
    candidates: Vec<Candidate>,
    spmc_memory: &[PageRange],
    report: &mut Report,
) -> Vec<Partition> {
    let _ = (spmc, candidates, spmc_memory, report);
    Vec::new()
}
