//! FFA_ERROR and FFA_ABORT (FF-A 1.2, section 13.1 and chapter 5).

use crate::support::*;

#[test]
fn ends_an_initialisation_that_has_failed() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.smc(0, &[ERROR, 0, u64::from(ABORTED.cast_unsigned())]);
    // The others boot.
    assert_eq!(system.owner(0), runs(B, 0));
    let console = system.machine.take_console();
    assert!(console.contains("partition \"a\" (0x8001) is stopped"), "{console}");
    assert!(
        console.contains("initialisation failed: FFA_ERROR with code -8"),
        "{console}"
    );
    system.smc(0, &[MSG_WAIT]);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [MSG_WAIT, 0, 0, 0, 0, 0, 0, 0])
    );
    assert!(system.machine.take_console().contains("2 of 3 partitions ready"));
    system.nwd_fails(0, &request(0, A), ABORTED);
    // And on the other PE only they are started.
    system.online(1);
    assert_eq!(system.owner(1), runs(B, 1));
}

#[test]
fn on_another_pe_stops_the_partition_everywhere() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.boot(0);
    system.online(1);
    system.smc(1, &[ERROR, 0, u64::from(DENIED.cast_unsigned())]);
    assert_eq!(system.owner(1), runs(B, 1));
    system.nwd_fails(0, &request(0, A), ABORTED);
    system.smc(1, &[MSG_WAIT]);
    system.smc(1, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (NWD, [MSG_WAIT, 0, 0, 0, 0, 0, 0, 0])
    );
}

#[test]
fn after_initialisation_is_not_supported() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc_fails(0, &[ERROR, 0, u64::from(ABORTED.cast_unsigned())], NOT_SUPPORTED);
    system.respond(0, A, 0);
    // Nor does the normal world have something to report.
    system.nwd_fails(0, &[ERROR, 0, u64::from(ABORTED.cast_unsigned())], NOT_SUPPORTED);
    system.nwd_fails(0, &[SUCCESS], NOT_SUPPORTED);
    system.nwd_fails(0, &[SUCCESS_64], NOT_SUPPORTED);
}

#[test]
fn abort_gives_aborted_to_the_callers_in_turn() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.forward(0, B, C);
    system.smc(0, &[ABORT, 0, 1]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), error(ABORTED)));
    system.smc_fails(0, &request(B, C), ABORTED);
    system.smc_fails(0, &[RUN, target(C, 0)], ABORTED);
    system.hvc(0, &[0xc400_0090]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), error(ABORTED)));
    system.respond(0, A, 0);
    let console = system.machine.take_console();
    assert_eq!(console.matches("is stopped").count(), 2, "{console}");
    assert_eq!(console.matches("it called FFA_ABORT").count(), 2, "{console}");
}

#[test]
fn abort_of_one_context_stops_the_others_at_their_next_exit() {
    let exits: [fn(&mut System<'_>); 6] = [
        |system| {
            system.smc(0, &[ID_GET]);
        },
        |system| {
            system.exit(0, NS_INTERRUPT);
        },
        |system| {
            system.exit(0, tantalum_core::spmc::Exit::Irq);
        },
        |system| {
            system.machine.pe(0).group0 = 1;
            system.exit(0, NS_INTERRUPT);
        },
        |system| {
            system.exit(0, synchronous(0x01 << 26));
        },
        |system| {
            system.exit(0, synchronous(0x24 << 26 | 7));
        },
    ];
    for exit in exits {
        let (spmc, machine) = three();
        let mut system = System::booted(&spmc, machine);
        system.ask(0, B);
        system.forward(0, B, A);
        system.ask(1, A);
        system.smc(1, &[ABORT]);
        assert_eq!(system.owner(0), runs(A, 0), "it does not know yet");
        system.load(0, &[0]);
        exit(&mut system);
        assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), error(ABORTED)));
        system.respond(0, B, 0);
        assert_eq!(system.machine.take_console().matches("is stopped").count(), 1);
    }
}

#[test]
fn abort_of_a_context_that_holds_interrupts_back() {
    let (spmc, machine) = Builder::new(2).partition_with("a", PartitionBuilder::queued).build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.ask(1, A);
    system.smc(1, &[ABORT]);
    system.exit(0, NS_INTERRUPT);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
}

#[test]
fn abort_by_the_normal_world_is_not_supported() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &[ABORT], NOT_SUPPORTED);
    system.nwd_fails(0, &[0xc400_0090], NOT_SUPPORTED);
}

#[test]
fn abort_shows_what_was_logged_last() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.machine.take_console();
    system.ask(0, A);
    system.smc(0, &[CONSOLE_LOG, 4, u64::from(u32::from_le_bytes(*b"oops"))]);
    system.smc(0, &[ABORT]);
    let console = system.machine.take_console();
    let (line, report) = (console.find("[a 0x8001.0] oops\n"), console.find("is stopped"));
    assert!(line.is_some() && line < report, "{console}");
}

#[test]
fn abort_leaves_nothing_behind() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[ABORT, 0xdead, 0xbeef]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    assert_eq!(system.all(0)[8..], System::upper_of_the_normal_world());
}
