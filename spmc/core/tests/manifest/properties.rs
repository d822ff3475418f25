//! Every property of a partition's manifest and of the SPMC's: what a good value gives, and that a bad one is refused
//! by name. Source: the FF-A manifest binding of TF-A (`docs/components/ffa-manifest-binding.rst`).

use crate::support::{check_manifest, check_spmc, shown};
use crate::tree::{Tree, blob, cells, text};
use tantalum_core::addr::{PageRange, PhysAddr, World};
use tantalum_core::manifest::partition::{
    AbortAction, Access, ExceptionLevel, InterruptKind, MessagingMethod, NsInterruptsAction, OtherSInterruptsAction,
    Placement, PowerManagement, RunTimeModel, SriPolicy, Trigger, VmAvailability,
};
use tantalum_core::manifest::spmc::MemoryKind;
use tantalum_core::manifest::{PartitionManifest, Report, SpmcManifest};
use tantalum_core::watch::{NO_LIMIT, TimeLimits};

/// A partition manifest with the mandatory properties, a memory region and a device.
fn good() -> Tree {
    let mut tree = Tree::default();
    tree.set("compatible", text("arm,ffa-manifest-1.0"))
        .set("ffa-version", cells(&[0x1_0002]))
        .set("uuid", cells(&[0x1e67_b5b4, 0xe14f_904a, 0x13fb_1fb8, 0xcbda_e1da]))
        .set("messaging-method", cells(&[3]))
        .set("execution-ctx-count", cells(&[1]))
        .set("exception-level", cells(&[2]))
        .set("execution-state", cells(&[0]));
    tree.node("memory-regions")
        .set("compatible", text("arm,ffa-manifest-memory-regions"));
    tree.node("memory-regions/ram")
        .set("base-address", cells(&[0, 0x1000_0000]))
        .set("pages-count", cells(&[2]))
        .set("attributes", cells(&[3]));
    tree.node("device-regions")
        .set("compatible", text("arm,ffa-manifest-device-regions"));
    tree.node("device-regions/uart")
        .set("base-address", cells(&[0, 0x0904_0000]))
        .set("pages-count", cells(&[1]))
        .set("attributes", cells(&[3]));
    tree
}

/// Reads `tree`, with what was said about it.
fn read(tree: &Tree) -> (Option<PartitionManifest>, Vec<String>) {
    let mut report = Report::new();
    let manifest = PartitionManifest::parse("p", &tree.blob(), &mut report);
    manifest.iter().for_each(check_manifest);
    assert_eq!(
        manifest.is_none(),
        report.errors() != 0,
        "{:?}",
        shown(report.diagnostics())
    );
    (manifest, shown(report.diagnostics()))
}

/// The good manifest with one property set.
fn with(node: &str, name: &str, value: &[u8]) -> Tree {
    let mut tree = good();
    tree.node(node).set(name, value);
    tree
}

/// Setting the property is accepted without a word, and `check` holds of the manifest.
#[track_caller]
fn accepts(node: &str, name: &str, value: &[u8], check: impl Fn(&PartitionManifest) -> bool) {
    let (manifest, said) = read(&with(node, name, value));
    assert_eq!(said, [""; 0], "{name}");
    assert!(check(&manifest.unwrap()), "{name}");
}

/// Setting the property gets a warning that names it, and `check` holds of the manifest.
#[track_caller]
fn warns(node: &str, name: &str, value: &[u8], check: impl Fn(&PartitionManifest) -> bool) {
    let (manifest, said) = read(&with(node, name, value));
    let start = format!("warning: partition \"p\": /{node}: {name}");
    assert!(said.iter().any(|line| line.starts_with(&start)), "{name}: {said:?}");
    assert!(check(&manifest.unwrap()), "{name}");
}

/// Setting the property to any of these is an error that names it.
#[track_caller]
fn refuses(node: &str, name: &str, values: &[Vec<u8>]) {
    let start = format!("error: partition \"p\": /{node}: {name}");
    for value in values {
        let (manifest, said) = read(&with(node, name, value));
        assert!(manifest.is_none(), "{name} = {value:?}");
        assert!(
            said.iter().any(|line| line.starts_with(&start)),
            "{name} = {value:?}: {said:?}"
        );
    }
}

/// A property of which all these are no number.
fn no_numbers() -> Vec<Vec<u8>> {
    vec![vec![], vec![1, 2, 3], cells(&[0, 0, 0]), text("four")]
}

#[test]
fn the_good_manifest_is_good() {
    let (manifest, said) = read(&good());
    assert_eq!(said, [""; 0]);
    let manifest = manifest.unwrap();
    assert_eq!(manifest.ns_interrupts_action, NsInterruptsAction::Signaled);
    assert_eq!(manifest.other_s_interrupts_action, OtherSInterruptsAction::Signaled);
    assert_eq!(
        (manifest.entrypoint_offset, manifest.boot_order, manifest.load_address),
        (0, None, None)
    );
}

#[test]
fn mandatory_properties() {
    for name in [
        "compatible",
        "ffa-version",
        "uuid",
        "messaging-method",
        "execution-ctx-count",
        "exception-level",
        "execution-state",
    ] {
        let mut tree = good();
        tree.remove(name);
        let (manifest, said) = read(&tree);
        assert!(manifest.is_none());
        assert!(
            said.iter()
                .any(|line| line.starts_with(&format!("error: partition \"p\": /: {name}: missing"))),
            "{said:?}"
        );
    }
}

