//! The header of a partition's package, as TF-A's `tools/sptool` writes it.
//!
//! 24 bytes, little endian: the magic `SPKG`, the version, offset and size of the manifest, offset and size of the
//! image. Offsets count from the header, which lies at the partition's load address.
//!
//! * Version 1: the manifest follows the header directly.
//! * Version 2: manifest and image begin on page boundaries, in this order, and what is left between the header and the
//!   manifest is for boot information.

use super::diagnostic::Value;
use super::tree::{Path, Sink};
use super::{MAX_DTB_BYTES, Report};
use crate::addr::{PAGE_SIZE, is_page_aligned};

/// Bytes of a package header: all that has to be copied in to call [`Package::parse`].
pub const HEADER_BYTES: usize = 24;

/// Offset of the room for boot information in a version 2 package: after the header, 16-byte aligned.
const BOOT_INFO_OFFSET: u64 = 32;

/// Smallest device tree: header, terminator of the reservations, empty root.
const MIN_DTB_BYTES: u64 = 72;

/// A range of bytes within a partition's memory, relative to its load address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte from the load address.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

impl ByteRange {
    /// Offset of the first byte after the range. Cannot overflow: a header has 32-bit offsets and sizes.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }
}

/// Where the parts of a partition's package lie in its memory. All of them are within the partition's memory, none is
/// empty, and they do not overlap each other or the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Version of the package format: 1 or 2; 0 for a transfer list.
    pub version: u32,
    /// The partition's manifest, a device tree of at most [`MAX_DTB_BYTES`].
    pub manifest: ByteRange,
    /// The partition's image. `entrypoint-offset` counts from the load address, which is the package's, not from here.
    pub image: ByteRange,
    /// Room for boot information: in version 2 between header and manifest, in a transfer list an empty entry.
    pub boot_info: Option<ByteRange>,
    /// A list of hand-off blocks for the partition; in a transfer list only.
    pub hob: Option<ByteRange>,
}

impl Package {
    /// Reads `header`, the first [`HEADER_BYTES`] of the package of `partition`, which lies at the start of `mem_size`
    /// bytes of memory.
    ///
    /// Returns `None` after adding at least one error to `report`.
    #[must_use]
    pub fn parse(partition: &str, header: &[u8], mem_size: u64, report: &mut Report) -> Option<Self> {
        let mut sink = Sink::new(Some(partition), report);
        let Some([magic, version, words @ ..]) = header_words(header) else {
            sink.error(
                PACKAGE.here(),
                format_args!("expected a header of {HEADER_BYTES} bytes"),
            );
            return None;
        };
        if magic != u32::from_le_bytes(*b"SPKG") {
            sink.error(
                PACKAGE.property("magic").hex(magic.into()),
                format_args!("expected \"SPKG\" (0x474b5053) at the load address; was a package loaded there?"),
            );
            return None;
        }
        if !matches!(version, 1 | 2) {
            sink.error(
                PACKAGE.property("version").dec(version.into()),
                format_args!("expected 1 or 2"),
            );
            return None;
        }
        let [pm_offset, pm_size, img_offset, img_size] = words.map(u64::from);
        let package = Self {
            version,
            manifest: ByteRange {
                offset: pm_offset,
                bytes: pm_size,
            },
            image: ByteRange {
                offset: img_offset,
                bytes: img_size,
            },
            boot_info: (version == 2).then_some(ByteRange {
                offset: BOOT_INFO_OFFSET,
                bytes: pm_offset.saturating_sub(BOOT_INFO_OFFSET),
            }),
            hob: None,
        };
        package.checked(mem_size, &mut sink)
    }

    /// As many bytes as the manifest may have where it is. In a transfer list, whose further entries are not known here, no more
    /// than it has.
    #[must_use]
    pub fn manifest_room(&self) -> u64 {
        let free = self.image.offset.saturating_sub(self.manifest.offset);
        let free = if self.version == 0 { 0 } else { free };
        free.max(self.manifest.bytes)
    }

    /// The package, unless something is wrong with it.
    pub(super) fn checked(self, mem_size: u64, sink: &mut Sink<'_>) -> Option<Self> {
        self.check_manifest(sink);
        self.check_image(mem_size, sink);
        if sink.failed() { None } else { Some(self) }
    }

    fn check_manifest(&self, sink: &mut Sink<'_>) {
        let offset = PACKAGE.property("pm_offset").hex(self.manifest.offset);
        let size = PACKAGE.property("pm_size").hex(self.manifest.bytes);
        match self.version {
            1 if self.manifest.offset < HEADER_BYTES as u64 => {
                sink.error(
                    offset,
                    format_args!("expected {HEADER_BYTES:#x} or more, after the header"),
                );
            }
            2 if self.manifest.offset < PAGE_SIZE || !is_page_aligned(self.manifest.offset) => {
                sink.error(
                    offset,
                    format_args!("expected a multiple of the page size 0x1000, not 0"),
                );
            }
            _ => {}
        }
        if self.manifest.bytes < MIN_DTB_BYTES {
            sink.error(
                size,
                format_args!("expected at least {MIN_DTB_BYTES:#x}, the smallest device tree"),
            );
        } else if self.manifest.bytes > MAX_DTB_BYTES as u64 {
            sink.error(size, format_args!("expected at most {MAX_DTB_BYTES:#x}"));
        }
    }

