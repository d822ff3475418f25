//! FFA_MSG_WAIT (FF-A 1.2, section 14.1).

use crate::support::*;

#[test]
fn ends_initialisation_in_boot_order() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    for partition in [A, B, C] {
        assert_eq!(system.owner(0), runs(partition, 0));
        system.smc(0, &[MSG_WAIT]);
    }
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [MSG_WAIT, 0, 0, 0, 0, 0, 0, 0])
    );
    assert_eq!(system.all(0)[8..], [0; 10]);
}

#[test]
fn ends_cycles_by_run() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(1, &[RUN, target(B, 1)]);
    assert_eq!(system.owner(1), runs(B, 1));
    system.smc(1, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (NWD, [MSG_WAIT, target(B, 1), 0, 0, 0, 0, 0, 0])
    );
    assert_eq!(system.all(1)[8..], System::upper_of_the_normal_world());
}

#[test]
fn instead_of_a_response_is_denied() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc_fails(0, &[MSG_WAIT], DENIED);
    system.forward(0, A, B);
    system.smc_fails(0, &[MSG_WAIT], DENIED);
    system.respond(0, B, A);
    system.respond(0, A, 0);
}

#[test]
fn flags_are_checked_from_1_2_on() {
    let (spmc, machine) = Builder::new(1)
        .partition("a")
        .partition_with("b", |b| b.version(1, 1))
        .build();
    let mut system = System::booted(&spmc, machine);
    // Bit 0: the RX buffer is kept.
    system.nwd(0, &[RUN, target(A, 0)]);
    system.smc_fails(0, &[MSG_WAIT, 0, 2], INVALID_PARAMETERS);
    system.smc_fails(0, &[MSG_WAIT, 0, 1 << 31], INVALID_PARAMETERS);
    system.smc(0, &[MSG_WAIT, 0, 1 | 0xdead << 32]);
    assert_eq!(system.owner(0), NWD);
    // Until FF-A 1.1 there are none: the register is "SBZ", to be ignored.
    system.nwd(0, &[RUN, target(B, 0)]);
    system.smc(0, &[MSG_WAIT, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(system.owner(0), NWD);
}

#[test]
fn by_the_normal_world_is_not_supported() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &[MSG_WAIT], NOT_SUPPORTED);
}
