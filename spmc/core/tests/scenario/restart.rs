//! Partitions that are started afresh after a fault (FF-A 1.3, chapter 5: lifecycle-support, abort-action 2).

use tantalum_core::{
    addr::{PhysAddr, World},
    interrupt::{Line, SOFTWARE_LINES},
    machine::{KICK_INTERRUPT, fake::FakeMachine},
    manifest::partition::{PowerManagement, Trigger},
    spmc::{Exit, Spmc},
};

use crate::support::*;

const MSG_SEND2: u64 = 0x8400_0086;
const CPU_OFF: u64 = 0x8400_0002;

/// a and c may be started afresh, b not; m has one context and may be.
fn system() -> (Spmc, FakeMachine) {
    let (spmc, mut machine) = Builder::new(2)
        .partition_with("a", |a| a.indirect().restart().power(PowerManagement::CPU_OFF))
        .partition_with("b", PartitionBuilder::indirect)
        .partition_with("c", PartitionBuilder::restart)
        .partition_with("m", |m| m.migratable().restart())
        .build();
    machine
        .memory
        .write(World::Secure, Builder::saved(0).base(), b"image of a")
        .expect("memory");
    (spmc, machine)
}
const M: u64 = 0x8004;

const DEVICE: u32 = 40;

/// One that may be started afresh and has a device.
fn with_device() -> (Spmc, FakeMachine) {
    Builder::new(2)
        .partition_with("a", |p| p.restart().device_interrupt(DEVICE, Trigger::Edge))
        .build()
}

fn memory(system: &mut System<'_>, index: usize, offset: u64) -> [u8; 10] {
    let at = PhysAddr::new(Builder::memory(index).base().as_u64() + offset);
    let mut bytes = [0; 10];
    system
        .machine
        .memory
        .read(World::Secure, at, &mut bytes)
        .expect("memory");
    bytes
}

#[track_caller]
fn starts_first(system: &mut System<'_>, pe: usize, partition: u64, vcpu: u16) {
    assert_eq!(system.owner(pe), runs(partition, vcpu));
    let index = usize::try_from(partition - A).expect("small");
    let ctx = system.ctx(pe);
    assert_eq!((ctx.pc, ctx.pstate), (Builder::memory(index).base().as_u64(), 0x3c5));
    assert!(
        ctx.x
            .iter()
            .enumerate()
            .all(|(n, x)| *x == if n == 4 { u64::from(vcpu) } else { 0 })
    );
    assert!(ctx.mask_ns_interrupts);
    assert_eq!(system.el1(pe).vbar, 0);
}

#[test]
fn memory_is_restored_and_the_next_request_works() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    let base = Builder::memory(0).base().as_u64();
    for _ in 0..3 {
        system.ask(0, A);
        system.el1(0).vbar = 0x1000;
        for offset in [0, 0x1000, 0x5000, 0xf000] {
            system
                .machine
                .memory
                .write(World::Secure, PhysAddr::new(base + offset), &[0xee; 10])
                .expect("memory");
        }
        system.smc(0, &[ABORT]);
        starts_first(&mut system, 0, A, 0);
        assert_eq!(memory(&mut system, 0, 0), *b"image of a");
        for offset in [0x1000, 0x5000, 0xf000] {
            assert_eq!(memory(&mut system, 0, offset), [0; 10]);
        }
        // Interrupts wait for it, as at boot.
        system.exit(0, NS_INTERRUPT);
        system.smc(0, &[MSG_WAIT]);
        assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
        system.ask(0, A);
        system.respond(0, A, 0);
    }
    assert!(
        system
            .machine
            .take_console()
            .contains("partition \"a\" (0x8001) is started afresh")
    );
}

#[test]
fn console_is_not_flooded_by_one_that_fails_again_and_again() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    for _ in 0..300 {
        system.ask(0, A);
        system.smc(0, &[ABORT]);
        system.smc(0, &[MSG_WAIT]);
    }
    let console = system.machine.take_console();
    for line in ["is stopped", "is started afresh"] {
        assert_eq!(console.matches(line).count(), 8, "{line}");
    }
}

