//! Power messages relayed to partitions, and the hypervisor's messages about VMs (FF-A 1.2, chapter 18).

use tantalum_core::manifest::partition::{PowerManagement, VmAvailability};

use crate::support::*;

const CPU_OFF: u64 = 0x8400_0002;
const CPU_SUSPEND: u64 = 0x8400_0001;
const PSCI: u64 = 0x8000_0000;
const WARM_BOOT: u64 = 0x8000_0001;
const POWER_RESPONSE: u64 = 0x8000_0002;
const CREATED: u64 = 0x8000_0004;
const DESTROYED: u64 = 0x8000_0006;
const PSCI_DENIED: u64 = 0xffff_fffd;
const BITMAP_CREATE: u64 = 0x8400_007d;
const BITMAP_DESTROY: u64 = 0x8400_007e;
const BIND: u64 = 0x8400_007f;
const SET: u64 = 0x8400_0081;

fn from_spmd(x2: u64, x3: u64) -> [u64; 8] {
    [REQ, route(SPMD, SPMC), x2, x3, 0, 0, 0, 0]
}

fn to_spmd(status: u64) -> [u64; 8] {
    [RESP, route(SPMC, SPMD), POWER_RESPONSE, status, 0, 0, 0, 0]
}

fn relayed(to: u64, x2: u64, x3: u64) -> [u64; 8] {
    [REQ, route(SPMC, to), x2, x3, 0, 0, 0, 0]
}

fn agreed(from: u64, status: u64) -> [u64; 8] {
    [RESP, route(from, SPMC), POWER_RESPONSE, status, 0, 0, 0, 0]
}

/// a, b and d want to know of everything; c of nothing; b has just one context.
fn four() -> (tantalum_core::spmc::Spmc, tantalum_core::machine::fake::FakeMachine) {
    let all = PowerManagement::all();
    Builder::new(2)
        .partition_with("a", |a| a.power(all))
        .partition_with("b", |b| b.power(all).migratable())
        .partition("c")
        .partition_with("d", |d| d.power(all))
        .build()
}
const D: u64 = 0x8004;

#[test]
fn subscribers_with_pinned_contexts_are_told_in_boot_order() {
    let (spmc, machine) = four();
    let mut system = System::booted(&spmc, machine);
    for (x2, x3) in [(PSCI, CPU_SUSPEND), (WARM_BOOT, 0), (PSCI, CPU_OFF)] {
        system.nwd(1, &from_spmd(x2, x3));
        for partition in [A, D] {
            assert_eq!(
                (system.owner(1), system.regs(1)),
                (runs(partition, 1), relayed(partition, x2, x3))
            );
            system.smc(1, &agreed(partition, 0));
        }
        assert_eq!((system.owner(1), system.regs(1)), (NWD, to_spmd(0)));
    }
}

#[test]
fn only_what_they_want() {
    for (x2, x3, partition) in [(PSCI, CPU_OFF, A), (PSCI, CPU_SUSPEND, B), (WARM_BOOT, 1, C)] {
        let (spmc, machine) = Builder::new(1)
            .partition_with("a", |a| a.power(PowerManagement::CPU_OFF))
            .partition_with("b", |b| b.power(PowerManagement::CPU_SUSPEND))
            .partition_with("c", |c| c.power(PowerManagement::CPU_RESUME))
            .build();
        let mut system = System::booted(&spmc, machine);
        system.nwd(0, &from_spmd(x2, x3));
        assert_eq!(system.regs(0), relayed(partition, x2, x3));
        system.smc(0, &agreed(partition, 0));
        assert_eq!((system.owner(0), system.regs(0)), (NWD, to_spmd(0)));
    }
}

#[test]
fn suspension_may_be_refused_and_turning_off_may_not() {
    let (spmc, machine) = four();
    let mut system = System::booted(&spmc, machine);
    for (x3, expected) in [(CPU_SUSPEND, PSCI_DENIED), (CPU_OFF, 0)] {
        system.nwd(1, &from_spmd(PSCI, x3));
        system.smc(1, &agreed(A, PSCI_DENIED | 0xdead << 32));
        system.smc(1, &agreed(D, 0xffff_ffff));
        assert_eq!((system.owner(1), system.regs(1)), (NWD, to_spmd(expected)));
    }
    assert!(system.machine.take_console().contains("\"a\" (0x8001) does not agree"));
}

