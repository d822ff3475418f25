//! Checks across the SPMC manifest and all partitions, and the list of partitions to boot.

use super::diagnostic::Value;
use super::partition::{ExceptionLevel, Placement};
use super::spmc::{MemoryKind, VmEntry};
use super::tree::{At, Path, Sink};
use super::{Package, PartitionManifest, Report, SpmcManifest};
use crate::addr::{PAGE_SIZE, PageRange, World};
use crate::id::SpId;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Most ranges (memory, memory regions, device regions) of all partitions together. The time that the checks take grows
/// with the square of their number.
pub const MAX_RANGES: usize = 2048;

/// Most interrupts of all partitions together.
pub const MAX_INTERRUPTS: usize = 2048;

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

/// Memory that no partition can have: the SPMC's own, and the devices that it drives.
#[derive(Clone, Copy, Debug)]
pub struct Reserved {
    /// The pages.
    pub range: PageRange,
    /// Whose they are, as in "overlaps 0xe100000-0xe1fffff of the SPMC".
    pub owner: &'static str,
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
    /// Execution contexts that it gets: 1, or one for each PE of the SPMC manifest, or for the first of them.
    pub execution_contexts: u16,
    /// Its memory: where its package was loaded, and all the RAM that comes with it.
    pub memory: PageRange,
    /// The package's layout within `memory`.
    pub package: Package,
    /// Its manifest.
    pub manifest: PartitionManifest,
    /// One for each of `manifest.memory_regions`: where it lies. `None` when the SPMC has to choose. A region is either
    /// within `memory`, whose access it then narrows or widens, or apart from it.
    pub region_ranges: Vec<Option<PageRange>>,
}

/// Which of a partition's ranges one is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The memory that it was loaded to.
    Memory,
    /// The memory region of this index.
    MemoryRegion(usize),
    /// The device region of this index.
    DeviceRegion { index: usize, exclusive: bool },
}

impl Source {
    /// Whether it is a device region: those of one partition may overlap.
    fn is_device(self) -> bool {
        matches!(self, Self::DeviceRegion { .. })
    }

    /// Whether another partition may have the same device.
    fn may_be_shared(self) -> bool {
        matches!(self, Self::DeviceRegion { exclusive: false, .. })
    }
}

/// A range that belongs to a partition.
#[derive(Clone, Copy)]
struct Claim {
    range: PageRange,
    source: Source,
    /// Index of the partition among the accepted ones.
    owner: usize,
}

/// What was accepted so far.
struct System<'a> {
    spmc: &'a SpmcManifest,
    reserved: &'a [Reserved],
    accepted: Vec<Partition>,
    /// Ranges of the accepted partitions, and then those of the one that is being considered.
    claims: Vec<Claim>,
    /// How many of these are of accepted partitions.
    settled: usize,
    /// Interrupt ids, each with the index of its partition among the accepted ones.
    interrupts: Vec<(u32, usize)>,
    /// The id that each candidate gets, with its index into [`SpmcManifest::partitions`].
    ids: Vec<(usize, SpId)>,
}

/// Checks all partitions against each other, against what is `reserved`, and against the memory and CPUs that the SPMC
/// manifest declares, and returns those to boot, in boot order.
///
/// A partition that cannot be accepted is left out, with at least one error; of two that are in conflict it is the one
/// that comes later in the SPMC manifest.
#[must_use]
pub fn check(
    spmc: &SpmcManifest,
    mut candidates: Vec<Candidate>,
    reserved: &[Reserved],
    report: &mut Report,
) -> Vec<Partition> {
    crate::sort::sort_by_key(&mut candidates, |candidate| candidate.vm);
    let mut system = System {
        spmc,
        reserved,
        accepted: Vec::with_capacity(candidates.len()),
        claims: Vec::new(),
        settled: 0,
        interrupts: Vec::new(),
        ids: ids(spmc, &candidates),
    };
    for candidate in candidates {
        if let Some(vm) = spmc.partitions.get(candidate.vm) {
            let mut sink = Sink::new(Some(&vm.name), report);
            system.consider(vm, candidate, &mut sink);
        }
    }
    let mut accepted = system.accepted;
    crate::sort::sort_by_key(&mut accepted, |partition| {
        (partition.manifest.boot_order.map_or(u32::MAX, u32::from), partition.vm)
    });
    accepted
}

