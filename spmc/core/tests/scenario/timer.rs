//! The EL1 physical timer of each context (Arm ARM, chapter "The Generic Timer"), and its virtual interrupt 3.

use tantalum_core::{
    interrupt::Line,
    machine::{NO_DEADLINE, fake::FakeMachine},
    spmc::{Exit, Spmc},
};

use crate::support::*;

const ENABLE_INTERRUPT: u64 = 0xff03;
const GET_INTERRUPT: u64 = 0xff04;
const DEACTIVATE_INTERRUPT: u64 = 0xff08;
const NONE: u64 = 0xffff_ffff;
const TIMER: u64 = 3;

/// op2 of CNTP_TVAL_EL0, CNTP_CTL_EL0, CNTP_CVAL_EL0.
const VALUE: u64 = 0;
const CONTROL: u64 = 1;
const COMPARE: u64 = 2;

const ENABLE: u64 = 1;
const IMASK: u64 = 2;
const ISTATUS: u64 = 4;

/// The context that has the PE reads or writes a register of its timer by x5.
fn access(system: &mut System<'_>, pe: usize, op2: u64, read: bool) {
    let (pc, before) = (system.ctx(pe).pc, system.owner(pe));
    let iss = 3 << 20 | op2 << 17 | 3 << 14 | 14 << 10 | 5 << 5 | 2 << 1 | u64::from(read);
    system.exit(pe, synchronous(0x18 << 26 | 1 << 25 | iss));
    assert_eq!((system.owner(pe), system.ctx(pe).pc), (before, pc + 4));
}

fn read(system: &mut System<'_>, pe: usize, op2: u64) -> u64 {
    access(system, pe, op2, true);
    system.ctx(pe).x[5]
}

fn write(system: &mut System<'_>, pe: usize, op2: u64, value: u64) {
    system.ctx(pe).x[5] = value;
    access(system, pe, op2, false);
}

fn irq(system: &mut System<'_>, pe: usize) -> bool {
    system.ctx(pe).signals.irq
}

fn enable_interrupt(system: &mut System<'_>, pe: usize) {
    system.hvc(pe, &[ENABLE_INTERRUPT, TIMER, 1, 0]);
    assert_eq!(system.regs(pe)[0], 0);
}

fn take_interrupt(system: &mut System<'_>, pe: usize) -> u64 {
    system.hvc(pe, &[GET_INTERRUPT]);
    system.regs(pe)[0]
}

/// The time, without the ticks that asking takes.
fn now(system: &mut System<'_>) -> u64 {
    use tantalum_core::machine::Machine as _;
    system.machine.now()
}

/// Lets the PE's timer fire, which it must be about to.
fn fire(system: &mut System<'_>, pe: usize) {
    let deadline = system.machine.pe(pe).deadline;
    assert_ne!(deadline, NO_DEADLINE);
    let now = now(system);
    system.machine.advance(deadline.saturating_sub(now));
    if system.owner(pe) == NWD {
        system.nwd(pe, &[INTERRUPT]);
    } else {
        system.exit(pe, Exit::Irq);
    }
}

fn two(pes: usize) -> (Spmc, FakeMachine) {
    Builder::new(pes)
        .partition("a")
        .partition_with("b", PartitionBuilder::migratable)
        .build()
}

