//! FFA_RXTX_MAP, FFA_RXTX_UNMAP, FFA_RX_RELEASE and FFA_PARTITION_INFO_GET (FF-A 1.2, chapters 7 and 13).

use tantalum_core::{
    addr::{PageRange, PhysAddr, World},
    machine::fake::FakeMachine,
    manifest::partition::{Access, MessagingMethod},
    spmc::Spmc,
};
use uuid::Uuid;

use crate::support::*;

const MAP: u64 = 0xc400_0066;
const MAP_32: u64 = 0x8400_0066;
const UNMAP: u64 = 0x8400_0067;
const RELEASE: u64 = 0x8400_0065;
const ACQUIRE: u64 = 0x8400_0084;
const INFO_GET: u64 = 0x8400_0068;
const COUNT: u64 = 1;
const NO_MEMORY: i32 = -3;

const PAGE: u64 = 0x1000;
const TX: u64 = 0x4000_0000;
const RX: u64 = TX + PAGE;
/// A service that a and b have.
const SHARED: u128 = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;

fn system() -> (Spmc, FakeMachine) {
    let receives = MessagingMethod::DIRECT_REQ_RECEIVE;
    let (spmc, mut machine) = Builder::new(2)
        .partition_with("a", |a| a.service(SHARED, receives))
        .partition_with("b", |b| b.service(SHARED, receives).version(1, 0).migratable())
        .partition("c")
        .build();
    let ram = PageRange::new(PhysAddr::new(TX), 64).expect("a range");
    machine.memory.add(World::NonSecure, ram);
    (spmc, machine)
}

fn base(partition: u64) -> u64 {
    let index = usize::try_from(partition - A).expect("small");
    Builder::memory(index).base().as_u64()
}

/// TX, RX and a number of pages that are wrong whatever is there.
fn impossible(base: u64) -> [[u64; 3]; 10] {
    let (tx, rx) = (base, base + PAGE);
    [
        [tx + 8, rx, 1],
        [tx, rx + 0x800, 1],
        [tx, rx, 0],
        [tx, tx, 1],
        [tx, rx, 2],
        [rx, tx, 2],
        [tx, rx, 0x40],
        [tx, rx, 0x41],
        [tx, 1 << 60, 1],
        [0xffff_ffff_ffff_f000, rx, 2],
    ]
}

#[test]
fn pair_is_mapped_once_and_unmapped_once() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    for call in [MAP, MAP_32] {
        system.nwd(0, &[call, TX, RX, 1]);
        assert_eq!(system.regs(0), success(0));
        for tx in [TX, TX + 2 * PAGE] {
            system.nwd_fails(0, &[MAP, tx, tx + PAGE, 1], DENIED);
        }
        system.nwd(0, &[UNMAP]);
        assert_eq!(system.regs(0), success(0));
        system.nwd_fails(0, &[UNMAP], INVALID_PARAMETERS);
    }
    for partition in [A, B] {
        let own = base(partition);
        system.ask(0, partition);
        for (call, pages) in [(MAP, 1), (MAP_32, 4)] {
            system.smc(0, &[call, own, own + pages * PAGE, pages]);
            assert_eq!(system.regs(0), success(0));
            for tx in [own, own + 8 * PAGE] {
                system.smc_fails(0, &[MAP, tx, tx + PAGE, 1], DENIED);
            }
            system.smc(0, &[UNMAP]);
            assert_eq!(system.regs(0), success(0));
            system.smc_fails(0, &[UNMAP], INVALID_PARAMETERS);
        }
        system.respond(0, partition, 0);
    }
}

#[test]
fn most_pages_are_63() {
    let (spmc, mut machine) = system();
    let ram = PageRange::new(PhysAddr::new(TX + 64 * PAGE), 64).expect("a range");
    machine.memory.add(World::NonSecure, ram);
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &[MAP, TX, TX + 64 * PAGE, 64], INVALID_PARAMETERS);
    system.nwd(0, &[MAP, TX, TX + 63 * PAGE, 63]);
    assert_eq!(system.regs(0), success(0));
}

