//! The nodes directly in the SPMC manifest.

use super::vms;
use super::{
    Attribute, InterruptController, MAX_CPUS, MAX_GIC_REGIONS, MAX_MEMORY_RANGES, MemoryKind, MemoryRange, Mpidr,
    SpmcManifest,
};
use crate::addr::{PageRange, PhysAddr};
use crate::id::EndpointId;
use crate::manifest::FFA_VERSION;
use crate::manifest::diagnostic::Value;
use crate::manifest::nearest::without_unit_address;
use crate::manifest::tree::{Node, Path, Prop, Sink, to_u16};
use alloc::vec::Vec;
use arm_ffa::Version;

/// The `compatible` string of an SPMC manifest.
const COMPATIBLE: &str = "arm,ffa-core-manifest-1.0";

/// Names of the root's nodes.
const NODES: &[&str] = &["attribute", "hypervisor", "cpus", "memory", "interrupt-controller"];

/// Names of the properties of `/attribute`.
const ATTRIBUTE: &[&str] = &[
    "spmc_id",
    "maj_ver",
    "min_ver",
    "exec_state",
    "load_address",
    "entrypoint",
    "binary_size",
];

/// Ranges of memory, each with the path of its node.
type Memory<'a> = Vec<(Path<'a>, MemoryRange)>;

/// `#address-cells` and `#size-cells` of a node, for the `reg` of its children.
#[derive(Clone, Copy)]
struct Cells {
    address: usize,
    size: usize,
}

impl Cells {
    /// What the Devicetree Specification says where the properties are absent.
    const DEFAULT: Self = Self { address: 2, size: 1 };

    /// Takes `property` if it is one of the two.
    fn take(&mut self, property: &Prop<'_>, sink: &mut Sink<'_>) -> bool {
        let number = |least, expected, sink: &mut Sink<'_>| {
            let cells = property.between(sink, least, 2, expected)?;
            usize::try_from(cells).ok()
        };
        match property.name() {
            "#address-cells" => self.address = number(1, "1 or 2", sink).unwrap_or(self.address),
            "#size-cells" => self.size = number(0, "0 to 2", sink).unwrap_or(self.size),
            _ => return false,
        }
        true
    }

    /// Splits `reg` into addresses and sizes.
    fn split<'a>(self, property: &Prop<'a>, sink: &mut Sink<'_>) -> Option<impl Iterator<Item = (u64, u64)> + use<'a>> {
        let mut cells = property.cells(sink)?;
        let entry = self.address.saturating_add(self.size);
        if !cells.len().is_multiple_of(entry) {
            sink.error(
                property.at(),
                format_args!(
                    "expected entries of {} address cells and {} size cells",
                    self.address, self.size
                ),
            );
            return None;
        }
        Some(core::iter::from_fn(move || {
            let mut number = |count| {
                let mut value = 0_u64;
                for _ in 0..count {
                    value = value << 32 | u64::from(cells.next()?);
                }
                Some(value)
            };
            number(self.address).zip(number(self.size))
        }))
    }
}

/// Reads the manifest whose root is `root`. `None` after an error outside the `vmN` nodes.
pub(super) fn parse(root: &Node<'_>, sink: &mut Sink<'_>) -> Option<SpmcManifest> {
    let cells = root_properties(root, sink);
    let (mut attribute, mut cpus, mut partitions) = (None, None, None);
    let mut memory: Memory<'_> = Vec::new();
    let mut interrupt_controller = None;
    for node in root.children() {
        match node.name() {
            "attribute" => attribute = Some(read_attribute(&node, sink)),
            "hypervisor" => partitions = Some(vms::read(&node, sink)),
            "cpus" => cpus = Some(read_cpus(&node, sink)),
            "__symbols__" | "__fixups__" | "__local_fixups__" | "aliases" | "chosen" => {}
            name if is_named(name, "interrupt-controller") => {
                interrupt_controller = read_interrupt_controller(&node, cells, sink);
            }
            _ => other(&node, cells, &mut memory, sink),
        }
    }
    check_memory(&memory, sink);
    for (name, there) in [
        ("attribute", attribute.is_some()),
        ("hypervisor", partitions.is_some()),
        ("cpus", cpus.is_some()),
    ] {
        if !there {
            sink.error(Path::ROOT.join(name).here(), format_args!("missing, expected the node"));
        }
    }
    if sink.failed() {
        return None;
    }
    let mut ranges = Vec::new();
    for (_, range) in memory {
        ranges.push(range);
    }
    Some(SpmcManifest {
        attribute: attribute??,
        partitions: partitions?,
        cpus: cpus?,
        memory: ranges,
        interrupt_controller,
    })
}