    fn check_image(&self, mem_size: u64, sink: &mut Sink<'_>) {
        let offset = PACKAGE.property("img_offset").hex(self.image.offset);
        let size = PACKAGE.property("img_size").hex(self.image.bytes);
        if self.version == 2 && !is_page_aligned(self.image.offset) {
            sink.error(offset, format_args!("expected a multiple of the page size 0x1000"));
        }
        if self.image.offset < self.manifest.end() {
            sink.error(
                offset,
                format_args!("expected {:#x} or more, after the manifest", self.manifest.end()),
            );
        }
        if self.image.bytes == 0 {
            sink.error(size, format_args!("expected an image that is not empty"));
        } else if self.image.end() > mem_size {
            sink.error(
                size,
                format_args!(
                    "image ends at {:#x} from the load address: expected within the partition's mem_size {mem_size:#x}",
                    self.image.end()
                ),
            );
        }
        if self.manifest.end() > mem_size {
            sink.error(
                PACKAGE.property("pm_offset").value(Value::Hex(self.manifest.offset)),
                format_args!("manifest ends beyond the partition's mem_size {mem_size:#x}"),
            );
        }
    }
}

/// Where errors about a package are said to be.
const PACKAGE: Path<'static> = Path::PACKAGE;

/// The six words of a header; `None` when it is too short.
fn header_words(header: &[u8]) -> Option<[u32; 6]> {
    let (words, _) = header.get(..HEADER_BYTES)?.as_chunks::<4>();
    let words: &[[u8; 4]; 6] = words.try_into().ok()?;
    Some(words.map(u32::from_le_bytes))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    const MEMORY: u64 = 0x10_0000;

    fn header(words: [u32; 5]) -> Vec<u8> {
        let mut bytes = b"SPKG".to_vec();
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes
    }

    fn parse(header: &[u8]) -> Result<Package, Vec<String>> {
        let mut report = Report::new();
        let package = Package::parse("p", header, MEMORY, &mut report);
        package.ok_or_else(|| {
            report
                .diagnostics()
                .iter()
                .map(|diagnostic| format!("{diagnostic}"))
                .collect()
        })
    }

    #[track_caller]
    fn refuses(words: [u32; 5], expected: &str) {
        let said = parse(&header(words)).unwrap_err();
        assert_eq!(said, [format!("partition \"p\": package header: {expected}")]);
    }

    #[test]
    fn version_2() {
        let package = parse(&header([2, 0x1000, 0x600, 0x4000, 0x8000])).unwrap();
        assert_eq!(
            package.manifest,
            ByteRange {
                offset: 0x1000,
                bytes: 0x600
            }
        );
        assert_eq!(
            package.image,
            ByteRange {
                offset: 0x4000,
                bytes: 0x8000
            }
        );
        assert_eq!(
            package.boot_info,
            Some(ByteRange {
                offset: 0x20,
                bytes: 0xfe0
            })
        );
    }

    #[test]
    fn version_1() {
        let package = parse(&header([1, 24, 0x601, 0x1000, 0x8000])).unwrap();
        assert_eq!(
            (package.version, package.manifest.end(), package.boot_info),
            (1, 24 + 0x601, None)
        );
    }

    #[test]
    fn all_of_the_memory_can_be_image() {
        assert!(parse(&header([2, 0x1000, 0x1000, 0x2000, 0xf_e000])).is_ok());
        refuses(
            [2, 0x1000, 0x1000, 0x2000, 0xf_e001],
            "img_size = 0xfe001: image ends at 0x100001 from the load address: expected within the partition's mem_size 0x100000",
        );
    }

    #[test]
    fn what_is_no_package() {
        assert_eq!(
            parse(&[0; 23]).unwrap_err(),
            ["partition \"p\": package header: expected a header of 24 bytes"]
        );
        assert_eq!(
            parse(&[0; 24]).unwrap_err(),
            [
                "partition \"p\": package header: magic = 0x0: expected \"SPKG\" (0x474b5053) at the load address; \
             was a package loaded there?"
            ]
        );
        refuses([3, 0x1000, 0x600, 0x4000, 0x8000], "version = 3: expected 1 or 2");
    }

    #[test]
    fn parts_in_the_wrong_place() {
        let page = "expected a multiple of the page size 0x1000";
        refuses(
            [2, 0x1800, 0x600, 0x4000, 0x8000],
            &format!("pm_offset = 0x1800: {page}, not 0"),
        );
        refuses(
            [2, 0, 0x600, 0x4000, 0x8000],
            &format!("pm_offset = 0x0: {page}, not 0"),
        );
        refuses(
            [2, 0x1000, 0x600, 0x4800, 0x8000],
            &format!("img_offset = 0x4800: {page}"),
        );
        refuses(
            [1, 16, 0x600, 0x4000, 0x8000],
            "pm_offset = 0x10: expected 0x18 or more, after the header",
        );
        refuses(
            [2, 0x5000, 0x600, 0x4000, 0x8000],
            "img_offset = 0x4000: expected 0x5600 or more, after the manifest",
        );
        refuses(
            [2, 0x1000, 0x3001, 0x4000, 0x8000],
            "img_offset = 0x4000: expected 0x4001 or more, after the manifest",
        );
    }

    #[test]
    fn parts_of_the_wrong_size() {
        refuses(
            [2, 0x1000, 71, 0x4000, 0x8000],
            "pm_size = 0x47: expected at least 0x48, the smallest device tree",
        );
        refuses(
            [2, 0x1000, 0x8001, 0xa000, 0x8000],
            "pm_size = 0x8001: expected at most 0x8000",
        );
        refuses(
            [2, 0x1000, 0x600, 0x4000, 0],
            "img_size = 0x0: expected an image that is not empty",
        );
        let said = parse(&header([2, 0xffff_f000, u32::MAX, u32::MAX, u32::MAX])).unwrap_err();
        assert_eq!(said.len(), 5, "{said:?}");
    }
}
