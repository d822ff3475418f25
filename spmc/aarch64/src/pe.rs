//! What the machine layer keeps for each PE, and the switch between contexts and worlds.
#![expect(unsafe_code, reason = "writes the registers that belong to a context")]

use alloc::vec;
use core::{arch::asm, mem::offset_of};

use tantalum_core::{
    context::{Context, El1Registers, Stage2Roots},
    machine::NO_DEADLINE,
    spmc::Exit,
};
use tantalum_stage2::IpaSize;

use crate::{
    control,
    distributor::Controller,
    el1,
    enter::{Reason, enter},
    features::Features,
    foreign::Window,
    gic,
    simd::Simd,
    sysreg, virtual_gic,
};

/// Exception class of a trapped FP instruction.
const EC_FP: u64 = 0x07;

/// Exception classes of aborts of a partition.
const EC_INSTRUCTION_ABORT: u64 = 0x20;
const EC_DATA_ABORT: u64 = 0x24;
/// `ESR_EL2.ISS.S1PTW`: the fault was in a walk of the partition's own tables.
const ESR_S1PTW: u64 = 1 << 7;
/// `HPFAR_EL2.NS`.
const HPFAR_NS: u64 = 1 << 63;

/// Bytes of the stack for a report after a stack overflow.
const EMERGENCY_STACK_BYTES: usize = 3072;

/// The normal world's registers while contexts run.
#[derive(Debug, Default)]
struct NormalWorld {
    el1: El1Registers,
    pmr: u64,
    vdisr: u64,
    cntv_ctl: u64,
    cntv_cval: u64,
}

/// A processing element. It implements [`tantalum_core::machine::Machine`] ([`crate::machine`]).
///
/// Invariants: only its own PE uses it, through the reference that its run loop has. `TPIDR_EL2` holds its address.
/// `vttbr` and `vsttbr` are what the registers of these names hold.
#[repr(C)]
#[derive(Debug)]
pub struct Core {
    /// Initial stack pointer for a report after a stack overflow.
    emergency: usize,
    /// Its number: its place in the manifest.
    pub index: usize,
    /// What it has.
    pub features: Features,
    /// Its window to foreign memory.
    pub window: Window,
    simd: Simd,
    /// [`Context::live`] of the context whose EL1 registers are in the PE; 0 for none.
    live: u64,
    /// Source of the values of [`Context::live`], different on all PEs and never used twice.
    ticket: u64,
    vttbr: u64,
    vsttbr: u64,
    hcr_base: u64,
    ipa_size: IpaSize,
    /// The interrupt controller's CPU interface as EL3 has set it up.
    interface: gic::Interface,
    /// The interrupt controller, once it is found.
    pub controller: Option<&'static Controller>,
    /// Deadlines of the SPMC's own timer.
    pub deadlines: [u64; 2],
    /// What of interrupts is asserted to the live context ([`word`](tantalum_core::context::Signals::word)).
    signals: u32,
    /// The normal world's registers of the virtual CPU interface, while the live context has it.
    virtual_gic: Option<virtual_gic::Displaced>,
    /// The normal world's registers are in `normal_world`.
    displaced: bool,
    /// Descriptors were written that no barrier has followed yet.
    pub tables_written: bool,
    normal_world: NormalWorld,
}

/// Tickets of a PE start here, times its index plus one.
const TICKETS: u64 = 1 << 56;

/// `VTTBR_EL2` and `VSTTBR_EL2` for roots. `CnP` is 0: PEs do not share TLB entries.
#[inline]
fn translation_registers(roots: &Stage2Roots) -> (u64, u64) {
    (
        u64::from(roots.vmid) << 48 | roots.non_secure.as_u64(),
        roots.secure.as_u64(),
    )
}

/// Signals that no context has: makes the next entry set its own.
const NO_SIGNALS: u32 = u32::MAX;

/// No roots that any partition has: makes the next context load its own.
const NO_ROOTS: u64 = u64::MAX;