#[test]
fn wrong_answer_is_a_refusal() {
    let (spmc, machine) = four();
    let mut system = System::booted(&spmc, machine);
    for wrong in [
        response(A, SPMC),
        response(A, 0),
        [RESP, route(A, SPMC), PSCI, 0, 0, 0, 0, 0],
        [RESP, route(D, SPMC), POWER_RESPONSE, 0, 0, 0, 0, 0],
        [RESP_64, route(A, SPMC), POWER_RESPONSE, 0, 0, 0, 0, 0],
        [RESP2, route(A, SPMC), 0, 0, 0, 0, 0, 0],
    ] {
        system.nwd(1, &from_spmd(PSCI, CPU_SUSPEND));
        system.smc(1, &wrong);
        assert_eq!(system.owner(1), runs(D, 1));
        system.smc(1, &agreed(D, 0));
        assert_eq!((system.owner(1), system.regs(1)), (NWD, to_spmd(PSCI_DENIED)));
        system.ask(1, A);
        system.respond(1, A, 0);
    }
}

#[test]
fn fault_does_not_keep_the_pe() {
    let (spmc, machine) = four();
    let mut system = System::booted(&spmc, machine);
    system.nwd(1, &from_spmd(PSCI, CPU_OFF));
    system.smc(1, &[ABORT]);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (runs(D, 1), relayed(D, PSCI, CPU_OFF))
    );
    system.smc(1, &[ABORT]);
    assert_eq!((system.owner(1), system.regs(1)), (NWD, to_spmd(0)));
}

#[test]
fn is_not_interrupted_and_waits_for_nothing_but_the_answer() {
    let (spmc, machine) = four();
    let mut system = System::booted(&spmc, machine);
    system.nwd(1, &from_spmd(PSCI, CPU_OFF));
    assert!(system.ctx(1).mask_ns_interrupts);
    system.exit(1, NS_INTERRUPT);
    assert_eq!(system.owner(1), runs(A, 1));
    system.smc_fails(1, &[MSG_WAIT], DENIED);
    system.smc_fails(1, &[YIELD], DENIED);
    // It may ask others, which are not interrupted either, nor give the normal world the PE.
    system.forward(1, A, C);
    assert!(system.ctx(1).mask_ns_interrupts);
    system.exit(1, NS_INTERRUPT);
    assert_eq!(system.owner(1), runs(C, 1));
    system.smc(1, &[YIELD]);
    assert_eq!(
        (system.owner(1), system.regs(1)[..2].to_vec()),
        (runs(A, 1), vec![YIELD, target(C, 1)])
    );
    system.smc(1, &[RUN, target(C, 1)]);
    system.smc(1, &[ABORT]);
    assert_eq!((system.owner(1), system.regs(1)), (runs(A, 1), error(ABORTED)));
    system.smc(1, &agreed(A, 0));
    system.smc(1, &agreed(D, 0));
    assert_eq!((system.owner(1), system.regs(1)), (NWD, to_spmd(0)));
}

#[test]
fn context_that_is_busy_is_passed_over() {
    let (spmc, machine) = four();
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    system.exit(1, NS_INTERRUPT);
    system.nwd(1, &from_spmd(PSCI, CPU_OFF));
    assert_eq!(system.owner(1), runs(D, 1));
    assert!(
        system
            .machine
            .take_console()
            .contains("\"a\" (0x8001) is busy and is not told")
    );
    system.smc(1, &agreed(D, 0));
    assert_eq!((system.owner(1), system.regs(1)), (NWD, to_spmd(0)));
}

