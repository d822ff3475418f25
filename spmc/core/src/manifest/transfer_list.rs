//! A partition's package as a transfer list (Firmware Handoff specification, revision 0.9), as TF-A's newer tools make it.
//!
//! A header of 24 bytes (signature, checksum, version, its size, alignment as a power of two, bytes in use, most bytes,
//! flags), then entries: a tag of 24 bits, the size of this header, the size of the data, and the data. The checksum is not
//! looked at: BL2 has verified what it has loaded.

use super::Report;
use super::package::{ByteRange, Package};
use super::tree::{Path, Sink};

/// First word of a transfer list.
const SIGNATURE: u32 = 0x4a0f_b10b;
/// Smallest headers of a list and of an entry.
const LIST_HEADER: u64 = 24;
const ENTRY_HEADER: u64 = 8;
/// Most entries that are looked at.
const MAX_ENTRIES: usize = 64;

/// Largest alignment, as a power of two.
const MAX_ALIGNMENT: u8 = 16;

const TAG_EMPTY: u32 = 0;
const TAG_HOB_LIST: u32 = 3;
const TAG_IMAGE: u32 = 0x103;
const TAG_MANIFEST: u32 = 0x106;

/// Whether the first bytes of a package are those of a transfer list.
#[must_use]
pub fn is_list(header: &[u8]) -> bool {
    header.first_chunk() == Some(&SIGNATURE.to_le_bytes())
}

/// Reads the list of `partition`, which lies at the start of `mem_size` bytes of memory; `read` gets the 8 bytes at an
/// offset of it, or adds an error to the report.
///
/// Returns `None` after adding at least one error to `report`.
pub fn parse(
    partition: &str,
    header: &[u8],
    mem_size: u64,
    report: &mut Report,
    read: &mut dyn FnMut(u64, &mut Report) -> Option<[u8; 8]>,
) -> Option<Package> {
    let nothing = ByteRange { offset: 0, bytes: 0 };
    let mut list = Package {
        version: 0,
        manifest: nothing,
        image: nothing,
        boot_info: None,
        hob: None,
    };
    let [_, _, header_bytes, alignment] = header.get(4..)?.first_chunk().copied()?;
    let end = u64::from(u32::from_le_bytes(*header.get(8..)?.first_chunk()?));
    let mut offset = u64::from(header_bytes);
    let mut sound = offset >= LIST_HEADER && alignment <= MAX_ALIGNMENT && end <= mem_size;
    for _ in 0..MAX_ENTRIES {
        if !sound || offset.saturating_add(ENTRY_HEADER) > end {
            break;
        }
        let [a, b, c, entry_header, sizes @ ..] = read(offset, report)?;
        let data = ByteRange {
            offset: offset.saturating_add(entry_header.into()),
            bytes: u32::from_le_bytes(sizes).into(),
        };
        sound = u64::from(entry_header) >= ENTRY_HEADER && data.end() <= end;
        match u32::from_le_bytes([a, b, c, 0]) {
            TAG_EMPTY => list.boot_info = list.boot_info.or(Some(aligned(data))),
            TAG_HOB_LIST => list.hob = Some(data),
            TAG_IMAGE => list.image = data,
            TAG_MANIFEST => list.manifest = data,
            _ => {}
        }
        offset = round_up(data.end(), 1_u64.wrapping_shl(alignment.into()));
    }
    let mut sink = Sink::new(Some(partition), report);
    if !sound {
        sink.error(
            Path::PACKAGE.here(),
            format_args!("expected a transfer list whose entries are within its size, and this within mem_size"),
        );
    }
    list.checked(mem_size, &mut sink)
}

/// What of a range begins at a multiple of 128, so that boot information does not cross a page's end.
fn aligned(range: ByteRange) -> ByteRange {
    let offset = round_up(range.offset, 128);
    ByteRange {
        offset,
        bytes: range.end().saturating_sub(offset),
    }
}

fn round_up(offset: u64, alignment: u64) -> u64 {
    offset.checked_next_multiple_of(alignment).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec;
    use std::vec::Vec;

    const MEMORY: u64 = 0x10_0000;
    const DTB: usize = 0x100;

    /// A list of entries (tag, data) in the order given, each but the first aligned to 2^`alignment`.
    fn list(alignment: u8, entries: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_le_bytes().to_vec();
        bytes.extend([0, 1, 24, alignment]);
        bytes.resize(24, 0);
        for (tag, data) in entries {
            if bytes.len() > 24 {
                bytes.resize(bytes.len().next_multiple_of(1 << alignment), 0);
            }
            bytes.extend((tag | 8 << 24).to_le_bytes());
            bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
            bytes.extend(data);
        }
        let size = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        bytes[8..12].copy_from_slice(&size);
        bytes[12..16].copy_from_slice(&size);
        bytes
    }

    fn read(list: &[u8]) -> Option<Package> {
        let mut report = Report::new();
        let package = parse("p", &list[..24], MEMORY, &mut report, &mut |offset, _| {
            let at = usize::try_from(offset).unwrap();
            let mut word = [0; 8];
            let from = &list[at..list.len().min(at + 8)];
            word[..from.len()].copy_from_slice(from);
            Some(word)
        });
        assert_eq!(package.is_none(), report.errors() > 0);
        package
    }

    fn good() -> [(u32, Vec<u8>); 5] {
        [
            (TAG_EMPTY, vec![0; 300]),
            (0x55, vec![1, 2, 3]),
            (TAG_MANIFEST, vec![0; DTB]),
            (TAG_HOB_LIST, vec![7; 99]),
            (TAG_IMAGE, vec![9; 0x3000]),
        ]
    }

    #[test]
    fn entries_are_found() {
        for alignment in [0, 3, 12] {
            let blob = list(alignment, &good());
            assert!(is_list(&blob) && !is_list(b"SPKG"));
            let package = read(&blob).unwrap();
            let bytes = |range: ByteRange| {
                let start = usize::try_from(range.offset).unwrap();
                &blob[start..start + usize::try_from(range.bytes).unwrap()]
            };
            assert_eq!(bytes(package.manifest), [0; DTB]);
            assert_eq!(bytes(package.hob.unwrap()), [7; 99]);
            assert_eq!(bytes(package.image), [9; 0x3000]);
            let room = package.boot_info.unwrap();
            assert!(room.offset.is_multiple_of(128) && room.bytes > 0);
            assert!(bytes(room).iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn manifest_and_image_are_mandatory() {
        for missing in [2, 4] {
            let mut entries = good();
            entries[missing].0 = 0x77;
            assert_eq!(read(&list(3, &entries)), None);
        }
        for optional in [0, 1, 3] {
            let mut entries = good();
            entries[optional].0 = 0x77;
            assert!(read(&list(3, &entries)).is_some());
        }
    }

    #[test]
    fn lists_that_cannot_be() {
        let good = list(3, &good());
        assert!(read(&good).is_some());
        // The header's size, the alignment, the size; an entry's header and size.
        for (at, value) in [(6, 23), (7, 17), (10, 0xff), (11, 1), (27, 7), (31, 1), (30, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(read(&bad), None, "{at}");
        }
        // Entries of nothing do not keep it busy.
        let mut empty = list(3, &[]);
        empty.resize(0x1000, 0);
        empty[9] = 0x10;
        assert_eq!(read(&empty), None);
    }
}