/// Holds back the interrupts of the normal world while a context runs, if it wants that.
#[inline]
fn hold_back(normal_world: bool) {
    let pmr = if normal_world {
        gic::PRIORITY_SECURE
    } else {
        gic::PRIORITY_ALL
    };
    // Not only when it differs from the last one: on QEMU, a partition can write it.
    // SAFETY: all interrupts are masked at EL2; this says which ones end the context's run.
    unsafe { sysreg::icc_pmr_el1::write(pmr) };
}

/// Whether an SError is pending: taken now, while it is known whose it is, and not in whoever runs next.
#[inline]
fn error_is_pending() -> bool {
    const DEFERRED: u64 = 1 << 31;
    // SAFETY: `ESB` (a hint) defers an error that is pending and masked into DISR_EL1, which is cleared when it has one.
    unsafe { asm!("hint #16", options(nostack, preserves_flags)) };
    let deferred = sysreg::disr_el1::read() & DEFERRED != 0;
    if deferred {
        // SAFETY: clears what was just read.
        unsafe { sysreg::disr_el1::write(0) };
    }
    deferred
}

/// What is known about a synchronous exception.
#[inline]
fn synchronous(esr: u64) -> Exit {
    let far = sysreg::far_el2::read();
    let mut hpfar = sysreg::hpfar_el2::read();
    if matches!(esr >> 26 & 0x3f, EC_INSTRUCTION_ABORT | EC_DATA_ABORT)
        && esr & ESR_S1PTW == 0
        && let Some(non_secure) = output_is_non_secure(far)
    {
        hpfar = hpfar & !HPFAR_NS | if non_secure { HPFAR_NS } else { 0 };
    }
    Exit::Synchronous { esr, far, hpfar }
}

/// Which IPA space stage 1 of the live context translates `address` to; `None` where it does not. `HPFAR_EL2.NS` should
/// say so, but QEMU (10.0) has it the wrong way round.
#[cold]
fn output_is_non_secure(address: u64) -> Option<bool> {
    const FAILED: u64 = 1 << 0;
    const NS: u64 = 1 << 9;
    let own = sysreg::par_el1::read();
    let result: u64;
    // SAFETY: translates an address by EL1's tables into PAR_EL1, which is put back. The walk may take an external abort,
    // since EL1 may change its tables meanwhile: then it goes on at the landing, as a translation that failed.
    unsafe {
        asm!(
            "2: at s1e1r, {address}",
            "isb",
            "mrs {result}, par_el1",
            "b 4f",
            "3: mov {result}, #{failed}",
            "4:",
            ".pushsection .fixups, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            address = in(reg) address,
            result = lateout(reg) result,
            failed = const FAILED,
            options(nostack, preserves_flags),
        );
        sysreg::par_el1::write(own);
    }
    (result & FAILED == 0).then_some(result & NS != 0)
}

/// A stack for a report. Allocates, for good.
fn emergency_stack() -> usize {
    vec![0_u128; EMERGENCY_STACK_BYTES / 16]
        .leak()
        .as_ptr_range()
        .end
        .expose_provenance()
}

impl Core {
    /// Offset of the emergency stack's address, for the vectors.
    pub const EMERGENCY: usize = offset_of!(Self, emergency);

    /// The PE with `index`. Allocates.
    #[must_use]
    pub fn new(index: usize, features: &Features, window: Window) -> Self {
        Self {
            emergency: emergency_stack(),
            index,
            features: *features,
            window,
            simd: Simd::new(features),
            live: 0,
            ticket: (index as u64 + 1) * TICKETS,
            vttbr: 0,
            vsttbr: 0,
            hcr_base: control::hcr(features),
            ipa_size: IpaSize::Bits39,
            interface: gic::Interface::default(),
            controller: None,
            signals: 0,
            deadlines: [NO_DEADLINE; 2],
            virtual_gic: None,
            displaced: false,
            tables_written: false,
            normal_world: NormalWorld::default(),
        }
    }