#[test]
fn numbers_have_any_width() {
    for value in [vec![1], vec![0, 1], cells(&[1]), cells(&[0, 1])] {
        accepts("", "boot-order", &value, |manifest| manifest.boot_order == Some(1));
    }
}

#[test]
fn every_numeric_property_refuses_what_is_no_number() {
    for name in [
        "ffa-version",
        "id",
        "execution-ctx-count",
        "exception-level",
        "execution-state",
        "load-address",
        "entrypoint-offset",
        "xlat-granule",
        "boot-order",
        "ns-interrupts-action",
        "other-s-interrupts-action",
        "sri-interrupts-policy",
        "run-time-model",
        "gp-register-num",
        "power-management-messages",
        "vm-availability-messages",
        "abort-action",
    ] {
        refuses("", name, &no_numbers()[..3]);
    }
    for name in ["base-address", "pages-count", "attributes", "smmu-id"] {
        refuses("memory-regions/ram", name, &no_numbers()[..3]);
        refuses("device-regions/uart", name, &no_numbers()[..3]);
    }
}

#[test]
fn compatible_and_versions() {
    refuses(
        "",
        "compatible",
        &[
            text("arm,ffa-manifest-1.2"),
            text("arm,ffa-manifest"),
            vec![],
            cells(&[1]),
        ],
    );
    let list = [text("vendor,manifest"), text("arm,ffa-manifest-1.0")].concat();
    accepts("", "compatible", &list, |manifest| {
        manifest.binding == arm_ffa::Version(1, 0)
    });
    for version in [0x1_0000, 0x1_0001, 0x1_0002] {
        accepts("", "ffa-version", &cells(&[version]), |manifest| {
            u32::from(manifest.ffa_version) == version
        });
    }
    for version in [0x1_0003, 0x1_ffff] {
        warns("", "ffa-version", &cells(&[version]), |manifest| {
            manifest.ffa_version == arm_ffa::Version(1, 2)
        });
    }
    refuses(
        "",
        "ffa-version",
        &[cells(&[0x2_0000]), cells(&[0]), cells(&[0x8001_0001])],
    );
}

#[test]
fn uuids() {
    let canonical = "b4b5671e-4a90-4fe1-b81f-fb13dae1dacb";
    let (manifest, _) = read(&good());
    assert_eq!(manifest.unwrap().services[0].uuid.to_string(), canonical);
    refuses(
        "",
        "uuid",
        &[
            vec![],
            cells(&[1, 2, 3]),
            cells(&[1; 5]),
            cells(&[0; 4]),
            cells(&[7; 8]),
            text(canonical),
        ],
    );
    refuses("", "uuid", &[cells(&[1; 4 * 65])]);
    // OP-TEE's UUID with its words as they are printed.
    let unswapped = cells(&[0x4861_78e0, 0xe7f8_11e3, 0xbc5e_0002, 0xa5d5_c51b]);
    warns("", "uuid", &unswapped, |manifest| manifest.services.len() == 1);
    let (_, said) = read(&with("", "uuid", &unswapped));
    assert!(
        said[0].contains("for 486178e0-e7f8-11e3-bc5e-0002a5d5c51b the bytes of each cell must be reversed"),
        "{said:?}"
    );
}

#[test]
fn messaging_methods() {
    let all = MessagingMethod::all();
    accepts("", "messaging-method", &cells(&[0x607]), |manifest| {
        manifest.messaging() == all
    });
    accepts("", "messaging-method", &[1], |manifest| {
        manifest.messaging() == MessagingMethod::DIRECT_REQ_RECEIVE
    });
    refuses(
        "",
        "messaging-method",
        &[vec![], cells(&[8]), cells(&[0x1_0003]), cells(&[3, 3]), vec![1, 2, 3]],
    );
    let mut tree = with("", "uuid", &cells(&[1, 2, 3, 4, 5, 6, 7, 8]));
    tree.set("messaging-method", cells(&[1, 0x200]));
    let (manifest, _) = read(&tree);
    let methods: Vec<_> = manifest
        .unwrap()
        .services
        .iter()
        .map(|service| service.messaging.bits())
        .collect();
    assert_eq!(methods, [1, 0x200]);
    tree.set("ffa-version", cells(&[0x1_0001]));
    assert!(read(&tree).0.is_none());
}

