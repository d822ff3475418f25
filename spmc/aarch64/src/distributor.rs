//! The interrupt controller's distributor and redistributors (GICv3): which interrupts there are, whose, and where they go.
//!
//! EL3 has set it up: Group 0 is its own, all else the normal world's. The SPMC changes the interrupts of partitions'
//! devices, one software generated interrupt and that of a timer of its own, and the normal world's schedule receiver
//! interrupt; nothing else is written.
#![expect(unsafe_code, reason = "accesses device registers")]

use alloc::vec::Vec;
use core::{hint::spin_loop, ptr};

use tantalum_core::{
    addr::{PageRange, World},
    machine::{InterruptChange, KICK_INTERRUPT, SCHEDULE_RECEIVER_INTERRUPT, TIMER_INTERRUPT},
    manifest::{
        partition::{Interrupt, Trigger},
        spmc::Mpidr,
    },
};

use crate::{layout, say, sysreg};

/// Distributor: control, type.
const CTLR: usize = 0x0;
const TYPER: usize = 0x4;
/// `GICD_CTLR.EnableGrp1S`.
const ENABLE_GROUP1S: u32 = 1 << 2;
/// `GICD_CTLR.RWP`: earlier writes are not complete yet. The redistributors' is another bit.
const WRITE_PENDING: u32 = 1 << 31;
const WRITE_PENDING_PRIVATE: u32 = 1 << 3;
/// Redistributor: its SGIs and PPIs.
const PRIVATE: usize = 0x1_0000;
/// Bytes of a redistributor, and of one with virtual LPIs.
const FRAMES: usize = 0x2_0000;
const FRAMES_V4: usize = 0x4_0000;
/// `GICR_TYPER.VLPIS` and `Last`.
const VLPIS: u64 = 1 << 1;
const LAST: u64 = 1 << 4;

/// Lowest priority of a secure interrupt, in front of all of the normal world's.
const LOWEST_SECURE: u8 = 0x70;

/// Lowest priority but one, in front of an idle normal world only.
const LOWEST_NORMAL: u8 = 0xf0;

/// Polls that a write may take to complete: milliseconds.
const PATIENCE: u32 = 100_000;

/// Where the bits of a kind of interrupts are.
#[derive(Clone, Copy, Debug)]
struct Registers {
    group: usize,
    enable: usize,
    disable: usize,
    clear_pending: usize,
    clear_active: usize,
    priority: usize,
    configuration: usize,
    modifier: usize,
    route: usize,
}

const ORDINARY: Registers = Registers {
    group: 0x80,
    enable: 0x100,
    disable: 0x180,
    clear_pending: 0x280,
    clear_active: 0x380,
    priority: 0x400,
    configuration: 0xc00,
    modifier: 0xd00,
    route: 0x6000,
};

const EXTENDED: Registers = Registers {
    group: 0x1000,
    enable: 0x1200,
    disable: 0x1400,
    clear_pending: 0x1800,
    clear_active: 0x1c00,
    priority: 0x2000,
    configuration: 0x3000,
    modifier: 0x3400,
    route: 0x8000,
};

/// First extended SPI and PPI, and the place of the latter among the private ones.
const FIRST_ESPI: u32 = 4096;
const FIRST_EPPI: u32 = 1056;
const EPPI_PLACE: u32 = 32;
/// First INTID that is not private.
const FIRST_SPI: u32 = 32;

/// The registers of one interrupt.
#[derive(Clone, Copy, Debug)]
struct Place {
    base: usize,
    registers: Registers,
    index: usize,
    private: bool,
}

impl Place {
    /// Writes a 1 to the interrupt's bit where only ones have an effect.
    fn strike(&self, register: usize) {
        // SAFETY: a register of this interrupt.
        unsafe { write(self.base + register + self.index / 32 * 4, 1_u32 << (self.index % 32)) }
    }

