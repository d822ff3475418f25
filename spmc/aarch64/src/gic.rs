//! The CPU interface of the interrupt controller (GICv3), as EL3 has set it up: Group 0 for EL3, secure Group 1 for
//! us, non-secure Group 1 for the normal world.
#![expect(unsafe_code, reason = "acknowledging and masking interrupts has effects")]

use tantalum_core::{
    machine::{KICK_INTERRUPT, SCHEDULE_RECEIVER_INTERRUPT},
    manifest::spmc::Mpidr,
};

use crate::sysreg;

/// INTIDs from here to 1023 say that there is no interrupt (or none for this group).
const SPECIAL: u64 = 1020;
/// INTID field.
const INTID: u64 = 0xff_ffff;
/// `ICC_CTLR_EL1.EOImode`.
const EOI_MODE: u64 = 1 << 1;

/// Priority mask that lets all interrupts through.
pub const PRIORITY_ALL: u64 = 0xff;
/// Priority mask that holds back those of the normal world: their priorities are 0x80 and above.
pub const PRIORITY_SECURE: u64 = 0x80;

/// Whether the highest-priority pending interrupt of Group 0 is one.
#[must_use]
pub fn group0_pending() -> bool {
    sysreg::icc_hppir0_el1::read() & INTID < SPECIAL
}

/// Acknowledges a secure Group 1 interrupt, and drops its priority. It stays active.
#[must_use]
pub fn acknowledge() -> Option<u32> {
    let interrupt = sysreg::icc_iar1_el1::read() & INTID;
    sysreg::dsb_ish();
    if (SPECIAL..1024).contains(&interrupt) {
        return None;
    }
    // SAFETY: drops the priority of the interrupt that was just acknowledged.
    unsafe { sysreg::icc_eoir1_el1::write(interrupt) };
    sysreg::isb();
    u32::try_from(interrupt).ok()
}

/// Takes over the CPU interface, as EL3 has set it up: priority drop and deactivation apart, secure Group 1 enabled.
#[must_use]
pub fn take_over() -> Interface {
    // SAFETY: no interrupt is active. The SPMC's own interrupts are masked.
    unsafe {
        sysreg::icc_ctlr_el1::write(sysreg::icc_ctlr_el1::read() | EOI_MODE);
        sysreg::icc_igrpen1_el1::write(1);
    }
    sysreg::isb();
    Interface {
        group0: sysreg::icc_igrpen0_el1::read(),
        group1: sysreg::icc_igrpen1_el1::read(),
        control: sysreg::icc_ctlr_el1::read(),
    }
}

/// The software generated interrupt `id` for the PE with the affinity `mpidr`, as `ICC_SGI1R_EL1` and its like want it.
const fn generated(id: u32, mpidr: u64) -> u64 {
    let (aff0, aff1) = (mpidr & 0xff, mpidr >> 8 & 0xff);
    let (aff2, aff3) = (mpidr >> 16 & 0xff, mpidr >> 32 & 0xff);
    // Range selector and target list together name Aff0.
    aff3 << 48 | (aff0 >> 4) << 44 | aff2 << 32 | (id as u64) << 24 | aff1 << 16 | 1 << (aff0 & 0xf)
}

/// Raises the schedule receiver interrupt of the normal world on a PE.
pub fn raise_schedule_receiver(cpu: Mpidr) {
    let value = generated(SCHEDULE_RECEIVER_INTERRUPT, cpu.as_u64());
    // SAFETY: the interrupt is the normal world's, which takes it when it runs next.
    unsafe { sysreg::icc_asgi1r_el1::write(value) };
    sysreg::isb();
}

/// Raises the SPMC's own interrupt on another PE, after all that this PE has written so far.
pub fn kick(cpu: Mpidr) {
    sysreg::dsb_ish();
    // SAFETY: the interrupt is ours.
    unsafe { sysreg::icc_sgi1r_el1::write(generated(KICK_INTERRUPT, cpu.as_u64())) };
    sysreg::isb();
}

/// What a partition could change of the CPU interface on QEMU (10.0), where its accesses to it reach the physical one: the
/// traps that `ICH_HCR_EL2` asks for work for the normal world only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interface {
    group0: u64,
    group1: u64,
    control: u64,
}

/// Puts the CPU interface back: groups enabled as they were, no priority active (the SPMC drops each before it goes on).
///
/// # Safety
/// The priority of each interrupt that this PE has acknowledged must have been dropped.
#[inline]
pub unsafe fn restore(interface: &Interface) {
    // SAFETY: the values are those that the PE came up with.
    unsafe {
        sysreg::icc_igrpen0_el1::write(interface.group0);
        sysreg::icc_igrpen1_el1::write(interface.group1);
        sysreg::icc_ctlr_el1::write(interface.control);
        if sysreg::icc_ap0r0_el1::read() | sysreg::icc_ap1r0_el1::read() != 0 {
            sysreg::icc_ap0r0_el1::write(0);
            sysreg::icc_ap1r0_el1::write(0);
        }
    }
}