#[test]
fn services() {
    let mut tree = good();
    tree.set("compatible", text("arm,ffa-manifest-1.1"))
        .remove("uuid")
        .remove("messaging-method");
    tree.node("services")
        .set("compatible", text("arm,ffa-manifest-services"));
    for (name, uuid, method) in [
        ("a", "b4b5671e-4a90-4fe1-b81f-fb13dae1dacb", 0x603),
        ("b", "486178E0-E7F8-11E3-BC5E-0002A5D5C51B", 4),
    ] {
        tree.node("services")
            .node(name)
            .set("uuid", text(uuid))
            .set("messaging-method", cells(&[method]));
    }
    let (manifest, said) = read(&tree);
    assert_eq!(said, [""; 0]);
    let services = manifest.unwrap().services;
    assert_eq!(services[1].uuid.to_string(), "486178e0-e7f8-11e3-bc5e-0002a5d5c51b");
    assert_eq!(services[0].messaging.bits(), 0x603);
    // TF-A's tools want one of the UUIDs at the root as well; another one, or a messaging method, does nothing.
    tree.set("uuid", cells(&[0x1e67_b5b4, 0xe14f_904a, 0x13fb_1fb8, 0xcbda_e1da]));
    assert_eq!(read(&tree).1, [""; 0]);
    tree.set("uuid", cells(&[1, 2, 3, 4]))
        .set("messaging-method", cells(&[3]));
    assert_eq!(
        read(&tree).1,
        [
            "warning: partition \"p\": /: messaging-method: ignored: the services node says it for each service",
            "warning: partition \"p\": /: uuid = 01000000-0200-0000-0300-000004000000: ignored: none of the services has it",
        ]
    );
    // Services in a manifest that says 1.0 count all the same; a manifest that says 1.1 may do without them.
    tree.set("compatible", text("arm,ffa-manifest-1.0"))
        .remove("uuid")
        .remove("messaging-method");
    assert_eq!(read(&tree).0.unwrap().services, services);
    let (manifest, said) = read(&with("", "compatible", &text("arm,ffa-manifest-1.1")));
    assert_eq!(
        said,
        ["warning: partition \"p\": /: uuid: binding 1.1 expects a services node instead"]
    );
    assert_eq!(manifest.unwrap().services.len(), 1);
    for (name, value) in [
        ("uuid", text("b4b5671e-4a90-4fe1-b81f-fb13dae1dac")),
        ("uuid", text("b4b5671e4a904fe1b81ffb13dae1dacb")),
        ("uuid", text("{b4b5671e-4a90-4fe1-b81f-fb13dae1dacb}")),
        ("uuid", text("b4b5671e-4a90-4fe1-b81f-fb13dae1dacg")),
        ("uuid", text("00000000-0000-0000-0000-000000000000")),
        ("uuid", text("486178e0-e7f8-11e3-bc5e-0002a5d5c51b")),
        ("uuid", vec![]),
        ("messaging-method", cells(&[8])),
        ("messaging-method", vec![]),
    ] {
        let mut tree = tree.clone();
        tree.node("services/a").set(name, value.clone());
        assert!(read(&tree).0.is_none(), "{name} {value:?}");
    }
}

#[test]
fn identity() {
    accepts("", "id", &cells(&[0x8001]), |manifest| {
        manifest.id.is_some_and(|id| id.as_u16() == 0x8001)
    });
    for id in [0, 0x8000, 0x8400, 0xffc0, 0xffff, 0x1_8001] {
        warns("", "id", &cells(&[id]), |manifest| manifest.id.is_none());
    }
    for id in [1, 0x7fff] {
        accepts("", "id", &cells(&[id]), |manifest| manifest.id.is_none());
    }
    accepts("", "auxiliary-id", &cells(&[0xae00, 1]), |manifest| {
        manifest.auxiliary_ids == [0xae00, 1]
    });
    refuses(
        "",
        "auxiliary-id",
        &[vec![], cells(&[0x1_0000]), vec![1, 2], cells(&[1; 65])],
    );
    accepts("", "stream-endpoint-ids", &cells(&[5, 6]), |manifest| {
        manifest.stream_endpoint_ids == [5, 6]
    });
    refuses("", "stream-endpoint-ids", &[vec![], vec![1]]);
    accepts("", "description", &text("a b"), |manifest| {
        manifest.description.as_deref() == Some("a b")
    });
    refuses(
        "",
        "description",
        &[
            vec![],
            text(""),
            b"x".to_vec(),
            text("\x1b[2J"),
            text("a\0b"),
            text(&"x".repeat(256)),
        ],
    );
    accepts("", "execution-ctx-count", &cells(&[8]), |manifest| {
        manifest.execution_ctx_count == 8
    });
    refuses(
        "",
        "execution-ctx-count",
        &[cells(&[0]), cells(&[0x1_0000]), cells(&[1, 1])],
    );
    accepts("", "exception-level", &cells(&[1]), |manifest| {
        manifest.exception_level == ExceptionLevel::SEl0
    });
    refuses("", "exception-level", &[cells(&[0]), cells(&[3]), cells(&[6])]);
    refuses("", "execution-state", &[cells(&[1]), cells(&[2])]);
}

#[test]
fn time_limits() {
    type Field = fn(&PartitionManifest) -> Option<u32>;
    let fields: [(&str, Field); 3] = [
        ("tantalum,interrupt-limit-ms", |manifest| manifest.time_limits.interrupt),
        ("tantalum,power-limit-ms", |manifest| manifest.time_limits.power),
        ("tantalum,start-limit-ms", |manifest| manifest.time_limits.start),
    ];
    for (name, field) in fields {
        for limit in [0, 1, 3_600_000] {
            accepts("", name, &cells(&[limit]), |manifest| field(manifest) == Some(limit));
        }
        refuses(
            "",
            name,
            &[cells(&[3_600_001]), cells(&[1, 0]), text("for ever"), vec![]],
        );
    }
    let mut manifest = read(&good()).0.expect("a good one");
    let defaults = TimeLimits::new(&manifest.time_limits, 1_000_000);
    assert_eq!(
        [defaults.interrupt, defaults.queued, defaults.firmware, defaults.start],
        [100_000, NO_LIMIT, 5_000_000, 30_000_000]
    );
    manifest.time_limits.interrupt = Some(7);
    manifest.time_limits.start = Some(0);
    let limits = TimeLimits::new(&manifest.time_limits, 1_000_000);
    assert_eq!(
        [limits.interrupt, limits.queued, limits.firmware, limits.start],
        [7_000, 7_000, 5_000_000, NO_LIMIT]
    );
    // A counter whose frequency firmware has not set.
    assert_eq!(TimeLimits::new(&manifest.time_limits, 1).queued, NO_LIMIT);
}

