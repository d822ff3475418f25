//! Access to memory that is not the SPMC's: partitions', the normal world's, the manifest.
//!
//! Each PE has a window of a few pages in its own address space. A page is mapped for the duration of one access, in
//! the physical address space that the caller names, and unmapped again; the accesses are made by assembly that
//! survives a fault ([`crate::copy`]). So no Rust reference to such memory ever exists, and none of it can be reached
//! otherwise.
//!
//! Invalidation is local: no other PE ever uses these addresses, and the PE's TLB is invalidated when it comes up.
#![expect(unsafe_code, reason = "maps and accesses foreign memory")]

use core::{
    arch::asm,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use tantalum_core::{
    addr::{PhysAddr, World},
    machine::MemoryFault,
};

use crate::{
    copy,
    layout::{self, PAGE},
    stage1::foreign,
    sysreg,
};

/// Pages of a window. One more stays unmapped behind it.
const PAGES: usize = 7;
const STRIDE: usize = PAGES + 1;
/// Windows in the one table.
pub const MAX_WINDOWS: usize = 512 / STRIDE;

/// What to do with a piece of foreign memory.
#[derive(Debug)]
enum Access {
    /// Copy it to this address of ours.
    Read(usize),
    /// Copy from this address of ours to it.
    Write(usize),
    Zero,
    /// Clean and invalidate it to the point of coherency.
    Clean,
}

/// What may hold whatever foreign memory holds: any bytes are a value, and all of a value is bytes.
///
/// # Safety
/// That is so.
pub unsafe trait Plain {}
// SAFETY: integers without padding.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}

/// The window of one PE.
#[derive(Debug)]
pub struct Window {
    start: usize,
    /// Address of its first descriptor.
    descriptors: usize,
    pa_limit: u64,
}

impl Window {
    /// The window of the PE with `index`, with its descriptors in `table`.
    #[must_use]
    pub fn new(index: usize, table: usize, pa_limit: u64) -> Option<Self> {
        (index < MAX_WINDOWS).then(|| Self {
            start: layout::FOREIGN + index * STRIDE * PAGE,
            descriptors: table + index * STRIDE * 8,
            pa_limit,
        })
    }

    /// Copies foreign memory into `into`.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read<T: Plain>(&mut self, world: World, from: PhysAddr, into: &mut [T]) -> Result<(), MemoryFault> {
        let ours = into.as_mut_ptr().expose_provenance();
        self.each_piece(world, from, size_of_val(into), Access::Read(ours))
    }

    /// Copies `from` to foreign memory.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write<T: Plain>(&mut self, world: World, to: PhysAddr, from: &[T]) -> Result<(), MemoryFault> {
        let ours = from.as_ptr().expose_provenance();
        self.each_piece(world, to, size_of_val(from), Access::Write(ours))
    }

    /// Zeroes whole pages of foreign memory, to the point of coherency: whoever gets them may read them with its caches off,
    /// and must not find what was there before.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn zero(&mut self, world: World, start: PhysAddr, bytes: usize) -> Result<(), MemoryFault> {
        self.each_piece(world, start, bytes, Access::Zero)
    }

    /// Cleans and invalidates whole pages of foreign memory to the point of coherency.
    ///
    /// # Errors
    /// When there is no such memory.
    pub fn clean(&mut self, world: World, start: PhysAddr, bytes: usize) -> Result<(), MemoryFault> {
        self.each_piece(world, start, bytes, Access::Clean)
    }

    /// Goes through a range, a window's size at a time.
    fn each_piece(&self, world: World, start: PhysAddr, bytes: usize, access: Access) -> Result<(), MemoryFault> {
        let mut at = self.check(start, bytes)?;
        let end = at + bytes;
        let mut access = access;
        while at < end {
            let offset = at % PAGE;
            let piece = (end - at).min(PAGES * PAGE - offset);
            let pages = (offset + piece).div_ceil(PAGE);
            self.map(world, at - offset, pages, &access);
            let done = self.perform(offset, piece, &access);
            self.unmap(pages);
            done.map_err(|copy::Fault| MemoryFault {
                at: PhysAddr::new(at as u64),
            })?;
            at += piece;
            if let Access::Read(ours) | Access::Write(ours) = &mut access {
                *ours += piece;
            }
        }
        Ok(())
    }

    /// Refuses what wraps, what the PE can't address, and what is the SPMC's.
    fn check(&self, start: PhysAddr, bytes: usize) -> Result<usize, MemoryFault> {
        let fault = MemoryFault { at: start };
        let at = usize::try_from(start.as_u64()).map_err(|_| fault)?;
        let end = at.checked_add(bytes).ok_or(fault)?;
        let own = layout::window();
        if end as u64 > self.pa_limit || at < own.end && own.start < end {
            return Err(fault);
        }
        Ok(at)
    }

    fn map(&self, world: World, page: usize, pages: usize, access: &Access) {
        let permission = match access {
            Access::Read(_) => foreign::READ,
            Access::Write(_) | Access::Zero | Access::Clean => foreign::WRITE,
        };
        let space = match world {
            World::Secure => 0,
            World::NonSecure => foreign::NON_SECURE,
        };
        for index in 0..pages {
            self.set(index, (page + index * PAGE) as u64 | permission | space);
        }
        sysreg::dsb_ishst();
        sysreg::isb();
    }

    fn unmap(&self, pages: usize) {
        for index in 0..pages {
            self.set(index, 0);
        }
        sysreg::dsb_ishst();
        for index in 0..pages {
            let operand = (self.start + index * PAGE) >> 12;
            // SAFETY: TLB invalidation only makes later accesses walk the tables again.
            unsafe { asm!("tlbi vae2, {}", in(reg) operand, options(nostack, preserves_flags)) };
        }
        // SAFETY: barriers.
        unsafe { asm!("dsb nsh", "isb", options(nostack, preserves_flags)) };
    }

    /// Writes a descriptor of the window.
    #[inline]
    fn set(&self, index: usize, value: u64) {
        debug_assert!(index < PAGES);
        let descriptor: *const AtomicU64 = ptr::with_exposed_provenance(self.descriptors + 8 * index);
        // SAFETY: the descriptor is in the table of windows, which is never freed; this one is the PE's alone.
        unsafe { &*descriptor }.store(value, Ordering::Relaxed);
    }

    /// Accesses what is mapped.
    fn perform(&self, offset: usize, bytes: usize, access: &Access) -> Result<(), copy::Fault> {
        let foreign = self.start + offset;
        match *access {
            // SAFETY: the window maps at least `bytes` bytes from `foreign` on, for this PE only; ours is within the
            // slice that the caller of `read` borrows mutably.
            Access::Read(ours) => unsafe { copy::copy(ours, foreign, bytes) },
            // SAFETY: as above; ours is within the slice that the caller of `write` borrows.
            Access::Write(ours) => unsafe { copy::copy(foreign, ours, bytes) },
            // SAFETY: as above; cleaning does not change what memory holds.
            Access::Zero => unsafe { copy::zero(foreign, bytes).and_then(|()| copy::clean(foreign, bytes)) },
            // SAFETY: as above; cleaning does not change what memory holds.
            Access::Clean => unsafe { copy::clean(foreign, bytes) },
        }
    }
}
