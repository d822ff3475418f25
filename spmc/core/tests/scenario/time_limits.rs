//! Isolation in time: a partition that holds back the normal world's interrupts for longer than it may is stopped.

use tantalum_core::{
    interrupt::Signal,
    machine::{NO_DEADLINE, fake::FakeMachine},
    manifest::partition::{NsInterruptsAction, PowerManagement, Trigger},
    spmc::{Exit, Spmc},
    watch::{NO_LIMIT, SLICES},
};

use crate::support::*;

const EDGE: u32 = 40;
/// A logical partition of EL3.
const EL3: u64 = 0xffc0;
const CPU_OFF: [u64; 8] = [REQ, route_of_power(), 0x8000_0000, 0x8400_0002, 0, 0, 0, 0];

const fn route_of_power() -> u64 {
    SPMD << 16 | SPMC
}

fn exits(mut partition: PartitionBuilder) -> PartitionBuilder {
    partition.ns_interrupts = NsInterruptsAction::ManagedExit;
    partition.managed_exit = Signal::Fiq;
    partition
}

fn limits(mut partition: PartitionBuilder, limit: u64) -> PartitionBuilder {
    let limits = &mut partition.time_limits;
    (limits.interrupt, limits.queued) = (limit, limit);
    (limits.firmware, limits.start) = (limit, limit);
    partition
}

/// a exits, b has a device, c.
fn three_kinds(pes: usize, change: impl Fn(PartitionBuilder) -> PartitionBuilder) -> (Spmc, FakeMachine) {
    Builder::new(pes)
        .partition_with("a", |a| change(exits(a)))
        .partition_with("b", |b| change(b.device_interrupt(EDGE, Trigger::Edge)))
        .partition_with("c", &change)
        .build()
}

/// All PEs are on, and b has enabled its interrupt.
fn booted(spmc: &Spmc, machine: FakeMachine) -> System<'_> {
    let mut system = System::booted(spmc, machine);
    for pe in 0..system.pe_count() {
        system.ask(pe, B);
        system.hvc(pe, &[0xff03, u64::from(EDGE), 1, 0]);
        system.respond(pe, B, 0);
    }
    system
}

/// Lets the PE's next slice of time pass. `false`: nobody's time is counted.
fn pass(system: &mut System<'_>, pe: usize) -> bool {
    let deadline = system.machine.pe(pe).watchdog;
    if deadline == NO_DEADLINE {
        return false;
    }
    system
        .machine
        .advance(deadline.saturating_sub(system.machine.counter()));
    if system.owner(pe) == NWD {
        system.nwd(pe, &[INTERRUPT]);
    } else {
        system.exit(pe, Exit::Irq);
    }
    true
}

/// Whoever has the PE keeps it until its time is over. Returns how long that was.
#[track_caller]
fn keeps_the_pe(system: &mut System<'_>, pe: usize) -> u64 {
    let (begin, owner) = (system.machine.counter(), system.owner(pe));
    let printed = system.machine.console.len();
    while system.machine.console.len() == printed {
        assert_eq!(system.owner(pe), owner);
        assert!(pass(system, pe), "its time is not counted");
    }
    system.machine.counter() - begin
}

#[track_caller]
fn is_stopped(system: &mut System<'_>, name: &str, why: &str) {
    let console = system.machine.take_console();
    assert!(
        console.contains(&format!("partition \"{name}\"")) && console.contains("is stopped"),
        "{console}"
    );
    assert!(console.contains(why), "{console}");
}

fn is_run_for_the_device(system: &mut System<'_>, pe: usize) {
    system.machine.raise(EDGE);
    if system.owner(pe) == NWD {
        system.nwd(pe, &[INTERRUPT]);
    } else {
        system.exit(pe, Exit::Irq);
    }
    assert_eq!(
        (system.owner(pe), system.regs(pe)[..3].to_vec()),
        (
            runs(B, u16::try_from(pe).expect("few")),
            vec![INTERRUPT, 0, u64::from(EDGE)]
        )
    );
}

