//! The normal world's half of a GICv3, as far as the tests need it: private interrupts of this core, acknowledged by polling.
//!
//! Interrupts stay masked in PSTATE. One that is pending still preempts a partition, which is what the tests are about.

#![expect(unsafe_code, reason = "device and system registers")]

use core::arch::asm;

use super::board::board;
use crate::arch;

/// Two frames of 64 KiB, and with virtual LPIs two more.
const REDISTRIBUTOR_SIZE: usize = 0x2_0000;
const SGI_FRAME: usize = 0x1_0000;

const GICR_TYPER: usize = 8;
const GICR_ISENABLER0: usize = SGI_FRAME + 0x100;
const GICR_ICENABLER0: usize = SGI_FRAME + 0x180;
const GICR_IPRIORITYR: usize = SGI_FRAME + 0x400;

/// Enables group 1 of the normal world, with affinity routing.
const ENABLE_GROUP1: u32 = 1 << 1 | 1 << 4;
/// In `GICR_TYPER`: the last redistributor, and whether it has virtual LPIs.
const LAST: u32 = 1 << 4;
const VIRTUAL_LPIS: u32 = 1 << 1;
/// No interrupt is pending.
const SPURIOUS: u32 = 1020;

/// More redistributors than any machine of the tests has.
const MOST: usize = 16;

fn read(address: usize) -> u32 {
    // SAFETY: the addresses that this module makes are registers of the board's GIC, mapped as a device.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: as for `read`; the registers hold no memory of Rust's.
    unsafe { (address as *mut u32).write_volatile(value) };
}

/// The frames of the redistributors, each with the `MPIDR` of its core. There is one for each core of the machine.
pub fn cores() -> impl Iterator<Item = (usize, u64)> {
    let mut next = Some(board().redistributors);
    (0..MOST).map_while(move |_| {
        let frame = next?;
        let typer = read(frame + GICR_TYPER);
        let frames = if typer & VIRTUAL_LPIS == 0 { 1 } else { 2 };
        next = (typer & LAST == 0).then_some(frame + frames * REDISTRIBUTOR_SIZE);
        let affinity = read(frame + GICR_TYPER + 4);
        let mpidr = u64::from(affinity & 0x00ff_ffff) | u64::from(affinity >> 24) << 32;
        Some((frame, mpidr))
    })
}

/// The redistributor frame of this core.
fn own_frame() -> usize {
    let mpidr = arch::mpidr();
    cores()
        .find(|(_, core)| *core == mpidr)
        .map_or(board().redistributors, |(frame, _)| frame)
}

/// Gets this core ready to see interrupts.
pub fn init() {
    // GICD_CTLR comes first.
    let control = board().distributor;
    write(control, read(control) | ENABLE_GROUP1);
    // SAFETY: system registers of the GIC's processor interface, of this exception level; interrupts stay masked in PSTATE.
    unsafe {
        asm!(
            "mrs {t}, S3_4_C12_C9_5", "orr {t}, {t}, #1", "orr {t}, {t}, #8", "msr S3_4_C12_C9_5, {t}", "isb",
            "msr S3_0_C4_C6_0, {all}", "msr S3_0_C12_C12_7, {one}", "isb",
            t = out(reg) _, all = in(reg) 0xff_u64, one = in(reg) 1_u64, options(nostack, preserves_flags)
        );
    }
}

/// Lets the private interrupt `id` (0-31) of this core through.
pub fn enable(id: u32) {
    let frame = own_frame();
    let word = frame + GICR_IPRIORITYR + (id as usize & !3);
    let shift = (id % 4) * 8;
    write(word, read(word) & !(0xff << shift) | 0x80 << shift);
    write(frame + GICR_ISENABLER0, 1 << id);
}

/// Whether the private interrupt `id` of this core is the normal world's: it can enable those of its own only.
#[must_use]
pub fn is_own(id: u32) -> bool {
    enable(id);
    let enabled = read(own_frame() + GICR_ISENABLER0) & 1 << id != 0;
    disable(id);
    enabled
}

/// Keeps the private interrupt `id` of this core out.
pub fn disable(id: u32) {
    write(own_frame() + GICR_ICENABLER0, 1 << id);
}

/// Takes the most urgent pending interrupt and ends it; `None` when there is none.
#[must_use]
pub fn take() -> Option<u32> {
    let id: u64;
    // SAFETY: acknowledging changes only the state of the GIC.
    unsafe { asm!("mrs {}, S3_0_C12_C12_0", "dsb sy", out(reg) id, options(nostack, preserves_flags)) };
    let id = (id & 0xff_ffff) as u32;
    if id >= SPURIOUS {
        return None;
    }
    // SAFETY: ends the interrupt that was acknowledged above.
    unsafe { asm!("msr S3_0_C12_C12_1, {}", "isb", in(reg) u64::from(id), options(nostack, preserves_flags)) };
    Some(id)
}

/// Sends the software-generated interrupt `id` (0-7) to the core with this `MPIDR`.
pub fn send(id: u32, mpidr: u64) {
    let affinity = (mpidr >> 8 & 0xff) << 16 | (mpidr >> 16 & 0xff) << 32 | (mpidr >> 32 & 0xff) << 48;
    let value = affinity | u64::from(id) << 24 | 1 << (mpidr & 0xf);
    // SAFETY: the barrier orders what the receiver is to find in memory before the interrupt.
    unsafe { asm!("dsb ishst", "msr S3_0_C12_C11_5, {}", "isb", in(reg) value, options(nostack, preserves_flags)) };
}

/// The running priority: 0xff when no interrupt is being handled.
#[must_use]
pub fn running_priority() -> u64 {
    let value: u64;
    // SAFETY: reading the register changes nothing.
    unsafe { asm!("mrs {}, S3_0_C12_C11_3", out(reg) value, options(nostack, preserves_flags)) };
    value
}

/// The normal world's priority mask, which a partition must not change.
#[must_use]
pub fn priority_mask() -> u64 {
    let value: u64;
    // SAFETY: reading the register changes nothing.
    unsafe { asm!("mrs {}, S3_0_C4_C6_0", out(reg) value, options(nostack, preserves_flags)) };
    value
}
