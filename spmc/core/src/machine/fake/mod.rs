//! A machine for tests on the host: an owned value that panics when it is misused.
//!
//! [`FakeMachine`] implements [`Machine`] for all PEs of a test: memory is shared, everything else is kept for each PE.
//! It holds the policy to the rules of the seam as the hardware would, only louder: while a context runs, its EL1 and
//! SIMD registers are in the PE, and what memory has of them is poison. A policy that edits, stores away or moves a
//! context without [`Machine::park`] is found out at the next entry.
//!
//! [`Builder`] makes a small [`Spmc`](crate::spmc::Spmc) without manifests, [`System`] drives one as its PEs would.
mod builder;
mod id_registers;
mod oracle;
mod snapshot;
mod system;

use core::fmt::{self, Write as _};
use std::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
    vec,
    vec::Vec,
};

use tantalum_stage2::{TableAddr, TableMemory, fake::FakeMemory};

pub use self::{
    builder::{Builder, PartitionBuilder},
    id_registers::CPU_MAX,
    oracle::what_is_wrong,
    snapshot::Part,
    system::{Owner, System, taint, taint_owner},
};
use crate::{
    addr::{PAGE_SIZE, PageRange, PhysAddr, World},
    context::{Context, El1Registers, SimdRegisters, Stage2Roots},
    machine::{
        InterruptChange, KICK_INTERRUPT, Machine, MemoryFault, NO_DEADLINE, SmcRegisters, SystemRegister,
        TIMER_INTERRUPT,
    },
    manifest::spmc::Mpidr,
};

/// What every EL1 and SIMD register of a context reads as while it is live in a PE.
pub const POISON: u64 = 0xdead_e110_dead_e110;

/// Foreign memory: the pages that exist, by world and number.
#[derive(Clone, Debug, Default)]
pub struct ForeignMemory {
    pages: BTreeMap<(World, u64), Box<[u8]>>,
    broken: BTreeSet<(World, u64)>,
}

impl ForeignMemory {
    /// Makes `range` exist, filled with zeroes.
    pub fn add(&mut self, world: World, range: PageRange) {
        for page in range.page_addresses() {
            self.pages
                .entry((world, page.as_u64()))
                .or_insert_with(|| vec![0; usize::try_from(PAGE_SIZE).expect("small")].into_boxed_slice());
        }
    }

    /// From now on accesses to the page of `address` fail; or succeed again.
    pub fn set_broken(&mut self, world: World, address: PhysAddr, broken: bool) {
        let page = (world, address.page_base().as_u64());
        if broken {
            self.broken.insert(page);
        } else {
            self.broken.remove(&page);
        }
    }

    /// The bytes from an address to the end of its page.
    fn bytes(&mut self, world: World, at: PhysAddr) -> Result<&mut [u8], MemoryFault> {
        let page = (world, at.page_base().as_u64());
        if self.broken.contains(&page) {
            return Err(MemoryFault { at });
        }
        let offset = usize::try_from(at.page_offset()).expect("small");
        self.pages
            .get_mut(&page)
            .map(|page| &mut page[offset..])
            .ok_or(MemoryFault { at })
    }

    /// Reads, as the policy would.
    ///
    /// # Errors
    /// When some byte does not exist, or is broken.
    pub fn read(&mut self, world: World, from: PhysAddr, into: &mut [u8]) -> Result<(), MemoryFault> {
        let (mut at, mut into) = (from, into);
        while !into.is_empty() {
            let bytes = self.bytes(world, at)?;
            let (now, later) = into.split_at_mut(bytes.len().min(into.len()));
            now.copy_from_slice(&bytes[..now.len()]);
            at = PhysAddr::new(at.as_u64().wrapping_add(now.len() as u64));
            into = later;
        }
        Ok(())
    }

    /// Writes, as the policy would.
    ///
    /// # Errors
    /// When some byte does not exist, or is broken.
    pub fn write(&mut self, world: World, to: PhysAddr, from: &[u8]) -> Result<(), MemoryFault> {
        let (mut at, mut from) = (to, from);
        while !from.is_empty() {
            let bytes = self.bytes(world, at)?;
            let (now, later) = from.split_at(bytes.len().min(from.len()));
            bytes[..now.len()].copy_from_slice(now);
            at = PhysAddr::new(at.as_u64().wrapping_add(now.len() as u64));
            from = later;
        }
        Ok(())
    }
}

/// The registers of the context that is live in a PE.
#[derive(Clone, Debug)]
pub struct Live {
    ticket: u64,
    /// EL1 system registers, as the partition has them.
    pub el1: El1Registers,
    /// SIMD registers, as the partition has them.
    pub simd: SimdRegisters,
}

