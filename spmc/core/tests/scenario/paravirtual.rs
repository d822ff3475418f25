//! Virtual interrupts by the paravirtual interface: HVC 0xff03 (enable), 0xff04 (get), 0xff08 (deactivate), and the
//! notification pending interrupt (FF-A 1.2, section 10.5).

use tantalum_core::{machine::KICK_INTERRUPT, manifest::partition::Trigger, spmc::Exit};

use crate::support::*;

const ENABLE: u64 = 0xff03;
const GET: u64 = 0xff04;
const DEACTIVATE: u64 = 0xff08;
const FAILED: u64 = u64::MAX;
const NONE: u64 = 0xffff_ffff;
const SEND_IPI: u64 = 0xff0a;
const NPI: u64 = 5;
const IPI: u64 = 9;

const BIND: u64 = 0x8400_007f;
const SET: u64 = 0x8400_0081;
const NOTIFICATION_GET: u64 = 0x8400_0082;
const PER_VCPU: u64 = 1;

fn call(system: &mut System<'_>, pe: usize, registers: &[u64]) -> u64 {
    let before = system.owner(pe);
    system.hvc(pe, registers);
    assert_eq!(system.owner(pe), before);
    assert_eq!(system.regs(pe)[1..registers.len()], registers[1..]);
    system.regs(pe)[0]
}

/// a with notifications and an interrupt 40, b.
fn two(pes: usize) -> (tantalum_core::spmc::Spmc, tantalum_core::machine::fake::FakeMachine) {
    Builder::new(pes)
        .partition_with("a", |a| a.indirect().device_interrupt(40, Trigger::Edge))
        .partition("b")
        .build()
}

/// The virtual IRQ and FIQ of the context that has the PE.
fn lines(system: &mut System<'_>, pe: usize) -> (bool, bool) {
    let ctx = system.ctx(pe);
    (ctx.signals.irq, ctx.signals.fiq)
}

#[test]
fn ids_are_those_of_the_manifest_and_the_first_sixteen() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    for id in [0, 3, 15, 40] {
        assert_eq!(call(&mut system, 0, &[ENABLE, id, 1, 0]), 0);
        assert_eq!(call(&mut system, 0, &[ENABLE, id, 1, 1]), 0);
        assert_eq!(call(&mut system, 0, &[ENABLE, id, 0, 0]), 0);
        assert_eq!(call(&mut system, 0, &[DEACTIVATE, id, id]), 0);
    }
    for id in [16, 39, 41, 1019, 0xffff_ffff] {
        assert_eq!(call(&mut system, 0, &[ENABLE, id, 1, 0]), FAILED);
        assert_eq!(call(&mut system, 0, &[DEACTIVATE, id, id]), FAILED);
    }
    assert_eq!(call(&mut system, 0, &[ENABLE, 40, 1, 2]), FAILED);
    assert_eq!(call(&mut system, 0, &[DEACTIVATE, 40, 3]), FAILED);
    assert_eq!(call(&mut system, 0, &[0xff00]), FAILED);
    assert_eq!(call(&mut system, 0, &[0xff0f]), FAILED);
    assert_eq!(call(&mut system, 0, &[GET]), NONE);
}

