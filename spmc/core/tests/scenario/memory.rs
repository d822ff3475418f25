//! FFA_MEM_* as the SPMC serves them: buffers, both worlds, partitions that end (FF-A 1.2, chapters 16 and 17). What a
//! descriptor may say is tested in `tests/memory`.

#[path = "../memory/message.rs"]
#[expect(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "as where it is at home"
)]
mod message;

use tantalum_core::{
    addr::{PageRange, PhysAddr, World},
    machine::fake::FakeMachine,
    manifest::partition::{Access, PowerManagement},
    partition::Region,
    spmc::Spmc,
};
use tantalum_stage2::Ipa;

use crate::support::*;
use message::{Form, Message, NX, RO, RW, X};

const DONATE: u64 = 0x8400_0071;
const LEND: u64 = 0x8400_0072;
const SHARE: u64 = 0x8400_0073;
const WIDE: u64 = 1 << 30;
const RELINQUISH: u64 = 0x8400_0076;
const RECLAIM: u64 = 0x8400_0077;
const FRAG_RX: u64 = 0x8400_007a;
const FRAG_TX: u64 = 0x8400_007b;
const RETRIEVE_RESP: u64 = 0x8400_0075;
const RXTX_MAP: u64 = 0xc400_0066;
const RXTX_UNMAP: u64 = 0x8400_0067;
const RX_RELEASE: u64 = 0x8400_0065;

const NWD_TX: u64 = 0x4000_0000;
const NWD_RX: u64 = 0x4000_1000;
/// Memory of the normal world's own.
const RAM: u64 = 0x4000_4000;
/// A page of the normal world's that is b's by its manifest.
const TAKEN: u64 = 0x4000_f000;

/// a and b have buffers, c has none, r has and may be started afresh; so has o, of FF-A 1.0, and u, at S-EL0.
fn system() -> (Spmc, FakeMachine) {
    let (spmc, mut machine) = Builder::new(2)
        .partition_with("a", PartitionBuilder::indirect)
        .partition_with("b", |mut b| {
            b.regions.push(Region {
                name: "taken".into(),
                range: PageRange::new(PhysAddr::new(TAKEN), 1).expect("a page"),
                world: World::NonSecure,
                access: Access::all(),
                device: false,
            });
            b.indirect().power(PowerManagement::CPU_OFF)
        })
        .partition("c")
        .partition_with("r", |r| r.indirect().restart())
        .partition_with("o", |o| o.indirect().version(1, 0))
        .partition_with("u", |u| {
            let buffers = Builder::buffers(5).rx.base().as_u64();
            u.s_el0()
                .indirect()
                .region("buffers", World::Secure, buffers, 2, Access::READ | Access::WRITE)
        })
        .build();
    let ram = PageRange::new(PhysAddr::new(NWD_TX), 16).expect("a range");
    machine.memory.add(World::NonSecure, ram);
    (spmc, machine)
}
const R: u64 = 0x8004;
const O: u64 = 0x8005;
/// At S-EL0.
const U: u64 = 0x8006;

fn booted<'s>(spmc: &'s Spmc, machine: FakeMachine) -> System<'s> {
    let mut system = System::booted(spmc, machine);
    system.nwd(0, &[RXTX_MAP, NWD_TX, NWD_RX, 1]);
    assert_eq!(system.regs(0), success(0));
    system
}

fn id(party: u64) -> u16 {
    u16::try_from(party).expect("an id")
}

/// A page of a partition's own memory.
fn own(partition: u64, page: u64) -> u64 {
    Builder::memory(usize::from(id(partition - A))).base().as_u64() + page * 4096
}

fn tx(party: u64) -> (World, u64) {
    if party == 0 {
        (World::NonSecure, NWD_TX)
    } else {
        let tx = Builder::buffers(usize::from(id(party - A))).tx;
        (World::Secure, tx.base().as_u64())
    }
}