#[test]
fn loading() {
    let address = Some(PhysAddr::new(0xe30_0000));
    accepts("", "load-address", &cells(&[0xe30_0000]), |manifest| {
        manifest.load_address == address
    });
    accepts("", "load-address", &cells(&[0, 0xe30_0000]), |manifest| {
        manifest.load_address == address
    });
    refuses("", "load-address", &[cells(&[0xe30_0001]), cells(&[1, 0x800])]);
    accepts("", "entrypoint-offset", &cells(&[0x4000]), |manifest| {
        manifest.entrypoint_offset == 0x4000
    });
    refuses("", "entrypoint-offset", &[cells(&[2])]);
    accepts("", "xlat-granule", &cells(&[0]), |_| true);
    refuses("", "xlat-granule", &[cells(&[1]), cells(&[2])]);
    accepts("", "boot-order", &cells(&[0xffff]), |manifest| {
        manifest.boot_order == Some(0xffff)
    });
    refuses("", "boot-order", &[cells(&[0x1_0000]), cells(&[1, 0])]);
    accepts("", "gp-register-num", &cells(&[3]), |manifest| {
        manifest.gp_register_num == Some(3)
    });
    refuses("", "gp-register-num", &[cells(&[4])]);
    let mut tree = with("", "gp-register-num", &cells(&[1]));
    tree.node("boot-info")
        .set("compatible", text("arm,ffa-manifest-boot-info"))
        .set("ffa_manifest", [])
        .set("hob_list", []);
    let (manifest, said) = read(&tree);
    assert_eq!(said, [""; 0]);
    assert!(
        manifest
            .unwrap()
            .boot_info
            .is_some_and(|info| info.ffa_manifest && info.hob_list)
    );
    tree.remove("gp-register-num");
    assert!(read(&tree).1[0].starts_with("warning: partition \"p\": /boot-info: no effect"));
    accepts("", "mem-size", &cells(&[0x10_0000]), |manifest| {
        manifest.mem_size == Some(0x10_0000)
    });
    accepts("", "image-size", &cells(&[1, 0]), |manifest| {
        manifest.image_size == Some(1 << 32)
    });
    for name in ["load-flags", "elf-format", "live-activation-register"] {
        warns("", name, &cells(&[1]), |_| true);
    }
}

#[test]
fn interrupts_of_the_partition() {
    for (value, action) in [
        (0, NsInterruptsAction::Queued),
        (1, NsInterruptsAction::ManagedExit),
        (2, NsInterruptsAction::Signaled),
    ] {
        accepts("", "ns-interrupts-action", &cells(&[value]), |manifest| {
            manifest.ns_interrupts_action == action
        });
    }
    refuses("", "ns-interrupts-action", &[cells(&[3])]);
    accepts("", "managed-exit", &[], |manifest| {
        manifest.ns_interrupts_action == NsInterruptsAction::ManagedExit
    });
    accepts("", "managed-exit-virq", &[], |manifest| manifest.managed_exit_virq);
    let mut tree = with("", "managed-exit", &[]);
    tree.set("ns-interrupts-action", cells(&[2]));
    let (manifest, said) = read(&tree);
    assert_eq!(manifest.unwrap().ns_interrupts_action, NsInterruptsAction::Signaled);
    assert!(said[0].contains("managed-exit: ignored"));
    let signaled = OtherSInterruptsAction::Signaled;
    accepts("", "other-s-interrupts-action", &cells(&[1]), |manifest| {
        manifest.other_s_interrupts_action == signaled
    });
    refuses("", "other-s-interrupts-action", &[cells(&[0]), cells(&[2])]);
    let mut tree = with("", "other-s-interrupts-action", &cells(&[0]));
    tree.set("ns-interrupts-action", cells(&[0]));
    assert_eq!(
        read(&tree).0.unwrap().other_s_interrupts_action,
        OtherSInterruptsAction::Queued
    );
    accepts("", "sri-interrupts-policy", &cells(&[2]), |manifest| {
        manifest.sri_policy == SriPolicy::ENTRY_TO_WAITING
    });
    refuses("", "sri-interrupts-policy", &[cells(&[4]), cells(&[0x100])]);
    for (value, model) in [(0, RunTimeModel::RunToCompletion), (1, RunTimeModel::Preemptible)] {
        accepts("", "run-time-model", &cells(&[value]), |manifest| {
            manifest.run_time_model == Some(model)
        });
    }
    refuses("", "run-time-model", &[cells(&[2])]);
}

#[test]
fn messages_and_lifecycle() {
    accepts("", "power-management-messages", &cells(&[7]), |manifest| {
        manifest.power_management == PowerManagement::all()
    });
    warns("", "power-management-messages", &cells(&[0xf1]), |manifest| {
        manifest.power_management == PowerManagement::CPU_OFF
    });
    warns("", "power-management-messages", &cells(&[0x101]), |manifest| {
        manifest.power_management == PowerManagement::CPU_OFF
    });
    accepts("", "vm-availability-messages", &cells(&[3]), |manifest| {
        manifest.vm_availability == VmAvailability::all()
    });
    refuses("", "vm-availability-messages", &[cells(&[4]), cells(&[0x101])]);
    for (name, read) in [
        (
            "notification-support",
            (|manifest| manifest.notification_support) as fn(&PartitionManifest) -> bool,
        ),
        ("has-primary-scheduler", |manifest| manifest.has_primary_scheduler),
        ("time-slice-mem", |manifest| manifest.time_slice_mem),
        ("lifecycle-support", |manifest| manifest.lifecycle_support),
        ("live-activation-support", |manifest| manifest.live_activation_support),
    ] {
        accepts("", name, &[], read);
        // Present is true, even with a value that looks like false.
        warns("", name, &cells(&[0]), read);
    }
    refuses("", "abort-action", &[cells(&[0]), cells(&[4])]);
    let actions = [
        AbortAction::Stop,
        AbortAction::Destroy,
        AbortAction::Restart,
        AbortAction::Propagate,
    ];
    for (value, action) in (0..).zip(actions) {
        let mut tree = with("", "lifecycle-support", &[]);
        tree.set("abort-action", cells(&[value]));
        assert_eq!(read(&tree).0.unwrap().abort_action, Some(action));
    }
}