    /// Takes over the PE, which has just come up: sets its system registers.
    pub fn take_over(&mut self, ipa_size: IpaSize) {
        control::initialise(&self.features, ipa_size);
        self.ipa_size = ipa_size;
        self.interface = gic::take_over();
        self.signals = 0;
        self.deadlines = [NO_DEADLINE; 2];
        self.virtual_gic = None;
        self.live = 0;
        self.displaced = false;
        self.simd.reset();
        self.set_roots((0, 0));
        // SAFETY: nothing but the vectors and the panic handler use TPIDR_EL2, for just this.
        unsafe { sysreg::tpidr_el2::write((&raw const *self).expose_provenance() as u64) };
    }

    /// Runs `context` until something happens that the policy must know of.
    #[inline]
    pub fn run(&mut self, context: &mut Context) -> Exit {
        self.complete_table_writes();
        if !self.displaced {
            self.displace_normal_world();
        }
        if context.live == 0 || context.live != self.live {
            self.load(context);
        }
        if context.signals.word() != self.signals {
            self.signal(context);
        }
        hold_back(context.mask_ns_interrupts);
        loop {
            // SAFETY: the context is borrowed mutably, and its registers are loaded.
            let reason = unsafe { enter(context) };
            if self.features.ras && error_is_pending() {
                return Exit::SError {
                    esr: sysreg::esr_el2::read(),
                };
            }
            match reason {
                Reason::Synchronous => {
                    let esr = sysreg::esr_el2::read();
                    if esr >> 26 & 0x3f == EC_FP && !self.simd.is_live() {
                        self.simd.load(&context.simd);
                        continue;
                    }
                    return synchronous(esr);
                }
                Reason::Irq => return Exit::Irq,
                Reason::Fiq => return Exit::Fiq,
                Reason::SError | Reason::Unknown => {
                    return Exit::SError {
                        esr: sysreg::esr_el2::read(),
                    };
                }
            }
        }
    }

    /// Puts the normal world's registers back: the PE is about to leave for it. Contexts have been parked.
    #[inline]
    pub fn restore_normal_world(&mut self) {
        self.complete_table_writes();
        if !self.displaced {
            return;
        }
        self.simd.restore_normal_world();
        self.live = 0;
        self.displaced = false;
        el1::load(&self.normal_world.el1);
        // SAFETY: these registers are the normal world's, with the values that it had.
        unsafe {
            gic::restore(&self.interface);
            sysreg::icc_pmr_el1::write(self.normal_world.pmr);
            if self.features.ras {
                sysreg::vdisr_el2::write(self.normal_world.vdisr);
            }
            if !self.features.ecv {
                sysreg::cntv_cval_el0::write(self.normal_world.cntv_cval);
                sysreg::cntv_ctl_el0::write(self.normal_world.cntv_ctl);
            }
        }
    }

    /// Writes the registers of a live context back into it.
    #[inline]
    pub fn park_context(&mut self, context: &mut Context) {
        if context.live == 0 || context.live != self.live {
            return;
        }
        el1::save(&mut context.el1);
        if context.signals.gic {
            self.take_virtual_gic(context);
        }
        self.simd.store(&mut context.simd);
        context.live = 0;
        self.live = 0;
        // The context may run on another PE next: its cache and TLB maintenance, of which this PE knows, is complete before.
        sysreg::dsb_ish();
    }

    /// Saves what a context changes of the normal world's.
    #[inline]
    fn displace_normal_world(&mut self) {
        el1::save(&mut self.normal_world.el1);
        self.normal_world.pmr = sysreg::icc_pmr_el1::read();
        if self.features.ras {
            self.normal_world.vdisr = sysreg::vdisr_el2::read();
        }
        // The normal world may have had this PE powered down and up again, and EL3 keeps neither of these.
        self.vsttbr = NO_ROOTS;
        control::write_vstcr(self.ipa_size);
        if !self.features.ecv {
            self.normal_world.cntv_ctl = sysreg::cntv_ctl_el0::read();
            self.normal_world.cntv_cval = sysreg::cntv_cval_el0::read();
        }
        self.displaced = true;
    }