/// The root's properties: how many cells addresses and sizes have.
fn root_properties(root: &Node<'_>, sink: &mut Sink<'_>) -> Cells {
    let mut cells = Cells::DEFAULT;
    let mut compatible = None;
    for property in root.properties() {
        match property.name() {
            "compatible" => compatible = Some(property),
            "model" => {}
            _ if cells.take(&property, sink) => {}
            _ => property.unknown(sink, &["compatible", "#address-cells", "#size-cells"]),
        }
    }
    root.check_compatible(compatible, COMPATIBLE, sink);
    cells
}

/// Whether a node's name is `expected`, with or without a unit address.
fn is_named(name: &str, expected: &str) -> bool {
    without_unit_address(name) == expected
}

/// A node of the root that its name does not tell apart: memory if its `device_type` says so.
fn other<'a>(node: &Node<'a>, cells: Cells, memory: &mut Memory<'a>, sink: &mut Sink<'_>) {
    let (mut device_type, mut reg) = (None, None);
    for property in node.properties() {
        match property.name() {
            "device_type" => device_type = Some(property),
            "reg" => reg = Some(property),
            _ => {}
        }
    }
    let name = node.name();
    if device_type.is_none() && !is_named(name, "memory") {
        if name.starts_with("smmu") || name.starts_with("iommu") {
            sink.warn(node.here(), format_args!("SMMUs are not supported: has no effect"));
        } else if !matches!(
            name,
            "tpm_event_log" | "sp_packages" | "psci" | "timer" | "soc" | "reserved-memory"
        ) {
            node.unknown(sink, NODES);
        }
        return;
    }
    let expected = "\"memory\", \"ns-memory\", \"device-memory\" or \"ns-device-memory\"";
    let Some(device_type) = device_type else {
        node.path.missing("device_type", expected, sink);
        return;
    };
    let kind = core::str::from_utf8(device_type.strings().next().unwrap_or_default()).ok();
    let Some(kind) = kind.and_then(MemoryKind::from_device_type) else {
        device_type.expected(expected, sink);
        return;
    };
    match reg {
        Some(reg) => read_ranges(&reg, kind, cells, (node.path, memory), sink),
        None => node.path.missing("reg", "ranges of addresses", sink),
    }
}

/// `reg` of a memory node.
fn read_ranges<'a>(
    reg: &Prop<'_>,
    kind: MemoryKind,
    cells: Cells,
    (path, memory): (Path<'a>, &mut Memory<'a>),
    sink: &mut Sink<'_>,
) {
    let Some(entries) = cells.split(reg, sink) else { return };
    for (base, bytes) in entries {
        if memory.len() == MAX_MEMORY_RANGES {
            sink.error(
                reg.place(),
                format_args!("expected at most {MAX_MEMORY_RANGES} ranges in all memory nodes"),
            );
            return;
        }
        if let Some(range) = page_range(reg, base, bytes, sink) {
            memory.push((path, MemoryRange { kind, range }));
        }
    }
}

/// One range of a `reg`.
#[inline(never)]
fn page_range(reg: &Prop<'_>, base: u64, bytes: u64, sink: &mut Sink<'_>) -> Option<PageRange> {
    let range = PageRange::from_bytes(PhysAddr::new(base), bytes);
    if let Err(error) = range {
        sink.error(
            reg.place().hex(base),
            format_args!("range of {bytes:#x} bytes {error}: expected whole pages"),
        );
    }
    range.ok()
}

