//! The heap of the boot phase. Once partitions run nothing allocates any more: the heap is sealed.
#![expect(unsafe_code, reason = "a global allocator")]

use core::{
    alloc::{GlobalAlloc, Layout},
    ptr::{self, NonNull},
    sync::atomic::{AtomicBool, Ordering},
};

use linked_list_allocator::Heap;
use spin::Mutex;

use crate::pages;

/// The heap grows by multiples of this.
const STEP: usize = 0x4000;

struct BootHeap {
    heap: Mutex<Heap>,
    sealed: AtomicBool,
}

#[global_allocator]
static HEAP: BootHeap = BootHeap {
    heap: Mutex::new(Heap::empty()),
    sealed: AtomicBool::new(false),
};

// SAFETY: memory comes from the page pool, which gives each page out once; `Heap` hands out disjoint blocks of it that
// satisfy the layout, under a lock.
unsafe impl GlobalAlloc for BootHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.sealed.load(Ordering::Relaxed) {
            return ptr::null_mut();
        }
        let mut heap = self.heap.lock();
        if let Ok(block) = heap.allocate_first_fit(layout) {
            return block.as_ptr();
        }
        if grow(&mut heap, layout).is_none() {
            return ptr::null_mut();
        }
        heap.allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller says that the block came from `alloc` with this layout.
            unsafe { self.heap.lock().deallocate(block, layout) };
        }
    }
}

/// Makes room for one block of `layout`.
fn grow(heap: &mut Heap, layout: Layout) -> Option<()> {
    let bytes = layout
        .size()
        .checked_add(layout.align())?
        .checked_add(64)?
        .checked_next_multiple_of(STEP)?;
    let start = pages::take(bytes)?;
    if heap.size() == 0 {
        // SAFETY: the pages are the heap's from now on, mapped read-write.
        unsafe { heap.init(ptr::with_exposed_provenance_mut(start), bytes) };
    } else if start == heap.top().addr() {
        // SAFETY: the pages follow the heap's directly, and are its own from now on.
        unsafe { heap.extend(bytes) };
    } else {
        return None;
    }
    Some(())
}

/// Ends allocation. Stacks must have been taken after the heap's last growth, or before its first.
pub fn seal() {
    HEAP.sealed.store(true, Ordering::Relaxed);
}

/// Bytes in use.
#[must_use]
pub fn used() -> usize {
    HEAP.heap.lock().used()
}