#[test]
fn of_a_managed_exit() {
    let (spmc, machine) = three_kinds(2, |partition| partition);
    let mut system = booted(&spmc, machine);
    system.ask(1, A);
    assert_eq!(system.machine.pe(1).watchdog, NO_DEADLINE);
    system.exit(1, NS_INTERRUPT);
    assert_eq!(system.owner(1), runs(A, 1));
    let spent = keeps_the_pe(&mut system, 1);
    assert!((8_000_000..8_100_000).contains(&spent), "{spent}");
    is_stopped(
        &mut system,
        "a",
        "told to give up the PE (managed exit), and went on for 128 ms",
    );
    assert_eq!((system.owner(1), system.regs(1)), (NWD, error(ABORTED)));
    assert_eq!(system.machine.pe(1).watchdog, NO_DEADLINE);
    system.nwd_fails(0, &request(0, A), ABORTED);
    system.ask(1, C);
    system.respond(1, C, 0);
}

#[test]
fn of_a_managed_exit_that_comes_are_over() {
    let (spmc, machine) = three_kinds(1, |partition| partition);
    let mut system = booted(&spmc, machine);
    for turn in 0..3 * SLICES {
        if turn == 0 {
            system.ask(0, A);
        } else if turn % 2 == 0 {
            system.nwd(0, &[RUN, target(A, 0)]);
        } else {
            system.respond(0, A, 0);
            assert_eq!((system.owner(0), system.machine.pe(0).watchdog), (NWD, NO_DEADLINE));
            system.ask(0, A);
        }
        system.exit(0, NS_INTERRUPT);
        // It takes what it was told, and says that it has handled it: that alone is no exit.
        system.hvc(0, &[0xff04]);
        assert_eq!(system.regs(0)[0], 4);
        system.hvc(0, &[0xff08, 4, 4]);
        assert!(pass(&mut system, 0));
        if turn % 2 == 1 {
            system.smc(0, &[YIELD]);
            assert_eq!((system.owner(0), system.machine.pe(0).watchdog), (NWD, NO_DEADLINE));
        }
    }
    // In a cycle of FFA_RUN too.
    system.nwd(0, &[RUN, target(A, 0)]);
    system.respond(0, A, 0);
    system.nwd(0, &[RUN, target(A, 0)]);
    system.exit(0, NS_INTERRUPT);
    assert!(pass(&mut system, 0));
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.machine.pe(0).watchdog), (NWD, NO_DEADLINE));
}

#[test]
fn are_spent_slice_by_slice_whatever_keeps_the_pe() {
    let (spmc, machine) = three_kinds(1, |partition| partition);
    let mut system = booted(&spmc, machine);
    system.ask(0, A);
    system.exit(0, NS_INTERRUPT);
    for _ in 1..SLICES {
        // A host that lets the PE stand still for long.
        system.machine.advance(1 << 40);
        system.exit(0, Exit::Irq);
        assert_eq!(system.owner(0), runs(A, 0));
    }
    // Other interrupts do not give it more, nor does it have less for them.
    for _ in 0..100 {
        system.exit(0, Exit::Irq);
        system.exit(0, Exit::Fiq);
    }
    assert_eq!(system.owner(0), runs(A, 0));
    system.machine.advance(1 << 40);
    system.exit(0, Exit::Irq);
    is_stopped(&mut system, "a", "managed exit");
    assert_eq!(system.owner(0), NWD);
}

#[test]
fn of_an_interrupt_while_the_normal_world_runs() {
    let (spmc, machine) = three_kinds(1, |partition| partition);
    let mut system = booted(&spmc, machine);
    is_run_for_the_device(&mut system, 0);
    system.hvc(0, &[0xff04]);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.machine.pe(0).watchdog), (NWD, NO_DEADLINE));
    is_run_for_the_device(&mut system, 0);
    let spent = keeps_the_pe(&mut system, 0);
    assert!((8_000_000..8_100_000).contains(&spent), "{spent}");
    is_stopped(&mut system, "b", "handling an interrupt for 128 ms");
    // EL3 takes nothing else.
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [NORMAL_WORLD_RESUME, 0, 0, 0, 0, 0, 0, 0])
    );
    assert!(!system.machine.interrupts[&EDGE].enabled);
    system.ask(0, C);
    system.respond(0, C, 0);
}

