//! Interrupts of partitions' devices, and the SPMC-scheduled mode (FF-A 1.2, chapters 8 and 9).

use tantalum_core::{
    machine::{KICK_INTERRUPT, fake::FakeMachine},
    manifest::partition::{OtherSInterruptsAction, PowerManagement, SriPolicy, Trigger},
    spmc::{Exit, Spmc},
};

use crate::support::*;

const EDGE: u32 = 40;
const LEVEL: u32 = 34;
const INFO_GET: u64 = 0x8400_0083;

/// a with an edge interrupt, b with a level interrupt, c.
fn devices(pes: usize, change: impl Fn(PartitionBuilder) -> PartitionBuilder) -> (Spmc, FakeMachine) {
    Builder::new(pes)
        .partition_with("a", |a| change(a.device_interrupt(EDGE, Trigger::Edge)))
        .partition_with("b", |b| b.device_interrupt(LEVEL, Trigger::Level))
        .partition("c")
        .build()
}

/// All PEs are on, and the contexts have enabled their interrupts.
fn booted(spmc: &Spmc, machine: FakeMachine) -> System<'_> {
    let mut system = System::new(spmc, machine);
    for pe in 0..system.pe_count() {
        system.online(pe);
        while let Owner::Partition(id, _) = system.owner(pe) {
            for interrupt in [EDGE, LEVEL] {
                system.hvc(pe, &[0xff03, u64::from(interrupt), 1, 0]);
            }
            assert_ne!(id, 0);
            system.smc(pe, &[MSG_WAIT]);
        }
    }
    system
}

/// Whether the context that has the PE sees a virtual IRQ.
fn irq(system: &mut System<'_>, pe: usize) -> bool {
    assert!(!system.ctx(pe).signals.fiq);
    system.ctx(pe).signals.irq
}

#[track_caller]
fn takes(system: &mut System<'_>, pe: usize, id: u32) {
    assert!(irq(system, pe));
    system.hvc(pe, &[0xff04]);
    assert_eq!(system.regs(pe)[0], u64::from(id));
}

#[track_caller]
fn deactivates(system: &mut System<'_>, pe: usize, id: u32) {
    system.hvc(pe, &[0xff08, u64::from(id), u64::from(id)]);
    assert_eq!(system.regs(pe)[0], 0);
}

#[track_caller]
fn is_run_for(system: &System<'_>, pe: usize, partition: u64, vcpu: u16, id: u32) {
    assert_eq!(
        (system.owner(pe), system.regs(pe)),
        (runs(partition, vcpu), [INTERRUPT, 0, u64::from(id), 0, 0, 0, 0, 0])
    );
}

#[track_caller]
fn goes_back_to_the_normal_world(system: &mut System<'_>, pe: usize) {
    system.smc(pe, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(pe), system.regs(pe)),
        (NWD, [NORMAL_WORLD_RESUME, 0, 0, 0, 0, 0, 0, 0])
    );
}

#[test]
fn while_the_normal_world_runs_is_handled_before_it_resumes() {
    let (spmc, machine) = devices(2, |a| a);
    let mut system = booted(&spmc, machine);
    system.machine.interrupts.get_mut(&EDGE).expect("set up").pe = 1;
    system.machine.raise(EDGE);
    system.nwd(1, &[INTERRUPT]);
    is_run_for(&system, 1, A, 1, EDGE);
    // EL3 takes nothing but FFA_NORMAL_WORLD_RESUME: the normal world's interrupts wait.
    assert!(system.ctx(1).mask_ns_interrupts);
    takes(&mut system, 1, EDGE);
    assert!(!irq(&mut system, 1));
    deactivates(&mut system, 1, EDGE);
    goes_back_to_the_normal_world(&mut system, 1);
    assert_eq!(system.all(1)[8..], System::upper_of_the_normal_world());
    system.ask(1, A);
    assert!(!irq(&mut system, 1));
}

