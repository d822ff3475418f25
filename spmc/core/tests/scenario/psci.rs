//! PEs that come and go: framework messages of EL3 (FF-A 1.2, section 18.2; TF-A's SPMD).

use crate::support::*;

fn framework(x2: u64, x3: u64) -> [u64; 8] {
    [REQ, route(SPMD, SPMC), x2, x3, 0, 0, 0, 0]
}

#[test]
fn cpu_off_is_answered_with_success() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(1, &framework(0x8000_0000 | 0xdead << 32, 0x8400_0002 | 0xdead << 32));
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (NWD, [RESP, route(SPMC, SPMD), 0x8000_0002, 0, 0, 0, 0, 0])
    );
    assert_eq!(system.all(1)[8..], System::upper_of_the_normal_world());
}

#[test]
fn warm_boot_is_answered_with_success() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    for kind in 0..2 {
        system.nwd(1, &framework(0x8000_0001, kind));
        assert_eq!(system.regs(1), [RESP, route(SPMC, SPMD), 0x8000_0002, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn other_calls_are_not_supported() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    for call in [0, 0x8400_0000, 0x8400_0008, 0x8400_0009, 0xc400_0001] {
        system.nwd(1, &framework(0x8000_0000, call));
        assert_eq!(
            system.regs(1),
            [RESP, route(SPMC, SPMD), 0x8000_0002, 0xffff_ffff, 0, 0, 0, 0]
        );
    }
    system.ask(1, A);
}

#[test]
fn unknown_framework_messages_are_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    for function in [2, 3, 4, 5, 9, 10, 12, 0xff, 0x100, 0x7fff_ffff] {
        system.nwd_fails(0, &framework(1 << 31 | function, 0), INVALID_PARAMETERS);
    }
    // Not a framework message; not for the SPMC; not of 32 bits.
    system.nwd_fails(0, &framework(0, 0x8400_0002), INVALID_PARAMETERS);
    system.nwd_fails(0, &[REQ, route(SPMD, A), 0x8000_0000, 0x8400_0002], INVALID_PARAMETERS);
    system.nwd_fails(
        0,
        &[REQ_64, route(SPMD, SPMC), 0x8000_0000, 0x8400_0002],
        INVALID_PARAMETERS,
    );
    system.nwd_fails(
        0,
        &[REQ2, route(SPMD, SPMC), 0x8000_0000, 0x8400_0002],
        INVALID_PARAMETERS,
    );
    system.ask(0, A);
}

#[test]
fn pe_goes_off_and_comes_on_again() {
    let (spmc, machine) = Builder::new(2)
        .partition("a")
        .partition_with("m", PartitionBuilder::migratable)
        .build();
    let mut system = System::booted(&spmc, machine);
    for _ in 0..3 {
        // Whatever its context was doing, it starts afresh.
        system.ask(1, A);
        system.el1(1).vbar = 0x1000;
        system.exit(1, NS_INTERRUPT);
        system.turn_off(1);
        system.online(1);
        assert_eq!(system.owner(1), runs(A, 1), "the migratable one is not started again");
        let ctx = system.ctx(1);
        assert_eq!((ctx.pstate, ctx.vmpidr), (0x3c5, 1 << 31 | 1));
        let mut expected = [0; 31];
        expected[4] = 1;
        assert_eq!(ctx.x, expected);
        assert_eq!(system.el1(1).vbar, 0);
        system.smc(1, &[MSG_WAIT]);
        assert_eq!(
            (system.owner(1), system.regs(1)),
            (NWD, [MSG_WAIT, 0, 0, 0, 0, 0, 0, 0])
        );
        system.ask(1, A);
        system.forward(1, A, B);
        system.respond(1, B, A);
        system.respond(1, A, 0);
    }
}

#[test]
fn other_pes_go_on() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.turn_off(1);
    system.respond(0, B, A);
    system.respond(0, A, 0);
}

#[test]
fn migratable_context_that_was_preempted_goes_on_elsewhere() {
    let (spmc, machine) = Builder::new(2)
        .partition_with("m", PartitionBuilder::migratable)
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    system.exit(1, NS_INTERRUPT);
    system.turn_off(1);
    system.nwd(0, &[RUN, target(A, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), request(0, A)));
    system.respond(0, A, 0);
}

#[test]
fn work_for_a_context_that_is_gone_may_be_ended_by_the_normal_world() {
    // Else the migratable partition would be busy for ever.
    let (spmc, machine) = Builder::new(2)
        .partition("a")
        .partition_with("m", PartitionBuilder::migratable)
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    system.forward(1, A, B);
    system.exit(1, NS_INTERRUPT);
    system.exit(1, NS_INTERRUPT);
    system.nwd_fails(0, &[RUN, target(B, 0)], DENIED);
    system.turn_off(1);
    system.nwd_fails(0, &request(0, B), BUSY);
    system.nwd(0, &[RUN, target(B, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), request(A, B)));
    system.smc(0, &response(B, A));
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [MSG_WAIT, target(B, 0), 0, 0, 0, 0, 0, 0])
    );
    system.ask(0, B);
    system.respond(0, B, 0);
    // The new context of a gets nothing of it.
    system.boot(1);
    system.ask(1, A);
    system.forward(1, A, B);
    system.respond(1, B, A);
}

#[test]
fn partition_that_was_stopped_is_not_started_again() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[ABORT]);
    system.turn_off(1);
    system.online(1);
    assert_eq!(system.owner(1), runs(B, 1));
}
