//! The nodes `memory-regions` and `device-regions`.

use super::{
    Access, DeviceRegion, Dma, Interrupt, InterruptKind, MAX_DESCRIPTION, MAX_REGION_ITEMS, MAX_REGIONS, MemoryRegion,
    Placement, RxTx, Trigger,
};
use crate::addr::{PAGE_SIZE, PageRange, PhysAddr, World};
use crate::manifest::diagnostic::{MAX_TEXT, Value};
use crate::manifest::spmc::Mpidr;
use crate::manifest::tree::{Node, PAGE_ADDRESS, Path, Prop, Sink};
use alloc::string::String;
use alloc::vec::Vec;

/// Properties of a memory region.
const MEMORY: &[&str] = &[
    "description",
    "base-address",
    "load-address-relative-offset",
    "pages-count",
    "attributes",
    "smmu-id",
    "stream-ids",
    "stream-ids-access-permissions",
];

/// Properties of a device region.
const DEVICE: &[&str] = &[
    "description",
    "base-address",
    "pages-count",
    "attributes",
    "smmu-id",
    "stream-ids",
    "interrupts",
    "interrupts-target",
    "exclusive-access",
];

/// Read, write and execute.
pub(super) const RWX: Access = Access::all();

/// Read and write.
const RW: Access = Access::READ.union(Access::WRITE);

/// Bit of `attributes` that says that a region is non-secure.
const NON_SECURE: u64 = 1 << 3;

/// Properties that both kinds of region have.
#[derive(Default)]
struct Common<'a> {
    description: Option<String>,
    base_address: Option<Prop<'a>>,
    pages_count: Option<Prop<'a>>,
    attributes: Option<Prop<'a>>,
    smmu_id: Option<Prop<'a>>,
    stream_ids: Option<Prop<'a>>,
    stream_access: Option<Prop<'a>>,
}

impl<'a> Common<'a> {
    /// Takes `property` if it is one of these.
    fn take(&mut self, property: &Prop<'a>, sink: &mut Sink<'_>) -> bool {
        match property.name() {
            "description" => self.description = property.string(sink, MAX_DESCRIPTION).map(String::from),
            "base-address" => self.base_address = Some(*property),
            "pages-count" => self.pages_count = Some(*property),
            "attributes" => self.attributes = Some(*property),
            "smmu-id" => self.smmu_id = Some(*property),
            "stream-ids" => self.stream_ids = Some(*property),
            "stream-ids-access-permissions" => self.stream_access = Some(*property),
            _ => return false,
        }
        true
    }

    /// `pages-count`.
    fn pages(&self, path: Path<'_>, sink: &mut Sink<'_>) -> Option<u32> {
        let Some(property) = self.pages_count else {
            path.missing("pages-count", "the number of 4 KiB pages", sink);
            return None;
        };
        let pages = property.between(sink, 1, u32::MAX.into(), "1 to 4294967295 pages of 4 KiB")?;
        u32::try_from(pages).ok()
    }

    /// `base-address` and `pages-count` together.
    fn range(property: &Prop<'_>, pages: Option<u32>, sink: &mut Sink<'_>) -> Option<PageRange> {
        let base = PhysAddr::new(property.multiple(sink, PAGE_SIZE, PAGE_ADDRESS)?);
        let pages = u64::from(pages?);
        match PageRange::new(base, pages) {
            Ok(range) => Some(range),
            Err(error) => {
                sink.error(
                    property.place().hex(base.as_u64()),
                    format_args!("region of {pages} pages {error}"),
                );
                None
            }
        }
    }

    /// `attributes`, of which `allowed` are the combinations of access that make sense.
    fn access(
        &self,
        path: Path<'_>,
        allowed: &[Access],
        expected: &str,
        sink: &mut Sink<'_>,
    ) -> Option<(Access, World)> {
        let Some(property) = self.attributes else {
            path.missing("attributes", expected, sink);
            return None;
        };
        let bits = property.number(sink)?;
        let access = Access::from_bits_truncate(u8::try_from(bits & 0xff).unwrap_or(0));
        if !allowed.contains(&access) {
            property.refuse(Value::Hex(bits), expected, sink);
            return None;
        }
        let world = if bits & NON_SECURE == 0 {
            World::Secure
        } else {
            World::NonSecure
        };
        if bits & !(NON_SECURE | u64::from(Access::all().bits())) != 0 {
            sink.warn(
                property.place().hex(bits),
                format_args!("bits above 3 have no meaning, ignored"),
            );
        }
        Some((access, world))
    }

