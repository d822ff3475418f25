//! Arbitrary calls with arbitrary registers.

use core::ops::ControlFlow;

use tantalum_core::{
    addr::World,
    machine::fake::{Builder, Owner, System, taint_owner},
    manifest::partition::{Access as Rights, PowerManagement, VmAvailability},
    spmc::Exit,
};
use tantalum_stage2::{Access, Entry, Execute, Ipa, IpaRange, Ownership, Run};

use crate::{Random, effort};

const CASES: u64 = 1000;
const STEPS: usize = 400;

/// A register: something that means something somewhere, more often than not.
fn value(random: &mut Random) -> u64 {
    let value = match random.below(8) {
        0 => random.next(),
        1 => 0,
        2 => 1 << random.below(64),
        3 => random.next() & 0xff,
        4 if random.one_in(4) => 0x8400_0000 | random.next() & 0x3,
        4 => 0x8000_0000 | random.next() & 0xf,
        5 => 0x0e30_0000 + (random.next() & 0x3f_ffff & !0xff),
        _ => {
            let source = random.pick(&[0, 0, 1, 0x8000, 0x8001, 0x8002, 0x8003, 0xffc0, 0xffff, 0xffff]);
            let destination = random.pick(&[0, 1, 2, 3, 0x8000, 0x8001, 0x8002, 0x8003]);
            source << 16 | destination
        }
    };
    // Not what looks like somebody's mark.
    if taint_owner(value).is_some() { 0 } else { value }
}

fn function(random: &mut Random) -> u64 {
    let base = random.pick(&[0x8400_0060, 0xc400_0060]);
    match random.below(10) {
        0 => value(random),
        1 => (base + (random.next() & 0x8f)) | (1 << 16),
        _ => base + random.next() % 0x40,
    }
}