#[test]
fn registers_are_those_of_the_architecture() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    for register in [CONTROL, COMPARE] {
        assert_eq!(read(&mut system, 0, register), 0);
    }
    // Only two bits can be written.
    write(&mut system, 0, CONTROL, u64::MAX - ENABLE);
    assert_eq!(read(&mut system, 0, CONTROL), IMASK);
    write(&mut system, 0, COMPARE, 0x1234_5678_9abc_def0);
    assert_eq!(read(&mut system, 0, COMPARE), 0x1234_5678_9abc_def0);
    // The timer value is a view of the compare value, with a sign.
    let time = now(&mut system);
    write(&mut system, 0, VALUE, 0xffff_ffff_0000_1000);
    assert_eq!(read(&mut system, 0, COMPARE), time + 1 + 0x1000);
    assert_eq!(read(&mut system, 0, VALUE), 0x1000 - 2);
    write(&mut system, 0, VALUE, 0xffff_ffff);
    assert_eq!(read(&mut system, 0, VALUE), 0xffff_fffe);
    // xzr
    let iss = 3 << 20 | COMPARE << 17 | 3 << 14 | 14 << 10 | 31 << 5 | 2 << 1;
    system.exit(0, synchronous(0x18 << 26 | 1 << 25 | iss));
    assert_eq!(read(&mut system, 0, COMPARE), 0);
}

#[test]
fn status_is_whether_the_condition_holds() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let later = now(&mut system) + 1000;
    write(&mut system, 0, COMPARE, later);
    for (control, before, after) in [(0, 0, 0), (ENABLE, 1, 5), (ENABLE | IMASK, 3, 7), (IMASK, 2, 2)] {
        let time = now(&mut system);
        write(&mut system, 0, COMPARE, time + 1000);
        write(&mut system, 0, CONTROL, control);
        assert_eq!(read(&mut system, 0, CONTROL), before);
        system.machine.advance(1000);
        assert_eq!(read(&mut system, 0, CONTROL), after, "{control}");
    }
    // Compared without a sign, for ever.
    write(&mut system, 0, CONTROL, ENABLE);
    write(&mut system, 0, COMPARE, u64::MAX);
    assert_eq!(read(&mut system, 0, CONTROL), ENABLE);
    write(&mut system, 0, COMPARE, 1 << 63);
    assert_eq!(read(&mut system, 0, CONTROL), ENABLE);
    write(&mut system, 0, COMPARE, 0);
    assert_eq!(read(&mut system, 0, CONTROL), ENABLE | ISTATUS);
}

#[test]
fn interrupt_of_a_running_context() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    enable_interrupt(&mut system, 0);
    assert_eq!(system.machine.pe(0).deadline, NO_DEADLINE);
    write(&mut system, 0, VALUE, 1000);
    assert_eq!(system.machine.pe(0).deadline, NO_DEADLINE);
    write(&mut system, 0, CONTROL, ENABLE);
    let compare = read(&mut system, 0, COMPARE);
    assert_eq!(system.machine.pe(0).deadline, compare);
    assert!(!irq(&mut system, 0));
    // Too early, or somebody else's.
    system.exit(0, Exit::Irq);
    assert!(!irq(&mut system, 0));
    fire(&mut system, 0);
    assert!(irq(&mut system, 0));
    assert_eq!(system.machine.pe(0).deadline, NO_DEADLINE);
    assert_eq!(take_interrupt(&mut system, 0), TIMER);
    assert!(!irq(&mut system, 0));
    assert_eq!(take_interrupt(&mut system, 0), NONE);
    // It was handled, and what has raised it is as it was.
    assert!(irq(&mut system, 0));
    assert_eq!(take_interrupt(&mut system, 0), TIMER);
    assert!(!irq(&mut system, 0));
    system.hvc(0, &[DEACTIVATE_INTERRUPT, TIMER, TIMER]);
    assert_eq!(system.regs(0)[0], 0);
    assert!(irq(&mut system, 0));
    assert_eq!(take_interrupt(&mut system, 0), TIMER);
    // The next one.
    write(&mut system, 0, VALUE, 1000);
    assert!(!irq(&mut system, 0));
    fire(&mut system, 0);
    assert!(irq(&mut system, 0));
    // Before it was taken, the condition is gone.
    write(&mut system, 0, VALUE, 1000);
    assert!(!irq(&mut system, 0));
    assert_eq!(take_interrupt(&mut system, 0), NONE);
}