#[test]
fn of_one_below_are_not_spent_by_one_on_top() {
    let (spmc, machine) = three_kinds(1, |partition| partition);
    let mut system = booted(&spmc, machine);
    system.ask(0, A);
    system.exit(0, NS_INTERRUPT);
    for _ in 1..SLICES {
        assert!(pass(&mut system, 0));
    }
    // The last of a's slices has begun.
    is_run_for_the_device(&mut system, 0);
    for _ in 1..SLICES {
        assert!(pass(&mut system, 0));
        assert_eq!(system.owner(0), runs(B, 0));
    }
    system.hvc(0, &[0xff04]);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(system.owner(0), runs(A, 0));
    // b has all of its time again, and uses it up.
    is_run_for_the_device(&mut system, 0);
    keeps_the_pe(&mut system, 0);
    is_stopped(&mut system, "b", "handling an interrupt");
    assert_eq!(system.owner(0), runs(A, 0));
    assert!(system.ctx(0).mask_ns_interrupts);
    assert!(pass(&mut system, 0));
    is_stopped(&mut system, "a", "managed exit");
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
}

#[test]
fn are_those_of_the_caller_too() {
    let (spmc, machine) = three_kinds(1, |partition| partition);
    let mut system = booted(&spmc, machine);
    is_run_for_the_device(&mut system, 0);
    system.forward(0, B, C);
    system.forward(0, C, A);
    keeps_the_pe(&mut system, 0);
    is_stopped(&mut system, "b", "handling an interrupt");
    assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, NORMAL_WORLD_RESUME));
    // Those that it has called go on when the normal world lets them: first c, which learns that a was preempted.
    system.nwd(0, &[RUN, target(C, 0)]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(C, 0), [INTERRUPT, target(A, 0), 0, 0, 0, 0, 0, 0])
    );
    assert!(!system.ctx(0).mask_ns_interrupts);
    system.smc(0, &[RUN, target(A, 0)]);
    assert_eq!(system.owner(0), runs(A, 0));
    system.respond(0, A, C);
    system.smc(0, &response(C, B));
    assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, MSG_WAIT));
    system.ask(0, C);
    system.respond(0, C, 0);
}

#[test]
fn of_a_start() {
    let (spmc, machine) = three_kinds(2, |partition| partition);
    let mut system = System::new(&spmc, machine);
    system.online(0);
    let spent = keeps_the_pe(&mut system, 0);
    assert!((800_000_000..801_000_000).contains(&spent), "{spent}");
    is_stopped(&mut system, "a", "starting for 12800 ms");
    assert_eq!(system.owner(0), runs(B, 0));
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(system.owner(0), runs(C, 0));
    // Each has its own time.
    assert!(pass(&mut system, 0));
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, MSG_WAIT));
    assert_eq!(system.machine.pe(0).watchdog, NO_DEADLINE);
    // On another PE.
    system.machine.take_console();
    system.online(1);
    assert_eq!(system.owner(1), runs(B, 1));
    keeps_the_pe(&mut system, 1);
    is_stopped(&mut system, "b", "starting");
    system.smc(1, &[MSG_WAIT]);
    system.nwd_fails(0, &request(0, B), ABORTED);
    system.ask(0, C);
    system.ask(1, C);
}

#[test]
fn of_a_partition_that_is_started_afresh() {
    let (spmc, machine) = three_kinds(2, PartitionBuilder::restart);
    let mut system = booted(&spmc, machine);
    system.ask(0, A);
    system.exit(0, NS_INTERRUPT);
    keeps_the_pe(&mut system, 0);
    is_stopped(&mut system, "a", "managed exit");
    // It starts, and has the time for that.
    assert_eq!(
        (system.owner(0), system.ctx(0).pc),
        (runs(A, 0), spmc.partitions()[0].entry)
    );
    let start = system.machine.pe(0).watchdog - system.machine.counter();
    assert!(start > 99_000_000, "{start}");
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    assert_eq!(system.machine.pe(0).watchdog, NO_DEADLINE);
    // On the other PE it never ends its start, which the handler of b's interrupt has asked for: that has its own time.
    is_run_for_the_device(&mut system, 0);
    system.hvc(0, &[0xff04]);
    system.smc(0, &[MSG_WAIT]);
    system.machine.interrupts.get_mut(&EDGE).expect("set up").pe = 1;
    is_run_for_the_device(&mut system, 1);
    for _ in 1..SLICES {
        assert!(pass(&mut system, 1));
    }
    system.smc(1, &request(B, A));
    assert_eq!(system.owner(1), runs(A, 1));
    keeps_the_pe(&mut system, 1);
    is_stopped(&mut system, "a", "starting");
    // It starts once more, here.
    assert_eq!(system.owner(1), runs(A, 1));
    keeps_the_pe(&mut system, 1);
    let console = system.machine.take_console();
    assert!(console.contains("starting"), "{console}");
    // That was the last slice of b, which has called it twice.
    assert!(console.contains("handling an interrupt"), "{console}");
    // On top of nothing, b starts again; it failed while it ran.
    assert_eq!(system.owner(1), runs(B, 1));
    system.smc(1, &[MSG_WAIT]);
    assert_eq!((system.owner(1), system.regs(1)[0]), (NWD, NORMAL_WORLD_RESUME));
    // A partition that fails while it starts stays stopped.
    system.nwd_fails(0, &request(0, A), ABORTED);
}

