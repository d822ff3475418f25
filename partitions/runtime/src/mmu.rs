//! Stage 1 of the program itself: an identity map with 39 bits of address, 4 KiB granule.
//!
//! Atomic read-modify-write instructions and unaligned accesses want normal memory, so the library turns the MMU on unless the author says not to.
//! The map that the program starts with:
//!
//! | range | mapped as |
//! | --- | --- |
//! | the image and its zeroed part | normal write-back, readable, writable, executable |
//! | the rest of the first gigabyte | device (nGnRnE), never executable |
//! | gigabytes 1 to 3 | normal write-back; in a partition non-secure and never executable |
//!
//! [`map`] adds to it or changes it, in pages of 4 KiB.

#![expect(unsafe_code, reason = "translation tables and the registers that point at them")]

use core::{
    arch::asm,
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use crate::{arch, entry};

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;
const BLOCK_SIZE: usize = 2 << 20;
const GIGABYTE: usize = 1 << 30;
const ENTRIES: usize = 512;
/// Tables besides the root: one for the first gigabyte, the others for pages.
const POOL: usize = 16;

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 1 << 1;
const ATTR_NORMAL: u64 = 1 << 2;
const NON_SECURE: u64 = 1 << 5;
const AP_RES1_EL2: u64 = 1 << 6;
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
const PRIVILEGED_EXECUTE_NEVER: u64 = 1 << 53;
const EXECUTE_NEVER: u64 = 1 << 54;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Attribute 0 is device nGnRnE, attribute 1 is normal write-back.
const MAIR: u64 = 0xff00;

/// How to map a range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attributes {
    /// Normal memory: readable, writable and executable.
    Memory,
    /// Normal memory, not writable.
    ReadOnly,
    /// Normal memory of the normal world, not executable. Only a partition knows the difference.
    NonSecure,
    /// A device, not executable.
    Device,
}

impl Attributes {
    fn bits(self) -> u64 {
        let normal = ATTR_NORMAL | INNER_SHAREABLE;
        let common = VALID | ACCESSED;
        let (never, el2) = if arch::is_normal_world() {
            (EXECUTE_NEVER, AP_RES1_EL2)
        } else {
            (PRIVILEGED_EXECUTE_NEVER | EXECUTE_NEVER, 0)
        };
        common
            | el2
            | match self {
                Self::Memory => normal,
                Self::ReadOnly => normal | READ_ONLY,
                Self::NonSecure if arch::is_normal_world() => normal | never,
                Self::NonSecure => normal | NON_SECURE | never,
                Self::Device => never,
            }
    }
}

/// One translation table.
#[repr(C, align(4096))]
struct Table([AtomicU64; ENTRIES]);

impl Table {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; ENTRIES])
    }

    fn address(&self) -> u64 {
        core::ptr::from_ref(self).addr() as u64
    }
}

static ROOT: Table = Table::new();
static TABLES: [Table; POOL] = [const { Table::new() }; POOL];
static USED: AtomicUsize = AtomicUsize::new(0);
/// Whether somebody is in [`map`].
static BUSY: AtomicBool = AtomicBool::new(false);

/// There are no more tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutOfTables;

/// The table below `entry`, made if there is none. A block is split into the same mapping in smaller pieces.
fn descend(entry: &AtomicU64, piece: usize) -> Result<&'static Table, OutOfTables> {
    let old = entry.load(Ordering::Relaxed);
    if old & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE {
        return TABLES
            .iter()
            .find(|table| table.address() == old & ADDRESS)
            .ok_or(OutOfTables);
    }
    let index = USED.load(Ordering::Relaxed);
    let table = TABLES.get(index).ok_or(OutOfTables)?;
    USED.store(index + 1, Ordering::Relaxed);
    if old & VALID != 0 {
        let leaf = if piece == PAGE_SIZE { TABLE_OR_PAGE } else { 0 };
        for (i, slot) in table.0.iter().enumerate() {
            slot.store((old + (i * piece) as u64) | leaf, Ordering::Relaxed);
        }
    }
    replace(entry, table.address() | VALID | TABLE_OR_PAGE);
    Ok(table)
}

