//! The seam between policy and hardware: the bounded effects that the policy asks for.
//!
//! Control flow is not part of it: running a context and returning to the normal world are
//! [`Action`](crate::spmc::Action)s.

#[cfg(feature = "fake")]
pub mod fake;

use core::fmt;

use crate::{
    addr::{PageRange, PhysAddr, World},
    context::{Context, Stage2Roots},
    manifest::spmc::Mpidr,
};
pub use tantalum_stage2::{TableAddr, TableMemory};

/// INTID of the schedule receiver interrupt: a software generated interrupt of the normal world.
pub const SCHEDULE_RECEIVER_INTERRUPT: u32 = 8;

/// INTID of the SPMC's own interrupt, a software generated one in secure Group 1.
pub const KICK_INTERRUPT: u32 = 15;

/// INTID of the timer of [`Machine::set_timer`]: that of the secure EL2 physical timer.
pub const TIMER_INTERRUPT: u32 = 20;

/// A deadline that never comes.
pub const NO_DEADLINE: u64 = u64::MAX;

/// x0-x17 of an SMC from or to EL3.
pub type SmcRegisters = [u64; 18];

/// Foreign memory could not be accessed (it does not exist, or is not accessible to the secure world in that world).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFault {
    /// First address that could not be accessed.
    pub at: PhysAddr,
}

/// A trapped system register, as the ISS of an `ESR_EL2` with EC 0x18 encodes it (Arm ARM, ESR_ELx).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemRegister {
    /// op0.
    pub op0: u8,
    /// op1.
    pub op1: u8,
    /// CRn.
    pub crn: u8,
    /// CRm.
    pub crm: u8,
    /// op2.
    pub op2: u8,
}

impl fmt::Debug for SystemRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SystemRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [op0, op1, crn, crm, op2] = [self.op0, self.op1, self.crn, self.crm, self.op2].map(u64::from);
        write!(f, "S{op0}_{op1}_C{crn}_C{crm}_{op2}")
    }
}

/// What can be done to an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptChange {
    /// It may come.
    Enable,
    /// It may not come; it can become pending.
    Disable,
    /// It was handled, and may come again.
    Deactivate,
    /// It is routed to another PE; private ones stay where they are.
    Route(Mpidr),
    /// It belongs to Group 1 of this world.
    World(World),
}

/// Effects of the processing element that the policy is running on. Each is bounded and returns.
pub trait Machine: TableMemory {
    /// Writes the live EL1 and SIMD state of the context that ran last on this PE back into it and forgets it, so that
    /// the context may be edited, stored away, or run by another PE. Does nothing when `context` is not live here.
    fn park(&mut self, context: &mut Context);

    /// Copies foreign physical memory of `world` into `into`.
    ///
    /// # Errors
    /// [`MemoryFault`] when some byte could not be read; `into` is then unspecified.
    fn copy_in(&mut self, world: World, from: PhysAddr, into: &mut [u8]) -> Result<(), MemoryFault>;

    /// [`Machine::copy_in`] of little-endian words.
    ///
    /// # Errors
    /// As there.
    fn copy_in_words(&mut self, world: World, from: PhysAddr, into: &mut [u64]) -> Result<(), MemoryFault>;

    /// [`Machine::copy_out`] of little-endian words.
    ///
    /// # Errors
    /// As there.
    fn copy_out_words(&mut self, world: World, to: PhysAddr, from: &[u64]) -> Result<(), MemoryFault>;

    /// Copies `from` to foreign physical memory of `world`.
    ///
    /// # Errors
    /// [`MemoryFault`] when some byte could not be written; earlier ones may have been.
    fn copy_out(&mut self, world: World, to: PhysAddr, from: &[u8]) -> Result<(), MemoryFault>;

    /// Zeroes one range of foreign memory of `world`.
    ///
    /// # Errors
    /// [`MemoryFault`] when some byte could not be written.
    fn zero(&mut self, world: World, range: PageRange) -> Result<(), MemoryFault>;

    /// Makes foreign memory that was loaded before (by BL2, caches off) or written by [`Machine::copy_out`] visible to
    /// instruction fetches and to observers with their caches off.
    fn synchronise_code(&mut self, world: World, range: PageRange);

    /// Completes changes of a partition's stage-2 tables on all PEs: invalidates what TLBs hold of its VMID.
    fn invalidate_stage2(&mut self, roots: &Stage2Roots);

    /// Fills a page of the pool with the code that is at EL1 for partitions at S-EL0, ready to be executed there: a vector
    /// table whose entry for synchronous exceptions of EL0 makes an SVC an HVC #0 and returns to EL0 behind it, and which
    /// makes any other exception an HVC #1 without end. It changes no register but `TPIDR_EL1`.
    fn write_vectors(&mut self, page: TableAddr);

    /// Value of an ID register of this PE (op0 = 3, op1 = 0, CRn = 0), 0 for one that does not exist.
    fn id_register(&mut self, register: SystemRegister) -> u64;

    /// An SMC to EL3 that returns to the caller (not one that leaves for the normal world).
    fn el3_call(&mut self, registers: &mut SmcRegisters);

    /// Writes the list registers of the context that has stopped running back into it
    /// ([`VirtualGic::list`](crate::interrupt::virtual_gic::VirtualGic::list)), and empties them. To be done first of all, when
    /// there was something in them.
    fn take_list_registers(&mut self, context: &mut Context);

    /// Whether partitions can have virtual CPU interfaces ([`VirtualGic`](crate::interrupt::virtual_gic::VirtualGic)). To be
    /// asked while booting.
    fn has_virtual_gic(&mut self) -> bool;

    /// Whether a Group 0 interrupt (EL3's) is what is pending for this PE.
    fn group0_pending(&mut self) -> bool;

    /// Acknowledges the highest-priority pending secure Group 1 interrupt and drops its priority: it stays active, and does
    /// not come again, until it is deactivated. `None` when there was none (spurious).
    fn acknowledge_secure_interrupt(&mut self) -> Option<u32>;

    /// Whether a secure Group 1 interrupt is pending for this PE.
    fn secure_interrupt_pending(&mut self) -> bool;

    /// Changes an interrupt that the SPMC has set up; of private ones, that of the PE with the affinity `cpu`.
    fn change_interrupt(&mut self, cpu: Mpidr, id: u32, change: InterruptChange);

    /// Makes the PE with the affinity `cpu` come to the SPMC, with a secure interrupt of the SPMC's own
    /// ([`KICK_INTERRUPT`]), so that it looks at what was changed for it.
    fn kick(&mut self, cpu: Mpidr);

    /// Raises the schedule receiver interrupt, the normal world's SGI [`SCHEDULE_RECEIVER_INTERRUPT`], on the PE with the affinity
    /// `cpu`.
    fn raise_schedule_receiver(&mut self, cpu: Mpidr);

    /// Time: counter value, in ticks of [`Machine::frequency`] a second.
    fn now(&mut self) -> u64;

    /// Has the SPMC's own timer on this PE raise the secure interrupt [`TIMER_INTERRUPT`] when [`Machine::now`] has reached
    /// `deadline`, and as long as it is not set anew; [`NO_DEADLINE`] turns it off. It may come earlier while a context has all
    /// of its list registers in use.
    fn set_timer(&mut self, deadline: u64);

    /// A second deadline of the same kind, with the same interrupt.
    fn set_watchdog(&mut self, deadline: u64);

    /// Ticks a second of [`Machine::now`]; never 0.
    fn frequency(&mut self) -> u64;

    /// Writes text to the console. Lines of different PEs do not mix within one call.
    fn print(&mut self, text: fmt::Arguments<'_>);
}
