//! FFA_YIELD (FF-A 1.2, section 14.3).

use crate::support::*;

#[test]
fn to_the_normal_world_and_back() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    // w2 and w3: the time-out, which the SPMC passes on.
    system.smc(0, &[YIELD, 0, 0xdead_0000_0005, 0xdead_0000_0006]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [YIELD, target(A, 0), 5, 6, 0, 0, 0, 0])
    );
    assert_eq!(system.all(0)[8..], System::upper_of_the_normal_world());
    system.nwd(0, &[RUN, target(A, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), success(0)));
    system.respond(0, A, 0);
}

#[test]
fn to_the_caller_and_back() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.smc(0, &[YIELD]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(A, 0), [YIELD, target(B, 0), 0, 0, 0, 0, 0, 0])
    );
    // It may ask another meanwhile, not b again.
    system.smc_fails(0, &request(A, B), BUSY);
    system.forward(0, A, C);
    system.smc_fails(0, &[RUN, target(B, 0)], DENIED);
    system.respond(0, C, A);
    system.smc(0, &[RUN, target(B, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), success(0)));
    system.respond(0, B, A);
    system.respond(0, A, 0);
}

#[test]
fn of_cycles_by_run() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[RUN, target(A, 0)]);
    system.smc(0, &[YIELD]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [YIELD, target(A, 0), 0, 0, 0, 0, 0, 0])
    );
    system.nwd(0, &[RUN, target(A, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), success(0)));
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [MSG_WAIT, target(A, 0), 0, 0, 0, 0, 0, 0])
    );
}

#[test]
fn while_initialising_is_denied() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.smc_fails(0, &[YIELD], DENIED);
}

#[test]
fn to_el3_is_denied() {
    // Logical partitions at EL3 wait for a response and for nothing else.
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &request(0xffc0, A));
    system.smc_fails(0, &[YIELD], DENIED);
    // Between partitions it goes on.
    system.forward(0, A, B);
    system.smc(0, &[YIELD]);
    assert_eq!(system.owner(0), runs(A, 0));
    system.respond(0, A, 0xffc0);
}

#[test]
fn reserved_registers_are_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    for n in 4..8 {
        let mut registers = [YIELD, 0, 0, 0, 0, 0, 0, 0];
        registers[n] = 1;
        system.smc_fails(0, &registers, INVALID_PARAMETERS);
    }
    system.smc(0, &[YIELD, 0, 0, 0, 1 << 32, 1 << 33, 1 << 34, 1 << 35]);
    assert_eq!(system.owner(0), NWD);
}

#[test]
fn by_the_normal_world_is_not_supported() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &[YIELD], NOT_SUPPORTED);
}
