//! An allocator that remembers what each thread asked for.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Remembering;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static TOTAL: Cell<usize> = const { Cell::new(0) };
}

fn remember(size: usize) {
    LARGEST.set(LARGEST.get().max(size));
    TOTAL.set(TOTAL.get() + size);
}

/// What one thread allocated.
#[derive(Debug, PartialEq, Eq)]
pub struct Allocated {
    /// Bytes of the largest allocation.
    pub largest: usize,
    /// Bytes of all allocations, those freed again as well.
    pub total: usize,
}

/// What this thread allocated since the last call.
pub fn take() -> Allocated {
    Allocated {
        largest: LARGEST.take(),
        total: TOTAL.take(),
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Remembering {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        remember(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        remember(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        remember(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Remembering = Remembering;
