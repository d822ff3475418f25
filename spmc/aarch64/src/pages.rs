//! The memory that the image leaves free: pages for translation tables from above, memory for the heap and the stacks
//! from below.
#![expect(unsafe_code, reason = "hands out raw memory")]

use core::{
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

use spin::Mutex;

use crate::{copy, layout, layout::PAGE};

/// Figures of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Table pages in use.
    pub tables: usize,
    /// Pages that could still become tables.
    pub available: usize,
    /// Pages of the heap and the stacks.
    pub fixed: usize,
}

/// Invariant: `low <= high`, both page aligned, within [`layout::free`]. `[low, high)` is unused. Pages from `high` on
/// are tables, or in the list of freed ones, whose first word is the next one's address (0 at the end) and whose other
/// words are 0.
#[derive(Debug)]
struct Pool {
    low: usize,
    high: usize,
    freed: usize,
    freed_count: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    low: 0,
    high: 0,
    freed: 0,
    freed_count: 0,
});

/// [`Pool::high`], for [`is_table`]. Only ever decreases, once [`initialise`] has set it.
static TABLES_START: AtomicUsize = AtomicUsize::new(0);

/// Opens the pool.
pub fn initialise() {
    let free = layout::free();
    let mut pool = POOL.lock();
    pool.low = free.start;
    pool.high = free.end;
    TABLES_START.store(free.end, Ordering::Relaxed);
}

/// Whether `address` is that of a page which the pool has given out for a table (or has taken back).
#[inline]
#[must_use]
pub fn is_table(address: usize) -> bool {
    address >= TABLES_START.load(Ordering::Relaxed) && address < layout::free().end && address.is_multiple_of(PAGE)
}

/// A zeroed page for a table.
#[must_use]
pub fn allocate_table() -> Option<usize> {
    let mut pool = POOL.lock();
    if pool.freed != 0 {
        let page = pool.freed;
        let link: *mut usize = ptr::with_exposed_provenance_mut(page);
        // SAFETY: a page in the list is ours, with the next one's address in its first word.
        unsafe {
            pool.freed = link.read_volatile();
            link.write_volatile(0);
        }
        pool.freed_count -= 1;
        return Some(page);
    }
    if pool.high - pool.low < PAGE {
        return None;
    }
    pool.high -= PAGE;
    let page = pool.high;
    zero(page);
    TABLES_START.store(page, Ordering::Relaxed);
    Some(page)
}

/// Takes back a page of [`allocate_table`].
///
/// # Panics
/// When it is not one: a bug of the SPMC.
pub fn free_table(page: usize) {
    assert!(is_table(page), "free of {page:#x}, which is no table");
    zero(page);
    let mut pool = POOL.lock();
    let link: *mut usize = ptr::with_exposed_provenance_mut(page);
    // SAFETY: the page is ours, and nobody uses it any more.
    unsafe { link.write_volatile(pool.freed) };
    pool.freed = page;
    pool.freed_count += 1;
}

/// Zeroes a page of the pool that nobody uses.
fn zero(page: usize) {
    // SAFETY: callers own the page; it is mapped read-write as Normal memory, and no Rust reference to it exists.
    let done = unsafe { copy::zero(page, PAGE) };
    assert!(done.is_ok(), "no memory at {page:#x}");
}

/// `bytes` (rounded up to pages) of contiguous memory for good, behind what was taken this way before. Not zeroed.
#[must_use]
pub fn take(bytes: usize) -> Option<usize> {
    let bytes = bytes.checked_next_multiple_of(PAGE)?;
    let mut pool = POOL.lock();
    if pool.high - pool.low < bytes {
        return None;
    }
    let start = pool.low;
    pool.low += bytes;
    Some(start)
}

/// Figures.
#[must_use]
pub fn usage() -> Usage {
    let free = layout::free();
    let pool = POOL.lock();
    Usage {
        tables: (free.end - pool.high) / PAGE - pool.freed_count,
        available: (pool.high - pool.low) / PAGE + pool.freed_count,
        fixed: (pool.low - free.start) / PAGE,
    }
}