/// Changes an entry, by way of an invalid one if it was valid.
fn replace(entry: &AtomicU64, new: u64) {
    if entry.load(Ordering::Relaxed) & VALID != 0 {
        entry.store(0, Ordering::Relaxed);
        invalidate();
    }
    entry.store(new, Ordering::Relaxed);
    // SAFETY: barriers only.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// Forgets all cached translations of this exception level.
fn invalidate() {
    // SAFETY: invalidating translations is always allowed, and what is mapped stays the same.
    unsafe {
        if arch::is_normal_world() {
            asm!(
                "dsb ishst",
                "tlbi alle2is",
                "dsb ish",
                "isb",
                options(nostack, preserves_flags)
            );
        } else {
            asm!(
                "dsb ishst",
                "tlbi vmalle1is",
                "dsb ish",
                "isb",
                options(nostack, preserves_flags)
            );
        }
    }
}

/// Maps `size` bytes at `va` to those at `pa`; all three are rounded to whole pages.
///
/// The image itself must keep its mapping: a range that overlaps it is refused.
///
/// # Errors
///
/// [`OutOfTables`] when the range needs more tables than there are, or is beyond 39 bits, or overlaps the image.
pub fn map(va: usize, pa: usize, size: usize, attributes: Attributes) -> Result<(), OutOfTables> {
    let start = va & !(PAGE_SIZE - 1);
    let end = va.checked_add(size).ok_or(OutOfTables)?.next_multiple_of(PAGE_SIZE);
    let image = entry::image_range();
    if end > GIGABYTE * ENTRIES || (start < image.end && end > image.start) {
        return Err(OutOfTables);
    }
    while BUSY.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    let result = map_pages(start..end, pa & !(PAGE_SIZE - 1), attributes.bits());
    invalidate();
    BUSY.store(false, Ordering::Release);
    result
}

fn map_pages(va: Range<usize>, pa: usize, bits: u64) -> Result<(), OutOfTables> {
    let offset = pa.wrapping_sub(va.start);
    let mut at = va.start;
    while at < va.end {
        let output = at.wrapping_add(offset);
        let middle = descend(&ROOT.0[at / GIGABYTE % ENTRIES], BLOCK_SIZE)?;
        let entry = &middle.0[at / BLOCK_SIZE % ENTRIES];
        if at.is_multiple_of(BLOCK_SIZE) && output.is_multiple_of(BLOCK_SIZE) && va.end - at >= BLOCK_SIZE {
            replace(entry, output as u64 | bits);
            at += BLOCK_SIZE;
        } else {
            let last = descend(entry, PAGE_SIZE)?;
            replace(&last.0[at / PAGE_SIZE % ENTRIES], output as u64 | bits | TABLE_OR_PAGE);
            at += PAGE_SIZE;
        }
    }
    Ok(())
}

/// Makes the map that every program starts with. Runs with the MMU off, on the first context only.
pub(crate) fn map_default() {
    let image = entry::image_range();
    let rest = if arch::is_normal_world() {
        Attributes::Memory
    } else {
        Attributes::NonSecure
    };
    for gigabyte in 1..4 {
        ROOT.0[gigabyte].store((gigabyte * GIGABYTE) as u64 | rest.bits(), Ordering::Relaxed);
    }
    let first = &TABLES[0];
    USED.store(1, Ordering::Relaxed);
    ROOT.0[0].store(first.address() | VALID | TABLE_OR_PAGE, Ordering::Relaxed);
    for (i, entry) in first.0.iter().enumerate() {
        let start = i * BLOCK_SIZE;
        entry.store(start as u64 | Attributes::Device.bits(), Ordering::Relaxed);
    }
    // The image may share a block of 2 MiB with other partitions' memory or with devices: map it page by page. That also makes tables of the blocks
    // that it is in, so that no later call splits the block that it runs from.
    let mapped = map_pages(image.clone(), image.start, Attributes::Memory.bits());
    assert!(
        mapped.is_ok(),
        "the image is larger than the translation tables allow for"
    );
}

/// Turns the MMU and the caches on with the tables that [`map_default`] made.
pub(crate) fn enable() {
    let root = ROOT.address();
    let range = arch::physical_address_range();
    // T0SZ = 25 (39 bits), write-back walks, inner shareable, 4 KiB granule.
    let common: u64 = 25 | (1 << 8) | (1 << 10) | (3 << 12);
    // SAFETY: the tables map the image, where this code, its stack and its data are, at the addresses that they have with the MMU off. Bits 2 and
    // 12 are the caches; SCTLR keeps its other bits except alignment checking (bit 1) and write-implies-execute-never (bit 19), which are cleared.
    unsafe {
        if arch::is_normal_world() {
            let tcr = common | (range << 16) | (1 << 23) | (1 << 31);
            asm!(
                "msr mair_el2, {mair}", "msr tcr_el2, {tcr}", "msr ttbr0_el2, {root}", "isb",
                "tlbi alle2", "ic iallu", "dsb sy", "isb",
                "mrs {tmp}, sctlr_el2", "bic {tmp}, {tmp}, #(1 << 1)", "bic {tmp}, {tmp}, #(1 << 19)",
                "orr {tmp}, {tmp}, #1", "orr {tmp}, {tmp}, #(1 << 2)", "orr {tmp}, {tmp}, #(1 << 12)",
                "msr sctlr_el2, {tmp}", "isb",
                mair = in(reg) MAIR, tcr = in(reg) tcr, root = in(reg) root, tmp = out(reg) _,
                options(nostack, preserves_flags)
            );
        } else {
            // Bit 23 is EPD1: nothing is translated by TTBR1.
            let tcr = common | (range << 32) | (1 << 23);
            asm!(
                "msr mair_el1, {mair}", "msr tcr_el1, {tcr}", "msr ttbr0_el1, {root}", "isb",
                "tlbi vmalle1", "ic iallu", "dsb sy", "isb",
                "mrs {tmp}, sctlr_el1", "bic {tmp}, {tmp}, #(1 << 1)", "bic {tmp}, {tmp}, #(1 << 19)",
                "orr {tmp}, {tmp}, #1", "orr {tmp}, {tmp}, #(1 << 2)", "orr {tmp}, {tmp}, #(1 << 12)",
                "msr sctlr_el1, {tmp}", "isb",
                mair = in(reg) MAIR, tcr = in(reg) tcr, root = in(reg) root, tmp = out(reg) _,
                options(nostack, preserves_flags)
            );
        }
    }
}