#[test]
fn memory_regions() {
    const RAM: &str = "memory-regions/ram";
    let range = |base, pages| PageRange::new(PhysAddr::new(base), pages).unwrap();
    let placement = |manifest: &PartitionManifest| manifest.memory_regions[0].placement;
    accepts(RAM, "base-address", &cells(&[1, 0x1000]), |manifest| {
        placement(manifest) == Placement::Fixed(range(0x1_0000_1000, 2))
    });
    refuses(
        RAM,
        "base-address",
        &[
            cells(&[0x1001]),
            cells(&[0xffff_ffff, 0xffff_f000]),
            cells(&[0xffff, 0xffff_f000]),
        ],
    );
    refuses(RAM, "load-address-relative-offset", &[cells(&[0x1000])]);
    let mut tree = with(RAM, "load-address-relative-offset", &cells(&[0, 0x4000]));
    tree.node(RAM).remove("base-address");
    assert_eq!(placement(&read(&tree).0.unwrap()), Placement::Relative(0x4000));
    tree.node(RAM).set("load-address-relative-offset", cells(&[0x4010]));
    assert!(read(&tree).0.is_none());
    tree.node(RAM).remove("load-address-relative-offset");
    assert_eq!(placement(&read(&tree).0.unwrap()), Placement::Any);
    accepts(RAM, "pages-count", &cells(&[16]), |manifest| {
        manifest.memory_regions[0].pages == 16
    });
    refuses(
        RAM,
        "pages-count",
        &[cells(&[0]), cells(&[1, 0]), cells(&[0xffff_ffff, 0xffff_ffff])],
    );
    for (value, access, world) in [
        (1, Access::READ, World::Secure),
        (3, Access::READ | Access::WRITE, World::Secure),
        (5, Access::READ | Access::EXECUTE, World::Secure),
        (7, Access::all(), World::Secure),
        (9, Access::READ, World::NonSecure),
        (0xb, Access::READ | Access::WRITE, World::NonSecure),
    ] {
        accepts(RAM, "attributes", &cells(&[value]), |manifest| {
            (manifest.memory_regions[0].access, manifest.memory_regions[0].world) == (access, world)
        });
    }
    refuses(
        RAM,
        "attributes",
        &[
            cells(&[0]),
            cells(&[2]),
            cells(&[4]),
            cells(&[6]),
            cells(&[8]),
            cells(&[0xa]),
        ],
    );
    warns(RAM, "attributes", &cells(&[0xf]), |manifest| {
        manifest.memory_regions[0].access == Access::READ | Access::WRITE
    });
    warns(RAM, "attributes", &cells(&[0x13]), |manifest| {
        manifest.memory_regions[0].world == World::Secure
    });
    accepts(RAM, "description", &text("heap"), |manifest| {
        manifest.memory_regions[0].description.as_deref() == Some("heap")
    });
    refuses(RAM, "stream-ids-access-permissions", &[cells(&[1])]);
    let mut tree = with(RAM, "stream-ids", &cells(&[4, 5]));
    tree.node(RAM)
        .set("smmu-id", cells(&[1]))
        .set("stream-ids-access-permissions", cells(&[3, 1]));
    let manifest = read(&tree).0.unwrap();
    let dma = manifest.memory_regions[0].dma.as_ref().unwrap();
    assert_eq!(
        (dma.smmu_id, dma.stream_ids.as_slice(), dma.access.len()),
        (Some(1), &[4, 5][..], 2)
    );
    warns(RAM, "load-flags", &cells(&[1]), |_| true);
    for name in ["pages-count", "attributes"] {
        let mut tree = good();
        tree.node(RAM).remove(name);
        assert!(read(&tree).0.is_none());
    }
}

#[test]
fn device_regions() {
    const UART: &str = "device-regions/uart";
    for (value, access) in [(1, Access::READ), (3, Access::READ | Access::WRITE)] {
        accepts(UART, "attributes", &cells(&[value]), |manifest| {
            manifest.device_regions[0].access == access
        });
    }
    accepts(UART, "attributes", &cells(&[0xb]), |manifest| {
        manifest.device_regions[0].world == World::NonSecure
    });
    refuses(
        UART,
        "attributes",
        &[cells(&[0]), cells(&[2]), cells(&[5]), cells(&[7])],
    );
    refuses(UART, "base-address", &[cells(&[0x904_0800])]);
    refuses(UART, "pages-count", &[cells(&[0])]);
    accepts(UART, "exclusive-access", &[], |manifest| {
        manifest.device_regions[0].exclusive_access
    });
    accepts(UART, "smmu-id", &cells(&[2]), |manifest| {
        manifest.device_regions[0]
            .dma
            .as_ref()
            .is_some_and(|dma| dma.smmu_id == Some(2))
    });
    for name in ["base-address", "pages-count", "attributes"] {
        let mut tree = good();
        tree.node(UART).remove(name);
        assert!(read(&tree).0.is_none());
    }
}

