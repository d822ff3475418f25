//! FFA_FEATURES (FF-A 1.2, section 13.3).

use crate::support::*;

/// Function identifiers that FF-A 1.0 to 1.3 define, and some that nobody does.
const ALL: core::ops::RangeInclusive<u64> = 0x60..=0xef;

#[test]
fn agrees_with_what_calls_answer() {
    // What is offered does not answer NOT_SUPPORTED; what is not, does.
    let returns = [SUCCESS, SUCCESS_64, ERROR, INTERRUPT, MEM_RETRIEVE_RESP];
    for id in ALL
        .flat_map(|n| [0x8400_0000 | n, 0xc400_0000 | n])
        .filter(|id| !returns.contains(id))
    {
        let (spmc, machine) = three();
        let mut system = System::booted(&spmc, machine);
        system.ask(0, A);
        // A partition has to know of the NS bit in what it retrieves.
        let property = if id & 0xff == 0x74 { 2 } else { 0 };
        system.smc(0, &[FEATURES, id, property]);
        let offered = system.regs(0)[0] == SUCCESS;
        assert!(offered || system.regs(0) == error(NOT_SUPPORTED));
        system.smc(0, &[id, 0, 0, 0, 0, 0, 0, 0]);
        // Known, and not a partition's to make, or not at S-EL1, or not now; FFA_ABORT is newer than FF-A 1.2.
        let special = [
            FEATURES,
            NORMAL_WORLD_RESUME,
            ABORT,
            0xc400_0090,
            0x8400_0087,
            0xc400_0087,
            0x8400_0088,
            0xc400_0088,
            0x8400_0089,
            0xc400_0089,
        ];
        if !special.contains(&id) {
            assert_eq!(offered, system.regs(0) != error(NOT_SUPPORTED), "{id:#x}");
        }

        let (spmc, machine) = three();
        let mut system = System::booted(&spmc, machine);
        system.nwd(0, &[FEATURES, id]);
        let offered = system.regs(0)[0] == SUCCESS;
        assert!(offered || system.regs(0) == error(NOT_SUPPORTED));
        system.nwd(0, &[id, 0, 0, 0, 0, 0, 0, 0]);
        // EL3 answers FFA_VERSION; responses are known, and never the normal world's to make.
        let special = [VERSION, FEATURES, RESP, RESP_64, RESP2];
        if !special.contains(&id) {
            assert_eq!(offered, system.regs(0) != error(NOT_SUPPORTED), "{id:#x}");
        }
    }
}

#[test]
fn returns_of_calls_are_offered() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    let returns = [
        ERROR,
        SUCCESS,
        SUCCESS_64,
        INTERRUPT,
        VERSION,
        RESP,
        RESP_64,
        RESP2,
        MEM_RETRIEVE_RESP,
    ];
    for id in returns {
        system.nwd(0, &[FEATURES, id]);
        assert_eq!(system.regs(0), success(0));
    }
    system.ask(0, A);
    for id in returns {
        system.smc(0, &[FEATURES, id]);
        assert_eq!(system.regs(0), success(0));
    }
}

#[test]
fn ignores_the_upper_half() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    let garbage = 0xdead_beef << 32;
    system.nwd(0, &[garbage | FEATURES, garbage | RUN, garbage]);
    assert_eq!(system.regs(0), success(0));
}

#[test]
fn input_properties_of_a_call_that_has_none_are_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &[FEATURES, RUN, 1], INVALID_PARAMETERS);
    system.ask(0, A);
    system.smc_fails(0, &[FEATURES, RUN, 2], INVALID_PARAMETERS);
}

#[test]
fn what_nobody_defines_is_not_supported() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    for id in [
        0,
        3,
        4,
        0xff,
        0x100,
        0x7fff_ffff,
        0x8400_0000,
        0x8400_005f,
        0x8400_00f0,
        0x8500_0063,
        0xffff_ffff,
    ] {
        system.nwd_fails(0, &[FEATURES, id], NOT_SUPPORTED);
    }
}

#[test]
fn buffers_have_a_size() {
    let (spmc, machine) = Builder::new(1)
        .partition("a")
        .partition_with("b", |b| b.version(1, 1))
        .build();
    let mut system = System::booted(&spmc, machine);
    for id in [0x8400_0066, 0xc400_0066] {
        // At most 63 pages (bits 31:16, since FF-A 1.2), of at least 4 KiB (bits 1:0).
        system.nwd(0, &[FEATURES, id]);
        assert_eq!(system.regs(0), success(63 << 16));
        for (partition, properties) in [(A, 63 << 16), (B, 0)] {
            system.ask(0, partition);
            system.smc(0, &[FEATURES, id]);
            assert_eq!(system.regs(0), success(properties));
            system.respond(0, partition, 0);
        }
    }
}

#[test]
fn memory_is_retrieved_with_the_ns_bit() {
    let (spmc, machine) = Builder::new(2)
        .partition("a")
        .partition_with("b", |b| b.version(1, 0))
        .build();
    let mut system = System::booted(&spmc, machine);
    for id in [MEM_RETRIEVE_REQ, MEM_RETRIEVE_REQ | 1 << 30] {
        // The NS bit, and the hypervisor's request.
        for property in [0, 2] {
            system.nwd(0, &[FEATURES, id, property]);
            assert_eq!(system.regs(0), success(6));
        }
        system.nwd_fails(0, &[FEATURES, id, 3], INVALID_PARAMETERS);
        system.ask(0, A);
        system.smc(0, &[FEATURES, id, 2]);
        assert_eq!(system.regs(0), success(6));
        system.smc_fails(0, &[FEATURES, id], NOT_SUPPORTED);
        system.smc_fails(0, &[FEATURES, id, 6], INVALID_PARAMETERS);
        system.respond(0, A, 0);
        system.ask(0, B);
        for property in [0, 2] {
            system.smc(0, &[FEATURES, id, property]);
            assert_eq!(system.regs(0), success(6));
        }
        system.respond(0, B, 0);
    }
}

#[test]
fn secondary_entry_point_is_a_pinned_partitions() {
    let (spmc, machine) = Builder::new(2)
        .partition("a")
        .partition_with("b", PartitionBuilder::migratable)
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[FEATURES, SECONDARY_EP_REGISTER]);
    assert_eq!(system.regs(0), success(0));
    system.forward(0, A, B);
    system.smc_fails(0, &[FEATURES, SECONDARY_EP_REGISTER], NOT_SUPPORTED);
}