/// A call by whoever has PE 0: the normal world or a partition.
fn call(system: &mut System<'_>, registers: &[u64]) -> [u64; 8] {
    if system.owner(0) == NWD {
        system.nwd(0, registers);
    } else {
        system.smc(0, registers);
    }
    system.regs(0)
}

fn party(system: &System<'_>) -> u64 {
    match system.owner(0) {
        Owner::Partition(id, _) => u64::from(id),
        _ => 0,
    }
}

fn form(party: u64) -> Form {
    if party == O { Form::V1_0 } else { Form::V1_2 }
}

fn put(system: &mut System<'_>, bytes: &[u8]) -> u64 {
    let (world, at) = tx(party(system));
    system
        .machine
        .memory
        .write(world, PhysAddr::new(at), bytes)
        .expect("memory");
    bytes.len() as u64
}

/// Whoever has PE 0 sends one page to `to`.
fn send(system: &mut System<'_>, function: u64, to: u64, page: u64) -> [u64; 8] {
    let from = party(system);
    let message = Message::send(form(from), id(from), &[(id(to), RW)], &[(page, 1)]);
    let message = if function & !WIDE == SHARE {
        message.normal()
    } else {
        message
    };
    let length = put(system, &message.bytes());
    call(system, &[function, length, length])
}

#[track_caller]
fn sent(system: &mut System<'_>, function: u64, to: u64, page: u64) -> u64 {
    let [x0, x1, low, high, rest @ ..] = send(system, function, to, page);
    assert_eq!((x0, x1, rest), (SUCCESS, 0, [0; 4]));
    low | high << 32
}

/// Whoever has PE 0 retrieves what `from` has sent; RX stays its own.
fn retrieve(system: &mut System<'_>, from: u64, handle: u64, permissions: u8) -> [u64; 8] {
    let own = party(system);
    let request = Message::retrieve(form(own), id(from), handle, &[(id(own), permissions)]);
    let length = put(system, &request.bytes());
    call(system, &[MEM_RETRIEVE_REQ, length, length])
}

#[track_caller]
fn retrieved(system: &mut System<'_>, from: u64, handle: u64, permissions: u8) {
    let registers = retrieve(system, from, handle, permissions);
    assert_eq!((registers[0], &registers[3..]), (RETRIEVE_RESP, &[0; 5][..]));
    assert_eq!(registers[1], registers[2]);
    assert_eq!(call(system, &[RX_RELEASE]), success(0));
}

fn relinquish(system: &mut System<'_>, handle: u64) -> [u64; 8] {
    let own = party(system);
    put(system, &message::relinquish(handle, 0, &[id(own)]));
    call(system, &[RELINQUISH])
}

fn reclaim(system: &mut System<'_>, handle: u64) -> [u64; 8] {
    call(system, &[RECLAIM, handle & 0xffff_ffff, handle >> 32])
}

/// Whether a partition can access a page.
fn has(system: &System<'_>, partition: u64, world: World, page: u64) -> bool {
    let tables = system.spmc.partitions()[usize::from(id(partition - A))].tables.lock();
    let tables = if world == World::Secure {
        &tables.secure
    } else {
        &tables.non_secure
    };
    tables.translate(&system.machine, Ipa(page)).is_some()
}

/// `partition` gets the PE, and a call back; then the PE is the normal world's again.
fn within<R>(system: &mut System<'_>, partition: u64, act: impl FnOnce(&mut System<'_>) -> R) -> R {
    system.ask(0, partition);
    let result = act(system);
    system.respond(0, partition, 0);
    result
}