/// A secure interrupt at the interrupt controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FakeInterrupt {
    /// It may come.
    pub enabled: bool,
    /// It was acknowledged and not deactivated.
    pub active: bool,
    /// An edge has come.
    pub latched: bool,
    /// The level is high.
    pub high: bool,
    /// The PE that it is routed to.
    pub pe: usize,
}

/// What a PE has of its own.
#[derive(Clone, Debug, Default)]
pub struct FakePe {
    live: Option<Live>,
    /// Whether the Group 0 interrupt is pending, and for how many more questions it stays so.
    pub group0: u32,
    /// The SPMC's own interrupt is pending.
    pub kicked: bool,
    /// When the SPMC's timer raises its interrupt, and as long as it is not set anew.
    pub deadline: u64,
    /// The other deadline.
    pub watchdog: u64,
    /// That interrupt is active.
    timer_active: bool,
    /// Calls to EL3, as they were made.
    pub el3_calls: Vec<SmcRegisters>,
    /// Answers to calls to EL3; where there is none, the call is unknown.
    pub el3_answers: VecDeque<SmcRegisters>,
}

impl FakePe {
    /// The registers of the context that runs on this PE.
    pub fn live(&mut self) -> &mut Live {
        self.live.as_mut().expect("a context is live on this PE")
    }
}

/// The machine. See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct FakeMachine {
    /// Table memory.
    pub tables: FakeMemory,
    /// Memory that is not the SPMC's own.
    pub memory: ForeignMemory,
    /// What was printed.
    pub console: String,
    /// How often the schedule receiver interrupt was raised.
    pub schedule_receiver_raised: usize,
    /// The PE on which it was raised last.
    pub schedule_receiver_pe: usize,
    /// What another PE does just before this one disables an interrupt.
    pub meanwhile: Option<fn()>,
    /// Ranges that were made visible to instruction fetches.
    pub synchronised: Vec<(World, PageRange)>,
    /// VMIDs whose translations were invalidated.
    pub invalidated: Vec<u16>,
    /// Pages of vectors for partitions at S-EL0.
    pub vectors: Vec<TableAddr>,
    /// Secure interrupts by number; private ones are those of the PE in [`FakeInterrupt::pe`].
    pub interrupts: BTreeMap<u32, FakeInterrupt>,
    /// Values of ID registers; 0 where there is none.
    pub id_registers: BTreeMap<SystemRegister, u64>,
    /// Ticks that pass whenever somebody asks for the time: 1, where nobody has changed it.
    pub pace: u64,
    pes: Vec<FakePe>,
    current: usize,
    tickets: u64,
    counter: u64,
}

fn poisoned_el1() -> El1Registers {
    let mut el1 = El1Registers::default();
    for register in el1_fields(&mut el1) {
        *register = POISON;
    }
    el1
}

fn poisoned_simd() -> SimdRegisters {
    SimdRegisters {
        v: [u128::from(POISON); 32],
        fpcr: POISON,
        fpsr: POISON,
    }
}

/// Some of the EL1 registers, enough to tell whether somebody has touched them.
fn el1_fields(el1: &mut El1Registers) -> [&mut u64; 12] {
    [
        &mut el1.sctlr,
        &mut el1.ttbr0,
        &mut el1.ttbr1,
        &mut el1.tcr,
        &mut el1.mair,
        &mut el1.vbar,
        &mut el1.esr,
        &mut el1.far,
        &mut el1.elr,
        &mut el1.spsr,
        &mut el1.sp_el1,
        &mut el1.tpidr_el1,
    ]
}

impl FakeMachine {
    /// A machine with `pes` PEs, no memory, and the ID registers of QEMU's `-cpu max`.
    #[must_use]
    pub fn new(pes: usize) -> Self {
        let id_registers = CPU_MAX
            .iter()
            .map(|&(crm, op2, value)| {
                (
                    SystemRegister {
                        op0: 3,
                        op1: 0,
                        crn: 0,
                        crm,
                        op2,
                    },
                    value,
                )
            })
            .collect();
        Self {
            pes: vec![
                FakePe {
                    deadline: NO_DEADLINE,
                    watchdog: NO_DEADLINE,
                    ..FakePe::default()
                };
                pes
            ],
            id_registers,
            pace: 1,
            ..Self::default()
        }
    }

    /// What PE `index` has of its own.
    pub fn pe(&mut self, index: usize) -> &mut FakePe {
        &mut self.pes[index]
    }