impl System<'_> {
    /// Takes in `candidate`, or reports why not.
    #[inline(never)]
    fn consider(&mut self, vm: &VmEntry, candidate: Candidate, sink: &mut Sink<'_>) {
        let Candidate {
            vm: index,
            package,
            manifest,
        } = candidate;
        self.unique(vm, index, &manifest, sink);
        let execution_contexts = self.execution_contexts(vm, &manifest, sink);
        entry_point(vm, &package, &manifest, sink);
        self.claim_memory(vm, sink);
        let region_ranges = self.claim_memory_regions(vm, &manifest, sink);
        self.claim_device_regions(&manifest, sink);
        self.claim_interrupts(&manifest, sink);
        if sink.failed() {
            self.claims.truncate(self.settled);
            return;
        }
        self.settled = self.claims.len();
        for region in &manifest.device_regions {
            for interrupt in &region.interrupts {
                self.interrupts.push((interrupt.id, self.accepted.len()));
            }
        }
        self.accepted.push(Partition {
            id: self.id(index, vm),
            name: vm.name.clone(),
            vm: index,
            execution_contexts,
            memory: vm.memory,
            package,
            manifest,
            region_ranges,
        });
    }

    /// Checks what has to be unique: names, ids, boot orders. UUIDs need not be: one may be that of a protocol.
    fn unique(&self, vm: &VmEntry, index: usize, manifest: &PartitionManifest, sink: &mut Sink<'_>) {
        let at = |name| Path::ROOT.property(name);
        let id = self.id(index, vm);
        if manifest.id.is_none() && id != vm.id {
            sink.warn(
                at("id"),
                format_args!("another partition's manifest asks for {}: it gets {id}", vm.id),
            );
        }
        for other in &self.accepted {
            if other.vm == index {
                sink.error(
                    vm_path(&vm_name(vm)).here(),
                    format_args!("expected each partition once"),
                );
            }
            if let Some(id) = manifest.id.filter(|id| other.manifest.id == Some(*id)) {
                sink.error(
                    at("id").hex(id.as_u16().into()),
                    format_args!("partition \"{}\" has the same: expected an id of its own", other.name),
                );
            }
            if let Some(order) = manifest
                .boot_order
                .filter(|order| other.manifest.boot_order == Some(*order))
            {
                sink.error(
                    at("boot-order").dec(order.into()),
                    format_args!(
                        "partition \"{}\" has the same: expected a number of its own",
                        other.name
                    ),
                );
            }
        }
    }

    /// The id that a candidate gets.
    fn id(&self, index: usize, vm: &VmEntry) -> SpId {
        let given = self.ids.iter().find(|(vm, _)| *vm == index);
        given.map_or(vm.id, |(_, id)| *id)
    }

    /// How many execution contexts the partition gets.
    fn execution_contexts(&self, vm: &VmEntry, manifest: &PartitionManifest, sink: &mut Sink<'_>) -> u16 {
        let stated = manifest.execution_ctx_count;
        let at = Path::ROOT.property("execution-ctx-count").dec(stated.into());
        let pes = u16::try_from(self.spmc.cpus.len()).unwrap_or(u16::MAX);
        let contexts = if stated == 1 || stated == pes {
            stated
        } else if manifest.exception_level == ExceptionLevel::SEl1 {
            let contexts = stated.min(pes);
            // Manifests for any number of PEs state the most; the SPMC manifest then says how many there are.
            if contexts != pes || vm.vcpu_count != Some(pes) {
                sink.warn(
                    at,
                    format_args!(
                        "expected 1 or {}, one for each PE: it gets {}, for the first PEs",
                        u64::from(pes),
                        u64::from(contexts)
                    ),
                );
            }
            contexts
        } else {
            sink.error(at, format_args!("expected 1 or {}, one for each PE", u64::from(pes)));
            return stated;
        };
        if let Some(count) = vm.vcpu_count.filter(|count| *count != contexts && *count != stated) {
            sink.warn(
                vm_path(&vm_name(vm)).property("vcpu_count").dec(count.into()),
                format_args!(
                    "expected {0}, as execution-ctx-count has it: it gets {0}",
                    u64::from(contexts)
                ),
            );
        }
        contexts
    }

    /// Claims the memory that the partition was loaded to.
    fn claim_memory(&mut self, vm: &VmEntry, sink: &mut Sink<'_>) {
        let name = vm_name(vm);
        let at = vm_path(&name).property("load_address").value(Value::Range(vm.memory));
        self.within(vm.memory, MemoryKind::Memory, at, sink);
        self.claim(vm.memory, Source::Memory, None, at, sink);
    }

    /// Claims the memory regions, and returns where each lies.
    fn claim_memory_regions(
        &mut self,
        vm: &VmEntry,
        manifest: &PartitionManifest,
        sink: &mut Sink<'_>,
    ) -> Vec<Option<PageRange>> {
        let mut ranges = Vec::with_capacity(manifest.memory_regions.len());
        for (index, region) in manifest.memory_regions.iter().enumerate() {
            let path = Path::ROOT.join("memory-regions").join(&region.name);
            let (name, range) = match region.placement {
                Placement::Any => {
                    ranges.push(None);
                    continue;
                }
                Placement::Fixed(range) => ("base-address", Some(range)),
                Placement::Relative(offset) => ("load-address-relative-offset", relative(vm, offset, region.pages)),
            };
            ranges.push(range);
            let Some(range) = range else {
                sink.error(
                    path.property(name),
                    format_args!("ends beyond the 48-bit address space"),
                );
                continue;
            };
            let at = path.property(name).value(Value::Range(range));
            let source = Source::MemoryRegion(index);
            if region.world == World::Secure && vm.memory.contains_range(&range) {
                self.claim_inside(range, source, manifest, at, sink);
            } else {
                self.within(range, MemoryKind::memory(region.world), at, sink);
                self.claim(range, source, Some(manifest), at, sink);
            }
        }
        ranges
    }

    /// Claims the device regions.
    fn claim_device_regions(&mut self, manifest: &PartitionManifest, sink: &mut Sink<'_>) {
        for (index, region) in manifest.device_regions.iter().enumerate() {
            let path = Path::ROOT.join("device-regions").join(&region.name);
            let at = path.property("base-address").value(Value::Range(region.range));
            self.within(region.range, MemoryKind::device(region.world), at, sink);
            let source = Source::DeviceRegion {
                index,
                exclusive: region.exclusive_access,
            };
            self.claim(region.range, source, Some(manifest), at, sink);
        }
    }

    /// Checks that the interrupts are nobody else's, and their targets CPUs that there are.
    fn claim_interrupts(&self, manifest: &PartitionManifest, sink: &mut Sink<'_>) {
        let mut count = self.interrupts.len();
        for region in &manifest.device_regions {
            let path = Path::ROOT.join("device-regions").join(&region.name);
            for interrupt in &region.interrupts {
                count = count.saturating_add(1);
                if count > MAX_INTERRUPTS {
                    let at = path.property("interrupts");
                    sink.error(
                        at,
                        format_args!("expected at most {MAX_INTERRUPTS} interrupts in all partitions"),
                    );
                    return;
                }
                if let Some(other) = self.interrupts.iter().find(|(id, _)| *id == interrupt.id) {
                    sink.error(
                        path.property("interrupts").dec(interrupt.id.into()),
                        format_args!(
                            "partition \"{}\" has the same: expected an interrupt of its own",
                            self.name(other.1)
                        ),
                    );
                }
                if let Some(target) = interrupt.target.filter(|target| !self.spmc.cpus.contains(target)) {
                    sink.error(
                        path.property("interrupts-target").hex(target.as_u64()),
                        format_args!("expected the MPIDR of a CPU in the SPMC manifest"),
                    );
                }
            }
        }
    }

    /// Checks that `range` is within one range of its kind.
    fn within(&self, range: PageRange, kind: MemoryKind, at: At<'_>, sink: &mut Sink<'_>) {
        if !self.spmc.ranges(kind).any(|declared| declared.contains_range(&range)) {
            sink.error(
                at,
                format_args!("expected within a range that the SPMC manifest declares with device_type = \"{kind}\""),
            );
        }
    }

    /// Adds a claim that is within the partition's own memory: only its other regions can be in the way.
    fn claim_inside(
        &mut self,
        range: PageRange,
        source: Source,
        manifest: &PartitionManifest,
        at: At<'_>,
        sink: &mut Sink<'_>,
    ) {
        for other in self
            .claims
            .iter()
            .skip(self.settled)
            .filter(|other| other.source != Source::Memory && other.range.overlaps(&range))
        {
            sink.error(
                at,
                format_args!("overlaps {} of this partition", describe(other, Some(manifest))),
            );
        }
        self.add(range, source, at, sink);
    }

    /// Adds a claim, after a check against what is reserved, against the partition's own and against all others'.
    fn claim(
        &mut self,
        range: PageRange,
        source: Source,
        manifest: Option<&PartitionManifest>,
        at: At<'_>,
        sink: &mut Sink<'_>,
    ) {
        for reserved in self.reserved.iter().filter(|reserved| reserved.range.overlaps(&range)) {
            sink.error(at, format_args!("overlaps {} of {}", reserved.range, reserved.owner));
        }
        let (settled, own) = self.claims.split_at_checked(self.settled).unwrap_or_default();
        for other in own.iter().filter(|other| other.range.overlaps(&range)) {
            let devices = source.is_device() && other.source.is_device();
            let message = format!("overlaps {} of this partition", describe(other, manifest));
            if devices {
                sink.warn(at, format_args!("{message}"));
            } else {
                sink.error(at, format_args!("{message}"));
                break;
            }
        }
        for other in settled.iter().filter(|other| other.range.overlaps(&range)) {
            let theirs = self.accepted.get(other.owner).map(|partition| &partition.manifest);
            let (what, whose) = (describe(other, theirs), self.name(other.owner));
            if source.may_be_shared() && other.source.may_be_shared() {
                sink.warn(at, format_args!("shared with partition \"{whose}\", {what}"));
            } else {
                sink.error(at, format_args!("overlaps {what} of partition \"{whose}\""));
                break;
            }
        }
        self.add(range, source, at, sink);
    }

    fn add(&mut self, range: PageRange, source: Source, at: At<'_>, sink: &mut Sink<'_>) {
        if self.claims.len() < MAX_RANGES {
            let owner = self.accepted.len();
            self.claims.push(Claim { range, source, owner });
        } else {
            sink.error(
                at,
                format_args!("expected at most {MAX_RANGES} ranges in all partitions"),
            );
        }
    }

    /// The name of an accepted partition.
    fn name(&self, index: usize) -> &str {
        self.accepted
            .get(index)
            .map_or("?", |partition| partition.name.as_str())
    }
}