#[test]
fn while_the_owner_runs_is_signalled() {
    let (spmc, machine) = devices(1, |a| a);
    let mut system = booted(&spmc, machine);
    system.ask(0, A);
    system.machine.raise(EDGE);
    system.exit(0, Exit::Irq);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), request(0, A)));
    takes(&mut system, 0, EDGE);
    system.respond(0, A, 0);
    assert_eq!(system.owner(0), NWD);
}

#[test]
fn while_another_runs_preempts_it() {
    let (spmc, machine) = devices(1, |a| a);
    let mut system = booted(&spmc, machine);
    system.ask(0, C);
    system.load(0, &[1, 2, 3, 4, 5, 6, 7, 8]);
    system.machine.raise(EDGE);
    system.exit(0, Exit::Irq);
    is_run_for(&system, 0, A, 0, EDGE);
    // Another one on top of it.
    system.machine.interrupts.get_mut(&LEVEL).expect("set up").high = true;
    system.exit(0, Exit::Irq);
    is_run_for(&system, 0, B, 0, LEVEL);
    system.smc_fails(0, &request(B, C), DENIED);
    system.smc_fails(0, &request(B, A), DENIED);
    takes(&mut system, 0, LEVEL);
    system.machine.interrupts.get_mut(&LEVEL).expect("set up").high = false;
    system.smc(0, &[MSG_WAIT]);
    is_run_for(&system, 0, A, 0, EDGE);
    takes(&mut system, 0, EDGE);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(C, 0), [1, 2, 3, 4, 5, 6, 7, 8])
    );
    assert!(!system.ctx(0).mask_ns_interrupts);
    system.respond(0, C, 0);
}

#[test]
fn while_the_owner_is_blocked_is_there_when_its_call_returns() {
    let (spmc, machine) = devices(1, |a| a);
    let mut system = booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, C);
    system.machine.raise(EDGE);
    system.exit(0, Exit::Irq);
    assert_eq!((system.owner(0), irq(&mut system, 0)), (runs(C, 0), false));
    system.respond(0, C, A);
    takes(&mut system, 0, EDGE);
    system.respond(0, A, 0);
}

#[test]
fn while_the_owner_is_preempted_is_there_when_it_is_resumed() {
    let (spmc, machine) = devices(1, |a| a);
    let mut system = booted(&spmc, machine);
    system.ask(0, A);
    system.exit(0, NS_INTERRUPT);
    system.machine.raise(EDGE);
    system.nwd(0, &[INTERRUPT]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [NORMAL_WORLD_RESUME, 0, 0, 0, 0, 0, 0, 0])
    );
    system.nwd(0, &[RUN, target(A, 0)]);
    takes(&mut system, 0, EDGE);
    system.respond(0, A, 0);
}

#[test]
fn that_is_not_enabled_is_kept() {
    let (spmc, machine) = devices(1, |a| a);
    let mut system = System::booted(&spmc, machine);
    system.machine.raise(EDGE);
    system.nwd(0, &[INTERRUPT]);
    assert_eq!(system.owner(0), NWD);
    system.ask(0, A);
    assert!(!irq(&mut system, 0));
    system.hvc(0, &[0xff03, u64::from(EDGE), 1, 0]);
    takes(&mut system, 0, EDGE);
}

#[test]
fn of_others_wait_for_one_that_has_them_queued() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |a| a.device_interrupt(EDGE, Trigger::Edge))
        .partition_with("b", |mut b| {
            b.other_s_interrupts = OtherSInterruptsAction::Queued;
            b.queued()
        })
        .partition("c")
        .build();
    let mut system = booted(&spmc, machine);
    system.ask(0, B);
    // And while whom it has called runs: the stricter rule wins.
    system.forward(0, B, C);
    system.machine.raise(EDGE);
    system.exit(0, Exit::Irq);
    assert_eq!(system.owner(0), runs(C, 0));
    system.smc(0, &response(C, B));
    assert_eq!(system.owner(0), runs(B, 0));
    system.smc(0, &response(B, 0));
    is_run_for(&system, 0, A, 0, EDGE);
    takes(&mut system, 0, EDGE);
    // The normal world gets its response when that is done.
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, response(B, 0)));
}