#[test]
fn device_interrupts() {
    const UART: &str = "device-regions/uart";
    accepts(UART, "interrupts", &cells(&[0x28, 0x901, 0x14, 0x600]), |manifest| {
        let [spi, ppi] = manifest.device_regions[0].interrupts[..] else {
            return false;
        };
        (spi.id, spi.priority, spi.world, spi.trigger, spi.kind)
            == (40, 1, World::Secure, Trigger::Edge, InterruptKind::Spi)
            && (ppi.id, ppi.priority, ppi.world, ppi.trigger, ppi.kind)
                == (20, 0, World::NonSecure, Trigger::Level, InterruptKind::Ppi)
    });
    accepts(UART, "interrupts", &cells(&[4096, 0x900, 1056, 0x500]), |_| true);
    warns(UART, "interrupts", &cells(&[0x28, 0x500]), |manifest| {
        manifest.device_regions[0].interrupts[0].kind == InterruptKind::Spi
    });
    warns(UART, "interrupts", &cells(&[0x28, 0x1900]), |_| true);
    let bad = [1020, 1023, 1055, 1120, 4095, 5120, 8192, u32::MAX].map(|id| cells(&[id, 0x900]));
    refuses(UART, "interrupts", &bad);
    for id in [0, 15] {
        warns(UART, "interrupts", &cells(&[id, 0x900]), |manifest| {
            manifest.device_regions[0].interrupts.is_empty()
        });
    }
    refuses(
        UART,
        "interrupts",
        &[vec![], cells(&[0x28]), cells(&[0x28, 0x900, 0x28, 0x900]), vec![0; 9]],
    );
    let mut tree = with(UART, "interrupts", &cells(&[0x28, 0x900]));
    tree.node(UART)
        .set("interrupts-target", cells(&[0x28, 0x1, 0x8000_0203]));
    let manifest = read(&tree).0.unwrap();
    assert_eq!(
        manifest.device_regions[0].interrupts[0]
            .target
            .map(|target| target.as_u64()),
        Some(0x1_0000_0203)
    );
    for value in [vec![], cells(&[0x28, 1]), cells(&[0x29, 0, 0])] {
        tree.node(UART).set("interrupts-target", value);
        assert!(read(&tree).0.is_none());
    }
}

#[test]
fn unknown_names_get_the_nearest_one() {
    for (node, name, nearest) in [
        ("", "boot_order", Some("boot-order")),
        ("", "load-adress", Some("load-address")),
        ("", "ns-interupt-action", Some("ns-interrupts-action")),
        ("", "color", None),
        ("memory-regions/ram", "page-count", Some("pages-count")),
        ("device-regions/uart", "interrupt", Some("interrupts")),
        ("device-regions/uart", "load-address-relative-offset", None),
    ] {
        let (manifest, said) = read(&with(node, name, &[]));
        let hint = nearest.map_or(String::new(), |nearest| format!("; did you mean \"{nearest}\"?"));
        assert_eq!(
            said,
            [format!(
                "warning: partition \"p\": /{node}: {name}: unknown property, ignored{hint}"
            )]
        );
        assert!(manifest.is_some());
    }
    let mut tree = good();
    tree.node("memory_regions");
    tree.node("device-regions/uart/child");
    let (_, said) = read(&tree);
    assert_eq!(
        said,
        [
            "warning: partition \"p\": /device-regions/uart: child: unknown node, ignored",
            "warning: partition \"p\": /memory_regions: unknown node, ignored; did you mean \"memory-regions\"?",
        ]
    );
}

#[test]
fn nodes_with_a_vendors_prefix_are_the_partitions_own() {
    let mut tree = good();
    tree.node("acme,settings").set("colour", b"red\0".to_vec());
    let (manifest, said) = read(&tree);
    assert!(manifest.is_some());
    assert_eq!(said, [""; 0]);
}

#[test]
fn caps_are_said() {
    let mut tree = good();
    for index in 0..300_u32 {
        tree.node(&format!("memory-regions/r{index}"))
            .set("base-address", cells(&[0, 0x2000_0000 + index * 0x1000]))
            .set("pages-count", cells(&[1]))
            .set("attributes", cells(&[3]));
    }
    let (manifest, said) = read(&tree);
    assert!(manifest.is_none());
    assert!(
        said[0].contains("/memory-regions: expected at most 256 memory regions"),
        "{said:?}"
    );
    let mut tree = good();
    for index in 0..100 {
        tree.set(&format!("colour-{index}"), []);
    }
    let mut report = Report::new();
    assert!(PartitionManifest::parse("p", &tree.blob(), &mut report).is_some());
    assert_eq!(
        (report.diagnostics().len(), report.dropped(), report.errors()),
        (64, 36, 0)
    );
    let mut tree = good();
    tree.set("colour", vec![0; 40_000]);
    let (_, said) = read(&tree);
    assert!(said[0].contains("bytes: expected at most 32768"), "{said:?}");
}

#[test]
fn hostile_text_does_not_reach_the_console() {
    let mut tree = good();
    tree.node("\x1b[2Jnode");
    tree.set("\x1b[31mred", []);
    tree.set(&"long".repeat(50), []);
    tree.set("boot-order", text("\x07\x07\x07\x07\x07"));
    for line in read(&tree).1 {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        assert!(line.len() < 200, "{line:?}");
    }
}