#[test]
fn caller_gets_aborted_once_it_has_started() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    system.forward(0, B, A);
    system.smc(0, &[ABORT]);
    starts_first(&mut system, 0, A, 0);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), error(ABORTED)));
    system.forward(0, B, A);
    system.respond(0, A, B);
    system.respond(0, B, 0);
}

#[test]
fn contexts_of_other_pes_start_when_they_are_asked() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[ABORT]);
    system.smc(0, &[SECONDARY_EP_REGISTER, Builder::memory(0).base().as_u64() + 0x40]);
    assert_eq!(system.regs(0), success(0));
    system.smc(0, &[MSG_WAIT]);
    system.nwd(1, &request(0, A));
    assert_eq!(
        (system.owner(1), system.ctx(1).pc),
        (runs(A, 1), Builder::memory(0).base().as_u64() + 0x40)
    );
    system.smc(1, &[MSG_WAIT]);
    assert_eq!((system.owner(1), system.regs(1)), (NWD, error(BUSY)));
    system.ask(1, A);
    system.respond(1, A, 0);
    // Asked by FFA_RUN, or by a partition.
    for by_run in [true, false] {
        system.ask(0, A);
        system.smc(0, &[ABORT]);
        system.smc(0, &[MSG_WAIT]);
        if by_run {
            system.nwd(1, &[RUN, target(A, 1)]);
        } else {
            system.ask(1, B);
            system.smc(1, &request(B, A));
        }
        assert_eq!(system.owner(1), runs(A, 1));
        system.smc(1, &[MSG_WAIT]);
        assert_eq!(system.regs(1), error(BUSY));
        if !by_run {
            system.forward(1, B, A);
            system.respond(1, A, B);
            system.respond(1, B, 0);
        }
    }
}

#[test]
fn waits_until_no_context_is_left_on_any_pe() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.ask(1, A);
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    system.nwd_fails(0, &request(0, A), ABORTED);
    // Whatever the other one does next, it is the last.
    system.smc(1, &[ID_GET]);
    starts_first(&mut system, 1, A, 1);
    system.smc(1, &[MSG_WAIT]);
    assert_eq!((system.owner(1), system.regs(1)), (NWD, error(ABORTED)));
    system.ask(1, A);
    system.nwd(0, &request(0, A));
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(system.regs(0), error(BUSY));
    system.ask(0, A);
}

/// The last context has put itself away just when another PE stopped the partition: neither found that it was the last.
#[test]
fn one_that_nobody_has_dealt_with_starts_when_it_is_asked() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    for pe in [1, 0] {
        assert!(spmc.partitions()[0].stop());
        system.nwd(pe, &request(0, A));
        starts_first(&mut system, pe, A, u16::try_from(pe).expect("small"));
        system.smc(pe, &[MSG_WAIT]);
        assert_eq!((system.owner(pe), system.regs(pe)), (NWD, error(BUSY)));
        system.ask(pe, A);
        system.respond(pe, A, 0);
    }
}

#[test]
fn request_that_is_refused_anyway_does_not_start_the_context_of_its_pe() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[ABORT]);
    system.smc(0, &[MSG_WAIT]);
    // The context of PE 1 is off until it is asked for what it takes.
    system.nwd_fails(1, &[0xc400_008d, route(0, A), 1, 0], INVALID_PARAMETERS);
    system.nwd(1, &request(0, A));
    starts_first(&mut system, 1, A, 1);
    system.smc(1, &[MSG_WAIT]);
    system.ask(1, A);
    system.respond(1, A, 0);
}