#[test]
fn notification_pends_the_interrupt_of_a_context_that_waits() {
    let (spmc, machine) = two(2);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[BIND, route(0, A), 0, 0b11, 0]);
    system.smc(0, &[BIND, route(0, A), PER_VCPU, 0b100, 0]);
    assert_eq!(lines(&mut system, 0), (false, false));
    system.respond(0, A, 0);
    // For one context: that one is told, not the other.
    system.nwd(0, &[SET, route(0, A), 1 << 16 | PER_VCPU, 0b100, 0]);
    system.ask(0, A);
    assert_eq!(lines(&mut system, 0), (false, false));
    system.respond(0, A, 0);
    system.ask(1, A);
    assert_eq!(lines(&mut system, 1), (true, false));
    assert_eq!(call(&mut system, 1, &[GET]), NPI);
    assert_eq!(lines(&mut system, 1), (false, false));
    assert_eq!(call(&mut system, 1, &[GET]), NONE);
    system.smc(1, &[NOTIFICATION_GET, route(1, A), 0b10]);
    assert_eq!(system.regs(1)[..6], [SUCCESS, 0, 0, 0, 0b100, 0]);
    system.respond(1, A, 0);
    // A global one: either may take it, and the other one hears no more of it.
    system.nwd(0, &[SET, route(0, A), 0, 0b01, 0]);
    system.ask(0, A);
    assert_eq!(lines(&mut system, 0), (true, false));
    // An interrupt that is not enabled is not signalled, and not lost.
    assert_eq!(call(&mut system, 0, &[ENABLE, NPI, 0, 0]), 0);
    assert_eq!(lines(&mut system, 0), (false, false));
    assert_eq!(call(&mut system, 0, &[GET]), NONE);
    assert_eq!(call(&mut system, 0, &[ENABLE, NPI, 1, 1]), 0);
    assert_eq!(lines(&mut system, 0), (false, true));
    system.smc(0, &[NOTIFICATION_GET, route(0, A), 0b10]);
    assert_eq!(lines(&mut system, 0), (false, false));
    system.respond(0, A, 0);
    system.ask(1, A);
    assert_eq!(lines(&mut system, 1), (false, false));
}

#[test]
fn notification_of_a_context_that_runs_elsewhere_kicks_its_pe() {
    let (spmc, machine) = two(2);
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    system.smc(1, &[BIND, route(B, A), PER_VCPU, 1, 0]);
    system.ask(0, B);
    system.smc(0, &[SET, route(B, A), 1 << 16 | PER_VCPU, 1, 0]);
    assert_eq!(system.regs(0)[0], SUCCESS);
    assert_eq!(system.machine.pending(1), Some(KICK_INTERRUPT));
    system.exit(1, Exit::Irq);
    assert_eq!((system.owner(1), lines(&mut system, 1)), (runs(A, 1), (true, false)));
    assert_eq!(system.machine.pending(1), None);
}

#[test]
fn notification_of_a_caller_is_there_when_its_call_returns() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[BIND, route(B, A), 0, 1, 0]);
    system.forward(0, A, B);
    assert_eq!(lines(&mut system, 0), (false, false));
    system.smc(0, &[SET, route(B, A), 0, 1, 0]);
    assert_eq!(lines(&mut system, 0), (false, false));
    system.respond(0, B, A);
    assert_eq!(lines(&mut system, 0), (true, false));
    // What is left over is told of again.
    assert_eq!(call(&mut system, 0, &[GET]), NPI);
    system.smc(0, &[NOTIFICATION_GET, route(0, A), 0b10]);
    assert_eq!(lines(&mut system, 0), (true, false));
    system.smc(0, &[NOTIFICATION_GET, route(0, A), 0b01]);
    assert_eq!(system.regs(0)[..3], [SUCCESS, 0, 1]);
    assert_eq!(lines(&mut system, 0), (false, false));
}

#[test]
fn features_of_a_partition_have_the_interrupts_that_it_gets() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[FEATURES, 1]);
    assert_eq!(system.regs(0), success(NPI));
    system.smc_fails(0, &[FEATURES, 2], NOT_SUPPORTED);
    system.smc_fails(0, &[FEATURES, 3], NOT_SUPPORTED);
    system.forward(0, A, B);
    system.smc_fails(0, &[FEATURES, 1], NOT_SUPPORTED);
}

