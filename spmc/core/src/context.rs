//! The register file of an execution context (vCPU) of a partition.
//!
//! Plain data with a fixed layout: the machine layer loads and stores it by offset, the policy reads and edits it
//! (arguments and results of calls, exceptions delivered to EL1).

use crate::{addr::PhysAddr, interrupt::virtual_gic::VirtualGic, watch::Watch};

/// EL1 and EL0 system registers that belong to an execution context and are switched with it.
///
/// Names are those of the Arm architecture (without `_EL1` where there is no other). `ACTLR_EL1` is not among them:
/// accesses to it trap, and what it holds is the processor's and firmware's business.
#[repr(C)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the architectural register of that name")]
pub struct El1Registers {
    pub sctlr: u64,
    pub cpacr: u64,
    pub ttbr0: u64,
    pub ttbr1: u64,
    pub tcr: u64,
    pub mair: u64,
    pub amair: u64,
    pub vbar: u64,
    pub esr: u64,
    pub far: u64,
    pub elr: u64,
    pub spsr: u64,
    pub sp_el0: u64,
    pub sp_el1: u64,
    pub tpidr_el0: u64,
    pub tpidrro_el0: u64,
    pub tpidr_el1: u64,
    pub contextidr: u64,
    pub par: u64,
    pub afsr0: u64,
    pub afsr1: u64,
    pub csselr: u64,
    pub cntkctl: u64,
}

/// Reset value of `SCTLR_EL1`: MMU and caches off, little endian, RES1 bits set.
pub const SCTLR_EL1_RESET: u64 = 0x30d0_0800;

/// FP and Advanced SIMD registers of an execution context.
#[repr(C, align(16))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimdRegisters {
    /// V0-V31.
    pub v: [u128; 32],
    /// Floating-point control register.
    pub fpcr: u64,
    /// Floating-point status register.
    pub fpsr: u64,
}

/// Stage-2 roots of a partition, as the translation registers want them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage2Roots {
    /// Root table of the secure IPA space (`VSTTBR_EL2`).
    pub secure: PhysAddr,
    /// Root table of the non-secure IPA space (`VTTBR_EL2`).
    pub non_secure: PhysAddr,
    /// Virtual machine identifier, never 0.
    pub vmid: u16,
}

/// What of interrupts a context finds when it is entered. Together, so that the machine layer sees at once when there is nothing
/// to do.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// A virtual IRQ is asserted (`HCR_EL2.VI`).
    pub irq: bool,
    /// A virtual FIQ is asserted (`HCR_EL2.VF`).
    pub fiq: bool,
    /// There is something in its list registers ([`VirtualGic::list`]).
    pub list: bool,
    /// It has a virtual CPU interface.
    pub gic: bool,
}

impl Signals {
    /// All of them, 0 for none.
    #[inline(always)]
    #[must_use]
    pub fn word(self) -> u32 {
        let Self { irq, fiq, list, gic } = self;
        u32::from_ne_bytes([u8::from(irq), u8::from(fiq), u8::from(list), u8::from(gic)])
    }
}

/// The register file of one execution context.
///
/// Whoever holds it may run it; it is never shared. While the context runs, `el1` and `simd` are stale (the live
/// values are in the PE) until [`Machine::park`](crate::machine::Machine::park) has written them back.
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Context {
    /// x0-x30.
    pub x: [u64; 31],
    /// Program counter to resume at (`ELR_EL2`).
    pub pc: u64,
    /// Saved PSTATE (`SPSR_EL2`).
    pub pstate: u64,
    /// Value of MPIDR_EL1 that the context reads (`VMPIDR_EL2`).
    pub vmpidr: u64,
    /// What of interrupts it finds when it is entered.
    pub signals: Signals,
    /// Whether interrupts of the normal world are held back while the context runs (`ICC_PMR_EL1`).
    pub mask_ns_interrupts: bool,
    /// EL1 system registers.
    pub el1: El1Registers,
    /// FP/Advanced SIMD registers.
    pub simd: SimdRegisters,
    /// Stage-2 roots of the partition.
    pub stage2: Stage2Roots,
    /// Its virtual CPU interface, if it has one.
    pub virtual_gic: VirtualGic,
    /// How much longer it may hold them back, while that is counted.
    pub watch: Watch,
    /// The machine layer's own: names the PE that holds `el1` and `simd`, and since when; 0 when they are here.
    pub live: u64,
}

/// PSTATE of a context that enters at EL1 with its own stack pointer and D, A, I, F masked.
pub const PSTATE_EL1H_MASKED: u64 = 0x3c5;

impl Context {
    /// A context as it is before its first instruction: EL1h, exceptions masked, MMU off, all registers zero.
    #[must_use]
    pub fn new(stage2: Stage2Roots, vmpidr: u64) -> Self {
        Self {
            x: [0; 31],
            pc: 0,
            pstate: PSTATE_EL1H_MASKED,
            vmpidr,
            signals: Signals::default(),
            mask_ns_interrupts: false,
            el1: El1Registers {
                sctlr: SCTLR_EL1_RESET,
                ..El1Registers::default()
            },
            simd: SimdRegisters::default(),
            stage2,
            virtual_gic: VirtualGic::default(),
            watch: Watch::NEW,
            live: 0,
        }
    }
}