    /// Sets or clears bits of the interrupt, which has `width` of them in a register.
    fn set(&self, register: usize, width: usize, mask: u32, value: u32) {
        let address = self.base + register + self.index * width / 32 * 4;
        let shift = self.index * width % 32;
        // SAFETY: a register that this interrupt shares with others, whose bits stay as they are. While booting, or
        // for the interrupts of this PE, nobody else writes it; a partition that changes the world of its own interrupt
        // may do so while another one does, which is their loss alone: the bits are those of secure interrupts.
        unsafe {
            let others = read::<u32>(address) & !(mask << shift);
            write(address, others | value << shift);
        }
    }

    /// Which Group 1 it is in.
    fn assign(&self, world: World) {
        let secure = u32::from(world == World::Secure);
        self.set(self.registers.modifier, 1, 1, secure);
        self.set(self.registers.group, 1, 1, 1 - secure);
    }

    fn disable(&self) {
        self.strike(self.registers.disable);
        let (control, pending) = if self.private {
            (self.base - PRIVATE, WRITE_PENDING_PRIVATE)
        } else {
            (self.base, WRITE_PENDING)
        };
        for _ in 0..PATIENCE {
            // SAFETY: a control register.
            if unsafe { read::<u32>(control) } & pending == 0 {
                break;
            }
            spin_loop();
        }
    }

    fn route(&self, cpu: Mpidr) {
        // SAFETY: the routing register of a shared interrupt.
        unsafe { write(self.base + self.registers.route + self.index * 8, cpu.as_u64()) }
    }

    /// In secure Group 1, of nobody, not active, not pending.
    fn initialise(&self, priority: u8, trigger: Trigger) {
        self.disable();
        self.assign(World::Secure);
        // SAFETY: the interrupt's byte of a priority register.
        unsafe { write(self.base + self.registers.priority + self.index, priority) };
        let edge = if trigger == Trigger::Edge { 0b10 } else { 0 };
        self.set(self.registers.configuration, 2, 0b11, edge);
        self.strike(self.registers.clear_pending);
        self.strike(self.registers.clear_active);
    }
}

/// # Safety
/// `address` must be that of a register of `T`'s size, whose reading has no effect.
unsafe fn read<T>(address: usize) -> T {
    // SAFETY: the caller says so; the registers are mapped as a device.
    unsafe { ptr::with_exposed_provenance::<T>(address).read_volatile() }
}

/// # Safety
/// `address` must be that of a register of `T`'s size, and the effect of the write be known.
unsafe fn write<T>(address: usize, value: T) {
    // SAFETY: the caller says so; the registers are mapped as a device.
    unsafe { ptr::with_exposed_provenance_mut::<T>(address).write_volatile(value) }
}

/// The interrupt controller of the machine.
#[derive(Debug)]
pub struct Controller {
    distributor: usize,
    /// Those of the PEs that the SPMC manifest names.
    redistributors: Vec<(Mpidr, usize)>,
    /// Shared interrupts that it has: up to here, and extended ones up to there.
    limit: u32,
    extended_limit: u32,
}

impl Controller {
    /// Looks for the redistributors of `cpus` in `regions`, which must be mapped, as `distributor` must.
    pub fn find(distributor: PageRange, regions: &[PageRange], cpus: &[Mpidr]) -> Self {
        let mut redistributors = Vec::with_capacity(cpus.len());
        for region in regions {
            scan(*region, |frames, cpu| {
                if cpus.contains(&cpu) {
                    redistributors.push((cpu, frames));
                }
            });
        }
        let distributor = layout::address(distributor.base().as_u64());
        // SAFETY: the type has no side effects; the control register keeps what EL3 has set.
        let kind = unsafe {
            let control: u32 = read(distributor + CTLR);
            write(distributor + CTLR, control | ENABLE_GROUP1S);
            read::<u32>(distributor + TYPER)
        };
        let extended = if kind & 1 << 8 == 0 { 0 } else { 32 * (kind >> 27) + 32 };
        Self {
            distributor,
            redistributors,
            limit: (32 * (kind & 0x1f) + 32).min(1020),
            extended_limit: FIRST_ESPI + extended,
        }
    }