#[test]
fn ipi_of_a_context_that_waits_has_it_run() {
    let (spmc, machine) = two(3);
    let mut system = System::booted(&spmc, machine);
    for pe in [0, 1] {
        system.ask(pe, A);
        assert_eq!(call(&mut system, pe, &[ENABLE, IPI, 1, 0]), 0);
    }
    system.respond(1, A, 0);
    assert_eq!(call(&mut system, 0, &[SEND_IPI, 1]), 0);
    assert!(system.machine.pe(1).kicked);
    system.nwd(1, &[INTERRUPT]);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (runs(A, 1), [INTERRUPT, 0, IPI, 0, 0, 0, 0, 0])
    );
    assert_eq!(lines(&mut system, 1), (true, false));
    assert_eq!(call(&mut system, 1, &[GET]), IPI);
    assert_eq!(call(&mut system, 1, &[GET]), NONE);
    // And back, to one that runs.
    assert_eq!(call(&mut system, 1, &[SEND_IPI, 0]), 0);
    assert!(system.machine.pe(0).kicked);
    system.exit(0, Exit::Irq);
    assert_eq!((system.owner(0), lines(&mut system, 0)), (runs(A, 0), (true, false)));
    system.smc(1, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (NWD, [NORMAL_WORLD_RESUME, 0, 0, 0, 0, 0, 0, 0])
    );
}

#[test]
fn ipi_of_a_context_that_was_preempted_is_kept() {
    let (spmc, machine) = two(2);
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    assert_eq!(call(&mut system, 1, &[ENABLE, IPI, 1, 1]), 0);
    system.exit(1, NS_INTERRUPT);
    system.ask(0, A);
    assert_eq!(call(&mut system, 0, &[SEND_IPI, 1]), 0);
    system.nwd(1, &[INTERRUPT]);
    assert_eq!(system.owner(1), NWD);
    system.nwd(1, &[RUN, target(A, 1)]);
    assert_eq!(lines(&mut system, 1), (false, true));
    assert_eq!(call(&mut system, 1, &[GET]), IPI);
    // One that is off starts without.
    system.respond(1, A, 0);
    system.turn_off(1);
    assert_eq!(call(&mut system, 0, &[SEND_IPI, 1]), 0);
    system.boot(1);
    system.ask(1, A);
    assert_eq!(call(&mut system, 1, &[ENABLE, IPI, 1, 0]), 0);
    assert_eq!(lines(&mut system, 1), (false, false));
}

#[test]
fn ipi_to_oneself_or_nobody_fails() {
    let (spmc, machine) = Builder::new(2)
        .partition("a")
        .partition_with("b", PartitionBuilder::migratable)
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    for to in [1, 2, 0xffff, 0x1_0000, 0xffff_ffff] {
        assert_eq!(call(&mut system, 1, &[SEND_IPI, to]), FAILED);
    }
    // The upper half of the register does not count.
    assert_eq!(call(&mut system, 1, &[SEND_IPI, 1 << 32]), 0);
    system.forward(1, A, B);
    for to in [0, 1] {
        assert_eq!(call(&mut system, 1, &[SEND_IPI, to]), FAILED);
    }
    assert_eq!(lines(&mut system, 1), (false, false));
}

#[test]
fn global_notification_is_told_to_every_context() {
    let (spmc, machine) = two(2);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[BIND, route(0, A), 0, 0b11, 0]);
    system.respond(0, A, 0);
    system.nwd(0, &[SET, route(0, A), 0, 0b01, 0]);
    for pe in [0, 1] {
        system.ask(pe, A);
        assert_eq!(lines(&mut system, pe), (true, false), "{pe}");
    }
}

#[test]
fn context_that_has_taken_its_own_hears_no_more_of_it() {
    let (spmc, machine) = two(2);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[BIND, route(0, A), PER_VCPU, 0b11, 0]);
    system.respond(0, A, 0);
    for vcpu in [0, 1] {
        system.nwd(0, &[SET, route(0, A), vcpu << 16 | PER_VCPU, 0b01, 0]);
    }
    for pe in [0, 1] {
        system.ask(pe, A);
        assert_eq!(lines(&mut system, pe), (true, false));
    }
    system.smc(0, &[NOTIFICATION_GET, route(0, A), 0b10]);
    assert_eq!(
        (lines(&mut system, 0), lines(&mut system, 1)),
        ((false, false), (true, false))
    );
    system.smc(1, &[NOTIFICATION_GET, route(1, A), 0b10]);
    assert_eq!(lines(&mut system, 1), (false, false));
}