#[test]
fn from_the_normal_world_to_a_partition_and_back() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    for (borrower, function, permissions) in [
        (A, SHARE, RW),
        (A, SHARE | WIDE, RO),
        (A, LEND, RW | NX),
        (A, LEND | WIDE, RO | NX),
        (O, SHARE, RW),
    ] {
        let handle = sent(&mut system, function, borrower, RAM);
        assert!(!has(&system, borrower, World::NonSecure, RAM));
        within(&mut system, borrower, |system| {
            retrieved(system, 0, handle, permissions);
            assert!(has(system, borrower, World::NonSecure, RAM));
            assert!(!has(system, borrower, World::Secure, RAM));
        });
        assert_eq!(reclaim(&mut system, handle), error(DENIED), "it is retrieved");
        within(&mut system, borrower, |system| {
            assert_eq!(relinquish(system, handle), success(0));
            assert_eq!(relinquish(system, handle), error(INVALID_PARAMETERS));
            assert!(!has(system, borrower, World::NonSecure, RAM));
        });
        assert_eq!(reclaim(&mut system, handle), success(0));
        assert_eq!(reclaim(&mut system, handle), error(INVALID_PARAMETERS));
    }
    assert_eq!(spmc.shares().shares(), 0);
}

#[test]
fn at_s_el0_a_donation_to_read_stays_so() {
    let (spmc, mut machine) = Builder::new(1)
        .partition_with("a", |a| {
            a.indirect()
                .region("constants", World::NonSecure, TAKEN, 1, Access::READ)
        })
        .partition_with("u", |u| {
            let buffers = Builder::buffers(1).rx.base().as_u64();
            u.s_el0()
                .indirect()
                .region("buffers", World::Secure, buffers, 2, Access::READ | Access::WRITE)
        })
        .build();
    let ram = PageRange::new(PhysAddr::new(NWD_TX), 16).expect("a range");
    machine.memory.add(World::NonSecure, ram);
    let mut system = System::new(&spmc, machine);
    system.online(0);
    let message = Message::send(Form::V1_2, id(A), &[(id(B), RO)], &[(TAKEN, 1)]);
    let length = put(&mut system, &message.bytes());
    let [x0, _, low, high, ..] = call(&mut system, &[DONATE, length, length]);
    assert_eq!(x0, SUCCESS);
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(system.owner(0), runs(B, 0));
    retrieved(&mut system, A, low | high << 32, RO | NX);
    // FFA_MEM_PERM_SET: data, constants.
    assert_eq!(call(&mut system, &[0x8400_0089, TAKEN, 1, 0b101]), error(DENIED));
    assert_eq!(call(&mut system, &[0x8400_0089, TAKEN, 1, 0b111]), success(0));
}

#[test]
fn at_s_el0_nothing_is_writable_and_executable() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    for function in [LEND, DONATE] {
        let page = own(A, 3);
        let handle = within(&mut system, A, |system| sent(system, function, U, page));
        within(&mut system, U, |system| {
            assert_eq!(retrieve(system, A, handle, RW | X), error(DENIED));
            assert!(!has(system, U, World::Secure, page));
            retrieved(system, A, handle, if function == LEND { RO | X } else { RW | NX });
            assert!(has(system, U, World::Secure, page));
        });
        if function == LEND {
            within(&mut system, U, |system| {
                assert_eq!(relinquish(system, handle), success(0));
                assert!(!has(system, U, World::Secure, page));
            });
            assert_eq!(within(&mut system, A, |system| reclaim(system, handle)), success(0));
        }
    }
    // Code of its own, which it may not write, nobody may by its leave.
    within(&mut system, U, |system| {
        assert_eq!(send(system, SHARE, A, own(U, 3)), error(DENIED));
    });
    // The normal world's, in the space that stage 1 says it is in.
    let handle = sent(&mut system, SHARE, U, RAM);
    within(&mut system, U, |system| {
        retrieved(system, 0, handle, RW);
        assert!(has(system, U, World::NonSecure, RAM));
        assert!(!has(system, U, World::Secure, RAM));
    });
}

