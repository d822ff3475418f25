//! The virtual CPU interface of partitions that have one: its registers, switched between contexts and the normal world.
//!
//! EL3 keeps `ICH_HCR_EL2` and `ICH_VMCR_EL2` for each world; list registers and active priorities are one for both.
#![expect(unsafe_code, reason = "writes registers of the virtual CPU interface")]

use core::arch::naked_asm;

use tantalum_core::{
    addr::PhysAddr,
    context::{Context, Stage2Roots},
    interrupt::virtual_gic::VirtualGic,
};

use crate::{
    control::{self, hcr},
    el1,
    enter::{Reason, enter},
    sysreg,
};

/// `ICH_HCR_EL2.En`: the virtual CPU interface is on, and nothing traps.
pub const ON: u64 = 1 << 0;

/// Registers of the virtual CPU interface while others use it.
#[derive(Debug, Default)]
pub struct Displaced {
    list: [u64; 4],
    priorities: [u64; 2],
}

fn read_list() -> [u64; 4] {
    [
        sysreg::ich_lr0_el2::read(),
        sysreg::ich_lr1_el2::read(),
        sysreg::ich_lr2_el2::read(),
        sysreg::ich_lr3_el2::read(),
    ]
}

/// # Safety
/// What the list registers hold is for whoever is entered next at EL1.
unsafe fn write_list(list: &[u64; 4]) {
    let [a, b, c, d] = *list;
    // SAFETY: the caller's.
    unsafe {
        sysreg::ich_lr0_el2::write(a);
        sysreg::ich_lr1_el2::write(b);
        sysreg::ich_lr2_el2::write(c);
        sysreg::ich_lr3_el2::write(d);
    }
}

/// # Safety
/// As for [`write_list`].
unsafe fn write_priorities(priorities: &[u64; 2]) {
    let [zero, one] = *priorities;
    // SAFETY: the caller's.
    unsafe {
        sysreg::ich_ap0r0_el2::write(zero);
        sysreg::ich_ap1r0_el2::write(one);
    }
}

impl Displaced {
    /// What the normal world has, whose place a context takes.
    pub fn take() -> Self {
        Self {
            list: read_list(),
            priorities: [sysreg::ich_ap0r0_el2::read(), sysreg::ich_ap1r0_el2::read()],
        }
    }

    /// Gives it back.
    pub fn restore(&self) {
        // SAFETY: it is the normal world's.
        unsafe {
            write_list(&self.list);
            write_priorities(&self.priorities);
        }
    }
}

/// Makes the registers of `gic` live, but for the list registers, which are empty, and the interface EL1's.
pub fn load(gic: &VirtualGic) {
    // SAFETY: they are those of the context that is about to run.
    unsafe {
        sysreg::ich_hcr_el2::write(ON);
        write_list(&[0; 4]);
        write_priorities(&gic.priorities);
        sysreg::ich_vmcr_el2::write(gic.control);
    }
}

/// Stores what [`load`] has made live, and lets EL1 have no interface.
pub fn store(gic: &mut VirtualGic) {
    // SAFETY: all accesses of EL1 trap.
    unsafe { sysreg::ich_hcr_el2::write(control::ICH_HCR) };
    gic.control = sysreg::ich_vmcr_el2::read();
    gic.priorities = [sysreg::ich_ap0r0_el2::read(), sysreg::ich_ap1r0_el2::read()];
}

/// Makes the list registers live, until [`leave`]. If all are in use, more may be pending: the PE's timer fires soon.
#[cold]
pub fn enter_with(gic: &VirtualGic) {
    /// 1 / this of a second.
    const SOON: u64 = 10_000;
    const ENABLE: u64 = 1 << 0;
    // SAFETY: they are those of the context that is about to run. An early deadline of the PE's own timer is no harm: the
    // policy sets the right one then.
    unsafe {
        write_list(&gic.list);
        if !gic.list.contains(&0) {
            let soon = sysreg::cntpct_el0::read() + sysreg::cntfrq_el0::read() / SOON;
            if sysreg::cnthps_ctl_el2::read() & ENABLE == 0 || sysreg::cnthps_cval_el2::read() > soon {
                sysreg::cnthps_cval_el2::write(soon);
                sysreg::cnthps_ctl_el2::write(ENABLE);
            }
        }
    }
}

/// Takes the list registers back, and leaves none.
#[cold]
pub fn leave(gic: &mut VirtualGic) {
    sysreg::isb();
    gic.list = read_list();
    // SAFETY: nothing is pending for whoever is entered next.
    unsafe { write_list(&[0; 4]) };
}

/// Whether EL1 gets to a virtual CPU interface, found out by trying: on QEMU (10.0) a partition gets to the physical one.
/// While booting, before there is a partition.
pub fn works() -> bool {
    const LIST_REGISTERS: u64 = 0x1f;
    const PREEMPTION_BITS: u64 = 0b111 << 26;
    // Five bits of priority for preemption: one register each of active priorities. Four list registers.
    let kind = sysreg::ich_vtr_el2::read();
    if kind & LIST_REGISTERS < 3 || kind & PREEMPTION_BITS > 4 << 26 {
        return false;
    }
    let mut context = Context::new(
        Stage2Roots {
            secure: PhysAddr::new(0),
            non_secure: PhysAddr::new(0),
            vmid: 0,
        },
        0,
    );
    context.pc = (mask_priorities as *const ()).addr() as u64;
    let (hcr_before, mask, traps) = (
        sysreg::hcr_el2::read(),
        sysreg::icc_pmr_el1::read(),
        sysreg::ich_hcr_el2::read(),
    );
    // SAFETY: with stage 1 and 2 off EL1 executes the two instructions where they are in memory, which was cleaned at the
    // entry. What they change is put back.
    unsafe {
        sysreg::ich_vmcr_el2::write(0);
        sysreg::ich_hcr_el2::write(ON);
        sysreg::hcr_el2::write(hcr::RW | hcr::IMO | hcr::FMO | hcr::AMO);
        el1::load(&context.el1);
        sysreg::isb();
        let reason = enter(&raw mut context);
        let priorities = sysreg::ich_vmcr_el2::read() >> 24;
        sysreg::hcr_el2::write(hcr_before);
        sysreg::ich_hcr_el2::write(traps);
        sysreg::icc_pmr_el1::write(mask);
        sysreg::isb();
        reason == Reason::Synchronous && priorities != 0
    }
}

/// At EL1.
///
/// # Safety
/// Not to be called, but to be entered at EL1.
#[unsafe(naked)]
unsafe extern "C" fn mask_priorities() {
    naked_asm!("mov x0, #0xf8", "msr S3_0_C4_C6_0, x0", "hvc #0", "b .")
}
