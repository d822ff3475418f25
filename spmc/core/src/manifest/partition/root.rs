//! The properties and nodes directly in a partition's manifest.

use super::regions::{self, Devices, Memories};
use super::services::{self, Uuids};
use super::{
    AbortAction, BootInfo, ExceptionLevel, MAX_AUXILIARY_IDS, MAX_DESCRIPTION, MAX_ID, MAX_TIME_LIMIT, MessagingMethod,
    NsInterruptsAction, OtherSInterruptsAction, PartitionManifest, PowerManagement, RunTimeModel, RxTx, SriPolicy,
    TimeLimits, VmAvailability,
};
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::id::SpId;
use crate::manifest::FFA_VERSION;
use crate::manifest::diagnostic::Value;
use crate::manifest::tree::{Node, PAGE_ADDRESS, Path, Prop, Sink, to_u16};
use alloc::string::String;
use alloc::vec::Vec;
use arm_ffa::Version;

/// Names of the root's properties, to find the one that a misspelt one was meant to be.
pub(super) const PROPERTIES: &[&str] = &[
    "compatible",
    "ffa-version",
    "uuid",
    "id",
    "auxiliary-id",
    "description",
    "execution-ctx-count",
    "exception-level",
    "execution-state",
    "load-address",
    "entrypoint-offset",
    "xlat-granule",
    "boot-order",
    "messaging-method",
    "managed-exit",
    "managed-exit-virq",
    "ns-interrupts-action",
    "other-s-interrupts-action",
    "sri-interrupts-policy",
    "notification-support",
    "tantalum,virtual-gic",
    "tantalum,interrupt-limit-ms",
    "tantalum,power-limit-ms",
    "tantalum,start-limit-ms",
    "has-primary-scheduler",
    "run-time-model",
    "time-slice-mem",
    "gp-register-num",
    "stream-endpoint-ids",
    "power-management-messages",
    "vm-availability-messages",
    "lifecycle-support",
    "abort-action",
    "live-activation-support",
];

/// Names of the root's nodes.
const NODES: &[&str] = &[
    "boot-info",
    "device-regions",
    "memory-regions",
    "rx_tx-info",
    "services",
];

/// Messaging bits that need FF-A 1.2.
const DIRECT_REQ2: MessagingMethod = MessagingMethod::DIRECT_REQ2_RECEIVE.union(MessagingMethod::DIRECT_REQ2_SEND);

/// What `ffa-version` may be.
const FFA_VERSIONS: &str = "0x10000, 0x10001 or 0x10002 (FF-A 1.0 to 1.2)";

/// What `exception-level` may be.
const EXCEPTION_LEVELS: &str = "1 (S-EL0) or 2 (S-EL1)";

/// What `execution-state` may be.
const EXECUTION_STATES: &str = "0 (AArch64)";

/// Which properties the root had that exclude or require one another; the rest goes into the manifest directly.
#[derive(Default)]
struct Seen<'a> {
    compatible: Option<Prop<'a>>,
    binding: Option<Version>,
    ffa_version: Option<Version>,
    uuid: Option<Prop<'a>>,
    messaging_method: Option<Prop<'a>>,
    execution_ctx_count: Option<u16>,
    exception_level: Option<ExceptionLevel>,
    managed_exit: bool,
    ns_interrupts_action: Option<NsInterruptsAction>,
    rx_tx: Option<(u32, u32)>,
    services: Option<Uuids>,
    present: Present,
}

/// Mandatory properties that were there, whatever their value: one that is wrong is not reported as missing too.
#[derive(Default)]
struct Present {
    ffa_version: bool,
    execution_ctx_count: bool,
    exception_level: bool,
    execution_state: bool,
}

