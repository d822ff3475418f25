//! Manifests and package headers: nothing panics, what is refused is refused with an error, what is said is bounded and
//! printable, and what several manifests amount to can be checked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tantalum_core::manifest::package::HEADER_BYTES;
use tantalum_core::manifest::system::{self, Candidate};
use tantalum_core::manifest::{Package, PartitionManifest, Report, SpmcManifest};

/// The device tree `bytes` with a header that begins as it must.
fn blob(bytes: &[u8]) -> Vec<u8> {
    let mut blob = bytes.to_vec();
    if blob.len() >= 8 {
        let total = u32::try_from(blob.len()).unwrap_or(u32::MAX);
        blob[..4].copy_from_slice(&[0xd0, 0x0d, 0xfe, 0xed]);
        blob[4..8].copy_from_slice(&total.to_be_bytes());
    }
    blob
}

fn check(report: &Report, accepted: bool) {
    assert!(accepted || report.errors() != 0);
    for diagnostic in report.diagnostics() {
        let line = format!("{diagnostic:#}");
        assert!(
            line.len() < 600 && line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{line:?}"
        );
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    let mut report = Report::new();
    match kind % 4 {
        0 => {
            let manifest = SpmcManifest::parse(&blob(bytes), &mut report);
            check(&report, manifest.is_some());
        }
        1 => {
            let manifest = PartitionManifest::parse("p", &blob(bytes), &mut report);
            check(&report, manifest.is_some());
        }
        2 => {
            let Some((size, header)) = bytes.split_first_chunk::<8>() else {
                return;
            };
            let package = Package::parse("p", header, u64::from_le_bytes(*size), &mut report);
            check(&report, package.is_some());
        }
        _ => together(bytes, &mut report),
    }
});

/// An SPMC manifest and up to three partitions: a package header and a manifest each, with two bytes of length before.
fn together(mut bytes: &[u8], report: &mut Report) {
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>()
        && parts.len() < 4
    {
        let (part, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        parts.push(part);
        bytes = rest;
    }
    let Some((first, rest)) = parts.split_first() else {
        return;
    };
    let Some(spmc) = SpmcManifest::parse(&blob(first), report) else {
        return;
    };
    let mut candidates = Vec::new();
    for (vm, part) in rest.iter().enumerate() {
        let (Some(entry), Some((header, manifest))) = (spmc.partitions.get(vm), part.split_at_checked(HEADER_BYTES))
        else {
            continue;
        };
        let package = Package::parse(&entry.name, header, entry.memory.bytes(), report);
        let manifest = PartitionManifest::parse(&entry.name, &blob(manifest), report);
        candidates.extend(
            package
                .zip(manifest)
                .map(|(package, manifest)| Candidate { vm, package, manifest }),
        );
    }
    let all = candidates.len();
    let accepted = system::check(&spmc, candidates, &[], report);
    check(report, accepted.len() == all);
}