#[test]
fn addresses_and_counts_that_cannot_be() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    for [tx, rx, pages] in impossible(TX) {
        system.nwd_fails(0, &[MAP, tx, rx, pages], INVALID_PARAMETERS);
    }
    system.nwd_fails(0, &[UNMAP], INVALID_PARAMETERS);
    system.ask(0, A);
    for [tx, rx, pages] in impossible(base(A)) {
        system.smc_fails(0, &[MAP, tx, rx, pages], INVALID_PARAMETERS);
    }
    system.smc_fails(0, &[MAP], INVALID_PARAMETERS);
}

#[test]
fn memory_of_others_is_denied() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    // A partition's, the SPMC's, what the manifest does not name.
    for other in [base(A), 0x0e10_0000, 0x0900_0000, 0x10_0000_0000] {
        for (tx, rx) in [(TX, other), (other, RX), (other, other + PAGE)] {
            system.nwd_fails(0, &[MAP, tx, rx, 1], DENIED);
        }
    }
    system.ask(0, A);
    let (own, end) = (base(A), base(A) + 16 * PAGE);
    for other in [base(B), TX, 0x0e10_0000, 0x0900_0000, end] {
        for (tx, rx) in [(own, other), (other, own), (other, other + PAGE)] {
            system.smc_fails(0, &[MAP, tx, rx, 1], DENIED);
        }
    }
    system.smc_fails(0, &[MAP, own, end - PAGE, 2], DENIED);
    // Nothing of all this is held.
    system.smc(0, &[MAP, own, end - PAGE, 1]);
    assert_eq!(system.regs(0), success(0));
    system.respond(0, A, 0);
    system.nwd(0, &[MAP, TX, RX, 1]);
    assert_eq!(system.regs(0), success(0));
}

#[test]
fn ids_of_others_are_invalid() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[MAP, TX, RX, 1]);
    for id in [1, A, SPMC, 0xffff] {
        system.nwd_fails(0, &[UNMAP, id << 16], INVALID_PARAMETERS);
        system.nwd_fails(0, &[RELEASE, id], INVALID_PARAMETERS);
        system.nwd_fails(0, &[ACQUIRE, id], INVALID_PARAMETERS);
    }
    for call in [UNMAP, RELEASE, ACQUIRE] {
        let reserved = if call == UNMAP { 1 } else { 1 << 16 };
        system.nwd_fails(0, &[call, reserved], INVALID_PARAMETERS);
    }
    system.ask(0, A);
    system.smc(0, &[MAP, base(A), base(A) + PAGE, 1]);
    for id in [1, A, B, SPMC] {
        system.smc_fails(0, &[UNMAP, id << 16], INVALID_PARAMETERS);
        system.smc_fails(0, &[RELEASE, id], INVALID_PARAMETERS);
    }
}

#[test]
fn rx_belongs_to_one_at_a_time() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    for call in [RELEASE, ACQUIRE] {
        system.nwd_fails(0, &[call], DENIED);
    }
    system.nwd(0, &[MAP, TX, RX, 1]);
    for _ in 0..2 {
        system.nwd_fails(0, &[RELEASE], DENIED);
        system.nwd(0, &[ACQUIRE]);
        assert_eq!(system.regs(0), success(0));
        system.nwd_fails(0, &[ACQUIRE], DENIED);
        system.nwd_fails(0, &[INFO_GET], BUSY);
        system.nwd(0, &[RELEASE]);
        assert_eq!(system.regs(0), success(0));
    }
    system.ask(0, A);
    system.smc_fails(0, &[RELEASE], DENIED);
    system.smc_fails(0, &[ACQUIRE], NOT_SUPPORTED);
}

