//! Arbitrary calls, exits, interrupts and PEs that come and go, on a small system that has booted; the normal world and
//! the partitions write their buffers meanwhile.
//!
//! After each step: the invariants of the policy, nobody sees registers of another, registers that a call does not
//! define are as they were left, and `arm-ffa` decodes what the normal world gets. See `machine::fake::System`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tantalum_core::{
    addr::{PageRange, PhysAddr, World},
    machine::fake::{Builder, Owner, System, taint_owner},
    manifest::partition::{PowerManagement, VmAvailability},
    spmc::Exit,
};

const PES: usize = 3;
/// The partition at S-EL0.
const U: u16 = 0x8004;
/// Where the normal world has its buffers.
const NORMAL_WORLD: u64 = 0x4000_0000;
const PAGES: u64 = 16;

/// Values that mean something: ids, contexts, flags, addresses, sizes.
const WORDS: [u64; 32] = [
    0,
    1,
    2,
    3,
    0x1_0000,
    0x1_0002,
    0x8001_8002,
    0x8002_8001,
    0x8003_8001,
    0x8001_8003,
    0x8001_0000,
    0x8002_0000,
    0x8003_0000,
    0x8001_0001,
    0x8002_0002,
    0x8001,
    0x8002,
    0x8003,
    0x1_8001,
    0xffff_8000,
    0xffc0_8001,
    0x8000_0000,
    0x8000_0001,
    0x8000_0008,
    0x8400_0002,
    NORMAL_WORLD,
    NORMAL_WORLD + 0x1000,
    NORMAL_WORLD + 0x4000,
    0x0e30_0000,
    0x0e30_1000,
    0x0e40_2000,
    u64::MAX,
];

/// What is left of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn raw(&mut self) -> u64 {
        let mut bytes = [0; 8];
        for byte in &mut bytes {
            *byte = self.byte();
        }
        u64::from_le_bytes(bytes)
    }

    /// A register, never one that looks like somebody's mark.
    fn value(&mut self) -> u64 {
        let value = match self.byte() {
            word @ 0..32 => WORDS[usize::from(word)],
            small @ 32..192 => u64::from(small - 32),
            bit @ 192..=254 => 1 << (bit - 192),
            255 => self.raw(),
        };
        if taint_owner(value).is_some() { 0 } else { value }
    }

    fn registers(&mut self) -> [u64; 18] {
        let id = match self.byte() {
            id @ 0x60..0xf0 => 0x8400_0000 | u64::from(id),
            id @ 0..0x60 => 0xc400_0060 | u64::from(id),
            _ => self.value(),
        };
        let count = usize::from(self.byte() % 18);
        let mut registers = [0; 18];
        registers[0] = id;
        for register in registers.iter_mut().skip(1).take(count) {
            *register = self.value();
        }
        registers
    }

    fn exit(&mut self) -> Exit {
        match self.byte() % 8 {
            0 => Exit::Irq,
            1..4 => Exit::Fiq,
            4 => Exit::SError { esr: self.raw() },
            _ => {
                let class = [0x01, 0x07, 0x16, 0x17, 0x18, 0x19, 0x20, 0x24][usize::from(self.byte() % 8)];
                Exit::Synchronous {
                    esr: class << 26 | self.raw() & 0x3ff_ffff,
                    far: self.raw(),
                    hpfar: self.raw(),
                }
            }
        }
    }
}

fn write_buffer(system: &mut System<'_>, input: &mut Input<'_>) {
    let page = u64::from(input.byte()) % PAGES;
    let length = usize::from(input.byte()).min(input.0.len());
    let (bytes, rest) = input.0.split_at(length);
    input.0 = rest;
    // Where it is said nowhere that there is memory, nothing is written.
    let to = PhysAddr::new(NORMAL_WORLD + page * 0x1000);
    let _ = system.machine.memory.write(World::NonSecure, to, bytes);
    let to = PhysAddr::new(Builder::memory(0).base().as_u64() + page * 0x1000);
    let _ = system.machine.memory.write(World::Secure, to, bytes);
}

