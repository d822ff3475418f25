//! The SPMC's own translation: its memory, the UART, the interrupt controller, nothing else.
//!
//! | what | where | how |
//! | --- | --- | --- |
//! | code | identity | read, execute |
//! | constants | identity | read |
//! | data, heap, pool, stack of the boot PE | identity | read, write |
//! | page below the boot PE's stack | | unmapped |
//! | UART, interrupt controller | identity | device |
//! | stacks of the other PEs | [`layout::STACKS`] | read, write; unmapped pages between |
//! | foreign memory | [`layout::FOREIGN`] | unmapped, but for the duration of one access ([`crate::foreign`]) |
//!
//! `SCTLR_EL2.WXN` is set: what can be written can't be executed, whatever a descriptor says.
#![expect(unsafe_code, reason = "makes translation tables and switches to them")]

use core::{
    ops::Range,
    ptr::{self, NonNull},
    sync::atomic::Ordering,
};

use aarch64_paging::{
    MapError,
    descriptor::{El23Attributes, PhysicalAddress},
    paging::{Constraints, El2, MemoryRegion, PageTable, RootTable, Translation},
};

use tantalum_core::addr::PageRange;

use crate::{
    copy,
    entry::TRANSLATION,
    features::Features,
    layout::{self, PAGE},
    pages, sysreg,
};

/// `MAIR_EL2`: 0 Normal write-back, 1 Device-nGnRnE.
const MAIR: u64 = 0xff;
/// `T0SZ`: 39-bit addresses, tables from level 1 on.
const T0SZ: u64 = 25;
const ROOT_LEVEL: usize = 1;
/// `TCR_EL2`: RES1; inner-shareable write-back walks, 4 KiB granule.
const TCR: u64 = 1 << 31 | 1 << 23 | 0b11 << 12 | 0b01 << 10 | 0b01 << 8 | T0SZ;
/// `SCTLR_EL2`: RES1; MMU, caches, stack alignment check, no execution of what can be written.
const SCTLR: u64 = {
    const RES1: u64 = 0x30c5_0830;
    const M: u64 = 1 << 0;
    const C: u64 = 1 << 2;
    const SA: u64 = 1 << 3;
    const I: u64 = 1 << 12;
    const WXN: u64 = 1 << 19;
    RES1 | M | C | SA | I | WXN
};

const COMMON: El23Attributes = El23Attributes::VALID
    .union(El23Attributes::ACCESSED)
    .union(El23Attributes::USER_RES1);
const NORMAL: El23Attributes = COMMON
    .union(El23Attributes::ATTRIBUTE_INDEX_0)
    .union(El23Attributes::INNER_SHAREABLE);
const CODE: El23Attributes = NORMAL.union(El23Attributes::READ_ONLY);
const CONSTANTS: El23Attributes = CODE.union(El23Attributes::XN);
const DATA: El23Attributes = NORMAL.union(El23Attributes::XN);
const DEVICE: El23Attributes = COMMON
    .union(El23Attributes::ATTRIBUTE_INDEX_1)
    .union(El23Attributes::XN);

/// Bits of a page descriptor for foreign memory.
pub mod foreign {
    use super::{CONSTANTS, DATA, El23Attributes};

    /// Readable.
    pub const READ: u64 = CONSTANTS.union(El23Attributes::TABLE_OR_PAGE).bits() as u64;
    /// Readable and writable.
    pub const WRITE: u64 = DATA.union(El23Attributes::TABLE_OR_PAGE).bits() as u64;
    /// In the non-secure physical address space.
    pub const NON_SECURE: u64 = El23Attributes::NS.bits() as u64;
}

/// Where tables come from: first the boot area, then the page pool. They are never freed.
#[derive(Debug)]
struct Tables {
    next: usize,
}

impl Translation<El23Attributes> for Tables {
    fn allocate_table(&mut self) -> (NonNull<PageTable<El23Attributes>>, PhysicalAddress) {
        let page = if self.next < layout::boot_tables().end {
            let page = self.next;
            self.next += PAGE;
            // SAFETY: the linker script reserves this page for us, and it is given out once.
            let zeroed = unsafe { copy::zero(page, PAGE) };
            zeroed.ok().map(|()| page)
        } else {
            pages::allocate_table()
        };
        let page = page.expect("memory for a stage-1 table");
        let table = NonNull::new(ptr::with_exposed_provenance_mut(page)).expect("memory does not start at 0");
        (table, PhysicalAddress(page))
    }

    unsafe fn deallocate_table(&mut self, _: NonNull<PageTable<El23Attributes>>) {}

    fn physical_to_virtual(&self, address: PhysicalAddress) -> NonNull<PageTable<El23Attributes>> {
        NonNull::new(ptr::with_exposed_provenance_mut(address.0)).expect("tables don't lie at 0")
    }
}