#[test]
fn between_partitions() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    for (function, permissions) in [(SHARE, RW), (LEND, RW | X), (LEND, RO | NX)] {
        let handle = within(&mut system, A, |system| {
            let handle = sent(system, function, B, own(A, 3));
            assert_eq!(has(system, A, World::Secure, own(A, 3)), function == SHARE);
            system.forward(0, A, B);
            retrieved(system, A, handle, permissions);
            assert!(has(system, B, World::Secure, own(A, 3)));
            system.respond(0, B, A);
            assert_eq!(reclaim(system, handle), error(DENIED));
            handle
        });
        assert_eq!(reclaim(&mut system, handle), error(INVALID_PARAMETERS), "not its own");
        assert_eq!(within(&mut system, B, |system| relinquish(system, handle)), success(0));
        assert_eq!(within(&mut system, A, |system| reclaim(system, handle)), success(0));
        assert!(has(&system, A, World::Secure, own(A, 3)) && !has(&system, B, World::Secure, own(A, 3)));
    }
    let handle = within(&mut system, A, |system| sent(system, DONATE, B, own(A, 3)));
    within(&mut system, B, |system| {
        retrieved(system, A, handle, RW | NX);
        // It is b's to pass on.
        let handle = sent(system, LEND, A, own(A, 3));
        assert_eq!(reclaim(system, handle), success(0));
    });
    assert!(!has(&system, A, World::Secure, own(A, 3)) && has(&system, B, World::Secure, own(A, 3)));
    assert_eq!(spmc.shares().shares(), 0);
}

#[test]
fn several_fragments_that_different_pes_send() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    let ranges: Vec<_> = (0..6).map(|n| (RAM + 2 * n * 4096, 1)).collect();
    let message = Message::send(Form::V1_2, 0, &[(id(A), RW)], &ranges).normal();
    let bytes = message.bytes();
    let total = bytes.len() as u64;
    let (first, second) = bytes.split_at(bytes.len() - 32);
    put(&mut system, first);
    let [x0, low, high, received, w4, rest @ ..] = call(&mut system, &[SHARE, total, total - 32]);
    assert_eq!((x0, received, w4, rest), (FRAG_RX, total - 32, 0, [0; 3]));
    put(&mut system, second);
    system.nwd(1, &[FRAG_TX, low, high, 32]);
    assert_eq!(system.regs(1), [SUCCESS, 0, low, high, 0, 0, 0, 0]);
    let handle = low | high << 32;
    within(&mut system, A, |system| {
        retrieved(system, 0, handle, RW);
        // The response was complete.
        assert_eq!(call(system, &[FRAG_RX, low, high, total]), error(INVALID_PARAMETERS));
        assert_eq!(relinquish(system, handle), success(0));
    });
    assert_eq!(reclaim(&mut system, handle), success(0));
}

#[test]
fn calls_need_buffers() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    let fails = [SHARE, LEND, DONATE, MEM_RETRIEVE_REQ, FRAG_RX, FRAG_TX];
    for function in fails {
        system.nwd_fails(0, &[function, 96, 96], INVALID_PARAMETERS);
    }
    system.ask(0, C);
    for function in fails.into_iter().chain([RELINQUISH]) {
        system.smc_fails(0, &[function, 96, 96], INVALID_PARAMETERS);
    }
}

#[test]
fn rx_is_to_be_free_for_a_response() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    let handle = sent(&mut system, SHARE, A, RAM);
    let other = sent(&mut system, SHARE, A, RAM + 4096);
    within(&mut system, A, |system| {
        assert_eq!(retrieve(system, 0, handle, RW)[0], RETRIEVE_RESP);
        assert_eq!(retrieve(system, 0, other, RW), error(BUSY));
        assert_eq!(call(system, &[RX_RELEASE]), success(0));
        // A call that fails does not take RX.
        assert_eq!(retrieve(system, 0, handle, RW), error(DENIED));
        retrieved(system, 0, other, RW);
    });
}

