//! FFA_MSG_SEND2, and buffers that a hypervisor passes on (FF-A 1.2, chapters 7, 13 and 15).

use tantalum_core::{
    addr::{PageRange, PhysAddr, World},
    machine::fake::FakeMachine,
    spmc::Spmc,
};

use crate::support::*;

const MSG_SEND2: u64 = 0x8400_0086;
const RXTX_MAP: u64 = 0xc400_0066;
const RXTX_UNMAP: u64 = 0x8400_0067;
const RX_RELEASE: u64 = 0x8400_0065;
const RX_ACQUIRE: u64 = 0x8400_0084;
const BITMAP_CREATE: u64 = 0x8400_007d;
const NOTIFICATION_GET: u64 = 0x8400_0082;
const INFO_GET: u64 = 0x8400_0083;
const NO_MEMORY: i32 = -3;
const NO_DATA: i32 = -9;
const DELAY: u64 = 1 << 1;

const NWD_TX: u64 = 0x4000_0000;
const NWD_RX: u64 = 0x4000_1000;
const VM_TX: u64 = 0x4000_2000;
const VM_RX: u64 = 0x4000_4000;
const VM: u64 = 5;

/// a, b and c take indirect messages; d does not; the normal world has buffers.
fn system() -> (Spmc, FakeMachine) {
    let (spmc, mut machine) = Builder::new(2)
        .partition_with("a", PartitionBuilder::indirect)
        .partition_with("b", PartitionBuilder::indirect)
        .partition_with("c", |c| c.indirect().version(1, 1))
        .partition("d")
        .build();
    let ram = PageRange::new(PhysAddr::new(NWD_TX), 16).expect("a range");
    machine.memory.add(World::NonSecure, ram);
    (spmc, machine)
}

fn with_normal_world<'s>(spmc: &'s Spmc, machine: FakeMachine) -> System<'s> {
    let mut system = System::booted(spmc, machine);
    system.nwd(0, &[RXTX_MAP, NWD_TX, NWD_RX, 1]);
    assert_eq!(system.regs(0), success(0));
    system
}

/// A message of FF-A 1.2: header with `change`s of its words, and payload.
fn message(from: u64, to: u64, payload: &[u8], changes: &[(usize, u32)]) -> Vec<u8> {
    let mut words = [
        0,
        0,
        40,
        u32::try_from(route(from, to)).expect("32 bits"),
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    words[4] = u32::try_from(payload.len()).expect("short");
    for &(place, word) in changes {
        words[place] = word;
    }
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend_from_slice(payload);
    bytes
}

/// A message of FF-A 1.1.
fn message_1_1(from: u64, to: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = message(
        from,
        to,
        &[],
        &[(2, 20), (4, u32::try_from(payload.len()).expect("short"))],
    );
    bytes.truncate(20);
    bytes.extend_from_slice(payload);
    bytes
}

fn buffers(partition: u64) -> (PhysAddr, PhysAddr) {
    let buffers = Builder::buffers(usize::try_from(partition - A).expect("small"));
    (buffers.rx.base(), buffers.tx.base())
}

fn write(system: &mut System<'_>, world: World, at: u64, bytes: &[u8]) {
    system
        .machine
        .memory
        .write(world, PhysAddr::new(at), bytes)
        .expect("memory");
}

fn read(system: &mut System<'_>, world: World, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    system
        .machine
        .memory
        .read(world, PhysAddr::new(at), &mut bytes)
        .expect("memory");
    bytes
}

fn put_tx(system: &mut System<'_>, from: u64, bytes: &[u8]) {
    let (_, tx) = buffers(from);
    write(system, World::Secure, tx.as_u64(), bytes);
}

/// All of RX of a partition, after filling it with what must not stay there.
fn rx(system: &mut System<'_>, partition: u64) -> Vec<u8> {
    let (rx, _) = buffers(partition);
    read(system, World::Secure, rx.as_u64(), 4096)
}

fn dirty_rx(system: &mut System<'_>, partition: u64) {
    let (rx, _) = buffers(partition);
    write(system, World::Secure, rx.as_u64(), &[0xee; 4096]);
}

fn padded(mut message: Vec<u8>) -> Vec<u8> {
    message.resize(4096, 0);
    message
}

/// `partition`, which has the PE, takes its framework notifications.
fn framework_pending(system: &mut System<'_>, partition: u64) -> u64 {
    system.smc(0, &[NOTIFICATION_GET, partition, 4]);
    let [x0, _, w2, w3, w4, w5, w6, w7] = system.regs(0);
    assert_eq!((x0, [w2, w3, w4, w5, w7]), (SUCCESS, [0; 5]));
    w6
}

#[test]
fn between_partitions() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    dirty_rx(&mut system, B);
    let sent = message(A, B, b"hello", &[]);
    put_tx(&mut system, A, &sent);
    system.ask(0, A);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), success(0)));
    assert_eq!(rx(&mut system, B), padded(sent.clone()));
    let (_, tx) = buffers(A);
    assert_eq!(
        read(&mut system, World::Secure, tx.as_u64(), sent.len()),
        sent,
        "TX is the sender's"
    );
    assert_eq!(system.machine.schedule_receiver_raised, 1);
    // It has not been released.
    system.smc_fails(0, &[MSG_SEND2], BUSY);
    system.forward(0, A, B);
    assert_eq!(framework_pending(&mut system, B), 1);
    assert_eq!(framework_pending(&mut system, B), 0);
    system.smc(0, &[RX_RELEASE]);
    assert_eq!(system.regs(0), success(0));
    system.respond(0, B, A);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
}