    /// `smmu-id`, `stream-ids` and `stream-ids-access-permissions`.
    fn dma(&self, sink: &mut Sink<'_>) -> Option<Dma> {
        let smmu_id = self
            .smmu_id
            .and_then(|property| property.dec(sink, |number| u32::try_from(number).ok(), "a number of 32 bits"));
        let stream_ids = match self.stream_ids {
            Some(property) => property.list(sink, MAX_REGION_ITEMS, "32-bit ids"),
            None => Vec::new(),
        };
        let mut access = Vec::new();
        if let Some(property) = self.stream_access {
            let list = property.list(sink, MAX_REGION_ITEMS, "32-bit attributes");
            access.extend(
                list.iter()
                    .map(|bits| Access::from_bits_truncate(bits.to_le_bytes()[0])),
            );
            if access.len() != stream_ids.len() {
                sink.error(
                    property.at(),
                    format_args!("expected one value for each of {} stream-ids", stream_ids.len()),
                );
            }
        }
        let any = smmu_id.is_some() || !stream_ids.is_empty();
        any.then_some(Dma {
            smmu_id,
            stream_ids,
            access,
        })
    }
}

/// A node's name, bounded, and fit for a terminal.
fn bounded_name(node: &Node<'_>) -> String {
    let printable = |character| if matches!(character, ' '..='~') { character } else { '?' };
    node.name().chars().take(MAX_TEXT).map(printable).collect()
}

/// Reads the properties of `memory-regions` or `device-regions` itself.
fn read_parent(node: &Node<'_>, expected: &str, sink: &mut Sink<'_>) {
    let mut compatible = None;
    for property in node.properties() {
        match property.name() {
            "compatible" => compatible = Some(property),
            _ => property.unknown(sink, &[]),
        }
    }
    node.check_compatible(compatible, expected, sink);
}

/// The memory regions read so far, and their phandles.
#[derive(Default)]
pub(super) struct Memories {
    pub(super) regions: Vec<MemoryRegion>,
    handles: Vec<(u32, usize)>,
    /// A region was left out after an error: phandles may be those of such a region.
    incomplete: bool,
}

impl Memories {
    /// Reads the `memory-regions` node.
    pub(super) fn read(&mut self, node: &Node<'_>, sink: &mut Sink<'_>) {
        read_parent(node, "arm,ffa-manifest-memory-regions", sink);
        for child in node.children() {
            if self.regions.len() == MAX_REGIONS {
                sink.error(
                    node.here(),
                    format_args!("expected at most {MAX_REGIONS} memory regions"),
                );
                return;
            }
            self.region(&child, sink);
        }
    }

    fn region(&mut self, node: &Node<'_>, sink: &mut Sink<'_>) {
        let mut common = Common::default();
        let (mut offset, mut handle) = (None, None);
        for property in node.properties() {
            match property.name() {
                "load-address-relative-offset" => offset = Some(property),
                "phandle" => handle = property.number(sink).and_then(|number| u32::try_from(number).ok()),
                "load-flags" => {
                    sink.warn(
                        property.place(),
                        format_args!("OP-TEE's own property, has no effect here"),
                    );
                }
                _ if common.take(&property, sink) => {}
                _ => property.unknown(sink, MEMORY),
            }
        }
        node.no_children(sink);
        let pages = common.pages(node.path, sink);
        let placement = placement(&common, offset, pages, sink);
        let expected = "1 (R), 3 (RW), 5 (RX) or 7 (RWX), plus 8 if non-secure";
        let allowed = [Access::READ, RW, Access::READ.union(Access::EXECUTE), RWX];
        let access = common.access(node.path, &allowed, expected, sink);
        let dma = common.dma(sink);
        let (Some(pages), Some(placement), Some((access, world))) = (pages, placement, access) else {
            self.incomplete = true;
            return;
        };
        let access = without_ns_execute(access, world, node.path, sink);
        if let Some(handle) = handle {
            self.handles.push((handle, self.regions.len()));
        }
        let name = bounded_name(node);
        self.regions.push(MemoryRegion {
            name,
            description: common.description,
            placement,
            pages,
            access,
            world,
            dma,
        });
    }