#[test]
fn interrupt_comes_at_once_when_the_time_is_past() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    enable_interrupt(&mut system, 0);
    for past in [0, 1] {
        write(&mut system, 0, COMPARE, past);
        write(&mut system, 0, CONTROL, ENABLE | IMASK);
        assert!(!irq(&mut system, 0));
        write(&mut system, 0, CONTROL, ENABLE);
        assert!(irq(&mut system, 0));
        write(&mut system, 0, CONTROL, ENABLE | IMASK);
        assert!(!irq(&mut system, 0));
        write(&mut system, 0, CONTROL, 0);
        write(&mut system, 0, VALUE, 0x8000_0000);
        write(&mut system, 0, CONTROL, ENABLE);
        // A negative value before the counter has come that far lies in the far future.
        assert!(!irq(&mut system, 0));
        write(&mut system, 0, CONTROL, 0);
    }
    assert_eq!(system.machine.pe(0).deadline, NO_DEADLINE);
}

#[test]
fn interrupt_is_not_lost_while_it_is_disabled() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    write(&mut system, 0, VALUE, 1000);
    write(&mut system, 0, CONTROL, ENABLE);
    fire(&mut system, 0);
    assert!(!irq(&mut system, 0));
    assert_eq!(take_interrupt(&mut system, 0), NONE);
    enable_interrupt(&mut system, 0);
    assert!(irq(&mut system, 0));
    assert_eq!(take_interrupt(&mut system, 0), TIMER);
}

#[test]
fn deadline_is_the_earliest_of_a_pe() {
    let (spmc, machine) = Builder::new(2).partition("a").partition("b").build();
    let mut system = System::booted(&spmc, machine);
    let start = now(&mut system);
    system.ask(0, A);
    enable_interrupt(&mut system, 0);
    write(&mut system, 0, COMPARE, start + 20_000);
    write(&mut system, 0, CONTROL, ENABLE);
    system.forward(0, A, B);
    enable_interrupt(&mut system, 0);
    write(&mut system, 0, COMPARE, start + 10_000);
    write(&mut system, 0, CONTROL, ENABLE);
    assert_eq!(system.machine.pe(0).deadline, start + 10_000);
    assert_eq!(system.machine.pe(1).deadline, NO_DEADLINE);
    fire(&mut system, 0);
    assert!(irq(&mut system, 0));
    assert_eq!(system.machine.pe(0).deadline, start + 20_000);
    // That of the caller, while the callee runs: it finds it when it is back.
    assert_eq!(take_interrupt(&mut system, 0), TIMER);
    fire(&mut system, 0);
    assert!(!irq(&mut system, 0));
    system.respond(0, B, A);
    assert!(irq(&mut system, 0));
    assert_eq!(take_interrupt(&mut system, 0), TIMER);
    assert_eq!(system.machine.pe(0).deadline, NO_DEADLINE);
}

#[test]
fn deadline_passes_while_the_normal_world_runs() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    enable_interrupt(&mut system, 0);
    write(&mut system, 0, VALUE, 1000);
    write(&mut system, 0, CONTROL, ENABLE);
    system.exit(0, NS_INTERRUPT);
    assert_eq!(system.owner(0), NWD);
    fire(&mut system, 0);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [NORMAL_WORLD_RESUME, 0, 0, 0, 0, 0, 0, 0])
    );
    system.nwd(0, &[RUN, target(A, 0)]);
    assert!(irq(&mut system, 0));
    assert_eq!(read(&mut system, 0, CONTROL), ENABLE | ISTATUS);
}

#[test]
fn context_that_moves_is_told_on_the_pe_that_it_is_on() {
    let (spmc, machine) = two(2);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    enable_interrupt(&mut system, 0);
    write(&mut system, 0, VALUE, 1000);
    write(&mut system, 0, CONTROL, ENABLE);
    system.respond(0, B, 0);
    system.ask(1, B);
    fire(&mut system, 0);
    assert!(system.machine.pe(1).kicked);
    system.exit(1, Exit::Irq);
    assert!(irq(&mut system, 1));
    // The PE on which it was set last keeps the deadline.
    write(&mut system, 1, VALUE, 1000);
    assert_eq!(system.machine.pe(0).deadline, NO_DEADLINE);
    assert_ne!(system.machine.pe(1).deadline, NO_DEADLINE);
}