fn words(uuid: u128) -> [u64; 4] {
    let bytes = Uuid::from_u128(uuid).into_bytes();
    core::array::from_fn(|word| {
        let word = bytes[4 * word..4 * word + 4].try_into().expect("4 bytes");
        u64::from(u32::from_le_bytes(word))
    })
}

fn asks(uuid: u128, flags: u64) -> [u64; 6] {
    let [a, b, c, d] = words(uuid);
    [INFO_GET, a, b, c, d, flags]
}

fn received(system: &mut System<'_>, world: World, rx: u64, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    let memory = &mut system.machine.memory;
    memory.read(world, PhysAddr::new(rx), &mut buffer).expect("memory");
    buffer
}

fn half(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(bytes.try_into().expect("2 bytes"))
}

#[test]
fn descriptors_are_in_the_size_of_the_version() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    let rx = base(A) + PAGE;
    system.ask(0, A);
    system.smc(0, &[MAP, base(A), rx, 1]);
    let before = received(&mut system, World::Secure, rx, 4096);
    system.smc(0, &asks(0, 0));
    // a and b have two services, c one: 24 bytes each, since FF-A 1.1.
    assert_eq!(system.regs(0), [SUCCESS, 0, 5, 24, 0, 0, 0, 0]);
    let after = received(&mut system, World::Secure, rx, 4096);
    assert_eq!(after[5 * 24..], before[5 * 24..]);
    for (descriptor, (id, contexts, uuid)) in after.chunks_exact(24).zip([
        (A, 2, None),
        (A, 2, Some(SHARED)),
        (B, 1, None),
        (B, 1, Some(SHARED)),
        (C, 2, None),
    ]) {
        assert_eq!(u64::from(half(&descriptor[..2])), id);
        assert_eq!(half(&descriptor[2..4]), contexts);
        if let Some(uuid) = uuid {
            assert_eq!(descriptor[8..], uuid.to_be_bytes());
        }
    }
    // By UUID, the field is reserved.
    system.smc_fails(0, &asks(0, 0), BUSY);
    system.smc(0, &[RELEASE]);
    system.smc(0, &asks(SHARED, 0));
    assert_eq!(system.regs(0), [SUCCESS, 0, 2, 24, 0, 0, 0, 0]);
    let after = received(&mut system, World::Secure, rx, 48);
    assert_eq!([half(&after[..2]), half(&after[24..26])].map(u64::from), [A, B]);
    assert_eq!((&after[8..24], &after[32..48]), (&[0; 16][..], &[0; 16][..]));
    system.respond(0, A, 0);

    let rx = base(B) + PAGE;
    system.ask(0, B);
    system.smc(0, &[MAP, base(B), rx, 1]);
    system.smc(0, &asks(0, 0));
    // 8 bytes each in FF-A 1.0, whose w3 is reserved.
    assert_eq!(system.regs(0), success(5));
    let after = received(&mut system, World::Secure, rx, 40);
    let ids = after
        .chunks_exact(8)
        .map(|descriptor| u64::from(half(&descriptor[..2])));
    assert!(ids.eq([A, A, B, B, C]));
}

#[test]
fn version_1_1_has_the_long_descriptors() {
    let (spmc, machine) = Builder::new(1).partition_with("a", |a| a.version(1, 1)).build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[MAP, base(A), base(A) + PAGE, 1]);
    system.smc(0, &asks(0, 0));
    assert_eq!(system.regs(0), [SUCCESS, 0, 1, 24, 0, 0, 0, 0]);
}

#[test]
fn rx_that_can_not_be_written_ends_the_call() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[MAP, TX, RX, 1]);
    let set_broken = |system: &mut System<'_>, broken| {
        let memory = &mut system.machine.memory;
        memory.set_broken(World::NonSecure, PhysAddr::new(RX), broken);
    };
    set_broken(&mut system, true);
    system.nwd_fails(0, &asks(0, 0), ABORTED);
    set_broken(&mut system, false);
    system.nwd_fails(0, &[RELEASE], DENIED);
    system.nwd(0, &asks(0, 0));
    assert_eq!(system.regs(0)[2], 5);
}

