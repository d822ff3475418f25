//! FFA_VERSION: by partitions, and by the normal world through the SPMD (FF-A 1.2, section 13.2).

use crate::support::*;

const V1_2: u64 = 0x1_0002;

#[test]
fn is_1_2_for_everybody_of_the_same_major_version() {
    for (asked, answer) in [
        (0x1_0000, V1_2),
        (0x1_0001, V1_2),
        (0x1_0002, V1_2),
        (0x1_0003, V1_2),
        (0x1_ffff, V1_2),
        (0x2_0000, 0xffff_ffff),
        (0x0_0009, 0xffff_ffff),
        (0, 0xffff_ffff),
        (0x7fff_ffff, 0xffff_ffff),
        (0x8001_0002, 0xffff_ffff),
        (0xffff_ffff, 0xffff_ffff),
        (0xdead_0000_0001_0002, V1_2),
    ] {
        let (spmc, machine) = three();
        let mut system = System::new(&spmc, machine);
        system.online(0);
        system.smc(0, &[VERSION, asked, 1, 2, 3, 4, 5, 6]);
        // The version is in w0, and bit 31 and all above are 0; an error is NOT_SUPPORTED in w0.
        assert_eq!(system.regs(0), [answer, 0, 0, 0, 0, 0, 0, 0], "{asked:#x}");
        assert_eq!(system.owner(0), runs(A, 0));
        // The same by the normal world.
        let (spmc, machine) = three();
        let mut system = System::booted(&spmc, machine);
        assert_eq!(system.negotiate(0, asked), answer, "{asked:#x}");
    }
}

#[test]
fn older_one_takes_newer_calls_away() {
    for (version, spm_id_get, regs) in [
        (0x1_0000, false, false),
        (0x1_0001, true, false),
        (0x1_0003, true, true),
    ] {
        let (spmc, machine) = three();
        let mut system = System::new(&spmc, machine);
        system.online(0);
        system.smc(0, &[VERSION, version]);
        system.smc(0, &[SPM_ID_GET]);
        assert_eq!(
            system.regs(0),
            if spm_id_get {
                success(SPMC)
            } else {
                error(NOT_SUPPORTED)
            }
        );
        system.smc(0, &[PARTITION_INFO_GET_REGS]);
        assert_eq!(system.regs(0)[0], if regs { SUCCESS_64 } else { ERROR });
        system.smc(0, &[FEATURES, PARTITION_INFO_GET_REGS]);
        assert_eq!(system.regs(0), if regs { success(0) } else { error(NOT_SUPPORTED) });
    }
}

#[test]
fn of_the_manifest_holds_until_another_is_negotiated() {
    let (spmc, machine) = Builder::new(1).partition_with("a", |a| a.version(1, 0)).build();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.smc(0, &[VERSION, V1_2]);
    assert_eq!(system.regs(0)[0], V1_2);
    system.smc(0, &[SPM_ID_GET]);
    assert_eq!(system.regs(0), success(SPMC));
    let (spmc, machine) = Builder::new(1).partition_with("a", |a| a.version(1, 0)).build();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.smc_fails(0, &[SPM_ID_GET], NOT_SUPPORTED);
}

#[test]
fn is_locked_by_another_call() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    for version in [0x1_0000, 0x1_0001, 0x2_0000, 0x1_0001] {
        system.smc(0, &[VERSION, version]);
    }
    system.smc(0, &[ID_GET]);
    system.smc(0, &[VERSION, V1_2]);
    assert_eq!(system.regs(0), [0xffff_ffff, 0, 0, 0, 0, 0, 0, 0]);
    // The one in force may be repeated.
    system.smc(0, &[VERSION, 0x1_0001]);
    assert_eq!(system.regs(0), [V1_2, 0, 0, 0, 0, 0, 0, 0]);
    // Also by the contexts of other PEs.
    while system.owner(0) != NWD {
        system.smc(0, &[MSG_WAIT]);
    }
    system.online(1);
    system.smc(1, &[VERSION, V1_2]);
    assert_eq!(system.regs(1)[0], 0xffff_ffff);
    system.smc(1, &[VERSION, 0x1_0001]);
    assert_eq!(system.regs(1)[0], V1_2);
}

#[test]
fn is_not_locked_by_calls_outside_ffa() {
    // "before any other FF-A ABI": SMCCC_VERSION and the like may come first.
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.smc(0, &[0x8000_0000]);
    assert_eq!(system.regs(0)[0], 0x1_0002);
    system.smc(0, &[VERSION, 0x1_0000]);
    assert_eq!(system.regs(0)[0], V1_2);
    system.smc_fails(0, &[SPM_ID_GET], NOT_SUPPORTED);
}

#[test]
fn of_the_normal_world_keeps_x8_to_x17() {
    // EL3 gives the SPMC the normal world's live registers with the framework message, and takes them back.
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    let mut registers = [0; 18];
    registers[..8].copy_from_slice(&[REQ, route(SPMD, SPMC), 0x8000_0008, V1_2, 0, 0, 0, 0]);
    for (n, register) in registers.iter_mut().enumerate().skip(8) {
        *register = 0x1111 * n as u64;
    }
    system.nwd(0, &registers);
    assert_eq!(system.regs(0), [RESP, route(SPMC, SPMD), 0x8000_0009, V1_2, 0, 0, 0, 0]);
    assert_eq!(system.all(0)[8..], registers[8..]);
    registers[0] = ID_GET;
    system.nwd(0, &registers);
    assert_eq!(system.all(0)[8..], registers[8..]);
}

#[test]
fn of_the_normal_world_gates_its_calls() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.negotiate(0, 0x1_0003);
    // One that is refused changes nothing.
    system.negotiate(0, 0x2_0000);
    system.negotiate(1, 0x1_0000);
    system.nwd_fails(0, &[SPM_ID_GET], NOT_SUPPORTED);
    system.nwd_fails(0, &[PARTITION_INFO_GET_REGS], NOT_SUPPORTED);
    system.nwd_fails(0, &[FEATURES, REQ2], NOT_SUPPORTED);
}

#[test]
fn of_the_normal_world_stays_once_it_has_made_another_call() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    // Until it has said one, it is as new as the SPMC.
    system.nwd(0, &[SPM_ID_GET]);
    assert_eq!(system.regs(0), success(SPMC));
    for version in [0x1_0000, 0x1_0001] {
        assert_eq!(system.negotiate(1, version), 0xffff_ffff);
    }
    assert_eq!(system.negotiate(1, V1_2), V1_2);
    system.nwd(0, &[SPM_ID_GET]);
    assert_eq!(system.regs(0), success(SPMC));
}

#[test]
fn of_the_normal_world_stays_once_it_has_sent_a_request() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.respond(0, A, 0);
    assert_eq!(system.negotiate(0, 0x1_0001), 0xffff_ffff);
}

#[test]
fn of_the_normal_world_is_not_locked_by_el3() {
    // EL3's logical partitions may send messages before the normal world has said anything.
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &request(0xffc0, A));
    system.respond(0, A, 0xffc0);
    assert_eq!(system.negotiate(0, 0x1_0000), V1_2);
    system.nwd_fails(0, &[SPM_ID_GET], NOT_SUPPORTED);
}