#[test]
fn of_a_migratable_owner_finds_it_wherever_it_is() {
    let (spmc, machine) = devices(2, PartitionBuilder::migratable);
    let mut system = booted(&spmc, machine);
    // It waits: whoever gets the interrupt runs it.
    system.machine.interrupts.get_mut(&EDGE).expect("set up").pe = 1;
    system.machine.raise(EDGE);
    system.nwd(1, &[INTERRUPT]);
    is_run_for(&system, 1, A, 0, EDGE);
    takes(&mut system, 1, EDGE);
    goes_back_to_the_normal_world(&mut system, 1);
    // It runs elsewhere: that PE is told.
    system.ask(0, A);
    system.machine.raise(EDGE);
    system.nwd(1, &[INTERRUPT]);
    assert_eq!(system.owner(1), NWD);
    assert_eq!(system.machine.pending(0), Some(KICK_INTERRUPT));
    system.exit(0, Exit::Irq);
    assert_eq!(system.regs(0), request(0, A));
    takes(&mut system, 0, EDGE);
    // It has responded before the kick arrives: run again, where it was.
    system.machine.raise(EDGE);
    system.nwd(1, &[INTERRUPT]);
    system.smc(0, &response(A, 0));
    is_run_for(&system, 0, A, 0, EDGE);
    takes(&mut system, 0, EDGE);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, response(A, 0)));
    system.nwd(0, &[INTERRUPT]);
    assert_eq!(system.owner(0), NWD);
}

#[test]
fn with_a_level_comes_again_when_it_was_deactivated() {
    let (spmc, machine) = devices(1, |a| a);
    let mut system = booted(&spmc, machine);
    system.machine.interrupts.get_mut(&LEVEL).expect("set up").high = true;
    system.nwd(0, &[INTERRUPT]);
    is_run_for(&system, 0, B, 0, LEVEL);
    assert_eq!(system.machine.pending(0), None);
    takes(&mut system, 0, LEVEL);
    assert_eq!(system.machine.pending(0), None);
    deactivates(&mut system, 0, LEVEL);
    assert_eq!(system.machine.pending(0), Some(LEVEL));
    // Twice is harmless.
    deactivates(&mut system, 0, LEVEL);
    system.exit(0, Exit::Irq);
    takes(&mut system, 0, LEVEL);
    system.machine.interrupts.get_mut(&LEVEL).expect("set up").high = false;
    // One that never says so has handled it when it waits.
    assert!(system.machine.interrupts[&LEVEL].active);
    goes_back_to_the_normal_world(&mut system, 0);
    assert!(!system.machine.interrupts[&LEVEL].active);
}

#[test]
fn that_was_not_taken_is_no_reason_to_run_its_owner_for_ever() {
    let (spmc, machine) = devices(1, |a| a);
    let mut system = booted(&spmc, machine);
    system.ask(0, A);
    system.machine.raise(EDGE);
    system.exit(0, Exit::Irq);
    // It has its interrupts masked: it is run for it after its response, once.
    system.smc(0, &response(A, 0));
    is_run_for(&system, 0, A, 0, EDGE);
    assert!(irq(&mut system, 0));
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, response(A, 0)));
    // Kept all the same. Another one before it was taken is the same one.
    assert!(system.machine.interrupts[&EDGE].active);
    system.machine.raise(EDGE);
    assert_eq!(system.machine.pending(0), None);
    system.ask(0, A);
    takes(&mut system, 0, EDGE);
    assert_eq!(system.machine.pending(0), Some(EDGE));
    system.exit(0, Exit::Irq);
    takes(&mut system, 0, EDGE);
}

#[test]
fn calls_that_its_handler_may_make() {
    let (spmc, machine) = devices(1, |a| a);
    let mut system = booted(&spmc, machine);
    system.machine.raise(EDGE);
    system.nwd(0, &[INTERRUPT]);
    system.smc_fails(0, &response(A, 0), DENIED);
    system.smc_fails(0, &[YIELD], DENIED);
    system.smc_fails(0, &[ERROR, 0, 1], NOT_SUPPORTED);
    system.smc_fails(0, &[RUN, target(C, 0)], DENIED);
    system.forward(0, A, C);
    assert!(system.ctx(0).mask_ns_interrupts);
    system.exit(0, NS_INTERRUPT);
    assert_eq!(system.owner(0), runs(C, 0));
    system.smc(0, &[YIELD]);
    assert_eq!((system.owner(0), system.regs(0)[0]), (runs(A, 0), YIELD));
    system.smc(0, &[RUN, target(C, 0)]);
    system.respond(0, C, A);
    takes(&mut system, 0, EDGE);
    goes_back_to_the_normal_world(&mut system, 0);
}

