//! FFA_MSG_SEND_DIRECT_REQ, 32 and 64 bits (FF-A 1.2, section 15.2).

use tantalum_core::manifest::partition::MessagingMethod;

use crate::support::*;

const GARBAGE: u64 = 0xdead_beef << 32;

#[test]
fn reaches_the_context_of_the_callers_pe() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    for pe in 0..2 {
        let owner = system.nwd(usize::from(pe), &request(0, B));
        assert_eq!(owner, runs(B, pe));
        assert_eq!(system.regs(usize::from(pe)), request(0, B));
    }
}

#[test]
fn of_32_bits_carries_32_bits() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    let mut registers = request(0, A);
    for register in &mut registers {
        *register |= GARBAGE;
    }
    system.nwd(0, &registers);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), request(0, A)));
    // The same between partitions.
    let mut registers = request(A, B);
    for register in &mut registers {
        *register |= GARBAGE;
    }
    system.smc(0, &registers);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), request(A, B)));
}

#[test]
fn of_64_bits_carries_64_bits_in_x3_to_x7() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    let payload = [3, 4, 5, 6, 7].map(|value| GARBAGE | value);
    let [x3, x4, x5, x6, x7] = payload;
    system.nwd(0, &[REQ_64, GARBAGE | route(0, A), GARBAGE, x3, x4, x5, x6, x7]);
    assert_eq!(system.regs(0), [REQ_64, route(0, A), 0, x3, x4, x5, x6, x7]);
    assert_eq!(system.owner(0), runs(A, 0));
}

#[test]
fn sve_hint_is_not_part_of_the_function_identifier() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    let mut registers = request(0, A);
    registers[0] |= 1 << 16;
    assert_eq!(system.nwd(0, &registers), runs(A, 0));
    assert_eq!(system.regs(0), request(0, A));
}

#[test]
fn by_a_vm_names_the_vm() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &request(0x7fff, A));
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), request(0x7fff, A)));
    system.respond(0, A, 0x7fff);
    assert_eq!(system.owner(0), NWD);
}

#[test]
fn by_el3s_logical_partition_is_taken_and_not_interrupted() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &request(0xffc0, A));
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), request(0xffc0, A)));
    assert!(system.ctx(0).mask_ns_interrupts);
    system.forward(0, A, B);
    assert!(system.ctx(0).mask_ns_interrupts, "nor what it calls");
    system.respond(0, B, A);
    system.respond(0, A, 0xffc0);
    assert_eq!(system.owner(0), NWD);
}

#[test]
fn in_the_name_of_a_secure_endpoint_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    for source in [SPMC, A, B, 0x8009, 0xffbf] {
        system.nwd_fails(0, &request(source, A), INVALID_PARAMETERS);
    }
}

#[test]
fn in_the_name_of_another_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    for source in [0, 1, SPMC, SPMD, 0xffc0, B, C, 0x8009] {
        system.smc_fails(0, &request(source, B), INVALID_PARAMETERS);
    }
}

#[test]
fn to_oneself_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc_fails(0, &request(A, A), INVALID_PARAMETERS);
}

#[test]
fn to_nobody_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    for destination in [0, 1, 0x7fff, SPMC, 0x8004, 0xffbf, 0xffc0, 0xfffe, SPMD] {
        system.nwd_fails(0, &request(0, destination), INVALID_PARAMETERS);
    }
    system.ask(0, A);
    for destination in [0, 1, 0x7fff, SPMC, 0x8004, 0xffbf, 0xffc0, 0xfffe, SPMD] {
        system.smc_fails(0, &request(A, destination), INVALID_PARAMETERS);
    }
}

#[test]
fn reserved_flags_are_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    for flags in [1, 1 << 7, 1 << 30] {
        for id in [REQ, REQ_64] {
            system.nwd_fails(0, &[id, route(0, A), flags, 0, 0, 0, 0, 0], INVALID_PARAMETERS);
        }
    }
    system.ask(0, A);
    for flags in [1, 1 << 7, 1 << 30, 1 << 31] {
        for id in [REQ, REQ_64] {
            system.smc_fails(0, &[id, route(A, B), flags, 0, 0, 0, 0, 0], INVALID_PARAMETERS);
        }
    }
}

#[test]
fn framework_message_by_the_normal_world_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    for function in [0, 1, 4, 6, 8, 0xff] {
        system.nwd_fails(0, &[REQ, route(0, A), 1 << 31 | function], INVALID_PARAMETERS);
        system.nwd_fails(0, &[REQ, route(0, SPMC), 1 << 31 | function], INVALID_PARAMETERS);
    }
}