#[test]
fn broken_blobs() {
    let good = good().blob();
    let mut last = String::new();
    let mut refused = |blob: &[u8]| {
        let mut report = Report::new();
        let refused = PartitionManifest::parse("p", blob, &mut report).is_none();
        last = shown(report.diagnostics()).pop().unwrap();
        refused
    };
    assert!(refused(&[]) && refused(&good[..39]) && refused(&good[..good.len() - 1]));
    assert!((0..good.len()).all(|length| refused(&good[..length])));
    for (offset, value) in [
        (0, 0),
        (4, 39),
        (4, u32::MAX),
        (8, u32::MAX),
        (12, u32::MAX),
        (20, 16),
        (24, 18),
        (32, 0),
        (36, 4),
    ] {
        let mut blob = good.clone();
        blob[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
        assert!(refused(&blob), "{offset} {value:#x}");
    }
    // Ends without a root, in a node, after two roots, with a property outside a node, after a child, too deep.
    for words in [
        &[9][..],
        &[1, 0, 9],
        &[1, 0, 2, 1, 0, 2, 9],
        &[3, 0, 0, 1, 0, 2, 9],
        &[1, 0, 1, 0x6100_0000, 2, 3, 0, 0, 2, 9],
        &[1, 0, 2, 2, 9],
        &[1, 0, 7, 2, 9],
        &[1, 0, 3, 0, 99, 2, 9],
        &[1, 0, 3, u32::MAX, 0, 2, 9],
        &[[1, 0].repeat(17), [2].repeat(17), vec![9]].concat(),
    ] {
        assert!(refused(&blob(&cells(words), b"a\0")), "{words:x?}");
    }
    assert_eq!(
        last,
        "error: partition \"p\": /: expected a well-formed device tree: more than 16 nested nodes at offset 0x80"
    );
    let mut trailing = good;
    trailing.extend([0xaa; 100]);
    assert!(PartitionManifest::parse("p", &trailing, &mut Report::new()).is_some());
}

/// An SPMC manifest with what is mandatory.
fn good_spmc() -> Tree {
    let mut tree = Tree::default();
    tree.set("compatible", text("arm,ffa-core-manifest-1.0"));
    tree.set("#address-cells", cells(&[2])).set("#size-cells", cells(&[2]));
    tree.node("attribute")
        .set("spmc_id", cells(&[0x8000]))
        .set("maj_ver", cells(&[1]))
        .set("min_ver", cells(&[2]));
    tree.node("hypervisor").set("compatible", text("hafnium,hafnium"));
    tree.node("hypervisor/vm1")
        .set("is_ffa_partition", [])
        .set("debug_name", text("p"))
        .set("load_address", cells(&[0xe30_0000]))
        .set("mem_size", cells(&[0x10_0000]));
    tree.node("cpus/cpu@0").set("reg", cells(&[0, 0]));
    tree.node("memory@0")
        .set("device_type", text("memory"))
        .set("reg", cells(&[0, 0xe00_0000, 0, 0x100_0000]));
    tree.node("memory@1")
        .set("device_type", text("ns-memory"))
        .set("reg", cells(&[0, 0x4000_0000, 0, 0x1000_0000]));
    tree
}

fn read_spmc(tree: &Tree) -> (Option<SpmcManifest>, Vec<String>) {
    let mut report = Report::new();
    let manifest = SpmcManifest::parse(&tree.blob(), &mut report);
    manifest.iter().for_each(check_spmc);
    (manifest, shown(report.diagnostics()))
}

#[test]
fn spmc_attributes_and_cpus() {
    let (manifest, said) = read_spmc(&good_spmc());
    assert_eq!(said, [""; 0]);
    assert_eq!(manifest.unwrap().attribute.load_address, None);
    let mut tree = good_spmc();
    tree.node("attribute")
        .set("load_address", cells(&[0, 0xe10_0000]))
        .set("entrypoint", cells(&[0, 0xe10_0000]))
        .set("binary_size", cells(&[0x8_0000]))
        .set("exec_state", cells(&[0]));
    tree.node("cpus").set("#address-cells", cells(&[1]));
    tree.node("cpus/cpu@0").set("reg", cells(&[0x100]));
    tree.node("cpus/cpu@1").set("reg", cells(&[0x101]));
    let (manifest, said) = read_spmc(&tree);
    assert_eq!(said, [""; 0]);
    let manifest = manifest.unwrap();
    assert_eq!(manifest.attribute.binary_size, Some(0x8_0000));
    assert_eq!(manifest.attribute.entrypoint, Some(PhysAddr::new(0xe10_0000)));
    assert_eq!(
        manifest.cpus.iter().map(|cpu| cpu.as_u64()).collect::<Vec<_>>(),
        [0x100, 0x101]
    );
    for (node, name, value) in [
        ("cpus", "#address-cells", cells(&[3])),
        ("cpus", "#address-cells", cells(&[0])),
        ("cpus/cpu@0", "reg", vec![1, 2]),
        ("", "#size-cells", cells(&[3])),
        ("attribute", "spmc_id", cells(&[0x8001])),
        ("attribute", "maj_ver", cells(&[0])),
        ("attribute", "min_ver", cells(&[0x1_0000])),
        ("attribute", "exec_state", cells(&[1])),
    ] {
        let mut tree = good_spmc();
        tree.node(node).set(name, value);
        let (manifest, said) = read_spmc(&tree);
        assert!(manifest.is_none(), "{node} {name}");
        assert!(
            said[0].starts_with(&format!("error: SPMC manifest: /{node}: {name}")),
            "{said:?}"
        );
    }
    for node in ["attribute", "hypervisor", "cpus"] {
        let mut tree = good_spmc();
        tree.remove_node(node);
        assert!(read_spmc(&tree).1[0].starts_with(&format!("error: SPMC manifest: /{node}: missing")));
    }
}

#[test]
fn spmc_partitions() {
    const VM: &str = "hypervisor/vm1";
    let mut tree = good_spmc();
    tree.node(VM)
        .set("vcpu_count", cells(&[4]))
        .set("smc_whitelist", cells(&[1, 2]))
        .set("smc_whitelist_permissive", []);
    let (manifest, said) = read_spmc(&tree);
    assert_eq!(said, [""; 0]);
    let vm = &manifest.unwrap().partitions[0];
    assert_eq!(
        (vm.number, vm.id.as_u16(), vm.name.as_str(), vm.vcpu_count),
        (1, 0x8001, "p", Some(4))
    );
    assert_eq!(
        (vm.smc_whitelist.as_slice(), vm.smc_whitelist_permissive),
        (&[1, 2][..], true)
    );
    assert_eq!(
        (vm.memory.base(), vm.memory.bytes()),
        (PhysAddr::new(0xe30_0000), 0x10_0000)
    );
    for (name, values) in [
        (
            "load_address",
            vec![vec![], cells(&[0x800]), cells(&[0xffff_ffff, 0xffff_f000])],
        ),
        ("mem_size", vec![vec![], cells(&[0]), cells(&[0x1001])]),
        ("vcpu_count", vec![vec![], cells(&[0]), cells(&[0x1_0000])]),
        ("smc_whitelist", vec![vec![], vec![1, 2], cells(&[0; 257])]),
        ("hyp_loaded", vec![vec![]]),
    ] {
        for value in values {
            let mut tree = good_spmc();
            tree.node(VM).set(name, value);
            let (manifest, said) = read_spmc(&tree);
            assert_eq!(manifest.unwrap().partitions.len(), 0, "only the partition is left out");
            assert!(
                said[0].starts_with("error: partition \"p\": /hypervisor/vm1: "),
                "{said:?}"
            );
        }
    }
    // Numbers are taken in order, whatever the order of the nodes, and a gap is said.
    let mut tree = good_spmc();
    for number in [12, 3, 2] {
        tree.node(&format!("hypervisor/vm{number}"))
            .set("is_ffa_partition", [])
            .set("debug_name", text(&format!("p{number}")))
            .set("load_address", cells(&[number * 0x100_0000]))
            .set("mem_size", cells(&[0x1000]));
    }
    let (manifest, said) = read_spmc(&tree);
    assert_eq!(
        manifest
            .unwrap()
            .partitions
            .iter()
            .map(|vm| vm.number)
            .collect::<Vec<_>>(),
        [1, 2, 3, 12]
    );
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with("warning: SPMC manifest: /hypervisor/vm12: there is no vm4 before it"),
        "{said:?}"
    );
}