#[test]
fn one_that_fails_while_it_starts_stays_stopped() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[ABORT]);
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    system.nwd_fails(0, &request(0, A), ABORTED);
    system.nwd_fails(1, &request(0, A), ABORTED);
    system.ask(0, B);
    system.smc(0, &[ABORT]);
    assert_eq!(system.regs(0), error(ABORTED));
    system.nwd_fails(0, &request(0, B), ABORTED);
}

#[test]
fn one_that_fails_at_boot_stays_stopped() {
    let (spmc, machine) = system();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.smc(0, &[ABORT]);
    assert_eq!(system.owner(0), runs(B, 0));
}

#[test]
fn one_whose_memory_cannot_be_restored_stays_stopped() {
    let (spmc, mut machine) = system();
    machine.memory.set_broken(World::Secure, Builder::saved(0).base(), true);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
}

#[test]
fn messages_notifications_and_version_are_those_of_the_start() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[VERSION, 0x1_0001]);
    system.smc(0, &[ABORT]);
    system.smc(0, &[VERSION, 0x1_0001]);
    system.smc(0, &[VERSION, 0x1_0002]);
    system.smc(0, &[ID_GET]);
    system.smc(0, &[MSG_WAIT]);
    let mut message = [0; 40];
    message[8] = 40;
    message[12..16].copy_from_slice(&0x8002_8001_u32.to_le_bytes());
    let send = |system: &mut System<'_>| {
        let tx = Builder::buffers(1).tx.base();
        system
            .machine
            .memory
            .write(World::Secure, tx, &message)
            .expect("memory");
        system.ask(0, B);
        system.smc(0, &[MSG_SEND2]);
        let result = system.regs(0);
        system.respond(0, B, 0);
        result
    };
    assert_eq!(send(&mut system), success(0));
    assert_eq!(send(&mut system), error(BUSY));
    system.ask(0, A);
    system.smc(0, &[ABORT]);
    system.smc(0, &[0x8400_0082, A, 4]);
    assert_eq!(system.regs(0), success(0));
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(send(&mut system), success(0));
}

#[test]
fn migratable_context_starts_where_it_was() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(1, M);
    system.smc(1, &[ABORT]);
    starts_first(&mut system, 1, M, 0);
    system.nwd_fails(0, &request(0, M), BUSY);
    system.smc(1, &[MSG_WAIT]);
    system.ask(0, M);
    system.respond(0, M, 0);
}

/// An interrupt of its device comes while it starts afresh on another PE: its context is started here when that has ended.
#[test]
fn interrupt_while_it_starts_is_not_lost() {
    let (spmc, machine) = with_device();
    let mut system = System::booted(&spmc, machine);
    // Its context there wants interrupts, as it did before.
    system.ask(0, A);
    system.hvc(0, &[0xff03, u64::from(DEVICE), 1, 0]);
    system.respond(0, A, 0);
    system.ask(1, A);
    system.smc(1, &[ABORT]);
    system.machine.raise(DEVICE);
    system.nwd(0, &[INTERRUPT]);
    assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, NORMAL_WORLD_RESUME));
    assert_eq!(system.machine.pending(0), None);
    system.smc(1, &[MSG_WAIT]);
    assert_eq!(system.owner(1), NWD);
    assert_eq!(system.machine.pending(0), Some(KICK_INTERRUPT));
    system.nwd(0, &[INTERRUPT]);
    assert_eq!(system.owner(0), runs(A, 0));
    assert!(
        spmc.partitions()[0].slots[0]
            .interrupts
            .is_pending(Line::new(SOFTWARE_LINES).expect("a line"))
    );
}

/// What a context was told of before its partition failed, and did not take, is nothing that it was told of since.
#[test]
fn interrupt_that_was_not_taken_before_the_fault_comes_again() {
    let (spmc, machine) = with_device();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.hvc(0, &[0xff03, u64::from(DEVICE), 1, 0]);
    system.respond(0, A, 0);
    system.machine.raise(DEVICE);
    system.nwd(0, &[INTERRUPT]);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(system.owner(0), NWD);
    system.ask(1, A);
    system.smc(1, &[ABORT]);
    system.smc(1, &[MSG_WAIT]);
    system.machine.raise(DEVICE);
    system.nwd(0, &[INTERRUPT]);
    assert_eq!(system.owner(0), runs(A, 0));
}