#[test]
fn of_a_power_message() {
    let (spmc, machine) = Builder::new(2)
        .partition_with("a", |a| a.power(PowerManagement::all()))
        .partition_with("b", |b| b.power(PowerManagement::all()))
        .build();
    let mut system = System::booted(&spmc, machine);
    // The resume from a suspension, in time.
    system.nwd(1, &[REQ, route(SPMD, SPMC), 0x8000_0001]);
    for partition in [A, B] {
        assert!(pass(&mut system, 1));
        system.smc(1, &[RESP, route(partition, SPMC), 0x8000_0002]);
    }
    assert_eq!((system.owner(1), system.machine.pe(1).watchdog), (NWD, NO_DEADLINE));
    system.nwd(1, &CPU_OFF);
    let spent = keeps_the_pe(&mut system, 1);
    assert!((80_000_000..81_000_000).contains(&spent), "{spent}");
    is_stopped(&mut system, "a", "power message for 1280 ms");
    // The other one is told all the same.
    assert_eq!(system.owner(1), runs(B, 1));
    system.smc(1, &[RESP, route(B, SPMC), 0x8000_0002]);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (NWD, [RESP, route(SPMC, SPMD), 0x8000_0002, 0, 0, 0, 0, 0])
    );
    assert_eq!(system.machine.pe(1).watchdog, NO_DEADLINE);
    system.ask(0, B);
}

#[test]
fn of_a_request_of_firmware() {
    let (spmc, machine) = three_kinds(1, |partition| partition);
    let mut system = booted(&spmc, machine);
    system.nwd(0, &request(EL3, C));
    assert!(pass(&mut system, 0));
    system.smc(0, &response(C, EL3));
    assert_eq!((system.owner(0), system.machine.pe(0).watchdog), (NWD, NO_DEADLINE));
    system.nwd(0, &request(EL3, C));
    keeps_the_pe(&mut system, 0);
    is_stopped(&mut system, "c", "request of EL3");
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
}

#[test]
fn of_queued_interrupts_are_those_of_its_manifest() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", PartitionBuilder::queued)
        .partition_with("b", |b| limits(b.queued(), 1_000))
        .partition("c")
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    assert_eq!(system.machine.pe(0).watchdog, NO_DEADLINE);
    system.respond(0, B, A);
    system.respond(0, A, 0);
    system.ask(0, B);
    system.forward(0, B, C);
    system.forward(0, C, A);
    system.respond(0, A, C);
    system.respond(0, C, B);
    system.respond(0, B, 0);
    assert_eq!(system.machine.pe(0).watchdog, NO_DEADLINE);
    // Given up and got back, the time is new.
    system.ask(0, B);
    for _ in 0..2 * SLICES {
        assert!(pass(&mut system, 0));
        system.smc(0, &[YIELD]);
        system.nwd(0, &[RUN, target(B, 0)]);
    }
    let spent = keeps_the_pe(&mut system, 0);
    assert!((1_000..1_100).contains(&spent), "{spent}");
    is_stopped(&mut system, "b", "interrupts queued, for 0 ms");
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
}