#[test]
fn waiting_releases_rx_unless_told_otherwise() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    put_tx(&mut system, A, &message(A, B, b"1", &[]));
    system.ask(0, A);
    system.smc(0, &[MSG_SEND2]);
    system.respond(0, A, 0);
    system.nwd(0, &[RUN, target(B, 0)]);
    system.smc(0, &[MSG_WAIT, 0, 1]);
    system.ask(0, A);
    system.smc_fails(0, &[MSG_SEND2], BUSY);
    system.respond(0, A, 0);
    system.nwd(0, &[RUN, target(B, 0)]);
    system.smc(0, &[MSG_WAIT]);
    system.ask(0, A);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
}

#[test]
fn delayed_schedule_receiver_interrupt() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    put_tx(&mut system, A, &message(A, B, b"1", &[]));
    system.ask(0, A);
    system.smc(0, &[MSG_SEND2, 0, DELAY]);
    assert_eq!(
        (system.regs(0), system.machine.schedule_receiver_raised),
        (success(0), 0)
    );
    system.respond(0, A, 0);
    assert_eq!(system.machine.schedule_receiver_raised, 1);
    system.nwd(0, &[INFO_GET]);
    assert_eq!(system.regs(0)[2..4], [1 << 7, B]);
    system.nwd_fails(0, &[INFO_GET], NO_DATA);
}

#[test]
fn receiver_of_1_1_gets_its_own_header() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    dirty_rx(&mut system, C);
    put_tx(&mut system, A, &message(A, C, b"down", &[]));
    system.ask(0, A);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
    assert_eq!(rx(&mut system, C), padded(message_1_1(A, C, b"down")));
    system.respond(0, A, 0);
    put_tx(&mut system, C, &message_1_1(C, A, b"up"));
    system.ask(0, C);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
    assert_eq!(rx(&mut system, A), padded(message(C, A, b"up", &[])));
}

#[test]
fn payload_may_begin_later_and_fill_the_buffer() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    let payload: Vec<u8> = (0..4096_u32 - 40).map(|n| n.to_le_bytes()[0]).collect();
    put_tx(&mut system, A, &message(A, B, &payload, &[]));
    system.ask(0, A);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(rx(&mut system, B), message(A, B, &payload, &[]));
    system.forward(0, A, B);
    system.smc(0, &[RX_RELEASE]);
    system.respond(0, B, A);
    let mut late = message(A, B, &[], &[(2, 4090), (4, 6)]);
    late.resize(4090, 0xaa);
    late.extend_from_slice(b"behind");
    put_tx(&mut system, A, &late);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
    assert_eq!(rx(&mut system, B), padded(message(A, B, b"behind", &[])));
}

#[test]
fn service_is_named_by_uuid() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    let named = |uuid: u128| {
        let bytes = uuid.to_be_bytes();
        let word = |n: usize| u32::from_le_bytes(bytes[4 * n..4 * n + 4].try_into().expect("4 bytes"));
        [(6, word(0)), (7, word(1)), (8, word(2)), (9, word(3))]
    };
    system.ask(0, A);
    let sent = message(A, B, b"x", &named(Builder::uuid(0x8002).as_u128()));
    put_tx(&mut system, A, &message(A, B, b"x", &named(1)));
    system.smc_fails(0, &[MSG_SEND2], INVALID_PARAMETERS);
    put_tx(&mut system, A, &sent);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
    assert_eq!(rx(&mut system, B), padded(sent));
}