#[test]
fn spmc_memory() {
    let mut tree = good_spmc();
    tree.node("device-memory@0")
        .set("device_type", text("device-memory"))
        .set("reg", cells(&[0, 0, 0, 0xe00_0000]));
    tree.node("flash")
        .set("device_type", text("ns-device-memory"))
        .set("reg", cells(&[0, 0x8000_0000, 0, 0x1000]));
    let (manifest, said) = read_spmc(&tree);
    assert_eq!(said, [""; 0]);
    let manifest = manifest.unwrap();
    for (kind, base) in [
        (MemoryKind::Memory, 0xe00_0000),
        (MemoryKind::NsMemory, 0x4000_0000),
        (MemoryKind::DeviceMemory, 0),
        (MemoryKind::NsDeviceMemory, 0x8000_0000),
    ] {
        assert_eq!(
            manifest
                .ranges(kind)
                .map(|range| range.base().as_u64())
                .collect::<Vec<_>>(),
            [base]
        );
    }
    // Adjacent ranges are no overlap; ranges within one another are.
    tree.node("memory@1").set("reg", cells(&[0, 0xf00_0000, 0, 0x1000]));
    assert!(read_spmc(&tree).0.is_some());
    tree.node("memory@1")
        .set("reg", cells(&[0, 0xe80_0000, 0, 0x1000, 0, 0xe90_0000, 0, 0x1000]));
    assert!(read_spmc(&tree).0.is_none());
    let mut tree = good_spmc();
    let ranges: Vec<_> = (0..300).flat_map(|index| [1, index * 0x2000, 0, 0x1000]).collect();
    tree.node("memory@1").set("reg", cells(&ranges));
    assert!(read_spmc(&tree).1[0].contains("expected at most 256 ranges"));
}

#[test]
fn spmc_interrupt_controller() {
    let mut tree = good_spmc();
    tree.node("interrupt-controller@8000000")
        .set("compatible", text("arm,gic-v3"))
        .set("reg", cells(&[0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0xf6_0000]));
    let (manifest, said) = read_spmc(&tree);
    assert_eq!(said, [""; 0]);
    let gic = manifest.unwrap().interrupt_controller.unwrap();
    assert_eq!(gic.distributors[0].base(), PhysAddr::new(0x800_0000));
    assert_eq!(gic.redistributors[0].bytes(), 0xf6_0000);
    for (name, value) in [
        ("reg", cells(&[0, 0x800_0000, 0, 0x1_0000])),
        ("reg", cells(&[0, 0x800_0000])),
        ("reg", cells(&[0, 0x800_0000, 0, 0x800, 0, 0x80a_0000, 0, 0xf6_0000])),
        ("#redistributor-regions", cells(&[0])),
        ("#redistributor-regions", cells(&[65])),
        ("#distributor-regions", cells(&[2])),
    ] {
        let mut tree = tree.clone();
        tree.node("interrupt-controller@8000000").set(name, value);
        assert!(read_spmc(&tree).0.is_none(), "{name}");
    }
}