/// Rules for the ranges together: there is secure RAM, and none belongs to two kinds.
fn check_memory(memory: &Memory<'_>, sink: &mut Sink<'_>) {
    let at = Path::ROOT.join("memory").here();
    let has = |kind| memory.iter().any(|(_, range)| range.kind == kind);
    if !sink.failed() && !has(MemoryKind::Memory) {
        sink.error(
            at,
            format_args!("missing, expected a node with device_type = \"memory\" for partitions"),
        );
    }
    if !sink.failed() && !has(MemoryKind::NsMemory) {
        sink.warn(
            at,
            format_args!("no node with device_type = \"ns-memory\": the normal world can share no memory"),
        );
    }
    let mut sorted = memory.clone();
    crate::sort::sort_by_key(&mut sorted, |(_, range)| range.range.base());
    let mut highest: Option<&MemoryRange> = None;
    for (path, range) in &sorted {
        if let Some(other) = highest.filter(|other| other.range.overlaps(&range.range)) {
            let at = path.property("reg").value(Value::Range(range.range));
            if other.kind == range.kind {
                sink.warn(at, format_args!("overlaps {} of the same kind", other.range));
            } else {
                sink.error(
                    at,
                    format_args!(
                        "overlaps {} {}: expected one kind for each page",
                        other.kind, other.range
                    ),
                );
            }
        }
        if highest.is_none_or(|other| other.range.end() < range.range.end()) {
            highest = Some(range);
        }
    }
}

/// `/attribute`.
fn read_attribute(node: &Node<'_>, sink: &mut Sink<'_>) -> Option<Attribute> {
    let (mut spmc_id, mut major, mut minor) = (None, None, None);
    let (mut load_address, mut entrypoint, mut binary_size) = (None, None, None);
    for property in node.properties() {
        match property.name() {
            "spmc_id" => {
                let id = |id| (id == u64::from(EndpointId::SPMC.as_u16())).then_some(EndpointId::SPMC);
                spmc_id = Some(property.hex(sink, id, "0x8000"));
            }
            "maj_ver" => major = Some(property.between(sink, 1, 1, "1").and_then(to_u16)),
            "min_ver" => minor = Some(minor_version(&property, sink)),
            "exec_state" => {
                property.between(sink, 0, 0, "0 (AArch64)");
            }
            "load_address" => load_address = wide(&property, sink),
            "entrypoint" => entrypoint = wide(&property, sink),
            "binary_size" => binary_size = narrow(&property, sink),
            _ => property.unknown(sink, ATTRIBUTE),
        }
    }
    node.no_children(sink);
    for (name, there) in [
        ("spmc_id", spmc_id.is_some()),
        ("maj_ver", major.is_some()),
        ("min_ver", minor.is_some()),
    ] {
        if !there {
            sink.error(
                node.path.property(name),
                format_args!("missing, expected it: the SPMD needs it too"),
            );
        }
    }
    let (spmc_id, major, minor) = (spmc_id??, major??, minor??);
    Some(Attribute {
        spmc_id,
        version: Version(major, minor),
        load_address,
        binary_size,
        entrypoint,
    })
}

