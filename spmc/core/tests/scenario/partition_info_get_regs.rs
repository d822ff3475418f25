//! FFA_PARTITION_INFO_GET_REGS (FF-A 1.2, section 13.9).

use tantalum_core::manifest::partition::MessagingMethod;

use crate::support::*;

fn seven() -> (tantalum_core::spmc::Spmc, tantalum_core::machine::fake::FakeMachine) {
    (0..7)
        .fold(Builder::new(2), |builder, n| builder.partition(&format!("p{n}")))
        .build()
}

fn uuid(id: u64) -> [u64; 2] {
    let bytes = *Builder::uuid(u16::try_from(id).expect("an id")).as_bytes();
    [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")))
}

#[test]
fn lists_five_at_a_time() {
    let (spmc, machine) = seven();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[PARTITION_INFO_GET_REGS]);
    let registers = system.all(0);
    // x2: size of a descriptor, tag, current index, last index
    assert_eq!(registers[..3], [SUCCESS_64, 0, 24 << 48 | 4 << 16 | 6]);
    for (id, descriptor) in (A..).zip(registers[3..].chunks(3)) {
        // Two contexts; AArch64, receives requests of both kinds.
        let properties = 1 << 8 | 1 << 9 | 1 << 0;
        assert_eq!(descriptor[0], properties << 32 | 2 << 16 | id);
        assert_eq!(descriptor[1..], uuid(id));
    }
    system.nwd(0, &[PARTITION_INFO_GET_REGS, 0, 0, 5]);
    let registers = system.all(0);
    assert_eq!(registers[..3], [SUCCESS_64, 0, 24 << 48 | 6 << 16 | 6]);
    assert_eq!(registers[3] & 0xffff, 0x8006);
    assert_eq!(registers[6] & 0xffff, 0x8007);
    assert_eq!(registers[9..], [0; 9]);
}

#[test]
fn start_past_the_end_is_refused() {
    let (spmc, machine) = seven();
    let mut system = System::booted(&spmc, machine);
    for start in [7, 8, 0xffff] {
        system.nwd_fails(0, &[PARTITION_INFO_GET_REGS, 0, 0, start], INVALID_PARAMETERS);
    }
}

#[test]
fn by_uuid_leaves_the_uuid_out() {
    let (spmc, machine) = seven();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let [x1, x2] = uuid(0x8003);
    system.smc(0, &[PARTITION_INFO_GET_REGS, x1, x2, 0]);
    let registers = system.all(0);
    assert_eq!(registers[..3], [SUCCESS_64, 0, 24 << 48]);
    // To a partition, it also says what the other sends.
    let properties = 1 << 8 | 1 << 10 | 1 << 9 | 1 << 1 | 1 << 0;
    assert_eq!(registers[3..6], [properties << 32 | 2 << 16 | 0x8003, 0, 0]);
    assert_eq!(registers[6..], [0; 12]);
}

#[test]
fn uuid_that_nobody_has_is_refused() {
    let (spmc, machine) = seven();
    let mut system = System::booted(&spmc, machine);
    let [x1, x2] = uuid(0x8003);
    for [x1, x2] in [[x1, 0], [0, x2], [x2, x1], uuid(0x8008)] {
        system.nwd_fails(0, &[PARTITION_INFO_GET_REGS, x1, x2, 0], INVALID_PARAMETERS);
    }
}

#[test]
fn partition_with_two_services_is_listed_twice() {
    let plain = MessagingMethod::DIRECT_REQ_RECEIVE;
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |a| a.migratable().service(u128::MAX, plain))
        .partition("b")
        .build();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[PARTITION_INFO_GET_REGS]);
    let registers = system.all(0);
    assert_eq!(registers[2] & 0xffff, 2);
    assert_eq!(registers[3] & 0xffff_ffff, 1 << 16 | A);
    assert_eq!(registers[6], (1 << 8 | 1) << 32 | 1 << 16 | A);
    assert_eq!(registers[7..9], [u64::MAX; 2]);
    assert_eq!(registers[9] & 0xffff, B);
}

/// A UUID may be that of a protocol, which several speak.
#[test]
fn uuid_of_two_partitions_lists_both() {
    let shared = 0x0102_0304_u128;
    let (spmc, machine) = Builder::new(2)
        .partition_with("a", |a| a.service(shared, MessagingMethod::DIRECT_REQ2_RECEIVE))
        .partition("b")
        .partition_with("c", |c| c.service(shared, MessagingMethod::DIRECT_REQ2_RECEIVE))
        .build();
    let mut system = System::booted(&spmc, machine);
    let bytes = shared.to_be_bytes();
    let words = [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes")));
    system.nwd(0, &[PARTITION_INFO_GET_REGS, words[0], words[1], 0]);
    let registers = system.all(0);
    assert_eq!(registers[..3], [SUCCESS_64, 0, 24 << 48 | 1 << 16 | 1]);
    assert_eq!([3, 6].map(|place| registers[place] & 0xffff), [A, C]);
    for partition in [A, C] {
        let mut message = [0; 18];
        message[..4].copy_from_slice(&[REQ2, route(0, partition), words[0], words[1]]);
        system.nwd(0, &message);
        assert_eq!(system.owner(0), runs(partition, 0));
        message[..4].copy_from_slice(&[RESP2, route(partition, 0), 0, 0]);
        system.smc(0, &message);
    }
    system.nwd_fails(0, &[REQ2, route(0, B), words[0], words[1]], INVALID_PARAMETERS);
}

#[test]
fn partition_of_an_older_version_has_no_new_properties() {
    let (spmc, machine) = Builder::new(1).partition_with("a", |a| a.version(1, 1)).build();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[PARTITION_INFO_GET_REGS]);
    assert_eq!(system.all(0)[3] >> 32, 1 << 8 | 1);
}

#[test]
fn stopped_partition_is_not_listed_and_changes_the_tag() {
    let (spmc, machine) = seven();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[PARTITION_INFO_GET_REGS]);
    system.ask(1, B);
    system.smc(1, &[ABORT]);
    // What comes after the first five has moved: the caller has to start again.
    system.nwd_fails(0, &[PARTITION_INFO_GET_REGS, 0, 0, 5], RETRY);
    system.nwd(0, &[PARTITION_INFO_GET_REGS]);
    let registers = system.all(0);
    assert_eq!(registers[2], 24 << 48 | 1 << 32 | 4 << 16 | 5);
    assert_eq!([registers[3] & 0xffff, registers[6] & 0xffff], [A, C]);
    system.nwd(0, &[PARTITION_INFO_GET_REGS, 0, 0, 1 << 16 | 5]);
    assert_eq!(system.all(0)[2], 24 << 48 | 1 << 32 | 5 << 16 | 5);
    let [x1, x2] = uuid(B);
    system.nwd_fails(0, &[PARTITION_INFO_GET_REGS, x1, x2, 0], INVALID_PARAMETERS);
}

#[test]
fn tag_that_was_not_handed_out_is_stale() {
    let (spmc, machine) = seven();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &[PARTITION_INFO_GET_REGS, 0, 0, 7 << 16 | 5], RETRY);
    system.nwd_fails(0, &[PARTITION_INFO_GET_REGS, 0, 0, 1 << 32], INVALID_PARAMETERS);
}