    /// From here on the policy runs on PE `index`.
    pub fn set_current(&mut self, index: usize) {
        assert!(index < self.pes.len());
        self.current = index;
    }

    /// Enters `context` on the current PE, as the machine layer does: its registers go into the PE.
    pub fn enter(&mut self, context: &mut Context) {
        let pe = &mut self.pes[self.current];
        if let Some(live) = &pe.live {
            assert_eq!(
                live.ticket, context.live,
                "another context is live on the PE and was not parked"
            );
            assert_poisoned(context);
            return;
        }
        assert_eq!(
            context.live, 0,
            "the context is live on another PE, or was when it was moved"
        );
        assert_ne!(
            context.el1.vbar, POISON,
            "the context was taken away from a PE without being parked"
        );
        assert_ne!(context.stage2.vmid, 0, "the context has a VMID");
        assert_eq!(context.pstate & 0x8, 0, "the context's PSTATE is of EL0 or EL1");
        self.tickets += 1;
        context.live = self.tickets;
        pe.live = Some(Live {
            ticket: self.tickets,
            el1: core::mem::replace(&mut context.el1, poisoned_el1()),
            simd: core::mem::replace(&mut context.simd, poisoned_simd()),
        });
    }

    /// The current PE leaves for EL3.
    pub fn leave(&self) {
        assert!(
            self.pes[self.current].live.is_none(),
            "a context is live while the PE leaves for the normal world"
        );
    }

    /// The current PE is turned off: whatever was live in it is lost.
    pub fn turn_off(&mut self) {
        self.pes[self.current].live = None;
    }

    /// An edge of an interrupt comes, whether it is enabled or not.
    pub fn raise(&mut self, id: u32) {
        self.interrupts.entry(id).or_default().latched = true;
    }

    /// The secure interrupt that a PE would acknowledge.
    #[must_use]
    pub fn pending(&self, pe: usize) -> Option<u32> {
        if self.pes[pe].kicked {
            return Some(KICK_INTERRUPT);
        }
        let deadline = self.pes[pe].deadline.min(self.pes[pe].watchdog);
        if deadline <= self.counter && !self.pes[pe].timer_active {
            return Some(TIMER_INTERRUPT);
        }
        let comes = |irq: &FakeInterrupt| irq.pe == pe && irq.enabled && !irq.active && (irq.latched || irq.high);
        self.interrupts.iter().find(|(_, irq)| comes(irq)).map(|(id, _)| *id)
    }

    /// Lets time pass, in ticks.
    pub fn advance(&mut self, ticks: u64) {
        self.counter += ticks;
    }

    /// The time, which asking does not change.
    #[must_use]
    pub const fn counter(&self) -> u64 {
        self.counter
    }

    /// Takes what was printed since the last time.
    pub fn take_console(&mut self) -> String {
        core::mem::take(&mut self.console)
    }
}

fn assert_poisoned(context: &mut Context) {
    for register in el1_fields(&mut context.el1) {
        assert_eq!(
            *register, POISON,
            "an EL1 register was edited while the context was live"
        );
    }
    assert_eq!(
        context.simd,
        poisoned_simd(),
        "SIMD registers were edited while the context was live"
    );
}

impl TableMemory for FakeMachine {
    fn allocate_table(&mut self) -> Option<TableAddr> {
        self.tables.allocate_table()
    }

    fn free_tables(&self) -> usize {
        self.tables.free_tables()
    }

    fn free_table(&mut self, table: TableAddr) {
        self.tables.free_table(table);
    }

    fn read_descriptor(&self, table: TableAddr, index: usize) -> u64 {
        self.tables.read_descriptor(table, index)
    }

    fn write_descriptor(&mut self, table: TableAddr, index: usize, value: u64) {
        self.tables.write_descriptor(table, index, value);
    }
}

impl Machine for FakeMachine {
    fn park(&mut self, context: &mut Context) {
        if context.live == 0 {
            return;
        }
        let live = self.pes[self.current].live.take_if(|live| live.ticket == context.live);
        let live = live.expect("a context that is live on another PE is parked");
        assert_poisoned(context);
        context.live = 0;
        context.el1 = live.el1;
        context.simd = live.simd;
    }

    fn copy_in(&mut self, world: World, from: PhysAddr, into: &mut [u8]) -> Result<(), MemoryFault> {
        self.memory.read(world, from, into)
    }

    fn copy_out(&mut self, world: World, to: PhysAddr, from: &[u8]) -> Result<(), MemoryFault> {
        self.memory.write(world, to, from)
    }