/// Reads the manifest whose root is `root`. `None` after at least one error.
pub(super) fn parse(root: &Node<'_>, sink: &mut Sink<'_>) -> Option<PartitionManifest> {
    let mut manifest = PartitionManifest::default();
    let mut seen = Seen::default();
    for property in root.properties() {
        if !identity(&property, &mut manifest, &mut seen, sink) && !behaviour(&property, &mut manifest, &mut seen, sink)
        {
            foreign(&property, sink);
        }
    }
    binding(root, &mut seen, sink);
    let mut memories = Memories::default();
    let mut devices = Devices::default();
    for node in root.children() {
        match node.name() {
            "memory-regions" => memories.read(&node, sink),
            "device-regions" => devices.read(&node, sink),
            "services" => seen.services = services::read_node(&node, sink),
            "boot-info" => manifest.boot_info = boot_info(&node, sink),
            "rx_tx-info" | "rx-tx-buffer" => seen.rx_tx = rx_tx(&node, sink),
            "__symbols__" | "__fixups__" | "__local_fixups__" => {}
            // A vendor's prefix: what it says is for the partition, which gets its manifest as boot information.
            name if name.bytes().any(|byte| byte == b',') => {}
            _ => node.unknown(sink, NODES),
        }
    }
    mandatory(&mut manifest, &seen, sink);
    manifest.services = services::pair(
        seen.uuid,
        seen.messaging_method,
        seen.services.take(),
        seen.binding,
        sink,
    );
    manifest.rx_tx = seen.rx_tx.and_then(|handles| memories.rx_tx(handles, sink));
    manifest.memory_regions = memories.regions;
    manifest.device_regions = devices.finish(sink);
    relations(&manifest, &seen, sink);
    if sink.failed() { None } else { Some(manifest) }
}

/// `compatible`.
fn binding(root: &Node<'_>, seen: &mut Seen<'_>, sink: &mut Sink<'_>) {
    const V1_0: &str = "arm,ffa-manifest-1.0";
    const V1_1: &str = "arm,ffa-manifest-1.1";
    match seen.compatible {
        Some(property) if property.is_string(V1_1) => seen.binding = Some(Version(1, 1)),
        Some(property) if property.is_string(V1_0) => seen.binding = Some(Version(1, 0)),
        Some(property) => sink.error(property.at(), format_args!("expected \"{V1_0}\" or \"{V1_1}\"")),
        None => sink.error(
            root.path.property("compatible"),
            format_args!("missing, expected \"{V1_0}\" or \"{V1_1}\""),
        ),
    }
}

/// Properties that say what the partition is. Returns whether `property` is one of them.
fn identity<'a>(
    property: &Prop<'a>,
    manifest: &mut PartitionManifest,
    seen: &mut Seen<'a>,
    sink: &mut Sink<'_>,
) -> bool {
    match property.name() {
        "compatible" => seen.compatible = Some(*property),
        "ffa-version" => {
            seen.present.ffa_version = true;
            seen.ffa_version = ffa_version(property, sink);
        }
        "uuid" => seen.uuid = Some(*property),
        "messaging-method" => seen.messaging_method = Some(*property),
        "id" => manifest.id = id(property, sink),
        "auxiliary-id" => manifest.auxiliary_ids = auxiliary_ids(property, sink),
        "stream-endpoint-ids" => {
            manifest.stream_endpoint_ids = property.list(sink, MAX_AUXILIARY_IDS, "32-bit ids");
        }
        "description" => manifest.description = property.string(sink, MAX_DESCRIPTION).map(String::from),
        _ => return execution(property, manifest, seen, sink),
    }
    true
}

