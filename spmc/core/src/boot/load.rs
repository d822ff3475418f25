//! Reading packages and partition manifests from where BL2 has loaded them.

use alloc::{format, string::String, vec, vec::Vec};

use crate::{
    addr::{PageRange, PhysAddr, World},
    boot::{BootConfig, complain},
    machine::Machine,
    manifest::{
        Package, PartitionManifest, Report, Severity, SpmcManifest,
        package::HEADER_BYTES,
        spmc::{MemoryKind, VmEntry},
        system::Candidate,
        transfer_list,
    },
};

/// What a manifest takes of the heap at most: the blob and what is read from it, while lists grow. Each item of a list has
/// at least as many bytes in the blob as a quarter of its size in memory.
const HEAP_A_BYTE: usize = 6;
/// And what is the same for all.
const HEAP_A_MANIFEST: usize = 4096;

/// The partitions of the SPMC manifest whose package and manifest could be read.
pub(super) fn candidates<M: Machine>(
    manifest: &SpmcManifest,
    config: &BootConfig<'_>,
    mut heap: usize,
    machine: &mut M,
    report: &mut Report,
) -> Vec<Candidate> {
    let mut candidates = Vec::with_capacity(manifest.partitions.len());
    for (vm, entry) in manifest.partitions.iter().enumerate() {
        if let Some(candidate) = candidate(manifest, vm, entry, config, &mut heap, machine, report) {
            candidates.push(candidate);
        }
    }
    candidates
}

#[inline(never)]
fn candidate<M: Machine>(
    manifest: &SpmcManifest,
    vm: usize,
    entry: &VmEntry,
    config: &BootConfig<'_>,
    heap: &mut usize,
    machine: &mut M,
    report: &mut Report,
) -> Option<Candidate> {
    let memory = usable_memory(manifest, entry, config, report)?;
    let mut header = [0; HEADER_BYTES];
    copy(machine, memory, 0, &mut header, entry, report)?;
    let package = if transfer_list::is_list(&header) {
        let mut read = |offset, report: &mut Report| {
            let mut bytes = [0; 8];
            copy(machine, memory, offset, &mut bytes, entry, report).map(|()| bytes)
        };
        transfer_list::parse(&entry.name, &header, memory.bytes(), report, &mut read)?
    } else {
        Package::parse(&entry.name, &header, memory.bytes(), report)?
    };
    let bytes = usize::try_from(package.manifest.bytes).ok()?;
    let Some(left) = heap.checked_sub(bytes.saturating_mul(HEAP_A_BYTE).saturating_add(HEAP_A_MANIFEST)) else {
        let node = vm_node(entry);
        let message = format!("its manifest has {bytes} bytes, more than the SPMC has memory for");
        complain(report, Severity::Error, &entry.name, &node, None, &message);
        return None;
    };
    *heap = left;
    let mut blob = vec![0; bytes];
    copy(machine, memory, package.manifest.offset, &mut blob, entry, report)?;
    let partition = PartitionManifest::parse(&entry.name, &blob, report)?;
    Some(Candidate {
        vm,
        package,
        manifest: partition,
    })
}

/// The partition's memory, if it may be looked at: secure RAM that the manifest declares, and not the SPMC's.
fn usable_memory(
    manifest: &SpmcManifest,
    entry: &VmEntry,
    config: &BootConfig<'_>,
    report: &mut Report,
) -> Option<PageRange> {
    let node = vm_node(entry);
    let mut refuse = |property, message: &str| {
        complain(report, Severity::Error, &entry.name, &node, property, message);
        None
    };
    let memory = entry.memory;
    if memory.overlaps(&config.spmc_memory) {
        return refuse(
            Some("load_address"),
            &format!("{memory}: overlaps the SPMC's own memory {}", config.spmc_memory),
        );
    }
    let mut secure = manifest.memory.iter().filter(|range| range.kind == MemoryKind::Memory);
    if !secure.any(|range| range.range.contains_range(&memory)) {
        return refuse(
            Some("load_address"),
            &format!("{memory}: expected memory within one of the ranges with device_type \"memory\""),
        );
    }
    Some(memory)
}

/// The path of a partition's node in the SPMC manifest.
fn vm_node(entry: &VmEntry) -> String {
    format!("/hypervisor/vm{}", u64::from(entry.number))
}

fn copy<M: Machine>(
    machine: &mut M,
    memory: PageRange,
    offset: u64,
    into: &mut [u8],
    entry: &VmEntry,
    report: &mut Report,
) -> Option<()> {
    let from = memory.base().checked_add(offset)?;
    if machine
        .copy_in(World::Secure, PhysAddr::new(from.as_u64()), into)
        .is_ok()
    {
        return Some(());
    }
    let node = vm_node(entry);
    let message = format!("{memory}: the memory cannot be read; expected RAM that the package was loaded to");
    complain(
        report,
        Severity::Error,
        &entry.name,
        &node,
        Some("load_address"),
        &message,
    );
    None
}