#[test]
fn context_that_moves_and_leaves_the_interrupt_is_run_for_it_where_it_is() {
    let (spmc, machine) = two(2);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    enable_interrupt(&mut system, 0);
    write(&mut system, 0, VALUE, 1000);
    write(&mut system, 0, CONTROL, ENABLE);
    system.respond(0, B, 0);
    system.ask(1, B);
    fire(&mut system, 0);
    system.exit(1, Exit::Irq);
    assert!(irq(&mut system, 1));
    // It has not taken it: its pause begins, and the PE that kept the deadline has no reason to look again.
    system.respond(1, B, 0);
    assert_eq!(system.machine.pe(0).deadline, NO_DEADLINE);
    fire(&mut system, 1);
    assert_eq!((system.owner(1), irq(&mut system, 1)), (runs(B, 0), true));
    assert_eq!(take_interrupt(&mut system, 1), TIMER);
}

#[test]
fn deadline_outlives_a_pe_that_sleeps() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    enable_interrupt(&mut system, 0);
    write(&mut system, 0, VALUE, 1000);
    write(&mut system, 0, CONTROL, ENABLE);
    system.respond(0, A, 0);
    let deadline = core::mem::replace(&mut system.machine.pe(0).deadline, NO_DEADLINE);
    system.nwd(0, &[REQ, route(0xffff, 0x8000), 0x8000_0001, 1]);
    assert_eq!(system.machine.pe(0).deadline, deadline);
}

#[test]
fn deadline_outlives_the_pe_that_kept_it() {
    let (spmc, machine) = two(2);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    enable_interrupt(&mut system, 0);
    write(&mut system, 0, VALUE, 1000);
    write(&mut system, 0, CONTROL, ENABLE);
    system.respond(0, B, 0);
    let deadline = system.machine.pe(0).deadline;
    system.turn_off(0);
    assert_eq!(system.machine.pe(0).deadline, NO_DEADLINE);
    system.nwd(1, &[INTERRUPT]);
    assert_eq!(system.machine.pe(1).deadline, deadline);
    // When none is left, by the first that comes.
    system.turn_off(1);
    system.boot(0);
    assert_eq!(system.machine.pe(0).deadline, deadline);
    fire(&mut system, 0);
    assert_eq!((system.owner(0), irq(&mut system, 0)), (runs(B, 0), true));
}

/// a waits with its timer armed, which fires while the normal world runs.
fn fired_while_waiting(system: &mut System<'_>) {
    system.ask(0, A);
    enable_interrupt(system, 0);
    write(system, 0, VALUE, 100_000);
    write(system, 0, CONTROL, ENABLE);
    system.respond(0, A, 0);
    fire(system, 0);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(A, 0), [INTERRUPT, 0, TIMER, 0, 0, 0, 0, 0])
    );
    assert!(irq(system, 0));
}

/// The context that was run for an interrupt waits again; the normal world goes on.
fn wait(system: &mut System<'_>) {
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [NORMAL_WORLD_RESUME, 0, 0, 0, 0, 0, 0, 0])
    );
}

#[test]
fn context_that_waits_is_run_for_it() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    fired_while_waiting(&mut system);
    // Periodic: each time that it sets it anew.
    for _ in 0..3 {
        assert_eq!(take_interrupt(&mut system, 0), TIMER);
        write(&mut system, 0, VALUE, 100_000);
        wait(&mut system);
        fire(&mut system, 0);
        assert_eq!((system.owner(0), irq(&mut system, 0)), (runs(A, 0), true));
    }
    // It does without the interrupt.
    write(&mut system, 0, VALUE, 100_000);
    wait(&mut system);
    fire(&mut system, 0);
    assert_eq!(system.owner(0), runs(A, 0));
    write(&mut system, 0, CONTROL, 0);
    wait(&mut system);
    assert_eq!(system.machine.pe(0).deadline, NO_DEADLINE);
}