    /// Makes `context` the live one: EL1 registers, stage-2 roots.
    ///
    /// The order of these writes does not matter: translation of EL1 is out of context at EL2, and the processors whose
    /// errata make them speculate nonetheless (Cortex-A55, A57, A72, A76) have no S-EL2. No TLB maintenance: each
    /// partition has a VMID of its own, and two contexts of one partition never run on one PE (a partition has one
    /// context, or each is pinned to its PE), so that there are no entries of the same VMID and ASID made by another
    /// context's tables. A context that moves between PEs has its TLB maintenance broadcast (`HCR_EL2.FB`).
    fn load(&mut self, context: &mut Context) {
        self.simd.discard();
        self.ticket += 1;
        self.live = self.ticket;
        context.live = self.ticket;
        el1::load(&context.el1);
        // SAFETY: VMPIDR_EL2 is what EL1 reads as its MPIDR. The virtual timer is off, with nothing of another context.
        unsafe {
            sysreg::vmpidr_el2::write(context.vmpidr);
            if self.features.ras {
                // What EL1 reads as DISR_EL1 while HCR_EL2.AMO is set.
                sysreg::vdisr_el2::write(0);
            }
            if !self.features.ecv {
                sysreg::cntv_ctl_el0::write(0);
                sysreg::cntv_cval_el0::write(0);
            }
        }
        let roots = translation_registers(&context.stage2);
        if roots != (self.vttbr, self.vsttbr) {
            self.set_roots(roots);
        }
    }

    /// What of interrupts is asserted is to change, or there is something in the context's list registers: makes it so.
    #[inline]
    fn signal(&mut self, context: &Context) {
        let signals = context.signals;
        let hcr = self.hcr_base
            | if signals.irq { control::hcr::VI } else { 0 }
            | if signals.fiq { control::hcr::VF } else { 0 };
        // SAFETY: only the pending virtual interrupts differ.
        unsafe { sysreg::hcr_el2::write(hcr) };
        self.signals = signals.word();
        if signals.gic {
            self.give_virtual_gic(context);
        }
    }

    /// Makes the virtual CPU interface of the live context live, if it is not, and its list registers.
    #[cold]
    #[inline(never)]
    fn give_virtual_gic(&mut self, context: &Context) {
        if self.virtual_gic.is_none() {
            self.virtual_gic = Some(virtual_gic::Displaced::take());
            virtual_gic::load(&context.virtual_gic);
        }
        if context.signals.list {
            virtual_gic::enter_with(&context.virtual_gic);
            // At the next entry again.
            self.signals = NO_SIGNALS;
        }
    }

    /// Puts the virtual CPU interface of the live context into it, and the normal world's back.
    #[cold]
    #[inline(never)]
    fn take_virtual_gic(&mut self, context: &mut Context) {
        if let Some(displaced) = self.virtual_gic.take() {
            virtual_gic::store(&mut context.virtual_gic);
            displaced.restore();
        }
        self.signals = NO_SIGNALS;
    }

    /// Loads stage-2 roots.
    #[inline]
    fn set_roots(&mut self, (vttbr, vsttbr): (u64, u64)) {
        self.vttbr = vttbr;
        self.vsttbr = vsttbr;
        // SAFETY: stage 2 does not apply at EL2. The exception return that follows synchronises.
        unsafe {
            sysreg::vttbr_el2::write(vttbr);
            sysreg::vsttbr_el2::write(vsttbr);
        }
    }

    /// Makes descriptors that were written visible to table walks, where nothing was invalidated after.
    #[inline]
    fn complete_table_writes(&mut self) {
        if self.tables_written {
            self.tables_written = false;
            sysreg::dsb_ishst();
        }
    }

    /// Does `maintenance` while the VMID in `VTTBR_EL2` is that of `roots`.
    pub(crate) fn with_roots(&mut self, roots: &Stage2Roots, maintenance: impl FnOnce()) {
        let known = self.vsttbr != NO_ROOTS;
        let current = if known { (self.vttbr, self.vsttbr) } else { (0, 0) };
        let wanted = translation_registers(roots);
        if wanted != current {
            self.set_roots(wanted);
            sysreg::isb();
        }
        self.tables_written = false;
        maintenance();
        if wanted != current {
            self.set_roots(current);
            sysreg::isb();
        }
    }
}