#[test]
fn whose_handler_dies_comes_no_more() {
    let (spmc, machine) = devices(1, |a| a);
    let mut system = booted(&spmc, machine);
    system.ask(0, C);
    system.machine.raise(EDGE);
    system.exit(0, Exit::Irq);
    is_run_for(&system, 0, A, 0, EDGE);
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(C, 0), request(0, C)));
    system.respond(0, C, 0);
    assert!(!system.machine.interrupts[&EDGE].enabled);
    // While the normal world runs.
    system.machine.interrupts.get_mut(&LEVEL).expect("set up").high = true;
    system.nwd(0, &[INTERRUPT]);
    system.forward(0, B, C);
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), error(ABORTED)));
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, NORMAL_WORLD_RESUME));
    assert_eq!(system.machine.pending(0), None);
}

#[test]
fn of_an_owner_that_is_started_afresh_come_again() {
    let (spmc, machine) = devices(1, PartitionBuilder::restart);
    let mut system = booted(&spmc, machine);
    system.ask(0, C);
    system.machine.raise(EDGE);
    system.exit(0, Exit::Irq);
    system.smc(0, &[ABORT]);
    // It starts on top of c, which knows nothing of it.
    assert_eq!(system.owner(0), runs(A, 0));
    system.hvc(0, &[0xff03, u64::from(EDGE), 1, 0]);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(C, 0), request(0, C)));
    system.machine.raise(EDGE);
    system.exit(0, Exit::Irq);
    is_run_for(&system, 0, A, 0, EDGE);
    system.smc(0, &[MSG_WAIT]);
    system.respond(0, C, 0);
}

#[test]
fn may_be_left_to_the_scheduler_of_the_normal_world() {
    let (spmc, machine) = devices(2, |mut a| {
        a.sri_policy = SriPolicy::all();
        a
    });
    let mut system = booted(&spmc, machine);
    system.machine.raise(EDGE);
    system.nwd(0, &[INTERRUPT]);
    assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, NORMAL_WORLD_RESUME));
    assert_eq!(system.machine.schedule_receiver_raised, 1);
    system.nwd(0, &[INFO_GET]);
    assert_eq!(system.regs(0), [SUCCESS, 0, 1 << 12 | 1 << 7, A, 0, 0, 0, 0]);
    system.nwd_fails(0, &[INFO_GET], -9);
    system.nwd(0, &[RUN, target(A, 0)]);
    takes(&mut system, 0, EDGE);
    // As it begins to wait.
    system.machine.raise(EDGE);
    system.exit(0, Exit::Irq);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, MSG_WAIT));
    assert_eq!(system.machine.schedule_receiver_raised, 2);
    system.nwd(0, &[INFO_GET]);
    assert_eq!(system.regs(0)[..4], [SUCCESS, 0, 1 << 12 | 1 << 7, A]);
}

#[test]
fn while_partitions_start_wait_until_the_pe_is_up() {
    let (spmc, machine) = devices(1, |a| a);
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.hvc(0, &[0xff03, u64::from(EDGE), 1, 0]);
    system.smc(0, &[MSG_WAIT]);
    system.machine.raise(EDGE);
    system.exit(0, Exit::Irq);
    assert_eq!(system.owner(0), runs(B, 0));
    system.smc(0, &[MSG_WAIT]);
    system.smc(0, &[MSG_WAIT]);
    is_run_for(&system, 0, A, 0, EDGE);
    takes(&mut system, 0, EDGE);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [MSG_WAIT, 0, 0, 0, 0, 0, 0, 0])
    );
}