#[test]
fn context_that_waits_and_has_not_enabled_the_interrupt_is_left_alone() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    write(&mut system, 0, VALUE, 100_000);
    write(&mut system, 0, CONTROL, ENABLE);
    system.respond(0, A, 0);
    fire(&mut system, 0);
    assert_eq!((system.owner(0), system.machine.pe(0).deadline), (NWD, NO_DEADLINE));
    system.ask(0, A);
    enable_interrupt(&mut system, 0);
    assert!(irq(&mut system, 0));
}

#[test]
fn context_that_leaves_the_timer_as_it_was_is_run_once() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    for takes in [false, true] {
        fired_while_waiting(&mut system);
        if takes {
            assert_eq!(take_interrupt(&mut system, 0), TIMER);
        }
        wait(&mut system);
        assert_eq!(system.machine.pe(0).deadline, NO_DEADLINE);
        // It finds the interrupt when it is next run.
        for _ in 0..2 {
            system.ask(0, A);
            assert!(irq(&mut system, 0));
            system.respond(0, A, 0);
            assert_eq!((system.owner(0), system.machine.pe(0).deadline), (NWD, NO_DEADLINE));
        }
    }
}

#[test]
fn context_is_not_run_at_once_again() {
    let (spmc, machine) = two(1);
    let mut system = System::booted(&spmc, machine);
    fired_while_waiting(&mut system);
    // It wants to be run without end: the normal world has its share.
    for value in [0, 1, 0x8000_0000] {
        assert_eq!(take_interrupt(&mut system, 0), TIMER);
        write(&mut system, 0, VALUE, value);
        if value > 1 {
            write(&mut system, 0, COMPARE, 0);
        }
        wait(&mut system);
        let pause = system.machine.pe(0).deadline - now(&mut system);
        assert!((6000..7000).contains(&pause), "{pause}");
        // An interrupt that comes too early changes nothing.
        system.nwd(0, &[INTERRUPT]);
        assert_eq!(system.owner(0), NWD);
        fire(&mut system, 0);
        assert_eq!((system.owner(0), irq(&mut system, 0)), (runs(A, 0), true));
    }
}

#[test]
fn at_s_el0_it_is_the_result_of_waiting() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |mut a| {
            a.s_el0 = true;
            a
        })
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    write(&mut system, 0, VALUE, 100_000);
    write(&mut system, 0, CONTROL, ENABLE);
    system.respond(0, A, 0);
    fire(&mut system, 0);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(A, 0), [INTERRUPT, 0, TIMER, 0, 0, 0, 0, 0])
    );
    // It comes while it runs: it is told when it waits.
    write(&mut system, 0, VALUE, 100_000);
    fire(&mut system, 0);
    assert_eq!(system.owner(0), runs(A, 0));
    wait(&mut system);
    fire(&mut system, 0);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(A, 0), [INTERRUPT, 0, TIMER, 0, 0, 0, 0, 0])
    );
    write(&mut system, 0, CONTROL, 0);
    wait(&mut system);
}

#[test]
fn of_a_context_that_starts_is_off() {
    let (spmc, machine) = Builder::new(1).partition_with("a", PartitionBuilder::restart).build();
    let mut system = System::booted(&spmc, machine);
    for off_and_on in [true, false] {
        system.ask(0, A);
        write(&mut system, 0, VALUE, 1000);
        write(&mut system, 0, CONTROL, ENABLE);
        if off_and_on {
            system.respond(0, A, 0);
            system.turn_off(0);
            system.boot(0);
        } else {
            system.smc(0, &[ABORT]);
            system.smc(0, &[MSG_WAIT]);
            // It may fire once more.
            fire(&mut system, 0);
        }
        assert_eq!(system.machine.pe(0).deadline, NO_DEADLINE);
        system.ask(0, A);
        assert_eq!(read(&mut system, 0, CONTROL), 0);
        assert_eq!(read(&mut system, 0, COMPARE), 0);
        system.respond(0, A, 0);
    }
}