    /// Where the interrupt `id` is, of private ones that of the PE with the affinity `cpu`. `None` when it is not there.
    fn place(&self, cpu: Mpidr, id: u32) -> Option<Place> {
        let private = id < FIRST_SPI || (FIRST_EPPI..FIRST_ESPI).contains(&id);
        let (registers, index) = match id {
            FIRST_ESPI.. if id < self.extended_limit => (EXTENDED, id - FIRST_ESPI),
            FIRST_ESPI.. => return None,
            FIRST_EPPI.. => (ORDINARY, id - FIRST_EPPI + EPPI_PLACE),
            _ if id < self.limit => (ORDINARY, id),
            _ => return None,
        };
        let base = if private {
            self.redistributors.iter().find(|(own, _)| *own == cpu)?.1 + PRIVATE
        } else {
            self.distributor
        };
        Some(Place {
            base,
            registers,
            index: index as usize,
            private,
        })
    }

    /// Sets up a device interrupt, disabled, on the PE with the affinity `cpu`: that is where shared ones go to where nothing
    /// else is said.
    pub fn initialise(&self, cpu: Mpidr, interrupt: &Interrupt) {
        let Some(place) = self.place(cpu, interrupt.id) else {
            say!(
                "interrupt {}: the interrupt controller does not have it",
                u64::from(interrupt.id)
            );
            return;
        };
        place.initialise(interrupt.priority.min(LOWEST_SECURE), interrupt.trigger);
        if !place.private {
            place.route(interrupt.target.unwrap_or(cpu));
        }
    }

    /// Sets up the SPMC's own interrupts on the PE with the affinity `cpu`, and gives the schedule receiver interrupt to the
    /// normal world, which enables it: EL3 may have taken all that Linux does not use, 8 to 15, for the secure world.
    pub fn initialise_own(&self, cpu: Mpidr) {
        if let Some(place) = self.place(cpu, SCHEDULE_RECEIVER_INTERRUPT) {
            place.initialise(LOWEST_NORMAL, Trigger::Edge);
            place.assign(World::NonSecure);
        }
        for (id, trigger) in [(KICK_INTERRUPT, Trigger::Edge), (TIMER_INTERRUPT, Trigger::Level)] {
            if let Some(place) = self.place(cpu, id) {
                place.initialise(0, trigger);
                place.strike(place.registers.enable);
            }
        }
    }

    /// Changes an interrupt.
    pub fn change(&self, cpu: Mpidr, id: u32, change: InterruptChange) {
        let Some(place) = self.place(cpu, id) else {
            return;
        };
        match change {
            InterruptChange::Enable => place.strike(place.registers.enable),
            InterruptChange::Disable => place.disable(),
            // Not by ICC_DIR_EL1, which QEMU (10.0) ignores at S-EL2.
            InterruptChange::Deactivate => place.strike(place.registers.clear_active),
            InterruptChange::Route(cpu) if !place.private => place.route(cpu),
            InterruptChange::Route(_) => {}
            InterruptChange::World(world) => place.assign(world),
        }
        // The device that a partition uses next sees no earlier state.
        sysreg::dsb_ish();
    }
}

/// Visits the redistributors of a region: address and affinity. Ends where the region does, whatever the registers say.
fn scan(region: PageRange, mut visit: impl FnMut(usize, Mpidr)) {
    let mut frames = layout::address(region.base().as_u64());
    let end = frames + layout::address(region.bytes());
    while frames + FRAMES <= end {
        // SAFETY: `GICR_TYPER`, within a region of redistributors.
        let kind: u64 = unsafe { read(frames + 8) };
        let affinity = kind >> 32;
        visit(
            frames,
            Mpidr::from_register((affinity & 0xff00_0000) << 8 | affinity & 0xff_ffff),
        );
        if kind & LAST != 0 {
            return;
        }
        frames += if kind & VLPIS == 0 { FRAMES } else { FRAMES_V4 };
    }
}