    /// The RX and TX buffers that the phandles `rx` and `tx` mean.
    pub(super) fn rx_tx(&self, (rx, tx): (u32, u32), sink: &mut Sink<'_>) -> Option<RxTx> {
        let path = Path::ROOT.join("rx_tx-info");
        let mut find = |name, handle: u32| {
            let found = self.handles.iter().find(|(other, _)| *other == handle);
            if found.is_none() && !self.incomplete {
                sink.error(
                    path.property(name).hex(handle.into()),
                    format_args!("expected the phandle of a node below memory-regions"),
                );
            }
            found.map(|(_, index)| *index)
        };
        let (rx, tx) = (find("rx-buffer", rx), find("tx-buffer", tx));
        let (rx, tx) = rx.zip(tx)?;
        let (rx_region, tx_region) = self.regions.get(rx).zip(self.regions.get(tx))?;
        if rx == tx {
            sink.error(
                path.property("tx-buffer"),
                format_args!("expected another memory region than rx-buffer"),
            );
        } else if rx_region.pages != tx_region.pages {
            sink.error(
                path.property("tx-buffer"),
                format_args!(
                    "buffer of {} pages: expected {}, as many as rx-buffer has",
                    u64::from(tx_region.pages),
                    u64::from(rx_region.pages)
                ),
            );
        } else if !tx_region.access.contains(Access::WRITE) {
            sink.error(
                path.property("tx-buffer"),
                format_args!("expected a memory region that is writable"),
            );
        } else {
            return Some(RxTx { rx, tx });
        }
        None
    }
}

/// Takes away execute where the region is non-secure, with a warning.
fn without_ns_execute(access: Access, world: World, path: Path<'_>, sink: &mut Sink<'_>) -> Access {
    if world == World::NonSecure && access.contains(Access::EXECUTE) {
        sink.warn(
            path.property("attributes"),
            format_args!("non-secure memory is never executable: mapped without execute"),
        );
        return access.difference(Access::EXECUTE);
    }
    access
}

/// `base-address` or `load-address-relative-offset` or neither.
fn placement(
    common: &Common<'_>,
    offset: Option<Prop<'_>>,
    pages: Option<u32>,
    sink: &mut Sink<'_>,
) -> Option<Placement> {
    match (common.base_address, offset) {
        (Some(_), Some(offset)) => {
            offset.expected("either this or base-address, not both", sink);
            None
        }
        (Some(base), None) => Common::range(&base, pages, sink).map(Placement::Fixed),
        (None, Some(offset)) => offset
            .multiple(sink, PAGE_SIZE, "a page-aligned offset (multiple of 0x1000)")
            .map(Placement::Relative),
        (None, None) => Some(Placement::Any),
    }
}

/// The device regions read so far.
#[derive(Default)]
pub(super) struct Devices {
    regions: Vec<DeviceRegion>,
}

impl Devices {
    /// Reads the `device-regions` node.
    pub(super) fn read(&mut self, node: &Node<'_>, sink: &mut Sink<'_>) {
        read_parent(node, "arm,ffa-manifest-device-regions", sink);
        for child in node.children() {
            if self.regions.len() == MAX_REGIONS {
                sink.error(
                    node.here(),
                    format_args!("expected at most {MAX_REGIONS} device regions"),
                );
                return;
            }
            self.region(&child, sink);
        }
    }

    fn region(&mut self, node: &Node<'_>, sink: &mut Sink<'_>) {
        let mut common = Common::default();
        let (mut interrupts, mut targets, mut exclusive_access) = (None, None, false);
        for property in node.properties() {
            match property.name() {
                "interrupts" => interrupts = Some(property),
                "interrupts-target" => targets = Some(property),
                "exclusive-access" => exclusive_access = property.flag(sink),
                "interrupt-parent" => {}
                _ if common.take(&property, sink) => {}
                _ => property.unknown(sink, DEVICE),
            }
        }
        node.no_children(sink);
        let pages = common.pages(node.path, sink);
        let range = match common.base_address {
            Some(property) => Common::range(&property, pages, sink),
            None => {
                node.path.missing("base-address", "the device's address", sink);
                None
            }
        };
        let expected = "1 (R) or 3 (RW), plus 8 if non-secure";
        let access = common.access(node.path, &[Access::READ, RW], expected, sink);
        let interrupts = read_interrupts(interrupts, targets, sink);
        let dma = common.dma(sink);
        let (Some(range), Some((access, world))) = (range, access) else {
            return;
        };
        let name = bounded_name(node);
        self.regions.push(DeviceRegion {
            name,
            description: common.description,
            range,
            access,
            world,
            interrupts,
            dma,
            exclusive_access,
        });
    }