#[test]
fn may_be_none() {
    let none = |partition| limits(partition, NO_LIMIT).power(PowerManagement::all());
    let (spmc, machine) = three_kinds(1, none);
    let mut system = System::new(&spmc, machine);
    system.online(0);
    while system.owner(0) != NWD {
        assert!(!pass(&mut system, 0));
        system.smc(0, &[MSG_WAIT]);
    }
    system.ask(0, B);
    system.hvc(0, &[0xff03, u64::from(EDGE), 1, 0]);
    system.respond(0, B, 0);
    is_run_for_the_device(&mut system, 0);
    assert!(!pass(&mut system, 0));
    system.smc(0, &[MSG_WAIT]);
    system.ask(0, A);
    system.exit(0, NS_INTERRUPT);
    assert!(!pass(&mut system, 0));
    system.machine.advance(1 << 50);
    system.exit(0, Exit::Irq);
    system.respond(0, A, 0);
    system.nwd(0, &request(EL3, C));
    assert!(!pass(&mut system, 0));
    system.smc(0, &response(C, EL3));
    system.nwd(0, &CPU_OFF);
    assert!(!pass(&mut system, 0));
}

#[test]
fn of_a_context_that_is_blocked_end_with_its_partition() {
    let (spmc, machine) = three_kinds(2, |partition| partition);
    let mut system = booted(&spmc, machine);
    system.ask(0, A);
    system.exit(0, NS_INTERRUPT);
    system.forward(0, A, C);
    // a is stopped on another PE.
    system.ask(1, A);
    system.smc(1, &[ABORT]);
    system.machine.take_console();
    // PE 0 was told.
    system.exit(0, Exit::Irq);
    // c works on, and is cut short when a's time is over.
    for _ in 0..SLICES {
        assert_eq!(system.owner(0), runs(C, 0));
        assert!(pass(&mut system, 0));
    }
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    assert_eq!(system.machine.pe(0).watchdog, NO_DEADLINE);
    system.nwd(0, &[RUN, target(C, 0)]);
    assert_eq!(system.owner(0), runs(C, 0));
    system.smc(0, &response(C, A));
    system.ask(0, C);
}

const LEVEL: u32 = 34;

/// a has a device whose level stays high, which it enables; b, c.
fn storm(pes: usize) -> (Spmc, FakeMachine) {
    Builder::new(pes)
        .partition_with("a", |a| a.device_interrupt(LEVEL, Trigger::Level))
        .partition("b")
        .partition_with("c", exits)
        .build()
}

fn begin_storm(system: &mut System<'_>) {
    system.ask(0, A);
    system.hvc(0, &[0xff03, u64::from(LEVEL), 1, 0]);
    system.respond(0, A, 0);
    system.machine.interrupts.get_mut(&LEVEL).expect("set up").high = true;
}

/// a handles the interrupt that it was run for, as it says.
fn handles(system: &mut System<'_>, ticks: u64) {
    system.hvc(0, &[0xff04]);
    assert_eq!(system.regs(0)[0], u64::from(LEVEL));
    system.machine.advance(ticks);
    system.hvc(0, &[0xff08, u64::from(LEVEL), u64::from(LEVEL)]);
    system.smc(0, &[MSG_WAIT]);
}

#[test]
fn of_a_storm_end_with_its_interrupt() {
    let (spmc, machine) = storm(1);
    let mut system = System::booted(&spmc, machine);
    begin_storm(&mut system);
    let mut times = 0;
    while system.machine.interrupts[&LEVEL].enabled {
        times += 1;
        assert!(times < 1000);
        system.nwd(0, &[INTERRUPT]);
        assert_eq!(system.owner(0), runs(A, 0));
        handles(&mut system, 20_000);
        assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, NORMAL_WORLD_RESUME));
    }
    // Half of its time, 4,000,000 ticks.
    assert!((190..210).contains(&times), "{times}");
    let console = system.machine.take_console();
    assert!(
        console.contains("\"a\" (0x8001): interrupt 34 is disabled: it came "),
        "{console}"
    );
    assert_eq!(system.machine.pending(0), None);
    // Nobody is any the worse for it; until it enables the interrupt again, and it storms again.
    system.ask(0, A);
    system.hvc(0, &[0xff09, u64::from(LEVEL), 2, 1]);
    system.respond(0, A, 0);
    while system.owner(0) == NWD && system.machine.pending(0).is_some() {
        system.nwd(0, &[INTERRUPT]);
        if system.owner(0) == runs(A, 0) {
            system.hvc(0, &[0xff04]);
            system.machine.advance(100_000);
            system.exit(0, Exit::Irq);
        }
        if system.owner(0) == runs(A, 0) {
            system.hvc(0, &[0xff08, u64::from(LEVEL), u64::from(LEVEL)]);
            system.smc(0, &[MSG_WAIT]);
        }
    }
    is_stopped(&mut system, "a", "handling an interrupt");
    system.ask(0, B);
}