    fn copy_in_words(&mut self, world: World, from: PhysAddr, into: &mut [u64]) -> Result<(), MemoryFault> {
        let mut bytes = vec![0; into.len().saturating_mul(8)];
        self.copy_in(world, from, &mut bytes)?;
        for (word, bytes) in into.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Ok(())
    }

    fn copy_out_words(&mut self, world: World, to: PhysAddr, from: &[u64]) -> Result<(), MemoryFault> {
        let bytes: Vec<u8> = from.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.copy_out(world, to, &bytes)
    }

    fn zero(&mut self, world: World, range: PageRange) -> Result<(), MemoryFault> {
        let page = vec![0; usize::try_from(PAGE_SIZE).expect("small")];
        range
            .page_addresses()
            .try_for_each(|address| self.memory.write(world, address, &page))
    }

    fn synchronise_code(&mut self, world: World, range: PageRange) {
        self.synchronised.push((world, range));
    }

    fn invalidate_stage2(&mut self, roots: &Stage2Roots) {
        self.invalidated.push(roots.vmid);
    }

    fn write_vectors(&mut self, page: TableAddr) {
        self.vectors.push(page);
    }

    fn id_register(&mut self, register: SystemRegister) -> u64 {
        self.id_registers.get(&register).copied().unwrap_or(0)
    }

    fn el3_call(&mut self, registers: &mut SmcRegisters) {
        let pe = &mut self.pes[self.current];
        pe.el3_calls.push(*registers);
        match pe.el3_answers.pop_front() {
            Some(answer) => *registers = answer,
            None => registers[0] = u64::MAX,
        }
    }

    // Tests act on those of the context itself.
    fn take_list_registers(&mut self, _: &mut Context) {}

    fn has_virtual_gic(&mut self) -> bool {
        true
    }

    fn group0_pending(&mut self) -> bool {
        let group0 = &mut self.pes[self.current].group0;
        let pending = *group0 > 0;
        *group0 = group0.saturating_sub(1);
        pending
    }

    fn acknowledge_secure_interrupt(&mut self) -> Option<u32> {
        let id = self.pending(self.current)?;
        if id == KICK_INTERRUPT {
            self.pes[self.current].kicked = false;
        } else if id == TIMER_INTERRUPT {
            self.pes[self.current].timer_active = true;
        } else {
            let irq = self.interrupts.entry(id).or_default();
            irq.active = true;
            irq.latched = false;
        }
        Some(id)
    }

    fn secure_interrupt_pending(&mut self) -> bool {
        self.pending(self.current).is_some()
    }

    fn change_interrupt(&mut self, cpu: Mpidr, id: u32, change: InterruptChange) {
        if id == TIMER_INTERRUPT {
            assert_eq!(change, InterruptChange::Deactivate);
            self.pes[usize::try_from(cpu.as_u64()).expect("an affinity")].timer_active = false;
            return;
        }
        let irq = self.interrupts.entry(id).or_default();
        match change {
            InterruptChange::Enable => irq.enabled = true,
            InterruptChange::Disable => {
                irq.enabled = false;
                if let Some(meanwhile) = self.meanwhile.take() {
                    meanwhile();
                }
            }
            InterruptChange::Deactivate => irq.active = false,
            InterruptChange::Route(cpu) => irq.pe = usize::try_from(cpu.as_u64()).expect("an affinity"),
            InterruptChange::World(world) => irq.enabled &= world == World::Secure,
        }
    }

    fn kick(&mut self, cpu: Mpidr) {
        let pe = usize::try_from(cpu.as_u64()).expect("an affinity");
        assert_ne!(pe, self.current, "a PE kicks itself");
        self.pes[pe].kicked = true;
    }

    fn raise_schedule_receiver(&mut self, cpu: Mpidr) {
        self.schedule_receiver_pe = usize::try_from(cpu.as_u64()).expect("an affinity");
        self.schedule_receiver_raised = self.schedule_receiver_raised.saturating_add(1);
    }

    fn now(&mut self) -> u64 {
        self.counter += self.pace;
        self.counter
    }

    fn set_timer(&mut self, deadline: u64) {
        self.pes[self.current].deadline = deadline;
    }

    fn set_watchdog(&mut self, deadline: u64) {
        self.pes[self.current].watchdog = deadline;
    }

    fn frequency(&mut self) -> u64 {
        62_500_000
    }

    fn print(&mut self, text: fmt::Arguments<'_>) {
        self.console.write_fmt(text).expect("a string takes everything");
    }
}
