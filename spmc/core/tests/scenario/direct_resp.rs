//! FFA_MSG_SEND_DIRECT_RESP, 32 and 64 bits (FF-A 1.2, section 15.3).

use crate::support::*;

#[test]
fn returns_to_the_normal_world_with_its_own_registers_above_x7() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &response(A, 0));
    assert_eq!((system.owner(0), system.regs(0)), (NWD, response(A, 0)));
    assert_eq!(system.all(0)[8..], System::upper_of_the_normal_world());
}

#[test]
fn of_32_bits_carries_32_bits() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    let mut registers = response(A, 0);
    for register in &mut registers {
        *register |= 0xdead_beef << 32;
    }
    system.ask(0, A);
    system.smc(0, &registers);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, response(A, 0)));
}

#[test]
fn of_64_bits_may_answer_a_request_of_32_with_nothing_above_x7() {
    // An SMC32 call need not bring x8-x17 along (TF-A from 2.13 on): what is there may be of an earlier message to
    // another VM, and an SMC64 result carries it.
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let wide = [RESP_64, route(A, 0), 0, 1 << 63, 4, 5, 6, u64::MAX];
    system.smc(0, &wide);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, wide));
    assert_eq!(system.all(0)[8..], [0; 10]);
    // The same after FFA_RUN,
    system.nwd(0, &[REQ_64, route(0, A)]);
    system.exit(0, NS_INTERRUPT);
    system.nwd(0, &[RUN, target(A, 0)]);
    system.smc(0, &wide);
    assert_eq!((system.regs(0), &system.all(0)[8..]), (wide, [0; 10].as_slice()));
    // but not for a call of 64 bits, whose x8-x17 are the caller's.
    system.nwd(0, &[REQ_64, route(0, A)]);
    system.smc(0, &wide);
    assert_eq!(
        (system.regs(0), &system.all(0)[8..]),
        (wide, System::upper_of_the_normal_world().as_slice())
    );
}

#[test]
fn nobody_waits_for_is_denied() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    // The normal world never owes a response.
    for id in [RESP, RESP_64, RESP2] {
        system.nwd_fails(0, &[id, route(0, A)], DENIED);
    }
    // Nor does a context that was given cycles by FFA_RUN,
    system.nwd(0, &[RUN, target(A, 0)]);
    assert_eq!(system.owner(0), runs(A, 0));
    for id in [RESP, RESP_64, RESP2] {
        system.smc_fails(0, &[id, route(A, 0)], DENIED);
    }
    // or that initialises.
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    for id in [RESP, RESP_64, RESP2] {
        system.smc_fails(0, &[id, route(A, 0)], DENIED);
    }
}

#[test]
fn from_the_wrong_source_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    for source in [0, 1, SPMC, B, 0x8009, SPMD] {
        system.smc_fails(0, &response(source, 0), INVALID_PARAMETERS);
    }
    system.respond(0, A, 0);
}

#[test]
fn to_another_than_the_requester_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &request(1, A));
    system.smc_fails(0, &response(A, A), INVALID_PARAMETERS);
    for destination in [0, 2, B, C, SPMC, SPMD, 0x8009] {
        system.smc_fails(0, &response(A, destination), DENIED);
    }
    system.forward(0, A, B);
    // Not even to whom the requester works for.
    system.smc_fails(0, &response(B, B), INVALID_PARAMETERS);
    for destination in [0, 1, C, SPMC, SPMD] {
        system.smc_fails(0, &response(B, destination), DENIED);
    }
    system.respond(0, B, A);
    system.respond(0, A, 1);
}

#[test]
fn reserved_flags_are_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    for flags in [1, 1 << 7, 1 << 31] {
        for id in [RESP, RESP_64] {
            system.smc_fails(0, &[id, route(A, 0), flags, 0, 0, 0, 0, 0], INVALID_PARAMETERS);
        }
    }
    system.smc(0, &[RESP_64, route(A, 0), 0xff << 32, 1, 2, 3, 4, 5]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [RESP_64, route(A, 0), 0, 1, 2, 3, 4, 5])
    );
}

#[test]
fn of_the_other_form_is_denied() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc_fails(0, &[RESP2, route(A, 0)], DENIED);
    system.respond(0, A, 0);
    let mut wide = [0; 18];
    wide[..2].copy_from_slice(&[REQ2, route(0, A)]);
    system.nwd(0, &wide);
    for id in [RESP, RESP_64] {
        system.smc_fails(0, &[id, route(A, 0)], DENIED);
    }
}

#[test]
fn second_response_is_denied() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.respond(0, B, A);
    system.respond(0, A, 0);
    system.nwd(0, &[RUN, target(B, 0)]);
    system.smc_fails(0, &response(B, A), DENIED);
}

#[test]
fn to_a_caller_that_was_stopped_meanwhile_aborts_the_next_outward() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    // a on PE 0 waits for b, which waits for c; b is stopped on PE 1.
    system.ask(0, A);
    system.forward(0, A, B);
    system.forward(0, B, C);
    system.ask(1, B);
    system.smc(1, &[ABORT]);
    assert_eq!(system.regs(1), error(ABORTED));
    assert_eq!(system.owner(0), runs(C, 0));
    system.smc(0, &response(C, B));
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), error(ABORTED)));
    system.respond(0, A, 0);
}

#[test]
fn to_nobody_left_ends_the_call_of_the_normal_world() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.ask(1, A);
    system.smc(1, &[ABORT]);
    system.smc(0, &response(B, A));
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    // b is free again.
    system.ask(0, B);
    system.respond(0, B, 0);
}
