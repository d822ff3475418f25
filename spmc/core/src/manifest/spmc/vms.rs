//! `/hypervisor` and its `vmN` nodes.

use super::{MAX_PARTITIONS, MAX_SMC_WHITELIST, VmEntry};
use crate::addr::{PAGE_SIZE, PageRange, PhysAddr, is_page_aligned};
use crate::id::SpId;
use crate::manifest::tree::{Node, PAGE_ADDRESS, Prop, Sink, to_u16};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Longest `debug_name`, in characters.
const MAX_NAME: usize = 63;

/// Properties of a `vmN` node.
const PROPERTIES: &[&str] = &[
    "is_ffa_partition",
    "hyp_loaded",
    "debug_name",
    "load_address",
    "mem_size",
    "vcpu_count",
    "smc_whitelist",
    "smc_whitelist_permissive",
    "exception-level",
    "kernel_filename",
    "ramdisk_filename",
    "fdt_filename",
];

/// Reads `/hypervisor`: the partitions in order of their numbers.
pub(super) fn read(node: &Node<'_>, sink: &mut Sink<'_>) -> Vec<VmEntry> {
    let mut compatible = None;
    for property in node.properties() {
        match property.name() {
            "compatible" => compatible = Some(property),
            "ffa_tee_enabled" => {
                sink.warn(
                    property.place(),
                    format_args!("for Hafnium in the normal world, has no effect here"),
                );
            }
            _ => property.unknown(sink, &["compatible"]),
        }
    }
    node.check_compatible(compatible, "hafnium,hafnium", sink);
    let mut nodes: Vec<(u16, Node<'_>)> = Vec::new();
    for child in node.children() {
        match number(child.name()) {
            Some(0) => sink.error(
                child.here(),
                format_args!("expected numbers from vm1 on: vm0 is reserved"),
            ),
            Some(number) if nodes.len() < MAX_PARTITIONS => nodes.push((number, child)),
            Some(_) => sink.error(
                child.here(),
                format_args!("expected at most {MAX_PARTITIONS} partitions"),
            ),
            None => child.unknown(sink, &["vm1"]),
        }
    }
    crate::sort::sort_by_key(&mut nodes, |(number, _)| *number);
    let mut entries = Vec::with_capacity(nodes.len());
    let mut previous = 0;
    for (number, node) in &nodes {
        gap(previous, *number, node, sink);
        if let Some(entry) = entry(*number, previous == *number, node, sink) {
            entries.push(entry);
        }
        previous = *number;
    }
    entries
}

/// N of `vmN`, where N has no sign and no leading zero.
fn number(name: &str) -> Option<u16> {
    let digits = name.strip_prefix("vm")?;
    if digits.is_empty() || digits.starts_with('0') && digits != "0" {
        return None;
    }
    digits.bytes().try_fold(0_u16, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Warns where a number is left out before `number`.
fn gap(previous: u16, number: u16, node: &Node<'_>, sink: &mut Sink<'_>) {
    let next = previous.saturating_add(1);
    if number > next {
        sink.warn(
            node.here(),
            format_args!(
                "there is no vm{} before it: used all the same, but Hafnium would stop at the gap",
                u64::from(next)
            ),
        );
    }
}

/// The properties of a `vmN` node as they were found.
#[derive(Default)]
struct Found<'a> {
    name: Option<Prop<'a>>,
    load_address: Option<Prop<'a>>,
    mem_size: Option<Prop<'a>>,
    vcpu_count: Option<Prop<'a>>,
    smc_whitelist: Option<Prop<'a>>,
    is_ffa_partition: bool,
    smc_whitelist_permissive: bool,
}

/// Reads one `vmN` node. `None` after an error, which leaves out this partition only.
fn entry(number: u16, twice: bool, node: &Node<'_>, sink: &mut Sink<'_>) -> Option<VmEntry> {
    let name = name(number, node, sink);
    let mut sink = sink.for_partition(&name);
    let sink = &mut sink;
    let found = find(node, sink);
    let id = SpId::from_vm_number(number);
    if id.is_none() {
        sink.error(
            node.here(),
            format_args!(
                "expected a number up to 32703: the id 0x8000 + {} is reserved",
                u64::from(number)
            ),
        );
    }
    if twice {
        sink.error(node.here(), format_args!("expected each number once"));
    }
    if !found.is_ffa_partition {
        node.path
            .missing("is_ffa_partition", "it: this SPMC runs FF-A partitions only", sink);
    }
    let memory = memory(&found, node, sink);
    let vcpu_count = found.vcpu_count.and_then(|property| {
        let count = property.between(sink, 1, u16::MAX.into(), "1 to 65535 execution contexts")?;
        to_u16(count)
    });
    let smc_whitelist = smc_whitelist(found.smc_whitelist, sink);
    let (memory, id) = memory.zip(id)?;
    if sink.failed() {
        return None;
    }
    Some(VmEntry {
        number,
        id,
        name: name.clone(),
        memory,
        vcpu_count,
        smc_whitelist,
        smc_whitelist_permissive: found.smc_whitelist_permissive,
    })
}

/// `debug_name`, or `vmN` where there is no good one: a partition needs a name for anything to be said about it.
fn name(number: u16, node: &Node<'_>, sink: &mut Sink<'_>) -> String {
    let fallback = format!("vm{}", u64::from(number));
    let property = node.properties().find(|property| property.name() == "debug_name");
    let mut sink = sink.for_partition(&fallback);
    match property {
        Some(property) => match property.string(&mut sink, MAX_NAME) {
            Some(name) => String::from(name),
            None => fallback,
        },
        None => {
            sink.warn(
                node.path.property("debug_name"),
                format_args!("missing: the partition goes by \"{fallback}\""),
            );
            fallback
        }
    }
}

/// Takes the properties of a `vmN` node apart.
fn find<'a>(node: &Node<'a>, sink: &mut Sink<'_>) -> Found<'a> {
    let mut found = Found::default();
    for property in node.properties() {
        match property.name() {
            "is_ffa_partition" => found.is_ffa_partition = property.flag(sink),
            "hyp_loaded" => sink.error(
                property.place(),
                format_args!("not supported: expected a partition that BL2 loads as a package, without this property"),
            ),
            "debug_name" => found.name = Some(property),
            "load_address" => found.load_address = Some(property),
            "mem_size" => found.mem_size = Some(property),
            "vcpu_count" => found.vcpu_count = Some(property),
            "smc_whitelist" => found.smc_whitelist = Some(property),
            "smc_whitelist_permissive" => found.smc_whitelist_permissive = property.flag(sink),
            "exception-level" | "kernel_filename" | "ramdisk_filename" | "fdt_filename" | "boot_address" => {
                sink.warn(property.place(), format_args!("has no effect on an FF-A partition"));
            }
            _ => property.unknown(sink, PROPERTIES),
        }
    }
    node.no_children(sink);
    found
}

/// `load_address` and `mem_size`.
fn memory(found: &Found<'_>, node: &Node<'_>, sink: &mut Sink<'_>) -> Option<PageRange> {
    let (Some(address), Some(size)) = (&found.load_address, &found.mem_size) else {
        if found.load_address.is_none() {
            node.path
                .missing("load_address", "the address that BL2 loads the package to", sink);
        }
        if found.mem_size.is_none() {
            node.path
                .missing("mem_size", "the bytes of memory that the partition has", sink);
        }
        return None;
    };
    let base = address.multiple(sink, PAGE_SIZE, PAGE_ADDRESS);
    let bytes = size.hex(
        sink,
        |bytes| (bytes != 0 && is_page_aligned(bytes)).then_some(bytes),
        "a multiple of 0x1000, not 0",
    );
    let (base, bytes) = base.zip(bytes)?;
    match PageRange::from_bytes(PhysAddr::new(base), bytes) {
        Ok(range) => Some(range),
        Err(error) => {
            sink.error(
                address.place().hex(base),
                format_args!("memory of {bytes:#x} bytes {error}"),
            );
            None
        }
    }
}

/// `smc_whitelist`: function ids of 32 bits.
fn smc_whitelist(property: Option<Prop<'_>>, sink: &mut Sink<'_>) -> Vec<u32> {
    match property {
        Some(property) => property.list(sink, MAX_SMC_WHITELIST, "32-bit SMC function ids"),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn vm_numbers() {
        for (name, expected) in [
            ("vm1", Some(1)),
            ("vm0", Some(0)),
            ("vm65535", Some(65535)),
            ("vm65536", None),
            ("vm", None),
            ("vm01", None),
            ("vm+1", None),
            ("vm1a", None),
            ("VM1", None),
            ("vm1@0", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
    }
}