#[test]
fn of_a_handler_that_finds_its_interrupt_again_and_again() {
    let (spmc, machine) = storm(1);
    let mut system = System::booted(&spmc, machine);
    begin_storm(&mut system);
    // On top of one that has told to give up the PE, whose time is its own.
    system.ask(0, C);
    system.exit(0, NS_INTERRUPT);
    system.exit(0, Exit::Irq);
    let mut times = 0;
    while system.machine.interrupts[&LEVEL].enabled {
        times += 1;
        assert!(times < 1000);
        assert_eq!(system.owner(0), runs(A, 0));
        system.hvc(0, &[0xff04]);
        system.machine.advance(100_000);
        if system.machine.pe(0).watchdog <= system.machine.counter() {
            system.exit(0, Exit::Irq);
        }
        system.hvc(0, &[0xff08, u64::from(LEVEL), u64::from(LEVEL)]);
        if system.machine.pending(0).is_some() {
            system.exit(0, Exit::Irq);
        }
    }
    assert!((70..90).contains(&times), "{times}");
    assert!(system.machine.take_console().contains("interrupt 34 is disabled"));
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(system.owner(0), runs(C, 0));
    system.respond(0, C, 0);
    system.ask(0, A);
}

#[test]
fn are_new_after_a_break() {
    let (spmc, machine) = storm(1);
    let mut system = System::booted(&spmc, machine);
    begin_storm(&mut system);
    for time in 0..1000 {
        // A break: the level is low as it ends, and nothing is pending for a while.
        let irq = system.machine.interrupts.get_mut(&LEVEL).expect("set up");
        irq.high = true;
        system.nwd(0, &[INTERRUPT]);
        assert_eq!(system.owner(0), runs(A, 0), "{time}");
        system.machine.interrupts.get_mut(&LEVEL).expect("set up").high = false;
        handles(&mut system, 800_000);
        system.machine.advance(400);
    }
    assert!(system.machine.interrupts[&LEVEL].enabled);
    assert_eq!(system.machine.take_console().matches("disabled").count(), 0);
}

#[test]
fn are_new_after_a_break_that_begins_with_a_kick() {
    let (spmc, machine) = storm(2);
    let mut system = System::booted(&spmc, machine);
    begin_storm(&mut system);
    system.ask(1, A);
    for time in 0..1000 {
        system.machine.interrupts.get_mut(&LEVEL).expect("set up").high = true;
        system.nwd(0, &[INTERRUPT]);
        assert_eq!(system.owner(0), runs(A, 0), "{time}");
        system.machine.interrupts.get_mut(&LEVEL).expect("set up").high = false;
        // Another PE kicks this one just before the end, for a line that the context does not want.
        system.hvc(1, &[0xff0a, 0]);
        handles(&mut system, 800_000);
        assert_eq!(system.owner(0), NWD);
        system.nwd(0, &[INTERRUPT]);
        assert_eq!((system.owner(0), system.machine.pending(0)), (NWD, None));
        system.machine.advance(50_000);
    }
    assert!(system.machine.interrupts[&LEVEL].enabled);
    assert_eq!(system.machine.take_console().matches("disabled").count(), 0);
}

#[test]
fn of_a_storm_that_no_device_makes_end_with_the_partition() {
    let (spmc, machine) = storm(2);
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    system.hvc(1, &[0xff03, 9, 1, 0]);
    system.respond(1, A, 0);
    // Its context on PE 0 interrupts that on PE 1 without end.
    system.ask(0, A);
    system.hvc(0, &[0xff0a, 1]);
    system.nwd(1, &[INTERRUPT]);
    let mut times = 0;
    while system.owner(1) == runs(A, 1) {
        times += 1;
        assert!(times < 1000);
        system.hvc(1, &[0xff04]);
        assert_eq!(system.regs(1)[0], 9);
        system.machine.advance(100_000);
        system.hvc(0, &[0xff0a, 1]);
        system.smc(1, &[MSG_WAIT]);
        // It is run for the next one at once.
        while system.owner(1) == runs(A, 1) && system.machine.pending(1).is_some() {
            system.exit(1, Exit::Irq);
        }
    }
    assert!((70..90).contains(&times), "{times}");
    is_stopped(&mut system, "a", "handling an interrupt");
    assert_eq!((system.owner(1), system.regs(1)[0]), (NWD, NORMAL_WORLD_RESUME));
    system.ask(1, B);
}

