//! Interrupts that arrive while a partition runs, and FFA_INTERRUPT (FF-A 1.2, chapter 9).

use tantalum_core::{interrupt::Signal, manifest::partition::NsInterruptsAction, spmc::Exit};

use crate::support::*;

#[test]
fn of_the_normal_world_preempts() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    system.load(1, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let pc = system.ctx(1).pc;
    system.exit(1, NS_INTERRUPT);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (NWD, [INTERRUPT, target(A, 1), 0, 0, 0, 0, 0, 0])
    );
    assert_eq!(system.all(1)[8..], System::upper_of_the_normal_world());
    system.nwd(1, &[RUN, target(A, 1)]);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (runs(A, 1), [1, 2, 3, 4, 5, 6, 7, 8])
    );
    assert_eq!(system.ctx(1).pc, pc);
}

#[test]
fn of_the_normal_world_unwinds_the_chain_from_within() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.forward(0, B, C);
    for (preempted, next) in [(C, runs(B, 0)), (B, runs(A, 0)), (A, NWD)] {
        system.exit(0, NS_INTERRUPT);
        assert_eq!(
            (system.owner(0), system.regs(0)),
            (next, [INTERRUPT, target(preempted, 0), 0, 0, 0, 0, 0, 0])
        );
    }
    // And back in.
    system.nwd(0, &[RUN, target(A, 0)]);
    system.smc(0, &[RUN, target(B, 0)]);
    system.smc(0, &[RUN, target(C, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(C, 0), request(B, C)));
    system.respond(0, C, B);
    system.respond(0, B, A);
    system.respond(0, A, 0);
}

#[test]
fn caller_may_give_up_what_was_preempted() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.exit(0, NS_INTERRUPT);
    // It responds without b, and resumes b at another time.
    system.respond(0, A, 0);
    system.nwd_fails(0, &request(0, B), BUSY);
    system.ask(0, A);
    system.smc_fails(0, &request(A, B), BUSY);
    system.smc(0, &[RUN, target(B, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), request(A, B)));
    system.respond(0, B, A);
    system.respond(0, A, 0);
}

#[test]
fn caller_that_never_comes_back_keeps_nobody_from_the_callee() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.exit(0, NS_INTERRUPT);
    // While a has work to do, it is a's to resume b.
    system.exit(0, NS_INTERRUPT);
    system.nwd_fails(0, &[RUN, target(B, 0)], DENIED);
    system.nwd(0, &[RUN, target(A, 0)]);
    system.respond(0, A, 0);
    // Then the normal world may: b brings its work to an end, and its response is nobody's.
    system.nwd(0, &[RUN, target(B, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), request(A, B)));
    system.smc(0, &response(B, A));
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [MSG_WAIT, target(B, 0), 0, 0, 0, 0, 0, 0])
    );
    system.ask(0, B);
    system.respond(0, B, 0);
}

#[test]
fn is_held_back_by_a_partition_that_queues() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", PartitionBuilder::queued)
        .partition("b")
        .partition("c")
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    assert!(system.ctx(0).mask_ns_interrupts);
    // The less permissive action wins down the chain (FF-A 1.2, section 9.3).
    system.forward(0, A, B);
    assert!(system.ctx(0).mask_ns_interrupts);
    system.forward(0, B, C);
    assert!(system.ctx(0).mask_ns_interrupts);
    system.respond(0, C, B);
    system.respond(0, B, A);
    system.respond(0, A, 0);
    system.ask(0, B);
    assert!(!system.ctx(0).mask_ns_interrupts);
    // The callee alone holds them back.
    system.forward(0, B, A);
    assert!(system.ctx(0).mask_ns_interrupts);
    system.respond(0, A, B);
    assert!(!system.ctx(0).mask_ns_interrupts);
    system.respond(0, B, 0);
    system.nwd(0, &[RUN, target(A, 0)]);
    assert!(system.ctx(0).mask_ns_interrupts);
    // One that comes all the same does no harm.
    system.exit(0, NS_INTERRUPT);
    assert_eq!(system.owner(0), runs(A, 0));
}

fn managed_exit(mut partition: PartitionBuilder, signal: Signal) -> PartitionBuilder {
    partition.ns_interrupts = NsInterruptsAction::ManagedExit;
    partition.managed_exit = signal;
    partition
}

#[test]
fn is_told_to_a_partition_that_exits_in_its_own_way() {
    for (signal, lines) in [(Signal::Irq, (true, false)), (Signal::Fiq, (false, true))] {
        let (spmc, machine) = Builder::new(1)
            .partition_with("a", |a| managed_exit(a, signal))
            .partition("b")
            .build();
        let mut system = System::booted(&spmc, machine);
        system.ask(0, A);
        assert!(!system.ctx(0).mask_ns_interrupts);
        system.exit(0, NS_INTERRUPT);
        assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), request(0, A)));
        let ctx = system.ctx(0);
        assert_eq!(
            ((ctx.signals.irq, ctx.signals.fiq), ctx.mask_ns_interrupts),
            (lines, true)
        );
        // Whom it calls before it exits is not interrupted either.
        system.forward(0, A, B);
        assert!(system.ctx(0).mask_ns_interrupts);
        system.respond(0, B, A);
        system.respond(0, A, 0);
        // It is over, whether it has taken the interrupt or not.
        system.ask(0, A);
        let ctx = system.ctx(0);
        assert_eq!(
            (ctx.signals.irq || ctx.signals.fiq, ctx.mask_ns_interrupts),
            (false, false)
        );
        system.exit(0, NS_INTERRUPT);
        system.hvc(0, &[0xff04]);
        assert_eq!(system.regs(0)[0], 4);
        system.smc(0, &[YIELD]);
        system.nwd(0, &[RUN, target(A, 0)]);
        assert!(!system.ctx(0).mask_ns_interrupts);
        // Features tell of it, and one that switches it off is preempted.
        system.smc(0, &[FEATURES, 3]);
        assert_eq!(system.regs(0), success(4));
        system.hvc(0, &[0xff03, 4, 0, 0]);
        system.exit(0, NS_INTERRUPT);
        assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, INTERRUPT));
    }
}

