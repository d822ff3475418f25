//! FFA_RUN (FF-A 1.2, section 14.2).

use crate::support::*;

fn with_migratable() -> (tantalum_core::spmc::Spmc, tantalum_core::machine::fake::FakeMachine) {
    Builder::new(2)
        .partition("a")
        .partition_with("b", PartitionBuilder::migratable)
        .partition("c")
        .build()
}

#[test]
fn gives_cycles_to_a_context_that_waits() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[RUN | 0xdead << 32, target(A, 0) | 0xdead << 32]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(A, 0), [RUN, target(A, 0), 0, 0, 0, 0, 0, 0])
    );
}

#[test]
fn of_what_is_not_there_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    for w1 in [
        0,
        target(0x8004, 0),
        target(SPMC, 0),
        target(SPMD, 0),
        target(A, 2),
        target(A, 0xffff),
    ] {
        system.nwd_fails(0, &[RUN, w1], INVALID_PARAMETERS);
    }
    system.ask(0, A);
    for w1 in [
        0,
        target(0x8004, 0),
        target(SPMC, 0),
        target(SPMD, 0),
        target(B, 2),
        target(A, 0),
    ] {
        system.smc_fails(0, &[RUN, w1], INVALID_PARAMETERS);
    }
}

#[test]
fn of_a_context_pinned_to_another_pe_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &[RUN, target(A, 1)], INVALID_PARAMETERS);
    system.ask(1, A);
    system.exit(1, NS_INTERRUPT);
    system.nwd_fails(0, &[RUN, target(A, 1)], INVALID_PARAMETERS);
    system.nwd(1, &[RUN, target(A, 1)]);
    assert_eq!((system.owner(1), system.regs(1)), (runs(A, 1), request(0, A)));
}

#[test]
fn of_a_context_that_runs_is_busy() {
    let (spmc, machine) = with_migratable();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    system.nwd_fails(1, &[RUN, target(B, 0)], BUSY);
    system.forward(0, B, A);
    system.nwd_fails(1, &[RUN, target(B, 0)], BUSY);
    system.smc_fails(0, &[RUN, target(B, 0)], BUSY);
}

#[test]
fn of_a_partition_that_was_stopped_is_aborted() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.exit(0, NS_INTERRUPT);
    system.ask(1, A);
    system.smc(1, &[ABORT]);
    for pe in 0..2 {
        system.nwd_fails(pe, &[RUN, target(A, pe as u64)], ABORTED);
    }
}

#[test]
fn by_a_partition_of_a_context_that_waits_is_denied() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc_fails(0, &[RUN, target(B, 0)], DENIED);
}

#[test]
fn while_initialising_is_denied() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(system.owner(0), runs(B, 0));
    system.smc_fails(0, &[RUN, target(A, 0)], DENIED);
    system.smc_fails(0, &[RUN, target(C, 0)], DENIED);
}

#[test]
fn of_a_context_that_works_for_another_is_denied() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    // b works for a, was preempted and a with it.
    system.ask(0, A);
    system.forward(0, A, B);
    system.exit(0, NS_INTERRUPT);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(A, 0), [INTERRUPT, target(B, 0), 0, 0, 0, 0, 0, 0])
    );
    system.exit(0, NS_INTERRUPT);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [INTERRUPT, target(A, 0), 0, 0, 0, 0, 0, 0])
    );
    // Neither the normal world nor c may resume it.
    system.nwd_fails(0, &[RUN, target(B, 0)], DENIED);
    system.ask(0, C);
    system.smc_fails(0, &[RUN, target(B, 0)], DENIED);
    system.smc_fails(0, &[RUN, target(A, 0)], DENIED);
    system.respond(0, C, 0);
    // The normal world resumes a, and a resumes b; both go on where they were.
    system.nwd(0, &[RUN, target(A, 0)]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(A, 0), [INTERRUPT, target(B, 0), 0, 0, 0, 0, 0, 0])
    );
    system.smc(0, &[RUN, target(B, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), request(A, B)));
    system.respond(0, B, A);
    system.respond(0, A, 0);
}