/// a has a device; b may be started afresh.
fn calls_who_fails() -> (Spmc, FakeMachine) {
    Builder::new(1)
        .partition_with("a", |a| a.device_interrupt(EDGE, Trigger::Edge))
        .partition_with("b", PartitionBuilder::restart)
        .build()
}

#[test]
fn of_a_caller_are_spent_by_whom_it_has_started_afresh() {
    let (spmc, machine) = calls_who_fails();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.hvc(0, &[0xff03, u64::from(EDGE), 1, 0]);
    system.respond(0, A, 0);
    system.machine.raise(EDGE);
    system.nwd(0, &[INTERRUPT]);
    // Each time b takes longer to start than a may hold back the normal world's interrupts, and then fails again.
    for turn in 0..SLICES {
        assert_eq!(system.owner(0), runs(A, 0), "{turn}");
        system.forward(0, A, B);
        system.smc(0, &[ABORT]);
        assert_eq!(system.owner(0), runs(B, 0), "{turn}");
        system.machine.take_console();
        system.machine.advance(10_000_000);
        system.exit(0, Exit::Irq);
        assert_eq!(system.owner(0), runs(B, 0), "it has its own time, {turn}");
        system.smc(0, &[MSG_WAIT]);
    }
    is_stopped(&mut system, "a", "handling an interrupt");
    assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, NORMAL_WORLD_RESUME));
    system.ask(0, B);
    system.respond(0, B, 0);
}

#[test]
fn of_a_storm_are_not_new_because_the_partition_fails() {
    let (spmc, machine) = Builder::new(2)
        .partition_with("a", |a| a.device_interrupt(LEVEL, Trigger::Level).restart())
        .partition("b")
        .build();
    let mut system = System::booted(&spmc, machine);
    for _ in 0..3 {
        begin_storm(&mut system);
        let mut times = 0;
        // The normal world gets nowhere: a secure interrupt is pending whenever it is to run.
        while system.machine.pending(0).is_some() {
            times += 1;
            assert!(times < 5, "a partition that fails keeps the PE");
            system.nwd(0, &[INTERRUPT]);
            assert_eq!(system.owner(0), runs(A, 0));
            system.smc(0, &[ABORT]);
            if system.owner(0) == runs(A, 0) {
                system.hvc(0, &[0xff03, u64::from(LEVEL), 1, 0]);
                system.machine.advance(1_000_000);
                system.smc(0, &[MSG_WAIT]);
            }
            assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, NORMAL_WORLD_RESUME));
        }
        assert_eq!(times, 2, "it starts afresh once");
        assert!(!system.machine.interrupts[&LEVEL].enabled);
        system.ask(0, B);
        system.respond(0, B, 0);
        // When it is next asked for, it starts.
        system.machine.interrupts.get_mut(&LEVEL).expect("set up").high = false;
        system.machine.advance(1_000_000);
        system.nwd(0, &request(0, A));
        assert_eq!(system.owner(0), runs(A, 0));
        system.smc(0, &[MSG_WAIT]);
        assert_eq!((system.owner(0), system.regs(0)), (NWD, error(BUSY)));
    }
}

/// From here on nobody does anything, and the normal world has an interrupt for each PE: all come back to it in time.
fn all_come_back(system: &mut System<'_>) -> Result<(), String> {
    const EXITS: usize = 300;
    for pe in 0..system.pe_count() {
        let begin = system.machine.counter();
        for _ in 0..EXITS {
            if system.owner(pe) == NWD {
                break;
            }
            if system.ctx(pe).mask_ns_interrupts {
                if !pass(system, pe) {
                    return Err(format!("nobody's time is counted on PE {pe}"));
                }
            } else {
                system.exit(pe, NS_INTERRUPT);
            }
        }
        let spent = system.machine.counter() - begin;
        // Each partition once for what it does, and once for a start.
        if system.owner(pe) != NWD || spent > 3 * (10_000 + 20_000) + 10_000 {
            return Err(format!("PE {pe} is not back after {spent} ticks"));
        }
    }
    Ok(())
}