/// A memory transaction descriptor, right but for what the input changes of it, where buffers are likely to be.
fn write_descriptor(system: &mut System<'_>, input: &mut Input<'_>) {
    let [sender, borrower] = [input.value() & 0xffff, input.value() & 0xffff];
    let attributes = if input.byte() % 2 == 0 { 0x2f } else { 0 };
    let handle = u64::from(input.byte() % 4) << 16 | u64::from(input.byte() % 4);
    let composite = if handle == 0 { 80 } else { 0 };
    let permissions = u64::from(input.byte() & 0xf);
    let flags = u64::from(input.byte() & 0x1f);
    let pages = u64::from(1 + input.byte() % 2);
    let mut words = [
        sender | attributes << 16 | flags << 32,
        handle,
        0,
        32 | 1 << 32,
        48,
        0,
        borrower | permissions << 16 | composite << 32,
        0,
        0,
        0,
        pages | 1 << 32,
        0,
        input.value() & !0xfff,
        pages,
    ];
    let place = usize::from(input.byte());
    if let Some(word) = words.get_mut(place) {
        *word = input.value();
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let index = usize::from(input.byte() % 3);
    let _ = system
        .machine
        .memory
        .write(World::Secure, Builder::buffers(index).tx.base(), &bytes);
    let to = PhysAddr::new(NORMAL_WORLD + u64::from(input.byte() % 2) * 0x1000);
    let _ = system.machine.memory.write(World::NonSecure, to, &bytes);
}

fn step(system: &mut System<'_>, input: &mut Input<'_>) {
    let choice = input.byte();
    let pe = usize::from(choice) % PES;
    if choice >= 0xf8 {
        return write_descriptor(system, input);
    }
    if choice >= 0xf0 {
        return write_buffer(system, input);
    }
    match system.owner(pe) {
        Owner::Off => {
            system.online(pe);
        }
        Owner::NormalWorld if choice / 3 == 79 => system.turn_off(pe),
        Owner::NormalWorld => {
            let registers = input.registers();
            system.nwd(pe, &registers);
        }
        Owner::Partition(U, _) if choice < 160 => {
            let registers = input.registers();
            system.svc(pe, &registers);
        }
        Owner::Partition(U, _) if choice < 200 => {
            let (esr, far) = (input.value(), input.value());
            system.el0_exception(pe, esr, far);
        }
        Owner::Partition(..) if choice < 160 => {
            let registers = input.registers();
            system.smc(pe, &registers);
        }
        Owner::Partition(..) => {
            system.machine.pe(pe).group0 = u32::from(choice & 1);
            if matches!(system.owner(pe), Owner::Partition(U, _)) {
                system.back_to_el0(pe);
            } else {
                system.el1(pe).vbar = input.value();
                system.ctx(pe).pc = input.value();
                system.ctx(pe).pstate = [0, 4, 5, 0x10, 0x3c5][usize::from(input.byte() % 5)];
            }
            let exit = input.exit();
            let registers = input.registers();
            system.load(pe, &registers);
            system.exit(pe, exit);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (spmc, mut machine) = Builder::new(PES)
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
        .partition_with("u", |u| u.s_el0().restart())
        .build();
    if let Ok(range) = PageRange::new(PhysAddr::new(NORMAL_WORLD), PAGES) {
        machine.memory.add(World::NonSecure, range);
    }
    let mut system = if data.len() % 2 == 0 {
        System::booted(&spmc, machine)
    } else {
        System::new(&spmc, machine)
    };
    while !input.0.is_empty() {
        step(&mut system, &mut input);
    }
    assert!(
        system
            .machine
            .console
            .lines()
            .filter(|line| line.starts_with("spmc: \""))
            .count()
            <= 4 * 8
    );
});