#[test]
fn header_is_checked() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let word = |value: u64| u32::try_from(value).expect("32 bits");
    for change in [
        (0, 1),
        (1, 1),
        (5, 1),
        (2, 0),
        (2, 39),
        (2, 4096),
        (2, u32::MAX),
        (4, 4057),
        (4, u32::MAX),
        (3, word(route(B, B))),
        (3, word(route(A, A))),
        (3, word(route(B, A))),
        (3, word(route(0, B))),
        (3, word(route(A, 0x8009))),
        (3, word(route(A, SPMC))),
        (3, word(route(A, SPMD))),
        (3, word(route(A, VM))),
    ] {
        put_tx(&mut system, A, &message(A, B, b"x", &[change]));
        system.smc_fails(0, &[MSG_SEND2], INVALID_PARAMETERS);
    }
    put_tx(&mut system, A, &message(A, B, b"x", &[]));
    for (w1, w2) in [(A << 16, 0), (1, 0), (VM << 16, 0), (0, 1), (0, 4), (0, 1 << 31)] {
        system.smc_fails(0, &[MSG_SEND2, w1, w2], INVALID_PARAMETERS);
    }
    assert_eq!(rx(&mut system, B), [0; 4096]);
    assert_eq!(system.machine.schedule_receiver_raised, 0);
}

#[test]
fn those_that_take_no_part_are_refused() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    put_tx(&mut system, A, &message(A, 0x8004, b"x", &[]));
    system.smc_fails(0, &[MSG_SEND2], DENIED);
    // The normal world has no RX.
    put_tx(&mut system, A, &message(A, 0, b"x", &[]));
    system.smc_fails(0, &[MSG_SEND2], BUSY);
    system.forward(0, A, 0x8004);
    system.smc_fails(0, &[MSG_SEND2], DENIED);
    system.respond(0, 0x8004, A);
    system.smc(0, &[RXTX_UNMAP]);
    assert_eq!(system.regs(0), success(0));
    system.smc_fails(0, &[MSG_SEND2], DENIED);
    system.respond(0, A, 0);
    // Nor a TX.
    system.nwd_fails(0, &[MSG_SEND2], DENIED);
    system.nwd_fails(0, &[MSG_SEND2, A << 16], INVALID_PARAMETERS);
    system.nwd_fails(0, &[MSG_SEND2, VM << 16], INVALID_PARAMETERS);
}

#[test]
fn stopped_receiver_is_aborted() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    system.smc(0, &[ABORT]);
    system.ask(0, A);
    put_tx(&mut system, A, &message(A, B, b"x", &[]));
    system.smc_fails(0, &[MSG_SEND2], ABORTED);
}

#[test]
fn memory_that_faults_ends_the_call() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    put_tx(&mut system, A, &message(A, B, b"x", &[]));
    let (rx, _) = buffers(B);
    system.machine.memory.set_broken(World::Secure, rx, true);
    system.smc_fails(0, &[MSG_SEND2], ABORTED);
    system.machine.memory.set_broken(World::Secure, rx, false);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
}