fn exit(random: &mut Random) -> Exit {
    let esr = random.pick(&[0x01, 0x07, 0x16, 0x17, 0x18, 0x18, 0x18, 0x19, 0x20, 0x24, 0x24, 0x3c]) << 26;
    match random.below(8) {
        0 => Exit::Irq,
        1..4 => Exit::Fiq,
        4 if random.one_in(20) => Exit::SError { esr: random.next() },
        _ => Exit::Synchronous {
            esr: esr | random.next() & 0x3ff_ffff,
            far: random.next(),
            hpfar: random.next(),
        },
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let pes = 1 + random.below(3);
    let (spmc, machine) = Builder::new(pes)
        .partition_with("a", |a| {
            a.indirect()
                .power(PowerManagement::all())
                .vm_availability(VmAvailability::all())
        })
        .partition_with("b", |b| {
            b.version(1, 0).smc(0xc200_0000).power(PowerManagement::CPU_OFF)
        })
        .partition_with("m", |mut m| {
            m.smc_whitelist_permissive = true;
            m.migratable()
                .queued()
                .indirect()
                .vm_availability(VmAvailability::CREATED)
        })
        .build();
    let mut system = System::booted(&spmc, machine);
    for _ in 0..STEPS {
        let pe = random.below(pes);
        let mut registers: [u64; 18] = core::array::from_fn(|_| value(&mut random));
        registers[0] = function(&mut random);
        match system.owner(pe) {
            Owner::Off => {
                system.online(pe);
            }
            Owner::NormalWorld if random.one_in(50) => system.turn_off(pe),
            Owner::NormalWorld => {
                system.nwd(pe, &registers);
            }
            Owner::Partition(..) => {
                system.machine.pe(pe).group0 = u32::from(random.one_in(3));
                if random.one_in(4) {
                    system.el1(pe).vbar = value(&mut random);
                    system.ctx(pe).pc = value(&mut random);
                    system.ctx(pe).pstate = random.pick(&[0, 4, 5, 0x10, 0x3c5]);
                    let exit = exit(&mut random);
                    system.load(pe, &registers);
                    system.exit(pe, exit);
                } else {
                    system.smc(pe, &registers);
                }
            }
        }
    }
    // Nobody can print more than that.
    let reports = system
        .machine
        .console
        .lines()
        .filter(|line| line.starts_with("spmc: \""))
        .count();
    assert!(reports <= 3 * 8, "{reports} reports");
}

#[test]
fn arbitrary_registers_break_no_invariant() {
    for seed in 0..CASES * effort() {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = result {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Where the partition at S-EL0 has data.
const DATA: u64 = 0x4020_0000;
/// Where it has constants.
const CONSTANTS: u64 = 0x0e80_0000;

/// Nothing that the partition at S-EL0 has is both writable and executable, and what is at EL1 for it is as it was.
fn check_s_el0(system: &System<'_>, environment: [u64; 2]) {
    let tables = system.spmc.partitions()[0].tables.lock();
    for (space, tables) in [&tables.secure, &tables.non_secure].into_iter().enumerate() {
        let visit = |run: Run| {
            if let Entry::Mapped(output, attributes) = run.entry {
                assert_eq!(output.0, run.range.start().0);
                let executable = attributes.execute() != Execute::Never;
                assert!(!executable || attributes.access() == Access::ReadOnly && space == 0);
            }
            ControlFlow::Continue(())
        };
        let ranges = [
            (Builder::memory(0).base().as_u64(), 0x20),
            (DATA, 0x404),
            (0x4000_7000, 4),
        ];
        for (base, pages) in ranges {
            let range = IpaRange::new(Ipa(base), pages).expect("a range");
            let _ = tables.walk(&system.machine, range, visit).expect("within the space");
        }
        for address in environment {
            let found = tables
                .translate(&system.machine, Ipa(address))
                .map(|found| found.attributes);
            assert_eq!(found.is_some(), space == 0);
            assert!(
                found.is_none_or(|found| found.ownership() == Ownership::None && found.access() == Access::ReadOnly)
            );
        }
    }
}

fn run_s_el0(seed: u64) {
    let mut random = Random(seed);
    let read_write = Rights::READ | Rights::WRITE;
    let base = Builder::memory(0).base().as_u64();
    let (spmc, machine) = Builder::new(2)
        .partition_with("u", |u| {
            u.s_el0()
                .restart()
                .indirect()
                .region("buffers", World::Secure, base + 0x8000, 2, read_write)
                .region("data", World::NonSecure, DATA, 0x300, read_write)
                .region("constants", World::Secure, CONSTANTS, 2, Rights::READ)
                .region("normal", World::NonSecure, 0x4000_8000, 2, read_write)
        })
        .partition_with("b", |b| b.indirect())
        .build();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    let el1 = system.el1(0);
    let environment = [el1.vbar, el1.ttbr0];
    for _ in 0..STEPS / 4 {
        let pe = 0;
        if random.one_in(40) {
            system.machine.tables.set_budget(Some(random.below(3)));
        } else if random.one_in(10) {
            system.machine.tables.set_budget(None);
        }
        match system.owner(pe) {
            Owner::Partition(0x8001, _) if random.one_in(40) => {
                let esr = random.pick(&[0x00, 0x18, 0x20, 0x24, 0x3c]) << 26 | random.next() & 0x3ff_ffff;
                let far = random.next();
                if taint_owner(far).is_none() {
                    system.el0_exception(pe, esr, far);
                }
            }
            Owner::Partition(0x8001, _) if random.one_in(40) => {
                system.back_to_el0(pe);
                let exit = exit(&mut random);
                system.exit(pe, exit);
            }
            Owner::Partition(0x8001, _) => {
                let address = match random.below(8) {
                    0 => value(&mut random),
                    1 => random.pick(&environment),
                    2 => 0x4000_7000 + 0x1000 * random.below(5) as u64,
                    3 => CONSTANTS + 0x1000 * random.below(3) as u64,
                    4 => DATA + 0x1000 * random.below(0x400) as u64,
                    _ => base + 0x1000 * random.below(17) as u64,
                };
                let pages = random.pick(&[0, 1, 1, 2, 3, 16, 0x100, 0x200]);
                let function = random.pick(&[0x8400_0088, 0x8400_0089, 0xc400_0089]);
                let call = match random.below(4) {
                    0 => [0x8400_006b, 0, 0, 0],
                    1 => [self::function(&mut random), address, value(&mut random), pages],
                    _ => [function, address, pages, random.pick(&[3, 5, 7, 5, 3, 1, 0, 8])],
                };
                system.svc(pe, &call);
            }
            Owner::Partition(..) => {
                system.smc(pe, &[0x8400_006b]);
            }
            Owner::NormalWorld => {
                system.nwd(pe, &[0x8400_006f, 0x8001]);
            }
            Owner::Off => {
                system.online(pe);
            }
        }
        check_s_el0(&system, environment);
    }
}

#[test]
fn arbitrary_calls_and_exceptions_at_s_el0_break_no_invariant() {
    for seed in 0..CASES / 10 * effort() {
        let result = std::panic::catch_unwind(|| run_s_el0(seed));
        if let Err(panic) = result {
            println!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