/// The id of each candidate: what its manifest asks for, else 0x8000 + N of `vmN`; where somebody else asks for that, the
/// first that is nobody's. Ids that are asked for twice are for [`System::unique`] to report.
fn ids(spmc: &SpmcManifest, candidates: &[Candidate]) -> Vec<(usize, SpId)> {
    let asked = |id: SpId| candidates.iter().any(|candidate| candidate.manifest.id == Some(id));
    let is_free = |id: &SpId| !asked(*id) && spmc.partitions.iter().all(|vm| vm.id != *id);
    let mut free = (1..).map_while(SpId::from_vm_number).filter(is_free);
    let mut ids = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let own = spmc
            .partitions
            .get(candidate.vm)
            .map(|vm| vm.id)
            .filter(|id| !asked(*id));
        if let Some(id) = candidate.manifest.id.or(own).or_else(|| free.next()) {
            ids.push((candidate.vm, id));
        }
    }
    ids
}

/// Checks where the partition begins, and that it was loaded where its manifest says.
fn entry_point(vm: &VmEntry, package: &Package, manifest: &PartitionManifest, sink: &mut Sink<'_>) {
    let offset = manifest.entrypoint_offset;
    let at = Path::ROOT.property("entrypoint-offset").hex(offset);
    if offset >= vm.memory.bytes() {
        sink.error(at, format_args!("expected less than mem_size {:#x}", vm.memory.bytes()));
    } else if offset < package.image.offset || offset >= package.image.end() {
        sink.warn(
            at,
            format_args!(
                "expected within the image, {:#x}-{:#x} from the load address",
                package.image.offset,
                package.image.end().saturating_sub(1)
            ),
        );
    }
    if let Some(bytes) = manifest.mem_size.filter(|bytes| *bytes != vm.memory.bytes()) {
        sink.warn(
            Path::ROOT.property("mem-size").hex(bytes),
            format_args!(
                "expected {:#x}, the mem_size in the SPMC manifest, which counts",
                vm.memory.bytes()
            ),
        );
    }
    if let Some(bytes) = manifest.image_size.filter(|bytes| *bytes > vm.memory.bytes()) {
        sink.warn(
            Path::ROOT.property("image-size").hex(bytes),
            format_args!(
                "expected at most {:#x}, the mem_size in the SPMC manifest",
                vm.memory.bytes()
            ),
        );
    }
    if let Some(address) = manifest.load_address.filter(|address| *address != vm.memory.base()) {
        sink.warn(
            Path::ROOT.property("load-address").hex(address.as_u64()),
            format_args!(
                "expected {}, the load_address in the SPMC manifest, which counts",
                vm.memory.base()
            ),
        );
    }
}