#[test]
fn both_buffers_are_in_one_world_and_rx_may_be_read_only() {
    let (constants, normal) = (0x4100_0000, 0x4200_0000);
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |a| {
            a.region("constants", World::NonSecure, constants, 1, Access::READ)
                .region("normal", World::NonSecure, normal, 2, Access::READ | Access::WRITE)
        })
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let own = base(A);
    for (tx, rx) in [(own, normal), (normal, own), (constants, normal), (own, constants)] {
        system.smc_fails(0, &[MAP, tx, rx, 1], DENIED);
    }
    // Nothing of these is held.
    for (tx, rx) in [(own, own + PAGE), (normal, normal + PAGE), (normal, constants)] {
        system.smc(0, &[MAP, tx, rx, 1]);
        assert_eq!(system.regs(0), success(0), "{tx:#x} {rx:#x}");
        system.smc(0, &[UNMAP]);
    }
}

#[test]
fn count_needs_no_buffer() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    for (uuid, count) in [(0, 5), (SHARED, 2)] {
        system.nwd(0, &asks(uuid, COUNT));
        assert_eq!(system.regs(0), success(count));
        system.nwd_fails(0, &asks(uuid, 0), BUSY);
    }
    system.ask(0, A);
    system.smc(0, &asks(SHARED, COUNT));
    assert_eq!(system.regs(0), success(2));
    system.smc_fails(0, &asks(0, 0), BUSY);
}

#[test]
fn unknown_uuid_and_reserved_flags_are_invalid() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[MAP, TX, RX, 1]);
    for (uuid, flags) in [
        (1, 0),
        (1, COUNT),
        (0, 2),
        (0, 3),
        (SHARED, 1 << 31),
        (SHARED.swap_bytes(), 0),
    ] {
        system.nwd_fails(0, &asks(uuid, flags), INVALID_PARAMETERS);
    }
    // RX was not filled.
    system.nwd_fails(0, &[RELEASE], DENIED);
    system.nwd(0, &asks(SHARED, 0));
    assert_eq!(system.regs(0)[2], 2);
}

#[test]
fn list_that_does_not_fit_into_rx() {
    let mut builder = Builder::new(1).partition_with("a", |a| {
        (1..=170).fold(a, |a, uuid| a.service(uuid, MessagingMethod::DIRECT_REQ_RECEIVE))
    });
    builder = builder.partition("b");
    let (spmc, mut machine) = builder.build();
    let ram = PageRange::new(PhysAddr::new(TX), 4).expect("a range");
    machine.memory.add(World::NonSecure, ram);
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &asks(0, COUNT));
    assert_eq!(system.regs(0), success(172));
    system.nwd(0, &[MAP, TX, RX, 1]);
    system.nwd_fails(0, &asks(0, 0), NO_MEMORY);
    system.nwd_fails(0, &[RELEASE], DENIED);
    system.nwd(0, &asks(7, 0));
    assert_eq!(system.regs(0)[2], 1);
    system.nwd(0, &[UNMAP]);
    system.nwd(0, &[MAP, TX, TX + 2 * PAGE, 2]);
    system.nwd(0, &asks(0, 0));
    assert_eq!(system.regs(0), [SUCCESS, 0, 172, 24, 0, 0, 0, 0]);
    system.nwd(0, &[RELEASE]);
    let memory = &mut system.machine.memory;
    memory.set_broken(World::NonSecure, PhysAddr::new(TX + 2 * PAGE), true);
    system.nwd_fails(0, &asks(0, 0), ABORTED);
}

#[test]
fn stopped_partition_is_not_listed() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    system.smc(0, &[ABORT]);
    for (uuid, count) in [(0, 3), (SHARED, 1)] {
        system.nwd(0, &asks(uuid, COUNT));
        assert_eq!(system.regs(0), success(count));
    }
}