#[test]
fn buffers_are_not_passed_on() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    for page in [NWD_TX, NWD_RX] {
        assert_eq!(send(&mut system, SHARE, A, page), error(DENIED));
    }
    within(&mut system, A, |system| {
        for page in [tx(A).1, tx(A).1 - 4096] {
            assert_eq!(send(system, LEND, B, page), error(DENIED));
        }
    });
    assert_eq!(call(&mut system, &[RXTX_UNMAP]), success(0));
    // And what was passed on does not become a buffer.
    let map = |system: &mut System<'_>, tx, rx| call(system, &[RXTX_MAP, tx, rx, 1]);
    assert_eq!(map(&mut system, NWD_TX, RAM), success(0));
    let handle = sent(&mut system, SHARE, A, NWD_RX);
    assert_eq!(call(&mut system, &[RXTX_UNMAP]), success(0));
    assert_eq!(map(&mut system, NWD_TX, NWD_RX), error(DENIED));
    assert_eq!(map(&mut system, NWD_RX, NWD_TX), error(DENIED));
    assert_eq!(reclaim(&mut system, handle), success(0), "it needs no buffer");
    assert_eq!(map(&mut system, NWD_TX, NWD_RX), success(0));
    within(&mut system, A, |system| {
        let handle = sent(system, SHARE, B, own(A, 3));
        assert_eq!(call(system, &[RXTX_UNMAP]), success(0));
        assert_eq!(map(system, own(A, 2), own(A, 3)), error(DENIED));
        assert_eq!(map(system, own(A, 3), own(A, 2)), error(DENIED));
        assert_eq!(reclaim(system, handle), success(0));
        assert_eq!(map(system, own(A, 2), own(A, 3)), success(0));
    });
}

#[test]
fn memory_that_is_not_the_senders() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    let spmc_memory = 0x0e10_0000;
    for page in [TAKEN, spmc_memory, own(A, 0), 0x4100_0000, 0x0904_0000] {
        assert_eq!(send(&mut system, SHARE, A, page), error(DENIED));
    }
    within(&mut system, A, |system| {
        for page in [TAKEN, spmc_memory, own(B, 0), RAM] {
            assert_eq!(send(system, SHARE, B, page), error(DENIED));
        }
        assert_eq!(
            send(system, SHARE, 0, own(A, 3)),
            error(DENIED),
            "not to the normal world"
        );
    });
    // What is shared is not shared again.
    let handle = sent(&mut system, SHARE, A, RAM);
    assert_eq!(send(&mut system, SHARE, B, RAM), error(DENIED));
    within(&mut system, A, |system| {
        retrieved(system, 0, handle, RW);
        assert_eq!(send(system, SHARE, B, RAM), error(DENIED), "borrowed");
    });
}

#[test]
fn borrower_that_dies_has_nothing_any_more() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    let handle = sent(&mut system, LEND, A, RAM);
    let other = sent(&mut system, LEND, A, RAM + 4096);
    within(&mut system, A, |system| retrieved(system, 0, handle, RW | NX));
    // Not while another of its contexts may still use it.
    system.nwd(1, &request(0, A));
    system.ask(0, A);
    system.smc(0, &[ABORT]);
    assert_eq!(system.regs(0), error(ABORTED));
    assert_eq!(reclaim(&mut system, handle), error(DENIED));
    system.exit(1, NS_INTERRUPT);
    assert_eq!(system.regs(1), error(ABORTED));
    assert!(!has(&system, A, World::NonSecure, RAM));
    for handle in [handle, other] {
        assert_eq!(reclaim(&mut system, handle), success(0));
    }
    assert_eq!(
        send(&mut system, SHARE, A, RAM),
        error(INVALID_PARAMETERS),
        "it is gone"
    );
}