/// Where a region lies that is `offset` bytes from the load address.
fn relative(vm: &VmEntry, offset: u64, pages: u32) -> Option<PageRange> {
    let base = vm.memory.base().checked_add(offset)?;
    PageRange::from_bytes(base, u64::from(pages).checked_mul(PAGE_SIZE)?).ok()
}

/// The name of a partition's node in the SPMC manifest.
fn vm_name(vm: &VmEntry) -> String {
    format!("vm{}", u64::from(vm.number))
}

/// The path of a partition's node in the SPMC manifest.
fn vm_path(name: &str) -> Path<'_> {
    Path::ROOT.join("hypervisor").join(name)
}

/// What a range is, for a diagnostic: its node and its pages.
fn describe(claim: &Claim, manifest: Option<&PartitionManifest>) -> String {
    let range = claim.range;
    let (parent, name) = match claim.source {
        Source::Memory => return format!("memory {range}"),
        Source::MemoryRegion(index) => (
            "memory-regions",
            manifest
                .and_then(|manifest| manifest.memory_regions.get(index))
                .map(|region| &region.name),
        ),
        Source::DeviceRegion { index, .. } => (
            "device-regions",
            manifest
                .and_then(|manifest| manifest.device_regions.get(index))
                .map(|region| &region.name),
        ),
    };
    format!("/{parent}/{} {range}", name.map_or("?", |name| name.as_str()))
}
