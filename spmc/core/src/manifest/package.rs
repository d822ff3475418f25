//! The header of a partition's package, as TF-A's `tools/sptool` writes it.

use super::Report;
use alloc::string::String;

/// Bytes of a package header: all that has to be copied in to call [`Package::parse`].
pub const HEADER_BYTES: usize = 24;

/// A range of bytes within a partition's memory, relative to its load address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte from the load address.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

/// Where the parts of a partition's package lie in its memory. All of them are within the partition's memory and do not
/// overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Version of the package format: 1 or 2.
    pub version: u32,
    /// The partition's manifest, a device tree.
    pub manifest: ByteRange,
    /// The partition's image. In a version 1 package and in a version 2 package alike the load address is that of the
    /// package, and `entrypoint-offset` counts from there.
    pub image: ByteRange,
    /// Room for boot information between header and manifest (version 2 only): from the first page boundary after the
    /// header to the manifest.
    pub boot_info: Option<ByteRange>,
}

impl Package {
    /// Reads the header of the package of `partition`, which lies at the start of `mem_size` bytes of memory.
    ///
    /// Returns `None` after adding at least one error to `report`.
    #[must_use]
    pub fn parse(partition: &str, header: &[u8], mem_size: u64, report: &mut Report) -> Option<Self> {
        let _ = (partition, header, mem_size, report, String::new());
        None
    }
}