/// What a context has made of its timer.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    control: u64,
    compare: u64,
    /// The interrupt was taken since it was last written to.
    taken: bool,
}

/// Whatever is armed is pending, was taken, or will come: some PE has its deadline, no later than the pause of a context that
/// waits.
fn check_deadlines(spmc: &Spmc, system: &mut System<'_>, models: &[[Model; 2]; 2]) {
    const PAUSE: u64 = 6300;
    let time = now(system);
    let earliest = (0..2).map(|pe| system.machine.pe(pe).deadline).min().expect("two PEs");
    for (partition, contexts) in spmc.partitions().iter().zip(models) {
        for (slot, model) in partition.slots.iter().zip(contexts) {
            if model.control != ENABLE || slot.interrupts.is_pending(Line::TIMER) {
                continue;
            }
            let passed = model.compare <= time;
            let comes = earliest <= model.compare.max(time.saturating_add(PAUSE));
            assert!(comes || passed && model.taken, "{model:?} at {time}, {earliest}");
        }
    }
}

#[test]
fn deadlines_are_not_lost_whatever_happens() {
    for seed in 0..20 {
        let (spmc, machine) = two(2);
        let mut system = System::booted(&spmc, machine);
        let mut models = [[Model::default(); 2]; 2];
        let mut state = seed;
        let mut random = |limit: u64| {
            state = u64::wrapping_add(
                u64::wrapping_mul(state, 6_364_136_223_846_793_005),
                1_442_695_040_888_963_407,
            );
            (state >> 33) % limit
        };
        for _ in 0..1500 {
            let pe = usize::from(random(2) == 1);
            system.machine.advance(random(3) * random(1500));
            let interrupted = system.machine.pending(pe).is_some() && random(2) == 0;
            let Owner::Partition(id, vcpu) = system.owner(pe) else {
                let to = A + random(2);
                let call: &[u64] = if interrupted { &[INTERRUPT] } else { &request(0, to) };
                system.nwd(pe, call);
                continue;
            };
            let model = &mut models[usize::from(id - 0x8001)][usize::from(vcpu)];
            match random(8) {
                _ if interrupted => drop(system.exit(pe, Exit::Irq)),
                0 => {
                    model.compare = now(&mut system).saturating_add(random(4000)).saturating_sub(500);
                    model.taken = false;
                    write(&mut system, pe, COMPARE, model.compare);
                }
                1 | 2 => {
                    model.control = [ENABLE, ENABLE, ENABLE | IMASK, 0][usize::try_from(random(4)).expect("small")];
                    model.taken = false;
                    write(&mut system, pe, CONTROL, model.control);
                }
                3 => enable_interrupt(&mut system, pe),
                4 => model.taken |= take_interrupt(&mut system, pe) == TIMER,
                5 => drop(system.exit(pe, NS_INTERRUPT)),
                _ => {
                    // Whichever of the two it is to end with.
                    system.smc(pe, &response(u64::from(id), 0));
                    if system.owner(pe) == Owner::Partition(id, vcpu) {
                        system.smc(pe, &[MSG_WAIT]);
                    }
                }
            }
            check_deadlines(&spmc, &mut system, &models);
            for pe in 0..2 {
                // What was preempted goes on some time.
                if system.owner(pe) == NWD && random(4) == 0 {
                    let target = if random(2) == 0 {
                        target(A, pe as u64)
                    } else {
                        target(B, 0)
                    };
                    system.nwd(pe, &[RUN, target]);
                }
            }
        }
    }
}