/// `min_ver`. One that is too new only gets a warning: the SPMD has its say about it.
fn minor_version(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<u16> {
    let minor = property.between(sink, 0, u16::MAX.into(), "0 to 2").and_then(to_u16)?;
    if minor > FFA_VERSION.1 {
        sink.warn(
            property.place().dec(minor.into()),
            format_args!(
                "expected 0 to {}: this SPMC implements FF-A {FFA_VERSION}",
                FFA_VERSION.1
            ),
        );
    }
    Some(minor)
}

/// An address that the SPMD reads as 64 bits.
fn wide(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<PhysAddr> {
    let address = property.number(sink)?;
    if property.len() != 8 {
        sink.warn(
            property.at(),
            format_args!("expected two cells: TF-A's SPMD reads 64 bits and takes this to be missing"),
        );
    }
    Some(PhysAddr::new(address))
}

/// A size that the SPMD reads as 32 bits.
fn narrow(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<u64> {
    let size = property.number(sink)?;
    if property.len() != 4 {
        sink.warn(
            property.at(),
            format_args!("expected one cell: TF-A's SPMD reads 32 bits and takes this to be missing"),
        );
    }
    Some(size)
}

/// `/cpus`. What else nodes of CPUs hold in a system's device tree is passed over.
fn read_cpus(node: &Node<'_>, sink: &mut Sink<'_>) -> Vec<Mpidr> {
    let mut cells = Cells { address: 2, size: 0 };
    for property in node.properties() {
        let _ = cells.take(&property, sink);
    }
    cells.size = 0;
    let mut cpus = Vec::new();
    for child in node.children() {
        if !is_named(child.name(), "cpu") {
            continue;
        }
        if cpus.len() == MAX_CPUS {
            sink.error(node.here(), format_args!("expected at most {MAX_CPUS} CPUs"));
            break;
        }
        match child.properties().find(|property| property.name() == "reg") {
            Some(reg) => read_cpu(&reg, cells, &mut cpus, sink),
            None => child.path.missing("reg", "the CPU's MPIDR", sink),
        }
    }
    if cpus.is_empty() {
        sink.error(
            node.here(),
            format_args!("expected at least one cpu node with its MPIDR in reg"),
        );
    }
    cpus
}

/// `reg` of a CPU.
fn read_cpu(reg: &Prop<'_>, cells: Cells, cpus: &mut Vec<Mpidr>, sink: &mut Sink<'_>) {
    let Some(entries) = cells.split(reg, sink) else { return };
    for (raw, _) in entries.take(MAX_CPUS) {
        let mpidr = Mpidr::from_register(raw);
        if mpidr.as_u64() != raw {
            sink.warn(
                reg.place().hex(raw),
                format_args!("expected the affinity fields of MPIDR only, bits 39:32 and 23:0; the others are ignored"),
            );
        }
        if cpus.contains(&mpidr) {
            reg.refuse(Value::Hex(raw), "each MPIDR once", sink);
        } else if cpus.len() < MAX_CPUS {
            cpus.push(mpidr);
        }
    }
}

/// `interrupt-controller`: in `reg` the distributors come first, then the redistributors; what follows is passed over.
fn read_interrupt_controller(node: &Node<'_>, cells: Cells, sink: &mut Sink<'_>) -> Option<InterruptController> {
    let mut reg = None;
    let (mut distributors, mut redistributors) = (Some(1), Some(1));
    for property in node.properties() {
        let count = |sink: &mut Sink<'_>| {
            let count = property.between(sink, 1, MAX_GIC_REGIONS, "1 to 64 regions")?;
            usize::try_from(count).ok()
        };
        match property.name() {
            "reg" => reg = Some(property),
            "#distributor-regions" => distributors = count(sink),
            "#redistributor-regions" => redistributors = count(sink),
            _ => {}
        }
    }
    let Some(reg) = reg else {
        node.path.missing("reg", "the GIC's registers", sink);
        return None;
    };
    let (distributors, redistributors) = distributors.zip(redistributors)?;
    let wanted = distributors.saturating_add(redistributors);
    let mut regions = gic_regions(&reg, cells, wanted, sink)?;
    if regions.len() < wanted {
        sink.error(
            reg.place(),
            format_args!(
                "{} ranges: expected at least {wanted}, for {distributors} distributor and {redistributors} redistributor regions",
                regions.len()
            ),
        );
        return None;
    }
    let redistributors = regions.split_off(distributors.min(regions.len()));
    Some(InterruptController {
        distributors: regions,
        redistributors,
    })
}

/// The first `wanted` ranges of the GIC's `reg`, or as many as there are.
fn gic_regions(reg: &Prop<'_>, cells: Cells, wanted: usize, sink: &mut Sink<'_>) -> Option<Vec<PageRange>> {
    let mut regions = Vec::new();
    for (base, bytes) in cells.split(reg, sink)?.take(wanted) {
        regions.push(page_range(reg, base, bytes, sink)?);
    }
    Some(regions)
}
