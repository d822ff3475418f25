//! The reader against two crates that do the same: dtoolkit on whatever comes, fdt on well-formed trees only.

extern crate std;

use super::{Dtb, DtbError, DtbNode};
use dtoolkit::error::FdtErrorKind;
use dtoolkit::{Node as _, Property as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::string::String;
use std::vec::Vec;
use std::{env, format, fs};

/// A node's path, or a property with its value.
type Listing = Vec<(String, Option<Vec<u8>>)>;

fn ours(node: &DtbNode<'_>, path: &str, listing: &mut Listing) {
    listing.push((path.into(), None));
    listing.extend(
        node.properties()
            .map(|property| (format!("{path}:{}", property.name), Some(property.value.to_vec()))),
    );
    node.children()
        .for_each(|child| ours(&child, &format!("{path}/{}", child.name()), listing));
}

fn dtoolkits(node: &dtoolkit::fdt::FdtNode<'_>, path: &str, listing: &mut Listing) {
    listing.push((path.into(), None));
    listing.extend(
        node.properties()
            .map(|property| (format!("{path}:{}", property.name()), Some(property.value().to_vec()))),
    );
    node.children()
        .for_each(|child| dtoolkits(&child, &format!("{path}/{}", child.name()), listing));
}

fn fdts(node: &fdt::node::FdtNode<'_, '_>, path: &str, listing: &mut Listing) {
    listing.push((path.into(), None));
    listing.extend(
        node.properties()
            .map(|property| (format!("{path}:{}", property.name), Some(property.value.to_vec()))),
    );
    node.children()
        .for_each(|child| fdts(&child, &format!("{path}/{}", child.name), listing));
}

fn list(blob: &[u8]) -> Result<Listing, DtbError> {
    let mut listing = Vec::new();
    ours(&Dtb::new(blob)?.root(), "", &mut listing);
    Ok(listing)
}

/// All manifests of the tree, compiled.
fn blobs() -> Vec<Vec<u8>> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "dts") {
                found.push(path);
            }
        }
    }
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests");
    let mut sources = Vec::new();
    collect(&manifests.join("bad"), &mut sources);
    collect(&manifests.join("compat"), &mut sources);
    sources.sort();
    let compile = |source: &PathBuf| {
        let dtc = env::var("DTC").unwrap_or_else(|_| "dtc".into());
        let output = Command::new(dtc)
            .args(["-q", "-I", "dts", "-O", "dtb"])
            .arg(source)
            .output();
        let output = output.expect("dtc must be installed (`make setup`)");
        assert!(output.status.success(), "{}", source.display());
        output.stdout
    };
    sources.iter().map(compile).collect()
}

#[test]
fn well_formed_trees_read_as_other_crates_read_them() {
    let blobs = blobs();
    assert!(blobs.len() >= 100);
    for blob in blobs {
        let mine = list(&blob).unwrap();
        let (mut theirs, mut second) = (Vec::new(), Vec::new());
        dtoolkits(&dtoolkit::fdt::Fdt::new(&blob).unwrap().root(), "", &mut theirs);
        assert_eq!(mine, theirs);
        fdts(&fdt::Fdt::new(&blob).unwrap().find_node("/").unwrap(), "", &mut second);
        assert_eq!(mine, second);
    }
}

/// What dtoolkit minds and this reader does not: names outside the specification's characters or longer than 31, and
/// the memory reservations, which nobody reads.
fn pedantic(kind: &FdtErrorKind) -> bool {
    matches!(
        kind,
        FdtErrorKind::InvalidNodeName
            | FdtErrorKind::InvalidPropertyName
            | FdtErrorKind::InvalidString
            | FdtErrorKind::MemReserveInvalid
            | FdtErrorKind::MemReserveNotTerminated
            | FdtErrorKind::InvalidHeader(_)
    )
}

/// The same with a structure block that goes on to the end of the blob.
fn with_longest_structure(mut blob: Vec<u8>) -> Vec<u8> {
    let start = u32::from_be_bytes(blob[8..12].try_into().unwrap());
    let longest = u32::try_from(blob.len()).unwrap() - start;
    blob[36..40].copy_from_slice(&longest.to_be_bytes());
    blob
}

#[test]
fn mutated_trees_read_as_dtoolkit_reads_them() {
    let blobs = blobs();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % bound as u64).unwrap()
    };
    let (mut both, mut neither, mut one, mut longer) = (0, 0, 0, 0);
    for _ in 0..10_000 {
        let mut blob = blobs[next(blobs.len())].clone();
        for _ in 0..=next(3) {
            let offset = 8 + next(blob.len() - 8);
            blob[offset] = match next(3) {
                0 => blob[offset] ^ 1 << next(8),
                1 => [0, 1, 2, 3, 4, 9, 0xff][next(7)],
                _ => u8::try_from(next(256)).unwrap(),
            };
        }
        match (list(&blob), dtoolkit::fdt::Fdt::new(&blob)) {
            (Ok(mine), Ok(theirs)) => {
                let mut listing = Vec::new();
                dtoolkits(&theirs.root(), "", &mut listing);
                assert_eq!(mine, listing);
                both += 1;
            }
            (Ok(_), Err(error)) => {
                assert!(pedantic(&error.kind), "{error}");
                one += 1;
            }
            // dtoolkit lets the structure go on beyond the size that the header states for it.
            (Err(error), Ok(theirs)) => {
                let mut listing = Vec::new();
                dtoolkits(&theirs.root(), "", &mut listing);
                assert_eq!(list(&with_longest_structure(blob.clone())), Ok(listing), "{error}");
                longer += 1;
            }
            (Err(_), Err(_)) => neither += 1,
        }
    }
    assert!(
        both > 1_000 && neither > 1_000 && one > 50 && longer < 250,
        "{both} {neither} {one} {longer}"
    );
}

#[test]
fn strings_end_at_the_first_zero() {
    for start in 0..4 {
        for length in 0..40 {
            for tail in [0, 1, 9] {
                let mut bytes = std::vec![0x81_u8; start];
                bytes.extend((0..length).map(|index| if index % 3 == 0 { 1 } else { 0x80 }));
                bytes.push(0);
                bytes.extend(core::iter::repeat_n(1, tail));
                assert_eq!(super::string(&bytes, start).map(<[u8]>::len), Some(length));
            }
        }
    }
    assert_eq!(super::string(&[1; 40], 0), None);
    assert_eq!(super::string(&[1; 400], 0), None);
    assert_eq!(super::string(&[0; 4], 5), None);
}