/// Its last context has put itself away just when another PE stopped it: neither found that it was the last.
#[test]
fn borrower_that_nobody_has_dealt_with_does_not_keep_memory() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    let handle = sent(&mut system, LEND, A, RAM);
    within(&mut system, A, |system| retrieved(system, 0, handle, RW | NX));
    assert_eq!(reclaim(&mut system, handle), error(DENIED));
    let borrower = spmc.partitions().iter().find(|p| u64::from(p.endpoint().as_u16()) == A);
    assert!(borrower.expect("it is there").stop());
    assert_eq!(reclaim(&mut system, handle), success(0));
    assert!(!has(&system, A, World::NonSecure, RAM));
}

#[test]
fn owner_that_dies_leaves_borrowers_what_they_have() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    system.ask(0, A);
    let kept = sent(&mut system, LEND, B, own(A, 3));
    let unused = sent(&mut system, LEND, B, own(A, 4));
    system.forward(0, A, B);
    retrieved(&mut system, A, kept, RW | NX);
    system.respond(0, B, A);
    system.smc(0, &[ABORT]);
    assert_eq!(spmc.shares().shares(), 1);
    within(&mut system, B, |system| {
        assert!(has(system, B, World::Secure, own(A, 3)));
        assert_eq!(retrieve(system, A, unused, RW | NX), error(INVALID_PARAMETERS));
        assert_eq!(relinquish(system, kept), success(0));
        assert!(!has(system, B, World::Secure, own(A, 3)));
    });
    assert_eq!(spmc.shares().shares(), 0);
}

#[test]
fn partition_that_starts_afresh_has_all_its_memory_and_no_other() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    let borrowed = sent(&mut system, SHARE, R, RAM);
    system.ask(0, R);
    retrieved(&mut system, 0, borrowed, RW);
    let lent = sent(&mut system, LEND, B, own(R, 3));
    let page = PhysAddr::new(own(R, 3));
    system
        .machine
        .memory
        .write(World::Secure, page, &[0xee; 8])
        .expect("memory");
    system.smc(0, &[ABORT]);
    system.smc(0, &[MSG_WAIT]);
    assert!(!has(&system, R, World::NonSecure, RAM) && has(&system, R, World::Secure, own(R, 3)));
    let mut bytes = [0; 8];
    system
        .machine
        .memory
        .read(World::Secure, page, &mut bytes)
        .expect("memory");
    assert_eq!(bytes, [0; 8]);
    assert_eq!(reclaim(&mut system, borrowed), success(0));
    within(&mut system, B, |system| {
        assert_eq!(retrieve(system, R, lent, RW | NX), error(INVALID_PARAMETERS));
    });
    // Its buffers are its own again.
    let again = sent(&mut system, SHARE, R, RAM);
    within(&mut system, R, |system| {
        retrieved(system, 0, again, RW);
        assert_eq!(send(system, LEND, B, tx(R).1), error(DENIED));
    });
}

#[test]
fn partition_whose_memory_others_have_does_not_start_afresh() {
    for function in [SHARE, LEND, DONATE] {
        let (spmc, machine) = system();
        let mut system = booted(&spmc, machine);
        system.ask(0, R);
        // Of its image.
        let handle = sent(&mut system, function, B, own(R, 0));
        system.forward(0, R, B);
        retrieved(&mut system, R, handle, if function == SHARE { RW } else { RW | NX });
        let page = PhysAddr::new(own(R, 0));
        system
            .machine
            .memory
            .write(World::Secure, page, &[0xee; 8])
            .expect("memory");
        system.respond(0, B, R);
        system.smc(0, &[ABORT]);
        assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
        let mut bytes = [0; 8];
        system
            .machine
            .memory
            .read(World::Secure, page, &mut bytes)
            .expect("memory");
        assert_eq!(bytes, [0xee; 8], "b has it");
        system.nwd_fails(0, &request(0, R), ABORTED);
    }
}