#[test]
fn by_another_context_of_the_requester_is_denied() {
    // The response is the requesting context's: another one must not get it (FF-A 1.2, section 8.2).
    let (spmc, machine) = with_migratable();
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    system.forward(1, A, B);
    system.exit(1, NS_INTERRUPT);
    system.exit(1, NS_INTERRUPT);
    system.ask(0, A);
    system.smc_fails(0, &[RUN, target(B, 0)], DENIED);
    system.nwd(1, &[RUN, target(A, 1)]);
    system.smc(1, &[RUN, target(B, 0)]);
    assert_eq!(system.owner(1), runs(B, 0));
    system.respond(1, B, A);
}

#[test]
fn moves_a_migratable_context_to_another_pe() {
    let (spmc, machine) = with_migratable();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    system.el1(0).ttbr0 = 0x1234_5000;
    system.machine.pe(0).live().simd.fpcr = 0x77;
    system.exit(0, NS_INTERRUPT);
    system.nwd(1, &[RUN, target(B, 0)]);
    assert_eq!((system.owner(1), system.regs(1)), (runs(B, 0), request(0, B)));
    assert_eq!(
        (system.el1(1).ttbr0, system.machine.pe(1).live().simd.fpcr),
        (0x1234_5000, 0x77)
    );
    // It calls from where it is now.
    system.forward(1, B, A);
    assert_eq!(system.owner(1), runs(A, 1));
    system.respond(1, A, B);
    system.respond(1, B, 0);
    system.nwd(0, &[RUN, target(B, 0)]);
    assert_eq!(system.owner(0), runs(B, 0));
}

#[test]
fn of_pinned_context_by_a_caller_that_has_moved_is_refused() {
    let (spmc, machine) = with_migratable();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    system.forward(0, B, A);
    system.exit(0, NS_INTERRUPT);
    system.exit(0, NS_INTERRUPT);
    system.nwd(1, &[RUN, target(B, 0)]);
    assert_eq!(system.regs(1), [INTERRUPT, target(A, 0), 0, 0, 0, 0, 0, 0]);
    system.smc_fails(1, &[RUN, target(A, 0)], INVALID_PARAMETERS);
    // Back where it came from, it may.
    system.exit(1, NS_INTERRUPT);
    system.nwd(0, &[RUN, target(B, 0)]);
    system.smc(0, &[RUN, target(A, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), request(B, A)));
}

#[test]
fn by_the_normal_world_ends_what_a_stopped_partition_asked_for() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.exit(0, NS_INTERRUPT);
    system.exit(0, NS_INTERRUPT);
    system.nwd_fails(0, &[RUN, target(B, 0)], DENIED);
    system.ask(1, A);
    system.smc(1, &[ABORT]);
    system.nwd(0, &[RUN, target(B, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), request(A, B)));
    system.smc(0, &response(B, A));
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [MSG_WAIT, target(B, 0), 0, 0, 0, 0, 0, 0])
    );
    system.ask(0, B);
}

#[test]
fn keeps_interrupts_away_as_the_caller_does() {
    // The less permissive action wins down the chain (FF-A 1.2, section 9.3): also for what is resumed.
    let (spmc, machine) = Builder::new(1).partition("a").partition("b").build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.smc(0, &[YIELD]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(A, 0), [YIELD, target(B, 0), 0, 0, 0, 0, 0, 0])
    );
    system.respond(0, A, 0);
    system.nwd(0, &request(0xffc0, A));
    assert!(system.ctx(0).mask_ns_interrupts);
    system.smc(0, &[RUN, target(B, 0)]);
    assert_eq!(system.owner(0), runs(B, 0));
    assert!(system.ctx(0).mask_ns_interrupts);
    system.smc(0, &[YIELD]);
    system.respond(0, A, 0xffc0);
    system.ask(0, A);
    system.smc(0, &[RUN, target(B, 0)]);
    assert!(!system.ctx(0).mask_ns_interrupts, "and no longer than that");
}
