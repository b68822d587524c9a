use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Bytes;

/// The system's allocator with exact counts of live and peak bytes.
///
/// A binary, bench or test that installs it can read what the tensors of a host backend (flex)
/// hold: [`live`], [`peak`] and [`PeakMeter`](super::PeakMeter) return its counts. Without
/// it they return "unknown".
///
/// # Exactness
/// Counts the bytes that were asked for, of the whole process and every thread, at every
/// allocation: no peak is missed. Not counted are the allocator's own overhead, memory that the
/// system maps in another way (files, thread stacks) and device memory. A reallocation counts its
/// difference in size, even where the system copies. It costs two relaxed atomic operations an
/// allocation, which tensors are too large to notice.
///
/// # Example
/// ```
/// use burn_memopt::memory::{self, Bytes, CountingAllocator};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
///
/// # fn main() {
/// let before = memory::live().expect("the allocator is installed");
/// let buffer = vec![0u8; 1 << 20];
/// assert!(memory::live().expect("still installed") >= before + Bytes::mib(1));
/// # drop(buffer);
/// # }
/// ```
#[derive(Debug, Default, Clone, Copy)]
pub struct CountingAllocator;

// The counts are the process's, not the instance's: there is one global allocator, and code that
// reads them does not know the static.
static INSTALLED: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicU64 = AtomicU64::new(0);
/// The highest live bytes since the last fold into the windows.
static PEAK: AtomicU64 = AtomicU64::new(0);
/// The highest live bytes that were folded since the last [`reset_peak`].
static FOLDED_PEAK: AtomicU64 = AtomicU64::new(0);
/// The open windows. Allocating under this lock is fine: counting never takes it.
static WINDOWS: Mutex<Vec<Weak<AtomicU64>>> = Mutex::new(Vec::new());

impl CountingAllocator {
    /// The allocator, for a `#[global_allocator]` static.
    pub const fn new() -> Self {
        Self
    }
}

/// The bytes allocated and not yet freed in this process, `None` without a
/// [`CountingAllocator`].
///
/// ```
/// assert_eq!(burn_memopt::memory::live(), None); // this program did not install one
/// ```
pub fn live() -> Option<Bytes> {
    INSTALLED
        .load(Relaxed)
        .then(|| Bytes::new(LIVE.load(Relaxed)))
}

/// The highest [`live`] bytes since the program began or [`reset_peak`] was last called, `None`
/// without a [`CountingAllocator`].
pub fn peak() -> Option<Bytes> {
    let peak = || FOLDED_PEAK.load(Relaxed).max(PEAK.load(Relaxed));
    INSTALLED.load(Relaxed).then(|| Bytes::new(peak()))
}

/// Restarts [`peak`] from the bytes live now.
///
/// Peak meters that run meanwhile keep their own peaks.
pub fn reset_peak() {
    let windows = windows();
    fold_peak(&windows);
    FOLDED_PEAK.store(LIVE.load(Relaxed), Relaxed);
}

/// The highest live bytes since it was opened, whatever other windows or [`reset_peak`] do.
#[derive(Debug)]
pub(super) struct PeakWindow {
    highest: Arc<AtomicU64>,
}

impl PeakWindow {
    /// Opens a window at the bytes live now, `None` without a [`CountingAllocator`].
    pub(super) fn open() -> Option<Self> {
        live()?;
        let mut windows = windows();
        fold_peak(&windows);
        windows.retain(|window| window.strong_count() > 0);
        let highest = Arc::new(AtomicU64::new(LIVE.load(Relaxed)));
        windows.push(Arc::downgrade(&highest));
        Some(Self { highest })
    }

    /// The highest live bytes since the window was opened or restarted.
    pub(super) fn peak(&self) -> Bytes {
        Bytes::new(self.highest.load(Relaxed).max(PEAK.load(Relaxed)))
    }

    /// Restarts the window at the bytes live now and returns the peak until then.
    #[cfg(feature = "tools")]
    pub(super) fn restart(&self) -> Bytes {
        let windows = windows();
        fold_peak(&windows);
        Bytes::new(self.highest.swap(LIVE.load(Relaxed), Relaxed))
    }
}

fn windows() -> MutexGuard<'static, Vec<Weak<AtomicU64>>> {
    WINDOWS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds the peak to all open windows and begins a new one at the live bytes.
fn fold_peak(windows: &[Weak<AtomicU64>]) {
    let highest = PEAK.swap(LIVE.load(Relaxed), Relaxed);
    // Another thread may have allocated between the load and the swap.
    PEAK.fetch_max(LIVE.load(Relaxed), Relaxed);
    FOLDED_PEAK.fetch_max(highest, Relaxed);
    for window in windows.iter().filter_map(Weak::upgrade) {
        window.fetch_max(highest, Relaxed);
    }
}

fn count_allocated(bytes: usize) {
    if !INSTALLED.load(Relaxed) {
        INSTALLED.store(true, Relaxed);
    }
    let live = LIVE.fetch_add(bytes as u64, Relaxed) + bytes as u64;
    if live > PEAK.load(Relaxed) {
        PEAK.fetch_max(live, Relaxed);
    }
}

fn count_freed(bytes: usize) {
    LIVE.fetch_sub(bytes as u64, Relaxed);
}

// SAFETY: every method hands its arguments unchanged to `System` and returns what it returned, so
// `System`'s guarantees are ours. The counting around it touches atomics only: it neither
// allocates, nor unwinds, nor looks into the memory.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is `System`'s.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            count_allocated(layout.size());
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // Passed on as such: the system has zeroed pages at hand, writing them would cost time.
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is `System`'s.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            count_allocated(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Counted first: afterwards another thread may already have the block and be counted,
        // and the live bytes would show both.
        count_freed(layout.size());
        // SAFETY: `block` came from this allocator with `layout`, that is from `System`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: `block` came from this allocator with `layout`, that is from `System`, and the
        // caller keeps the contract on `new_size`.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        if !moved.is_null() {
            match new_size.checked_sub(layout.size()) {
                Some(grown) => count_allocated(grown),
                None => count_freed(layout.size() - new_size),
            }
        }
        moved
    }
}