/// Properties that say how the partition runs. Returns whether `property` is one of them.
fn execution(property: &Prop<'_>, manifest: &mut PartitionManifest, seen: &mut Seen<'_>, sink: &mut Sink<'_>) -> bool {
    match property.name() {
        "execution-ctx-count" => {
            seen.present.execution_ctx_count = true;
            let count = property.between(sink, 1, u16::MAX.into(), "1, or the number of PEs (at most 65535)");
            seen.execution_ctx_count = count.and_then(to_u16);
        }
        "exception-level" => {
            seen.present.exception_level = true;
            seen.exception_level = property.between(sink, 1, 2, EXCEPTION_LEVELS).map(exception_level);
        }
        "execution-state" => {
            seen.present.execution_state = true;
            property.between(sink, 0, 0, EXECUTION_STATES);
        }
        "load-address" => {
            manifest.load_address = property.multiple(sink, PAGE_SIZE, PAGE_ADDRESS).map(PhysAddr::new);
        }
        "entrypoint-offset" => {
            manifest.entrypoint_offset = property.multiple(sink, 4, "a multiple of 4").unwrap_or(0);
        }
        "mem-size" => manifest.mem_size = property.number(sink),
        "image-size" => manifest.image_size = property.number(sink),
        "xlat-granule" => {
            property.between(sink, 0, 0, "0 (4 KiB)");
        }
        "boot-order" => {
            manifest.boot_order = property
                .between(sink, 0, u16::MAX.into(), "0 to 65535")
                .and_then(to_u16);
        }
        _ => return false,
    }
    true
}

/// Properties that say what the partition does and wants. Returns whether `property` is one of them.
fn behaviour(property: &Prop<'_>, manifest: &mut PartitionManifest, seen: &mut Seen<'_>, sink: &mut Sink<'_>) -> bool {
    match property.name() {
        "managed-exit" => seen.managed_exit = property.flag(sink),
        "managed-exit-virq" => manifest.managed_exit_virq = property.flag(sink),
        "ns-interrupts-action" => seen.ns_interrupts_action = ns_interrupts_action(property, sink),
        "other-s-interrupts-action" => manifest.other_s_interrupts_action = other_s_action(property, sink),
        "sri-interrupts-policy" => {
            let policy = |bits| u8::try_from(bits).ok().and_then(SriPolicy::from_bits);
            let expected = "bits 0 (waiting) and 1 (entry to waiting) only";
            manifest.sri_policy = property.hex(sink, policy, expected).unwrap_or_default();
        }
        "tantalum,virtual-gic" => manifest.virtual_gic = property.flag(sink),
        "tantalum,interrupt-limit-ms" => manifest.time_limits.interrupt = limit(property, sink),
        "tantalum,power-limit-ms" => manifest.time_limits.power = limit(property, sink),
        "tantalum,start-limit-ms" => manifest.time_limits.start = limit(property, sink),
        "notification-support" => manifest.notification_support = property.flag(sink),
        "has-primary-scheduler" => manifest.has_primary_scheduler = property.flag(sink),
        "time-slice-mem" => manifest.time_slice_mem = property.flag(sink),
        "run-time-model" => manifest.run_time_model = run_time_model(property, sink),
        "gp-register-num" => {
            let register = property.between(sink, 0, 3, "0 to 3 (x0 to x3)");
            manifest.gp_register_num = register.and_then(|register| u8::try_from(register).ok());
        }
        "power-management-messages" => manifest.power_management = power_management(property, sink),
        "vm-availability-messages" => {
            let events = |bits| u8::try_from(bits).ok().and_then(VmAvailability::from_bits);
            let expected = "bits 0 (VM created) and 1 (VM destroyed) only";
            manifest.vm_availability = property.hex(sink, events, expected).unwrap_or_default();
        }
        "lifecycle-support" => manifest.lifecycle_support = property.flag(sink),
        "live-activation-support" => manifest.live_activation_support = property.flag(sink),
        "abort-action" => manifest.abort_action = abort_action(property, sink),
        _ => return false,
    }
    true
}

/// Properties that other SPMCs read and that have no meaning here, and unknown ones.
fn foreign(property: &Prop<'_>, sink: &mut Sink<'_>) {
    match property.name() {
        "elf-format" | "load-flags" | "arm,tpm_event_log" | "arm,hw-features" => {
            sink.warn(
                property.place(),
                format_args!("OP-TEE's own property, has no effect here"),
            );
        }
        "live-activation-register" | "image-uuid" | "live-state-buffer-info" => {
            sink.warn(
                property.place(),
                format_args!("live activation is not supported, no effect"),
            );
        }
        _ => property.unknown(sink, PROPERTIES),
    }
}