/// A context that has not come as far as to say which interrupts it wants, when its partition fails, starts for any.
#[test]
fn interrupt_starts_a_context_that_has_enabled_none() {
    let (spmc, machine) = with_device();
    let mut system = System::booted(&spmc, machine);
    system.turn_off(0);
    system.online(0);
    system.ask(1, A);
    system.smc(0, &[ABORT]);
    system.exit(1, Exit::Irq);
    assert_eq!((system.owner(0), system.owner(1)), (NWD, runs(A, 1)));
    system.smc(1, &[MSG_WAIT]);
    system.machine.interrupts.get_mut(&DEVICE).expect("it is enabled").pe = 0;
    system.machine.raise(DEVICE);
    system.nwd(0, &[INTERRUPT]);
    assert_eq!(system.owner(0), runs(A, 0));
}

/// The PE that has taken an interrupt goes off. The context that gets it has not started since.
#[test]
fn interrupt_of_a_pe_that_goes_off_starts_the_context_of_another() {
    let (spmc, machine) = with_device();
    let mut system = System::booted(&spmc, machine);
    for pe in [1, 0] {
        system.ask(pe, A);
        system.hvc(pe, &[0xff03, u64::from(DEVICE), 1, 0]);
        system.respond(pe, A, 0);
    }
    system.ask(0, A);
    system.smc(0, &[ABORT]);
    system.hvc(0, &[0xff03, u64::from(DEVICE), 1, 0]);
    system.smc(0, &[MSG_WAIT]);
    system.machine.raise(DEVICE);
    system.nwd(0, &[INTERRUPT]);
    // It waits without having taken it.
    system.smc(0, &[MSG_WAIT]);
    system.turn_off(0);
    assert_eq!(system.machine.pending(1), Some(KICK_INTERRUPT));
    system.nwd(1, &[INTERRUPT]);
    assert_eq!(system.owner(1), runs(A, 1));
    assert!(
        spmc.partitions()[0].slots[1]
            .interrupts
            .is_pending(Line::new(SOFTWARE_LINES).expect("a line"))
    );
}

#[test]
fn power_message_goes_on_after_it() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.nwd(1, &[REQ, route(SPMD, SPMC), 0x8000_0000, CPU_OFF]);
    assert_eq!(system.owner(1), runs(A, 1));
    system.smc(1, &[ABORT]);
    starts_first(&mut system, 1, A, 1);
    system.smc(1, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (NWD, [RESP, route(SPMC, SPMD), 0x8000_0002, 0, 0, 0, 0, 0])
    );
}

#[test]
fn work_for_it_is_ended_by_the_normal_world() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, M);
    system.exit(0, NS_INTERRUPT);
    system.exit(0, NS_INTERRUPT);
    // a was preempted while m works for it; its other context fails.
    system.ask(1, A);
    system.smc(1, &[ABORT]);
    system.smc(1, &[MSG_WAIT]);
    system.nwd(0, &[RUN, target(M, 0)]);
    assert_eq!(system.owner(0), runs(M, 0));
    system.smc(0, &response(M, A));
    assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, MSG_WAIT));
    system.ask(0, M);
}

#[test]
fn whom_it_calls_while_it_starts_late_is_told_apart_from_it() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[ABORT]);
    system.smc(0, &[MSG_WAIT]);
    system.ask(1, C);
    system.smc(1, &request(C, A));
    assert_eq!(system.owner(1), runs(A, 1));
    system.forward(1, A, B);
    system.smc(1, &[ABORT]);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (runs(A, 1), error(ABORTED)),
        "b is gone"
    );
    system.smc(1, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(1), system.regs(1)),
        (runs(C, 1), error(BUSY)),
        "a is there now"
    );
}