#[test]
fn can_be_changed_by_its_owner() {
    let (spmc, machine) = devices(2, |a| a);
    let mut system = booted(&spmc, machine);
    let mut change = |partition: u64, arguments: [u64; 3], expected: u64| {
        system.ask(0, partition);
        let [id, what, value] = arguments;
        system.hvc(0, &[0xff09, id, what, value]);
        assert_eq!(system.regs(0)[0], expected);
        system.smc(0, &response(partition, 0));
        system.machine.interrupts[&EDGE]
    };
    let edge = u64::from(EDGE);
    assert_eq!(change(A, [edge, 0, 1], 0).pe, 1);
    assert!(!change(A, [edge, 2, 0], 0).enabled);
    assert!(change(A, [edge, 2, 1], 0).enabled);
    for refused in [
        [edge, 0, 2],
        [edge, 1, 2],
        [edge, 2, 2],
        [edge, 3, 0],
        [5, 2, 1],
        [u64::from(LEVEL), 2, 0],
    ] {
        change(A, refused, u64::MAX);
    }
    change(B, [edge, 2, 0], u64::MAX);
}

#[test]
fn of_a_partition_at_s_el0_is_what_its_call_returns() {
    let (spmc, machine) = devices(1, |a| a.device_interrupt(LEVEL + 1, Trigger::Level).s_el0());
    let mut system = System::booted(&spmc, machine);
    // Both, one after the other; it need not take, enable or deactivate them.
    system.machine.raise(EDGE);
    system.machine.interrupts.get_mut(&(LEVEL + 1)).expect("set up").high = true;
    system.nwd(0, &[INTERRUPT]);
    is_run_for(&system, 0, A, 0, LEVEL + 1);
    system.exit(0, Exit::Irq);
    system.machine.interrupts.get_mut(&(LEVEL + 1)).expect("set up").high = false;
    system.svc(0, &[MSG_WAIT]);
    is_run_for(&system, 0, A, 0, EDGE);
    goes_back_to_the_normal_world(&mut system, 0);
    assert!(system.machine.interrupts.values().all(|irq| !irq.active));
    // While it works: after its response.
    system.ask(0, A);
    system.machine.raise(EDGE);
    system.exit(0, Exit::Irq);
    assert_eq!(system.regs(0), request(0, A));
    system.svc(0, &response(A, 0));
    is_run_for(&system, 0, A, 0, EDGE);
    system.svc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, response(A, 0)));
}

#[test]
fn goes_to_another_pe_when_its_own_goes_off() {
    let (spmc, machine) = devices(2, |a| a);
    let mut system = booted(&spmc, machine);
    system.ask(0, A);
    system.hvc(0, &[0xff09, u64::from(EDGE), 0, 1]);
    system.respond(0, A, 0);
    assert_eq!(system.machine.interrupts[&EDGE].pe, 1);
    // One that was not taken, and one that comes while the PE is off.
    system.ask(1, A);
    system.exit(1, NS_INTERRUPT);
    system.machine.raise(EDGE);
    system.nwd(1, &[INTERRUPT]);
    assert_eq!(system.owner(1), NWD);
    system.turn_off(1);
    assert_eq!(system.machine.interrupts[&EDGE].pe, 0);
    assert_eq!(system.machine.pending(0), Some(KICK_INTERRUPT));
    system.nwd(0, &[INTERRUPT]);
    is_run_for(&system, 0, A, 0, EDGE);
    takes(&mut system, 0, EDGE);
    goes_back_to_the_normal_world(&mut system, 0);
    system.machine.raise(EDGE);
    system.nwd(0, &[INTERRUPT]);
    is_run_for(&system, 0, A, 0, EDGE);
    takes(&mut system, 0, EDGE);
    goes_back_to_the_normal_world(&mut system, 0);
    // It comes back with the PE.
    system.boot(1);
    assert_eq!(system.machine.interrupts[&EDGE].pe, 1);
}