#[test]
fn bring_every_pe_back_whatever_has_happened() {
    let limited = |mut partition: PartitionBuilder| {
        let limits = &mut partition.time_limits;
        (limits.interrupt, limits.queued, limits.firmware, limits.start) = (10_000, 10_000, 10_000, 20_000);
        partition
    };
    for seed in 0..300_u64 {
        let (spmc, machine) = Builder::new(2)
            .partition_with("a", |a| {
                limited(exits(a.device_interrupt(EDGE, Trigger::Edge).restart()))
            })
            .partition_with("b", |b| {
                let b = if seed % 2 == 0 { b.migratable() } else { b };
                limited(b.device_interrupt(LEVEL, Trigger::Level).restart())
            })
            .partition_with("c", |c| limited(if seed % 3 == 0 { c.queued() } else { exits(c) }))
            .build();
        let mut system = System::booted(&spmc, machine);
        let mut state = seed;
        let mut random = |limit: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % limit
        };
        let steps = 20 + random(60);
        let mut log = Vec::new();
        for _ in 0..steps {
            let pe = usize::try_from(random(2)).expect("few");
            let (what, other) = (random(24), [A, B, C][usize::try_from(random(3)).expect("few")]);
            log.push((pe, what, other));
            step(&mut system, pe, what, other);
        }
        if let Err(what) = all_come_back(&mut system) {
            panic!("seed {seed}: {what} after {log:x?}\n{}", system.fingerprint());
        }
    }
}

/// Something happens on a PE.
fn step(system: &mut System<'_>, pe: usize, what: u64, other: u64) {
    match what {
        0 => system.machine.raise(EDGE),
        1 => system.machine.interrupts.get_mut(&LEVEL).expect("set up").high ^= true,
        2 => system.machine.interrupts.get_mut(&EDGE).expect("set up").pe ^= 1,
        3 => system.machine.advance(700),
        _ if system.owner(pe) == NWD => step_of_the_normal_world(system, pe, what, other),
        _ => step_of_a_partition(system, pe, what, other),
    }
}

fn step_of_the_normal_world(system: &mut System<'_>, pe: usize, what: u64, other: u64) {
    let registers = match what {
        4..9 => request(0, other),
        9..12 => [RUN, target(other, pe as u64), 0, 0, 0, 0, 0, 0],
        _ if system.machine.pending(pe).is_some() => [INTERRUPT, 0, 0, 0, 0, 0, 0, 0],
        _ => return,
    };
    system.nwd(pe, &registers);
}

fn step_of_a_partition(system: &mut System<'_>, pe: usize, what: u64, other: u64) {
    let Owner::Partition(me, _) = system.owner(pe) else {
        return;
    };
    let (me, vcpu) = (u64::from(me), pe as u64);
    let hvc = |system: &mut System<'_>, registers: &[u64]| {
        if matches!(system.owner(pe), Owner::Partition(..)) {
            system.hvc(pe, registers);
        }
    };
    let call = match what {
        4..8 => response(me, system.owes(pe).map_or(0, u64::from)),
        8..11 => request(me, other),
        11..14 => [MSG_WAIT, 0, 0, 0, 0, 0, 0, 0],
        14 => [YIELD, 0, 0, 0, 0, 0, 0, 0],
        15 => [RUN, target(other, vcpu), 0, 0, 0, 0, 0, 0],
        16 => {
            return [EDGE, LEVEL, 4]
                .map(|id| hvc(system, &[0xff03, u64::from(id), 1, 0]))
                .into_iter()
                .collect();
        }
        17 => return hvc(system, &[0xff04]),
        18 => return hvc(system, &[0xff08, other & 7, other & 7]),
        19 => return hvc(system, &[0xff0a, vcpu ^ 1]),
        22 if other == B => [ABORT, 0, 0, 0, 0, 0, 0, 0],
        _ => {
            let masked = system.ctx(pe).mask_ns_interrupts;
            system.exit(pe, if what < 22 && !masked { NS_INTERRUPT } else { Exit::Irq });
            return;
        }
    };
    system.smc(pe, &call);
}