#[test]
fn receiver_that_takes_none_denies() {
    let (spmc, machine) = Builder::new(1)
        .partition("a")
        .partition_with("b", |b| b.messaging(all_but(MessagingMethod::DIRECT_REQ_RECEIVE)))
        .build();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &request(0, B), DENIED);
    system.ask(0, A);
    system.smc_fails(0, &request(A, B), DENIED);
    system.respond(0, A, 0);
}

#[test]
fn sender_that_sends_none_is_denied() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |a| a.messaging(all_but(MessagingMethod::DIRECT_REQ_SEND)))
        .partition("b")
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc_fails(0, &request(A, B), DENIED);
}

#[test]
fn busy_receiver_gets_busy() {
    let (spmc, machine) = Builder::new(2)
        .partition("a")
        .partition_with("b", PartitionBuilder::migratable)
        .partition("c")
        .build();
    let mut system = System::booted(&spmc, machine);
    // It runs on another PE.
    system.ask(0, B);
    system.nwd_fails(1, &request(0, B), BUSY);
    system.ask(1, A);
    system.smc_fails(1, &request(A, B), BUSY);
    // It is blocked on another PE.
    system.forward(0, B, C);
    system.smc_fails(1, &request(A, B), BUSY);
    system.respond(1, A, 0);
    system.nwd_fails(1, &request(0, B), BUSY);
    // It is preempted.
    system.exit(0, NS_INTERRUPT);
    system.exit(0, NS_INTERRUPT);
    assert_eq!(system.owner(0), NWD);
    system.nwd_fails(0, &request(0, B), BUSY);
    system.nwd_fails(0, &request(0, C), BUSY);
    system.nwd_fails(1, &request(0, B), BUSY);
    // The context of another PE is another context.
    system.ask(1, C);
}

#[test]
fn receiver_that_has_yielded_is_busy() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[YIELD]);
    system.nwd_fails(0, &request(0, A), BUSY);
}

#[test]
fn loop_is_denied() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.smc_fails(0, &request(B, A), DENIED);
    system.forward(0, B, C);
    system.smc_fails(0, &request(C, A), DENIED);
    system.smc_fails(0, &request(C, B), DENIED);
    system.respond(0, C, B);
    system.respond(0, B, A);
    system.respond(0, A, 0);
}

#[test]
fn chain_of_three_unwinds_in_order() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    system.forward(1, A, B);
    system.forward(1, B, C);
    for (from, to) in [(C, B), (B, A), (A, 0)] {
        assert_eq!(system.owner(1), runs(from, 1));
        system.respond(1, from, to);
    }
    assert_eq!(system.owner(1), NWD);
    assert_eq!(system.all(1)[8..], System::upper_of_the_normal_world());
}

#[test]
fn receiver_that_was_stopped_is_aborted() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    for pe in 0..2 {
        system.nwd_fails(pe, &request(0, B), ABORTED);
        system.ask(pe, A);
        system.smc_fails(pe, &request(A, B), ABORTED);
        system.respond(pe, A, 0);
    }
}

#[test]
fn receiver_that_has_not_started_is_busy() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    assert_eq!(system.owner(0), runs(A, 0));
    system.smc_fails(0, &request(A, B), BUSY);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(system.owner(0), runs(B, 0));
    // It may ask those before it; they are not interrupted while the PE boots.
    system.forward(0, B, A);
    assert!(system.ctx(0).mask_ns_interrupts);
    system.respond(0, A, B);
    system.smc(0, &[MSG_WAIT]);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(system.owner(0), NWD);
}

#[test]
fn hvc_is_as_good_as_smc() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let pc = system.ctx(0).pc;
    system.hvc(0, &request(A, B));
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), request(A, B)));
    system.hvc(0, &response(B, A));
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), response(B, A)));
    assert_eq!(system.ctx(0).pc, pc + 4);
    system.smc(0, &request(A, B));
    system.smc(0, &response(B, A));
    assert_eq!(system.ctx(0).pc, pc + 8, "the SMC is skipped, too");
}

#[test]
fn error_changes_nothing() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let pc = system.ctx(0).pc;
    system.smc_fails(0, &request(A, 0x8004), INVALID_PARAMETERS);
    assert_eq!(system.ctx(0).pc, pc + 4);
    system.respond(0, A, 0);
}