#[test]
fn each_pe_has_a_message_of_its_own() {
    let (spmc, machine) = four();
    let mut system = System::booted(&spmc, machine);
    system.nwd(1, &from_spmd(PSCI, CPU_OFF));
    system.nwd(0, &from_spmd(PSCI, CPU_SUSPEND));
    assert_eq!((system.owner(0), system.owner(1)), (runs(A, 0), runs(A, 1)));
    system.smc(1, &agreed(A, 0));
    system.smc(0, &agreed(A, 0));
    assert_eq!((system.owner(0), system.owner(1)), (runs(D, 0), runs(D, 1)));
    system.smc(0, &agreed(D, PSCI_DENIED));
    system.smc(1, &agreed(D, 0));
    assert_eq!((system.regs(0), system.regs(1)), (to_spmd(PSCI_DENIED), to_spmd(0)));
}

/// a wants messages about VMs that were created, b about those that are destroyed.
fn subscribers() -> (tantalum_core::spmc::Spmc, tantalum_core::machine::fake::FakeMachine) {
    Builder::new(2)
        .partition_with("a", |a| a.vm_availability(VmAvailability::CREATED))
        .partition_with("b", |b| {
            b.indirect().vm_availability(VmAvailability::DESTROYED).migratable()
        })
        .partition_with("c", |c| c.vm_availability(VmAvailability::all()))
        .build()
}

fn vm_message(to: u64, x2: u64, vm: u64) -> [u64; 8] {
    [REQ, route(0, to), x2, 0x1111, 0x2222, vm, 0, 0]
}

#[test]
fn messages_about_vms_reach_subscribers_and_are_acknowledged() {
    let (spmc, machine) = subscribers();
    let mut system = System::booted(&spmc, machine);
    for (to, message) in [(A, CREATED), (B, DESTROYED), (C, CREATED), (C, DESTROYED)] {
        for status in [0, 0xffff_fff9] {
            system.nwd(0, &vm_message(to, message, 5));
            assert_eq!(
                (system.owner(0), system.regs(0)),
                (runs(to, 0), vm_message(to, message, 5))
            );
            system.smc(0, &[RESP, route(to, 0), message + 1, status]);
            assert_eq!(
                (system.owner(0), system.regs(0)),
                (NWD, [RESP, route(to, 0), message + 1, status, 0, 0, 0, 0])
            );
        }
    }
}

#[test]
fn properties_say_who_wants_them() {
    let (spmc, machine) = subscribers();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[PARTITION_INFO_GET_REGS]);
    let of_nwd = system.all(0);
    let bits = |registers: &[u64], n: usize| registers[3 + 3 * n] >> 32 & 0b1100_0000;
    assert_eq!(
        [bits(&of_nwd, 0), bits(&of_nwd, 1), bits(&of_nwd, 2)],
        [1 << 6, 1 << 7, 3 << 6]
    );
    system.ask(0, A);
    system.smc(0, &[PARTITION_INFO_GET_REGS]);
    assert_eq!(bits(&system.all(0), 2), 0, "partitions have none to send");
}

#[test]
fn messages_about_vms_are_checked() {
    let (spmc, machine) = subscribers();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &vm_message(A, DESTROYED, 5), DENIED);
    system.nwd_fails(0, &vm_message(B, CREATED, 5), DENIED);
    for vm in [0, 0x8001, 0xffff, 0x1_0005] {
        system.nwd_fails(0, &vm_message(C, CREATED, vm), INVALID_PARAMETERS);
    }
    for message in [
        PSCI,
        WARM_BOOT,
        POWER_RESPONSE,
        CREATED + 1,
        DESTROYED + 1,
        0x8000_0008,
        0x8000_0104,
    ] {
        system.nwd_fails(0, &vm_message(C, message, 5), INVALID_PARAMETERS);
    }
    for to in [SPMC, SPMD, 0x8009, 5] {
        system.nwd_fails(0, &vm_message(to, CREATED, 5), INVALID_PARAMETERS);
    }
    let mut message = vm_message(C, CREATED, 5);
    message[1] = route(5, C);
    system.nwd_fails(0, &message, INVALID_PARAMETERS);
    message[1] = route(0, C);
    message[7] = 1;
    system.nwd_fails(0, &message, INVALID_PARAMETERS);
    message[7] = 0;
    message[0] = REQ_64;
    system.nwd_fails(0, &message, INVALID_PARAMETERS);
    // Partitions have no such messages to send.
    system.ask(0, A);
    let mut message = vm_message(C, CREATED, 5);
    message[1] = route(A, C);
    system.smc_fails(0, &message, INVALID_PARAMETERS);
    // A message to one that is busy, or was stopped.
    system.nwd(1, &vm_message(B, DESTROYED, 5));
    system.forward(0, A, C);
    system.smc(0, &[ABORT]);
    system.respond(0, A, 0);
    system.nwd_fails(0, &vm_message(B, DESTROYED, 5), BUSY);
    system.nwd_fails(0, &vm_message(C, DESTROYED, 5), ABORTED);
}

