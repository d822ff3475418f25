//! FFA_MSG_SEND_DIRECT_REQ2 and RESP2 (FF-A 1.2, sections 15.4 and 15.5).

use tantalum_core::manifest::partition::MessagingMethod;

use crate::support::*;

/// x2 and x3 that name the first service of a partition: byte 0 of the UUID in bits 7:0 of x2.
fn service(partition: u64) -> [u64; 2] {
    let bytes = *Builder::uuid(u16::try_from(partition).expect("an id")).as_bytes();
    let [first, second] = [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")));
    [first, second]
}

fn message(id: u64, from: u64, to: u64, [x2, x3]: [u64; 2]) -> [u64; 18] {
    let mut registers = core::array::from_fn(|n| 0xc0ff_ee00_0000_0000 | n as u64);
    registers[..4].copy_from_slice(&[id, route(from, to), x2, x3]);
    registers
}

#[test]
fn carries_x4_to_x17_both_ways() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    let asked = message(REQ2, 0, A, service(A));
    system.nwd(0, &asked);
    assert_eq!((system.owner(0), system.all(0)), (runs(A, 0), asked));
    let forwarded = message(REQ2, A, B, service(B));
    system.smc(0, &forwarded);
    assert_eq!((system.owner(0), system.all(0)), (runs(B, 0), forwarded));
    let answer = message(RESP2, B, A, [0, 0]);
    system.smc(0, &answer);
    assert_eq!((system.owner(0), system.all(0)), (runs(A, 0), answer));
    let answer = message(RESP2, A, 0, [0, 0]);
    system.smc(0, &answer);
    assert_eq!((system.owner(0), system.all(0)), (NWD, answer));
}

#[test]
fn for_no_service_in_particular_has_the_nil_uuid() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    let asked = message(REQ2, 0, A, [0, 0]);
    system.nwd(0, &asked);
    assert_eq!((system.owner(0), system.all(0)), (runs(A, 0), asked));
}

#[test]
fn for_a_service_of_another_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    let [x2, x3] = service(A);
    for uuid in [
        service(B),
        [x2, 0],
        [0, x3],
        [x3, x2],
        [x2.swap_bytes(), x3.swap_bytes()],
    ] {
        system.nwd_fails(0, &message(REQ2, 0, A, uuid), INVALID_PARAMETERS);
    }
}

#[test]
fn for_a_service_that_takes_none_is_denied() {
    let plain = MessagingMethod::DIRECT_REQ_RECEIVE;
    let (spmc, machine) = Builder::new(1).partition_with("a", |a| a.service(1, plain)).build();
    let mut system = System::booted(&spmc, machine);
    // Another service of the same partition does.
    system.nwd_fails(0, &message(REQ2, 0, A, [0, 1 << 56]), DENIED);
    system.nwd(0, &message(REQ2, 0, A, service(A)));
    assert_eq!(system.owner(0), runs(A, 0));
}

#[test]
fn receiver_that_takes_none_denies() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |a| a.messaging(all_but(MessagingMethod::DIRECT_REQ2_RECEIVE)))
        .partition_with("b", |b| b.version(1, 1))
        .build();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &message(REQ2, 0, A, service(A)), DENIED);
    system.nwd_fails(0, &message(REQ2, 0, A, [0, 0]), DENIED);
    // It is of FF-A 1.1 and knows no such message.
    system.nwd_fails(0, &message(REQ2, 0, B, service(B)), DENIED);
}

#[test]
fn sender_that_sends_none_is_denied() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |a| a.messaging(all_but(MessagingMethod::DIRECT_REQ2_SEND)))
        .partition("b")
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc_fails(0, &message(REQ2, A, B, service(B)), DENIED);
}

#[test]
fn is_not_there_before_ffa_1_2() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |a| a.version(1, 1))
        .partition("b")
        .build();
    let mut system = System::booted(&spmc, machine);
    system.negotiate(0, 0x1_0001);
    system.ask(0, A);
    system.smc_fails(0, &message(REQ2, A, B, service(B)), NOT_SUPPORTED);
    system.smc_fails(0, &message(RESP2, A, 0, [0, 0]), NOT_SUPPORTED);
    system.respond(0, A, 0);
    // Neither to a normal world of FF-A 1.1.
    system.nwd_fails(0, &message(REQ2, 0, B, service(B)), NOT_SUPPORTED);
    // EL3's own logical partitions are not bound by that.
    system.nwd(0, &message(REQ2, 0xffc0, B, service(B)));
    assert_eq!(system.owner(0), runs(B, 0));
}

#[test]
fn response_with_reserved_registers_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &message(REQ2, 0, A, service(A)));
    for reserved in [[1, 0], [0, 1], [1 << 63, 0], [0, 1 << 32]] {
        system.smc_fails(0, &message(RESP2, A, 0, reserved), INVALID_PARAMETERS);
    }
}

#[test]
fn rules_of_requests_hold() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &message(REQ2, A, B, service(B)), INVALID_PARAMETERS);
    system.nwd_fails(0, &message(REQ2, SPMD, A, service(A)), INVALID_PARAMETERS);
    system.nwd_fails(0, &message(REQ2, 0, 0x8004, [0, 0]), INVALID_PARAMETERS);
    system.nwd(0, &message(REQ2, 0, A, service(A)));
    system.smc_fails(0, &message(REQ2, A, A, service(A)), INVALID_PARAMETERS);
    system.smc_fails(0, &message(REQ2, B, C, service(C)), INVALID_PARAMETERS);
    system.smc(0, &message(REQ2, A, B, service(B)));
    system.smc_fails(0, &message(REQ2, B, A, service(A)), DENIED);
    system.smc_fails(0, &message(RESP2, B, 0, [0, 0]), DENIED);
}