/// `ffa-version`. A partition of a later minor version gets ours, as it would by FFA_VERSION.
fn ffa_version(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<Version> {
    let Version(major, _) = FFA_VERSION;
    let read = |value| {
        let version = Version::try_from(u32::try_from(value).ok()?).ok()?;
        (version.0 == major).then_some(version)
    };
    let version = property.hex(sink, read, FFA_VERSIONS)?;
    if version > FFA_VERSION {
        sink.warn(
            property.place().hex(u32::from(version).into()),
            format_args!("expected {FFA_VERSIONS}: it gets 0x10002"),
        );
    }
    Some(version.min(FFA_VERSION))
}

/// A time in milliseconds.
fn limit(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<u32> {
    let limit = property.between(sink, 0, MAX_TIME_LIMIT, "1 to 3600000 (ms), or 0 for no limit")?;
    u32::try_from(limit).ok()
}

fn exception_level(value: u64) -> ExceptionLevel {
    if value == 1 {
        ExceptionLevel::SEl0
    } else {
        ExceptionLevel::SEl1
    }
}

fn ns_interrupts_action(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<NsInterruptsAction> {
    let action = property.between(sink, 0, 2, "0 (queued), 1 (managed exit) or 2 (signaled)")?;
    Some(match action {
        0 => NsInterruptsAction::Queued,
        1 => NsInterruptsAction::ManagedExit,
        _ => NsInterruptsAction::Signaled,
    })
}

fn other_s_action(property: &Prop<'_>, sink: &mut Sink<'_>) -> OtherSInterruptsAction {
    match property.between(sink, 0, 1, "0 (queued) or 1 (signaled)") {
        Some(0) => OtherSInterruptsAction::Queued,
        _ => OtherSInterruptsAction::Signaled,
    }
}

fn run_time_model(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<RunTimeModel> {
    let model = property.between(sink, 0, 1, "0 (run to completion) or 1 (preemptible)")?;
    Some(if model == 0 {
        RunTimeModel::RunToCompletion
    } else {
        RunTimeModel::Preemptible
    })
}

fn abort_action(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<AbortAction> {
    let action = property.between(sink, 0, 3, "0 (stop), 1 (destroy), 2 (restart) or 3 (propagate)")?;
    Some(match action {
        0 => AbortAction::Stop,
        1 => AbortAction::Destroy,
        2 => AbortAction::Restart,
        _ => AbortAction::Propagate,
    })
}

/// `power-management-messages`. Hafnium ignores bits that it does not know, so unknown ones only get a warning.
fn power_management(property: &Prop<'_>, sink: &mut Sink<'_>) -> PowerManagement {
    let Some(bits) = property.number(sink) else {
        return PowerManagement::empty();
    };
    let known = PowerManagement::from_bits_truncate(u8::try_from(bits & 0xff).unwrap_or(0));
    if u64::from(known.bits()) != bits {
        sink.warn(
            property.place().hex(bits),
            format_args!("expected bits 0 (off), 1 (suspend) and 2 (resume) only; the others are ignored"),
        );
    }
    known
}

/// `id`. Manifests for Hafnium, which does not look at it, have small numbers here, OP-TEE's for instance: no partition's
/// id, so that there is nothing to obey.
fn id(property: &Prop<'_>, sink: &mut Sink<'_>) -> Option<SpId> {
    let number = property.number(sink)?;
    let id = to_u16(number).and_then(SpId::new).filter(|id| *id <= MAX_ID);
    if id.is_none() && !matches!(number, 1..=0x7fff) {
        sink.warn(
            property.place().hex(number),
            format_args!("expected {} to {MAX_ID}; ignored", SpId::FIRST),
        );
    }
    id
}

fn auxiliary_ids(property: &Prop<'_>, sink: &mut Sink<'_>) -> Vec<u16> {
    let mut ids = Vec::new();
    for cell in property.list(sink, MAX_AUXILIARY_IDS, "32-bit ids") {
        match u16::try_from(cell) {
            Ok(id) => ids.push(id),
            Err(_) => property.refuse(Value::Hex(cell.into()), "ids of 16 bits", sink),
        }
    }
    ids
}

/// The `boot-info` node.
fn boot_info(node: &Node<'_>, sink: &mut Sink<'_>) -> Option<BootInfo> {
    let mut compatible = None;
    let mut info = BootInfo::default();
    for property in node.properties() {
        match property.name() {
            "compatible" => compatible = Some(property),
            "ffa_manifest" => info.ffa_manifest = property.flag(sink),
            "hob_list" => info.hob_list = property.flag(sink),
            _ => property.unknown(sink, &["ffa_manifest", "hob_list"]),
        }
    }
    node.no_children(sink);
    node.check_compatible(compatible, "arm,ffa-manifest-boot-info", sink)
        .then_some(info)
}

/// The `rx_tx-info` node: the phandles of the RX and the TX buffer.
fn rx_tx(node: &Node<'_>, sink: &mut Sink<'_>) -> Option<(u32, u32)> {
    let mut compatible = None;
    let (mut rx, mut tx) = (None, None);
    for property in node.properties() {
        match property.name() {
            "compatible" => compatible = Some(property),
            "rx-buffer" => rx = Some(property.word(sink, "a phandle")?),
            "tx-buffer" => tx = Some(property.word(sink, "a phandle")?),
            _ => property.unknown(sink, &["rx-buffer", "tx-buffer"]),
        }
    }
    node.no_children(sink);
    for (name, found) in [("rx-buffer", rx), ("tx-buffer", tx)] {
        if found.is_none() {
            node.path.missing(name, "the phandle of a memory region", sink);
        }
    }
    let compatible = node.check_compatible(compatible, "arm,ffa-manifest-rx_tx-buffer", sink);
    rx.zip(tx).filter(|_| compatible)
}

/// Takes over the mandatory properties and reports those that are missing.
fn mandatory(manifest: &mut PartitionManifest, seen: &Seen<'_>, sink: &mut Sink<'_>) {
    let present = &seen.present;
    for (found, name, expected) in [
        (present.ffa_version, "ffa-version", FFA_VERSIONS),
        (
            present.execution_ctx_count,
            "execution-ctx-count",
            "1 or the number of PEs",
        ),
        (present.exception_level, "exception-level", EXCEPTION_LEVELS),
        (present.execution_state, "execution-state", EXECUTION_STATES),
    ] {
        if !found {
            Path::ROOT.missing(name, expected, sink);
        }
    }
    manifest.binding = seen.binding.unwrap_or(manifest.binding);
    manifest.ffa_version = seen.ffa_version.unwrap_or(manifest.ffa_version);
    manifest.execution_ctx_count = seen.execution_ctx_count.unwrap_or(manifest.execution_ctx_count);
    manifest.exception_level = seen.exception_level.unwrap_or(manifest.exception_level);
    manifest.ns_interrupts_action = match (seen.ns_interrupts_action, seen.managed_exit) {
        (Some(action), _) => action,
        (None, true) => NsInterruptsAction::ManagedExit,
        (None, false) => NsInterruptsAction::default(),
    };
}

/// Rules between properties.
fn relations(manifest: &PartitionManifest, seen: &Seen<'_>, sink: &mut Sink<'_>) {
    let at = |name| Path::ROOT.property(name);
    if seen.managed_exit
        && seen
            .ns_interrupts_action
            .is_some_and(|action| action != NsInterruptsAction::ManagedExit)
    {
        sink.warn(
            at("managed-exit"),
            format_args!("ignored: ns-interrupts-action says otherwise"),
        );
    }
    if manifest.other_s_interrupts_action == OtherSInterruptsAction::Queued
        && manifest.ns_interrupts_action != NsInterruptsAction::Queued
    {
        sink.error(
            at("other-s-interrupts-action").dec(0),
            format_args!("expected 1 (signaled), or ns-interrupts-action = 0 (queued) as well"),
        );
    }
    if let Some(version) = seen.ffa_version.filter(|version| *version < Version(1, 2))
        && manifest.messaging().intersects(DIRECT_REQ2)
    {
        sink.error(
            at("ffa-version").hex(u32::from(version).into()),
            format_args!("expected 0x10002, as messaging-method has bits 9 or 10 (FFA_MSG_SEND_DIRECT_REQ2)"),
        );
    }
    if manifest.exception_level == ExceptionLevel::SEl0 {
        s_el0(manifest, sink);
    }
    if manifest.abort_action.is_some() && !manifest.lifecycle_support {
        sink.error(at("abort-action"), format_args!("expected lifecycle-support as well"));
    }
    if !sink.failed() {
        boot_information(manifest, sink);
    }
}

/// Warns of half a wish for boot information.
fn boot_information(manifest: &PartitionManifest, sink: &mut Sink<'_>) {
    if manifest.gp_register_num.is_none() && manifest.boot_info.is_some() {
        sink.warn(
            Path::ROOT.join("boot-info").here(),
            format_args!("no effect: there is no gp-register-num that says in which register"),
        );
    }
}

/// What an S-EL0 partition cannot have.
fn s_el0(manifest: &PartitionManifest, sink: &mut Sink<'_>) {
    let at = |name| Path::ROOT.property(name);
    if manifest.execution_ctx_count != 1 {
        sink.error(
            at("execution-ctx-count").dec(manifest.execution_ctx_count.into()),
            format_args!("expected 1 for an S-EL0 partition"),
        );
    }
    if manifest.ns_interrupts_action == NsInterruptsAction::ManagedExit {
        sink.error(
            at("ns-interrupts-action").dec(1),
            format_args!("expected 0 (queued) or 2 (signaled) for an S-EL0 partition"),
        );
    }
    if !manifest.sri_policy.is_empty() {
        sink.error(
            at("sri-interrupts-policy").hex(manifest.sri_policy.bits().into()),
            format_args!("expected 0 for an S-EL0 partition"),
        );
    }
    for region in &manifest.memory_regions {
        if region.access == regions::RWX {
            sink.error(
                Path::ROOT
                    .join("memory-regions")
                    .join(&region.name)
                    .property("attributes")
                    .hex(7),
                format_args!("expected not all of read, write and execute for an S-EL0 partition"),
            );
        }
    }
}

impl Default for PartitionManifest {
    /// What a manifest says that has none of the optional properties; mandatory ones have placeholders.
    fn default() -> Self {
        Self {
            binding: Version(1, 0),
            ffa_version: FFA_VERSION,
            services: Vec::new(),
            id: None,
            auxiliary_ids: Vec::new(),
            stream_endpoint_ids: Vec::new(),
            description: None,
            execution_ctx_count: 1,
            exception_level: ExceptionLevel::SEl1,
            load_address: None,
            entrypoint_offset: 0,
            mem_size: None,
            image_size: None,
            boot_order: None,
            rx_tx: None::<RxTx>,
            ns_interrupts_action: NsInterruptsAction::default(),
            managed_exit_virq: false,
            other_s_interrupts_action: OtherSInterruptsAction::default(),
            sri_policy: SriPolicy::empty(),
            virtual_gic: false,
            time_limits: TimeLimits::default(),
            notification_support: false,
            has_primary_scheduler: false,
            time_slice_mem: false,
            run_time_model: None,
            gp_register_num: None,
            boot_info: None,
            power_management: PowerManagement::empty(),
            vm_availability: VmAvailability::empty(),
            lifecycle_support: false,
            abort_action: None,
            live_activation_support: false,
            memory_regions: Vec::new(),
            device_regions: Vec::new(),
        }
    }
}