#[test]
fn wrong_acknowledgement_is_refused() {
    let (spmc, machine) = subscribers();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &vm_message(C, CREATED, 5));
    system.smc_fails(0, &[RESP, route(C, 0), DESTROYED + 1, 0], INVALID_PARAMETERS);
    system.smc_fails(0, &[RESP, route(C, 5), CREATED + 1, 0], INVALID_PARAMETERS);
    system.smc_fails(0, &response(C, 0), INVALID_PARAMETERS);
    system.smc_fails(0, &[RESP_64, route(C, 0), CREATED + 1, 0], INVALID_PARAMETERS);
    system.smc_fails(0, &[MSG_WAIT], DENIED);
    system.smc(0, &[RESP, route(C, 0), CREATED + 1, 0]);
    assert_eq!(system.owner(0), NWD);
}

#[test]
fn message_about_a_vm_is_preempted_and_resumed_like_any_request() {
    let (spmc, machine) = subscribers();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &vm_message(B, DESTROYED, 5));
    system.exit(0, NS_INTERRUPT);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [INTERRUPT, target(B, 0), 0, 0, 0, 0, 0, 0])
    );
    system.nwd(1, &[RUN, target(B, 0)]);
    assert_eq!(system.owner(1), runs(B, 0));
    system.smc(1, &[YIELD]);
    assert_eq!(system.owner(1), NWD);
    system.nwd(0, &[RUN, target(B, 0)]);
    system.smc(0, &[RESP, route(B, 0), DESTROYED + 1, 0]);
    assert_eq!(system.regs(0), [RESP, route(B, 0), DESTROYED + 1, 0, 0, 0, 0, 0]);
    system.nwd(0, &vm_message(B, DESTROYED, 5));
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
}

#[test]
fn nothing_of_a_vm_that_is_destroyed_stays() {
    let (spmc, machine) = subscribers();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[BITMAP_CREATE, 5, 1]);
    // b takes notification 1 of the VM, and one is pending for either.
    system.nwd(0, &[RUN, target(B, 0)]);
    system.smc(0, &[BIND, route(5, B), 0, 1, 0]);
    assert_eq!(system.regs(0), success(0));
    system.smc(0, &[MSG_WAIT]);
    system.nwd(0, &[BIND, route(B, 5), 0, 1, 0]);
    assert_eq!(system.regs(0), success(0));
    system.nwd(0, &[SET, route(5, B), 0, 1, 0]);
    assert_eq!(system.regs(0), success(0));
    system.nwd(0, &[RUN, target(B, 0)]);
    system.smc(0, &[SET, route(B, 5), 0, 1, 0]);
    assert_eq!(system.regs(0), success(0));
    system.smc(0, &[MSG_WAIT]);
    system.nwd_fails(0, &[BITMAP_DESTROY, 5], DENIED);
    system.nwd(0, &vm_message(B, DESTROYED, 5));
    system.smc(0, &[RESP, route(B, 0), DESTROYED + 1, 0]);
    system.nwd_fails(0, &[BITMAP_DESTROY, 5], DENIED);
    system.nwd_fails(0, &[SET, route(5, B), 0, 1, 0], DENIED);
}