/// The tables. With the MMU on they only ever get what is at addresses that had nothing before ([`layout`] keeps stacks and
/// windows apart), which needs a barrier but no TLB maintenance: hence no `Mapping`, which is prepared for more.
#[derive(Debug)]
pub struct Stage1 {
    root: RootTable<El2, Tables>,
}

impl Stage1 {
    /// Tables for what the SPMC needs to start, with the MMU still off.
    ///
    /// # Errors
    /// When the platform's addresses can't be mapped.
    pub fn new(uart: usize) -> Result<Self, MapError> {
        let tables = Tables {
            next: layout::boot_tables().start,
        };
        let mut this = Self {
            root: RootTable::new(tables, ROOT_LEVEL, El2),
        };
        this.map(layout::text(), layout::text().start, CODE)?;
        this.map(layout::read_only(), layout::read_only().start, CONSTANTS)?;
        this.map(layout::data(), layout::data().start, DATA)?;
        this.map(layout::free(), layout::free().start, DATA)?;
        this.map(layout::boot_tables(), layout::boot_tables().start, DATA)?;
        this.map(layout::boot_stack(), layout::boot_stack().start, DATA)?;
        this.map(uart..uart + PAGE, uart, DEVICE)?;
        Ok(this)
    }

    fn map(&mut self, range: Range<usize>, to: usize, attributes: El23Attributes) -> Result<(), MapError> {
        // No contiguous hint: the break-before-make rules for it are not worth what it saves.
        self.map_range(range, to, attributes, Constraints::NO_CONTIGUOUS_HINT)
    }

    /// Maps `range`, visible to all that comes after it.
    #[inline(never)]
    fn map_range(
        &mut self,
        range: Range<usize>,
        to: usize,
        attributes: El23Attributes,
        constraints: Constraints,
    ) -> Result<(), MapError> {
        let region = MemoryRegion::new(range.start, range.end);
        self.root
            .map_range(&region, PhysicalAddress(to), attributes, constraints)?;
        sysreg::dsb_ishst();
        sysreg::isb();
        Ok(())
    }

    /// Maps the registers of a device, at their own addresses.
    ///
    /// # Errors
    /// When they can't be.
    pub fn map_device(&mut self, device: PageRange) -> Result<(), MapError> {
        let start = layout::address(device.base().as_u64());
        self.map(start..start + layout::address(device.bytes()), start, DEVICE)
    }

    /// Says what [`crate::entry`] has to write to turn the MMU on.
    pub fn publish(&self, features: &Features) {
        TRANSLATION.mair.store(MAIR, Ordering::Relaxed);
        TRANSLATION.tcr.store(TCR | features.pa_range << 16, Ordering::Relaxed);
        TRANSLATION
            .ttbr0
            .store(self.root.to_physical().0 as u64, Ordering::Relaxed);
        TRANSLATION.sctlr.store(SCTLR, Ordering::Relaxed);
    }

    /// Maps the stack of the PE with `index` to `memory`. Returns the initial stack pointer.
    ///
    /// # Errors
    /// When there is no address left for it.
    pub fn map_stack(&mut self, index: usize, memory: usize) -> Result<usize, MapError> {
        let start = layout::STACKS + index * layout::STACK_STRIDE + layout::STACK_OFFSET;
        self.map(start..start + layout::STACK_BYTES, memory, DATA)?;
        Ok(start + layout::STACK_BYTES)
    }

    /// Makes the table of the windows to foreign memory, with nothing mapped. Returns its address.
    ///
    /// # Errors
    /// When the address is out of range, which the constants exclude.
    pub fn map_foreign_table(&mut self) -> Result<usize, MapError> {
        self.map_range(
            layout::FOREIGN..layout::FOREIGN + 511 * PAGE,
            layout::FOREIGN,
            El23Attributes::empty(),
            Constraints::NO_BLOCK_MAPPINGS | Constraints::NO_CONTIGUOUS_HINT,
        )?;
        let mut table = self.root.to_physical().0;
        for level in [1_u32, 2] {
            let index = layout::FOREIGN >> (12 + 9 * (3 - level)) & 511;
            let descriptor: *const usize = ptr::with_exposed_provenance(table + 8 * index);
            // SAFETY: reads a descriptor of our own tables, in which the way to this table was just made.
            let descriptor = unsafe { descriptor.read_volatile() };
            assert!(descriptor & 3 == 3, "no table of windows");
            table = descriptor & 0x0000_ffff_ffff_f000;
        }
        // SAFETY: the table is ours alone; its entries are invalid, their other bits are ignored.
        let zeroed = unsafe { copy::zero(table, PAGE) };
        assert!(zeroed.is_ok(), "no table of windows");
        Ok(table)
    }
}