#[test]
fn normal_world_to_partition_and_back() {
    let (spmc, machine) = system();
    let mut system = with_normal_world(&spmc, machine);
    let sent = message(0, A, b"from linux", &[]);
    write(&mut system, World::NonSecure, NWD_TX, &sent);
    system.nwd(0, &[MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
    assert_eq!(rx(&mut system, A), padded(sent));
    system.nwd_fails(0, &[MSG_SEND2], BUSY);
    system.nwd(0, &[INFO_GET]);
    assert_eq!(system.regs(0)[2..4], [1 << 7, A]);
    system.nwd(0, &[RUN, target(A, 0)]);
    assert_eq!(framework_pending(&mut system, A), 1);
    let answer = message(A, 0, b"back", &[]);
    put_tx(&mut system, A, &answer);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
    assert_eq!(read(&mut system, World::NonSecure, NWD_RX, 4096), padded(answer));
    system.smc(0, &[MSG_WAIT]);
    system.nwd(0, &[RX_RELEASE]);
    assert_eq!(system.regs(0), success(0));
    system.nwd_fails(0, &[RX_RELEASE], DENIED);
}

#[test]
fn normal_world_of_1_0_has_no_such_messages() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    assert_eq!(system.negotiate(0, 0x1_0000), 0x1_0002);
    system.nwd(0, &[RXTX_MAP, NWD_TX, NWD_RX, 1]);
    assert_eq!(system.regs(0), success(0));
    system.nwd_fails(0, &[MSG_SEND2], NOT_SUPPORTED);
    put_tx(&mut system, A, &message(A, 0, &[1; 8], &[]));
    system.ask(0, A);
    system.smc_fails(0, &[MSG_SEND2], DENIED);
    assert_eq!(read(&mut system, World::NonSecure, NWD_RX, 8), [0; 8]);
}

#[test]
fn normal_world_is_told_when_it_has_a_bitmap() {
    let (spmc, machine) = system();
    let mut system = with_normal_world(&spmc, machine);
    system.ask(0, A);
    put_tx(&mut system, A, &message(A, 0, b"back", &[]));
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(
        (system.regs(0), system.machine.schedule_receiver_raised),
        (success(0), 0),
        "it has none"
    );
    system.respond(0, A, 0);
    system.nwd(0, &[RX_RELEASE]);
    system.nwd(0, &[BITMAP_CREATE, 0, 1]);
    system.ask(0, A);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(
        (system.regs(0), system.machine.schedule_receiver_raised),
        (success(0), 1)
    );
    system.respond(0, A, 0);
    system.nwd(0, &[NOTIFICATION_GET, 0, 4]);
    assert_eq!(system.regs(0), [SUCCESS, 0, 0, 0, 0, 0, 1, 0]);
}

/// The endpoint RX/TX descriptor of `vm`, with `pages` each.
fn pass_on(system: &mut System<'_>, vm: u32, changes: &[(usize, u32)]) {
    let low = |address: u64| u32::try_from(address).expect("32 bits");
    let mut words = [0; 20];
    words[..4].copy_from_slice(&[vm, 16, 48, 0]);
    words[4..12].copy_from_slice(&[2, 1, 0, 0, low(VM_RX), 0, 2, 0]);
    words[12..20].copy_from_slice(&[2, 1, 0, 0, low(VM_TX), 0, 2, 0]);
    for &(place, word) in changes {
        words[place] = word;
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    write(system, World::NonSecure, NWD_TX, &bytes);
}

#[test]
fn vm_whose_buffers_were_passed_on_sends_and_receives() {
    let (spmc, machine) = system();
    let mut system = with_normal_world(&spmc, machine);
    pass_on(&mut system, 5, &[]);
    system.nwd(0, &[RXTX_MAP]);
    assert_eq!(system.regs(0), success(0));
    system.nwd_fails(0, &[RXTX_MAP], DENIED);
    write(&mut system, World::NonSecure, VM_TX, &message(VM, A, b"from a vm", &[]));
    system.nwd_fails(0, &[MSG_SEND2], INVALID_PARAMETERS);
    system.nwd(0, &[MSG_SEND2, VM << 16]);
    assert_eq!(system.regs(0), success(0));
    assert_eq!(rx(&mut system, A), padded(message(VM, A, b"from a vm", &[])));
    system.ask(0, A);
    let answer = message(A, VM, b"to a vm", &[]);
    put_tx(&mut system, A, &answer);
    system.smc(0, &[MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
    let mut expected = padded(answer);
    expected.resize(8192, 0);
    assert_eq!(read(&mut system, World::NonSecure, VM_RX, 8192), expected);
    system.smc_fails(0, &[MSG_SEND2], BUSY);
    system.respond(0, A, 0);
    system.nwd_fails(0, &[RX_ACQUIRE, VM], DENIED);
    system.nwd(0, &[RX_RELEASE, VM]);
    assert_eq!(system.regs(0), success(0));
    // While the hypervisor writes to it, nobody else does.
    system.nwd(0, &[RX_ACQUIRE, VM]);
    assert_eq!(system.regs(0), success(0));
    system.ask(0, A);
    system.smc_fails(0, &[MSG_SEND2], BUSY);
    system.respond(0, A, 0);
    // Between VMs it is the hypervisor's matter.
    write(&mut system, World::NonSecure, VM_TX, &message(VM, 0, b"x", &[]));
    system.nwd_fails(0, &[MSG_SEND2, VM << 16], INVALID_PARAMETERS);
    system.nwd(0, &[RXTX_UNMAP, VM << 16]);
    assert_eq!(system.regs(0), success(0));
    system.nwd_fails(0, &[RXTX_UNMAP, VM << 16], INVALID_PARAMETERS);
    system.nwd_fails(0, &[RX_RELEASE, VM], INVALID_PARAMETERS);
    system.nwd_fails(0, &[MSG_SEND2, VM << 16], INVALID_PARAMETERS);
}

#[test]
fn descriptor_of_passed_on_buffers_is_checked() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &[RXTX_MAP], INVALID_PARAMETERS);
    let mut system = with_normal_world(&spmc, system.machine);
    for change in [
        (0, 0),
        (0, 0x8001),
        (0, 0x1_0005),
        (1, 0),
        (1, 12),
        (1, 4090),
        (1, 4080),
        (1, 4072),
        (1, 8),
        (1, 20),
        (1, u32::MAX),
        (2, 20),
        (4, 1),
        (5, 0),
        (5, 2),
        (8, 0x4000_4001),
        (9, 0x1_0000),
        (10, 0),
        (10, 64),
        (16, 0x4000_5000),
    ] {
        pass_on(&mut system, 5, &[change]);
        system.nwd_fails(0, &[RXTX_MAP], INVALID_PARAMETERS);
    }
    // Not the normal world's memory.
    for change in [(8, 0x0e30_0000), (16, 0x0e10_0000), (8, 0x4100_0000)] {
        pass_on(&mut system, 5, &[change]);
        system.nwd_fails(0, &[RXTX_MAP], DENIED);
    }
    let own = |vm: u32| [(8, 0x4001_0000_u32 + (vm << 16)), (16, 0x4001_8000 + (vm << 16))];
    for vm in 1..=16 {
        pass_on(&mut system, vm, &own(vm));
        system.nwd(0, &[RXTX_MAP]);
        assert_eq!(system.regs(0), success(0));
    }
    pass_on(&mut system, 17, &own(17));
    system.nwd_fails(0, &[RXTX_MAP], NO_MEMORY);
    // Pages that are a buffer of another already.
    system.nwd(0, &[RXTX_UNMAP, 1 << 16]);
    for change in [(8, 0x4003_1000), (16, 0x4003_9000), (16, 0x4000_0000)] {
        pass_on(&mut system, 17, &[own(17).as_slice(), &[change]].concat());
        system.nwd_fails(0, &[RXTX_MAP], DENIED);
    }
    pass_on(&mut system, 17, &own(1));
    system.nwd(0, &[RXTX_MAP]);
    assert_eq!(system.regs(0), success(0));
}

#[test]
fn partitions_speak_for_nobody_else() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc_fails(0, &[RXTX_UNMAP, VM << 16], INVALID_PARAMETERS);
    system.smc_fails(0, &[RXTX_UNMAP, A << 16], INVALID_PARAMETERS);
    system.smc_fails(0, &[RX_RELEASE, VM], INVALID_PARAMETERS);
    system.smc_fails(0, &[RX_RELEASE, 1 << 16], INVALID_PARAMETERS);
    system.smc_fails(0, &[RX_ACQUIRE, VM], NOT_SUPPORTED);
    system.smc_fails(0, &[FEATURES, RX_ACQUIRE], NOT_SUPPORTED);
    system.smc(0, &[FEATURES, MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
    system.respond(0, A, 0);
    for call in [MSG_SEND2, RX_ACQUIRE] {
        system.nwd(0, &[FEATURES, call]);
        assert_eq!(system.regs(0), success(0));
    }
    system.nwd_fails(0, &[RX_ACQUIRE, A], INVALID_PARAMETERS);
    system.nwd_fails(0, &[RX_ACQUIRE, 0], DENIED);
}

#[test]
fn partition_of_1_0_names_itself_when_it_unmaps() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |a| a.version(1, 0))
        .partition_with("b", |b| b.version(1, 1))
        .build();
    let mut system = System::booted(&spmc, machine);
    for (partition, index, code) in [(A, 0, None), (B, 1, Some(INVALID_PARAMETERS))] {
        let base = Builder::memory(index).base().as_u64();
        system.ask(0, partition);
        system.smc(0, &[RXTX_MAP, base, base + 0x1000, 1]);
        assert_eq!(system.regs(0), success(0));
        system.smc_fails(0, &[RXTX_UNMAP, (A + B - partition) << 16], INVALID_PARAMETERS);
        system.smc_fails(0, &[RXTX_UNMAP, partition << 16 | 1], INVALID_PARAMETERS);
        system.smc(0, &[RXTX_UNMAP, partition << 16]);
        assert_eq!(system.regs(0), code.map_or(success(0), error));
        system.respond(0, partition, 0);
    }
}

#[test]
fn vm_has_one_pair_that_only_its_hypervisor_takes_away() {
    let (spmc, machine) = system();
    let mut system = with_normal_world(&spmc, machine);
    pass_on(&mut system, 5, &[]);
    system.nwd(0, &[RXTX_MAP]);
    assert_eq!(system.regs(0), success(0));
    // Other memory, the same VM.
    pass_on(&mut system, 5, &[(8, 0x4000_8000), (16, 0x4000_a000)]);
    system.nwd_fails(0, &[RXTX_MAP], DENIED);
    system.ask(0, A);
    system.smc_fails(0, &[RXTX_UNMAP, VM << 16], INVALID_PARAMETERS);
    system.respond(0, A, 0);
    system.nwd(0, &[RXTX_UNMAP, VM << 16]);
    assert_eq!(system.regs(0), success(0));
    system.nwd(0, &[RXTX_MAP]);
    assert_eq!(system.regs(0), success(0), "none of it was held");
}

#[test]
fn only_all_zero_passes_buffers_on() {
    let (spmc, machine) = system();
    let mut system = with_normal_world(&spmc, machine);
    pass_on(&mut system, 5, &[]);
    for [tx, rx, pages] in [
        [VM_TX, 0, 0],
        [0, VM_RX, 0],
        [VM_TX, VM_RX, 0],
        [VM_TX, VM_TX, 0],
        [1, 0, 1],
        [1, 1, 1],
        [0, 0, 1],
    ] {
        system.nwd_fails(
            0,
            &[RXTX_MAP, tx, rx, pages],
            if tx == 0 && rx == 0 { DENIED } else { INVALID_PARAMETERS },
        );
    }
    system.nwd_fails(0, &[RX_RELEASE, VM], INVALID_PARAMETERS);
}

#[test]
fn descriptor_of_passed_on_buffers_may_end_with_tx() {
    let (spmc, machine) = system();
    let mut system = with_normal_world(&spmc, machine);
    pass_on(&mut system, 5, &[(1, 4064)]);
    let words = [2, 1, 0, 0, u32::try_from(VM_RX).expect("32 bits"), 0, 2, 0];
    let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    write(&mut system, World::NonSecure, NWD_TX + 4064, &bytes);
    system.nwd(0, &[RXTX_MAP]);
    assert_eq!(system.regs(0), success(0));
    system.nwd(0, &[RX_ACQUIRE, VM]);
    assert_eq!(system.regs(0), success(0));
}

#[test]
fn ranges_of_passed_on_buffers_are_aligned_and_behind_the_header() {
    let (spmc, machine) = system();
    let mut system = with_normal_world(&spmc, machine);
    let range = |base: u64, pages| [pages, 1, 0, 0, u32::try_from(base).expect("32 bits"), 0, pages, 0];
    let mut pass = |rx: usize, pages: u32| {
        // What is at byte 8 is where TX is, too.
        let tx = 48;
        let mut words = [0; 24];
        words[..3].copy_from_slice(&[5, u32::try_from(rx).expect("small"), tx]);
        words[12..20].copy_from_slice(&range(0x4020_0000, pages));
        words[rx / 4..rx / 4 + 8].copy_from_slice(&range(0x4030_0000, pages));
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        write(&mut system, World::NonSecure, NWD_TX, &bytes);
        system.nwd(0, &[RXTX_MAP]);
        system.regs(0)
    };
    assert_eq!(pass(8, 48), error(INVALID_PARAMETERS));
    assert_eq!(pass(12, 48), error(INVALID_PARAMETERS));
    assert_eq!(pass(16, 48), success(0));
}

#[test]
fn receiver_is_told_by_an_interrupt_that_its_rx_is_full() {
    let (spmc, machine) = system();
    let mut system = with_normal_world(&spmc, machine);
    write(&mut system, World::NonSecure, NWD_TX, &message(0, A, b"x", &[]));
    system.nwd(0, &[MSG_SEND2]);
    assert_eq!(system.regs(0), success(0));
    system.ask(0, A);
    assert!(system.ctx(0).signals.irq);
    // What is not asked for stays pending.
    system.smc(0, &[NOTIFICATION_GET, A, 3]);
    assert!(system.ctx(0).signals.irq);
    assert_eq!(framework_pending(&mut system, A), 1);
    assert!(!system.ctx(0).signals.irq);
}