    /// All device regions, after a check that no interrupt is there twice.
    pub(super) fn finish(self, sink: &mut Sink<'_>) -> Vec<DeviceRegion> {
        let mut ids: Vec<(u32, &str)> = Vec::new();
        for region in &self.regions {
            for interrupt in &region.interrupts {
                ids.push((interrupt.id, &region.name));
            }
        }
        crate::sort::sort_by_key(&mut ids, |(id, _)| *id);
        for pair in ids.windows(2) {
            if let [(first, _), (second, name)] = *pair
                && first == second
            {
                sink.error(
                    Path::ROOT
                        .join("device-regions")
                        .join(name)
                        .property("interrupts")
                        .dec(second.into()),
                    format_args!("expected each interrupt once in a partition"),
                );
            }
        }
        self.regions
    }
}

/// `interrupts` and `interrupts-target`.
fn read_interrupts(interrupts: Option<Prop<'_>>, targets: Option<Prop<'_>>, sink: &mut Sink<'_>) -> Vec<Interrupt> {
    let mut found: Vec<Interrupt> = Vec::new();
    if let Some(property) = interrupts {
        let pairs = property.groups::<2>(
            sink,
            MAX_REGION_ITEMS,
            "pairs of 32-bit cells, interrupt id and attributes",
        );
        if let Some(pairs) = pairs {
            for [id, attributes] in pairs {
                if let Some(interrupt) = interrupt(&property, id, attributes, sink) {
                    found.push(interrupt);
                }
            }
        }
    }
    if let Some(property) = targets {
        let each = "triples of 32-bit cells, interrupt id and upper and lower half of the MPIDR";
        let Some(triples) = property.groups::<3>(sink, MAX_REGION_ITEMS, each) else {
            return found;
        };
        for [id, high, low] in triples {
            let mpidr = Mpidr::from_register(u64::from(high) << 32 | u64::from(low));
            match found.iter_mut().find(|interrupt| interrupt.id == id) {
                Some(interrupt) => interrupt.target = Some(mpidr),
                None => property.refuse(
                    Value::Dec(id.into()),
                    "an interrupt that this device has in interrupts",
                    sink,
                ),
            }
        }
    }
    found
}

/// The class of INTID `id`; `None` for ids that no device can have here (SGIs, special, reserved, LPIs).
fn interrupt_kind(id: u32) -> Option<InterruptKind> {
    match id {
        16..=31 | 1056..=1119 => Some(InterruptKind::Ppi),
        32..=1019 | 4096..=5119 => Some(InterruptKind::Spi),
        _ => None,
    }
}

/// One pair of `interrupts`.
fn interrupt(property: &Prop<'_>, id: u32, attributes: u32, sink: &mut Sink<'_>) -> Option<Interrupt> {
    let Some(kind) = interrupt_kind(id) else {
        let expected = "the id of a PPI or SPI: 16-1019, 1056-1119 or 4096-5119";
        if id < 16 {
            // A software-generated one: what manifests have for devices whose interrupts nobody uses.
            sink.warn(
                property.place().value(Value::Dec(id.into())),
                format_args!("expected {expected}; ignored"),
            );
        } else {
            property.refuse(Value::Dec(id.into()), expected, sink);
        }
        return None;
    };
    let code = match kind {
        InterruptKind::Ppi => 1,
        InterruptKind::Spi => 2,
    };
    if attributes >> 10 != code {
        sink.warn(
            property.place().value(Value::Hex(attributes.into())),
            format_args!(
                "type in bits 31:10 of the attributes: expected {}, as interrupt {} is a {kind}; treated as one",
                u64::from(code),
                u64::from(id)
            ),
        );
    }
    Some(Interrupt {
        id,
        priority: attributes.to_le_bytes()[0],
        world: if attributes & 1 << 8 == 0 {
            World::NonSecure
        } else {
            World::Secure
        },
        trigger: if attributes & 1 << 9 == 0 {
            Trigger::Edge
        } else {
            Trigger::Level
        },
        kind,
        target: None,
    })
}