#[test]
fn of_an_owner_that_is_not_pinned_is_not_handled_by_a_pe_that_goes_off() {
    const B_EDGE: u32 = 41;
    let (spmc, machine) = Builder::new(2)
        .partition_with("a", |a| a.power(PowerManagement::CPU_OFF))
        .partition_with("b", |b| b.migratable().device_interrupt(B_EDGE, Trigger::Edge))
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    system.hvc(0, &[0xff03, u64::from(B_EDGE), 1, 0]);
    system.respond(0, B, 0);
    system.nwd(1, &[REQ, route(0xffff, 0x8000), 0x8000_0000, 0x8400_0002]);
    assert_eq!(system.owner(1), runs(A, 1));
    // It comes while a is told, and b would be run when a has answered: where it could set a timer, and keep the PE.
    system.machine.interrupts.get_mut(&B_EDGE).expect("set up").pe = 1;
    system.machine.raise(B_EDGE);
    system.exit(1, Exit::Irq);
    assert_eq!(system.owner(1), runs(A, 1));
    system.smc(1, &[RESP, route(A, 0x8000), 0x8000_0002, 0]);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (NWD, [RESP, route(0x8000, 0xffff), 0x8000_0002, 0, 0, 0, 0, 0])
    );
    assert_eq!(system.machine.pending(0), Some(KICK_INTERRUPT));
    system.nwd(0, &[INTERRUPT]);
    is_run_for(&system, 0, B, 0, B_EDGE);
    takes(&mut system, 0, B_EDGE);
    goes_back_to_the_normal_world(&mut system, 0);
}

#[test]
fn of_an_owner_that_was_started_afresh_elsewhere_starts_it_here() {
    let (spmc, machine) = devices(2, PartitionBuilder::restart);
    let mut system = booted(&spmc, machine);
    system.ask(1, A);
    system.smc(1, &[ABORT]);
    assert_eq!(system.owner(1), runs(A, 1));
    system.smc(1, &[MSG_WAIT]);
    assert_eq!((system.owner(1), system.regs(1)), (NWD, error(ABORTED)));
    // The device knows nothing of that, and nobody asks the partition for anything on PE 0.
    system.machine.raise(EDGE);
    system.nwd(0, &[INTERRUPT]);
    assert_eq!(system.owner(0), runs(A, 0));
    assert!(!irq(&mut system, 0));
    system.hvc(0, &[0xff03, u64::from(EDGE), 1, 0]);
    system.smc(0, &[MSG_WAIT]);
    is_run_for(&system, 0, A, 0, EDGE);
    takes(&mut system, 0, EDGE);
    goes_back_to_the_normal_world(&mut system, 0);
    assert!(!system.machine.interrupts[&EDGE].active);
}

#[test]
fn of_the_spmc_ends_contexts_of_a_stopped_partition_on_other_pes() {
    let (spmc, machine) = devices(2, |a| a);
    let mut system = booted(&spmc, machine);
    system.ask(1, A);
    system.ask(0, A);
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    // It may do nothing there that would end it: it is told.
    assert_eq!(system.machine.pending(1), Some(KICK_INTERRUPT));
    system.exit(1, Exit::Irq);
    assert_eq!((system.owner(1), system.regs(1)), (NWD, error(ABORTED)));
}

#[test]
fn of_a_pe_that_goes_off_is_told_to_the_scheduler_elsewhere() {
    let (spmc, machine) = devices(2, |mut a| {
        a.sri_policy = SriPolicy::WAITING;
        a
    });
    let mut system = booted(&spmc, machine);
    system.machine.interrupts.get_mut(&EDGE).expect("set up").pe = 1;
    system.machine.raise(EDGE);
    system.nwd(1, &[INTERRUPT]);
    let raised = |system: &System<'_>| {
        (
            system.machine.schedule_receiver_raised,
            system.machine.schedule_receiver_pe,
        )
    };
    assert_eq!(raised(&system), (1, 1));
    system.turn_off(1);
    assert_eq!(raised(&system), (2, 0));
    system.nwd(0, &[INFO_GET]);
    assert_eq!(system.regs(0)[..4], [SUCCESS, 0, 1 << 12 | 1 << 7, A]);
    // Nothing is left to be raised there.
    system.boot(1);
    assert_eq!(raised(&system), (2, 0));
}