#[test]
fn has_each_of_a_chain_exit_in_its_own_way() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |a| managed_exit(a, Signal::Fiq))
        .partition("b")
        .partition_with("c", |c| managed_exit(c, Signal::Irq))
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.forward(0, B, C);
    system.exit(0, NS_INTERRUPT);
    assert_eq!((system.owner(0), system.ctx(0).signals.irq), (runs(C, 0), true));
    system.respond(0, C, B);
    // The interrupt is still there: b is preempted, a told.
    assert!(!system.ctx(0).mask_ns_interrupts);
    system.exit(0, NS_INTERRUPT);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(A, 0), [INTERRUPT, target(B, 0), 0, 0, 0, 0, 0, 0])
    );
    system.exit(0, NS_INTERRUPT);
    assert_eq!((system.owner(0), system.ctx(0).signals.fiq), (runs(A, 0), true));
    system.respond(0, A, 0);
    // Back in.
    system.ask(0, A);
    system.smc(0, &[RUN, target(B, 0)]);
    system.respond(0, B, A);
    system.respond(0, A, 0);
}

#[test]
fn is_held_back_while_initialising() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    assert!(system.ctx(0).mask_ns_interrupts);
    system.exit(0, NS_INTERRUPT);
    assert_eq!(system.owner(0), runs(A, 0));
    system.smc(0, &[MSG_WAIT]);
    system.smc(0, &[MSG_WAIT]);
    system.smc(0, &[MSG_WAIT]);
    system.ask(0, A);
    assert!(!system.ctx(0).mask_ns_interrupts);
}

#[test]
fn of_el3_is_el3s_to_handle() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    for answer in [None, Some([SUCCESS, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])] {
        system.machine.pe(0).group0 = 1;
        system.machine.pe(0).el3_answers.extend(answer);
        system.exit(0, Exit::Fiq);
        assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), request(0, A)));
    }
    let mut expected = [0; 18];
    expected[0] = 0x8400_008c;
    assert_eq!(system.machine.pe(0).el3_calls, [expected; 2]);
}

#[test]
fn of_the_secure_world_that_nobody_owns_is_ended() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let irq = system.machine.interrupts.entry(40).or_default();
    (irq.enabled, irq.high) = (true, true);
    system.exit(0, Exit::Irq);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), request(0, A)));
    assert_eq!(system.machine.pending(0), None);
    assert!(!system.machine.interrupts[&40].active);
    // A spurious one.
    system.exit(0, Exit::Irq);
    assert_eq!(system.owner(0), runs(A, 0));
}

#[test]
fn of_the_secure_world_while_the_normal_world_ran_is_followed_by_its_return() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    // The normal world may not have said a version yet, or an old one.
    system.negotiate(0, 0x1_0000);
    system.machine.interrupts.entry(40).or_default().enabled = true;
    system.machine.raise(40);
    system.nwd(0, &[INTERRUPT]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [NORMAL_WORLD_RESUME, 0, 0, 0, 0, 0, 0, 0])
    );
    assert_eq!(system.all(0)[8..], System::upper_of_the_normal_world());
    assert_eq!(system.machine.pending(0), None);
}

#[test]
fn calls_of_a_partition_are_denied() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc_fails(0, &[INTERRUPT], DENIED);
    system.smc_fails(0, &[NORMAL_WORLD_RESUME], DENIED);
    system.smc_fails(0, &[0x8400_008c], NOT_SUPPORTED);
    assert!(system.machine.pe(0).el3_calls.is_empty());
}

#[test]
fn of_the_normal_world_with_a_caller_that_was_stopped() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.forward(0, B, C);
    system.ask(1, B);
    system.smc(1, &[ABORT]);
    // c is preempted, b is gone, a learns of that.
    system.exit(0, NS_INTERRUPT);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), error(ABORTED)));
    // What b wanted from c may be ended by the normal world only.
    system.smc_fails(0, &[RUN, target(C, 0)], DENIED);
    system.respond(0, A, 0);
    system.nwd(0, &[RUN, target(C, 0)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(C, 0), request(B, C)));
    system.exit(0, NS_INTERRUPT);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [INTERRUPT, target(C, 0), 0, 0, 0, 0, 0, 0])
    );
    system.nwd(0, &[RUN, target(C, 0)]);
    system.smc(0, &response(C, B));
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [MSG_WAIT, target(C, 0), 0, 0, 0, 0, 0, 0])
    );
}
