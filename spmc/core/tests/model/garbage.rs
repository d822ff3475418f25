//! Arbitrary calls with arbitrary registers.

use tantalum_core::{
    machine::fake::{Builder, Owner, System, taint_owner},
    manifest::partition::{PowerManagement, VmAvailability},
    spmc::Exit,
};

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