/// R has lent a page to B, which has it, and fails. B has the PE.
fn held_back(system: &mut System<'_>) -> u64 {
    system.ask(0, R);
    let handle = sent(system, LEND, B, own(R, 3));
    system.forward(0, R, B);
    retrieved(system, R, handle, RW | NX);
    system.respond(0, B, R);
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    system.nwd_fails(0, &request(0, R), ABORTED);
    system.nwd_fails(1, &request(0, R), ABORTED);
    system.ask(0, B);
    handle
}

#[test]
fn partition_starts_afresh_when_the_last_borrower_lets_go() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    for _ in 0..2 {
        let handle = held_back(&mut system);
        // Others that wait for nothing notice nothing.
        put(&mut system, &message::relinquish(handle + 1, 0, &[id(B)]));
        assert_eq!(call(&mut system, &[RELINQUISH]), error(INVALID_PARAMETERS));
        put(&mut system, &message::relinquish(handle, 0, &[id(B)]));
        system.smc(0, &[RELINQUISH]);
        assert_eq!(system.owner(0), runs(R, 0), "on top of b");
        assert!(has(&system, R, World::Secure, own(R, 3)));
        system.smc(0, &[MSG_WAIT]);
        assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), success(0)));
        system.respond(0, B, 0);
        system.ask(0, R);
        system.respond(0, R, 0);
    }
    assert_eq!(spmc.shares().shares(), 0);
}

#[test]
fn partition_starts_afresh_when_the_last_borrower_is_gone() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    held_back(&mut system);
    system.smc(0, &[ABORT]);
    // Before the normal world learns of b's end.
    assert_eq!(system.owner(0), runs(R, 0));
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    system.ask(0, R);
    system.respond(0, R, 0);
}

#[test]
fn partition_starts_afresh_elsewhere_when_the_pe_of_the_last_borrower_goes_off() {
    const CPU_OFF: u64 = 0x8400_0002;
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    let handle = held_back(&mut system);
    system.respond(0, B, 0);
    system.nwd(0, &[REQ, route(SPMD, SPMC), 0x8000_0000, CPU_OFF]);
    put(&mut system, &message::relinquish(handle, 0, &[id(B)]));
    assert_eq!(call(&mut system, &[RELINQUISH]), success(0));
    assert_eq!(system.owner(0), runs(B, 0), "which ends its power message");
    system.smc(0, &[RESP, route(B, SPMC), 0x8000_0002]);
    assert_eq!((system.owner(0), system.regs(0)[2]), (NWD, 0x8000_0002));
    assert!(system.machine.pe(1).kicked);
    system.nwd(1, &[INTERRUPT]);
    assert_eq!(system.owner(1), runs(R, 1));
    system.smc(1, &[MSG_WAIT]);
    assert_eq!((system.owner(1), system.regs(1)[0]), (NWD, 0x8400_007c));
}

#[test]
fn partition_that_was_held_back_and_fails_to_start_stays_stopped() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    let handle = held_back(&mut system);
    put(&mut system, &message::relinquish(handle, 0, &[id(B)]));
    system.smc(0, &[RELINQUISH]);
    assert_eq!(system.owner(0), runs(R, 0));
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), success(0)));
    system.respond(0, B, 0);
    system.nwd_fails(0, &request(0, R), ABORTED);
}

#[test]
fn callers_that_are_gone_too_are_buried() {
    let (spmc, machine) = system();
    let mut system = booted(&spmc, machine);
    let handle = sent(&mut system, SHARE, R, RAM);
    // r waits for b on PE 0, and is stopped on PE 1.
    system.ask(0, R);
    retrieved(&mut system, 0, handle, RW);
    system.forward(0, R, B);
    system.nwd(1, &request(0, R));
    system.smc(1, &[ABORT]);
    assert_eq!(system.regs(1), error(ABORTED));
    system.smc(0, &response(B, R));
    // Its last context is gone: it starts afresh, without what it had borrowed.
    assert_eq!(system.owner(0), runs(R, 0));
    system.smc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    assert_eq!(reclaim(&mut system, handle), success(0));
}
