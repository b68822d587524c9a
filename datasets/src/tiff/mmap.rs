//! The memory map: pages without a copy, and the only `unsafe` of the crate.

use std::{
    fs::File,
    io,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
};

use memmap2::Mmap;

/// Bytes that may be handed out before the map is told to release its pages: 8 MiB.
///
/// What was read through a map stays part of the process until the system needs the
/// memory: reading a stack of 50 GB would look like using 50 GB.
const MAX_RESIDENT: usize = 8 << 20;

/// Maps up to this size are kept as they are, 64 MiB: to read them again would cost more than the
/// little memory is worth.
const MAX_KEPT: usize = 64 << 20;

/// What a touch brings in at once, around the place that is touched: 64 KiB.
const FAULT_AROUND: usize = 64 << 10;

/// A file in the address space, read on first touch.
#[derive(Debug)]
pub(super) struct Mapping {
    map: Mmap,
    handed_out: AtomicUsize,
}

impl Mapping {
    /// Maps the whole file.
    ///
    /// # Errors
    /// If the file or the system has no maps, or the address space is too small.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: bytes of a map are bytes of the file, which another process may change. We
        // assume that nobody writes into pages that the stack already shows, as acquisition
        // programs do not: they append. What a writer that does so breaks is pixels; nothing
        // here trusts a byte of the map, every bit pattern of a sample is a number, and
        // directories are compared through it, but never parsed. A file that is cut off is noticed before each
        // access, by its length; cut between that check and the last use of the page, it ends the
        // process with SIGBUS, which cannot be avoided without a copy.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self {
            map,
            handed_out: AtomicUsize::new(0),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The bytes of a range that the file has.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.map[range]
    }

    /// Counts the range, and releases earlier ones.
    ///
    /// Readers still at work on those find them again in the file, only slower.
    pub(super) fn hand_out(&self, range: &Range<usize>) {
        let len = range.len().max(FAULT_AROUND);
        let before = self.handed_out.fetch_add(len, Ordering::Relaxed);
        if before > 0 && before.saturating_add(len) > MAX_RESIDENT && self.len() > MAX_KEPT {
            self.handed_out.store(len, Ordering::Relaxed);
            self.release();
        }
    }

    #[cfg(unix)]
    fn release(&self) {
        // SAFETY: the map is shared, read-only and of a file, so what is dropped here is read from
        // the file again at the next touch: no byte changes for anybody who holds a slice.
        let released = unsafe {
            self.map
                .unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, 0, self.map.len())
        };
        // It only saves memory: where the system refuses, it takes the pages back when it must.
        released.ok();
    }

    #[cfg(not(unix))]
    fn release(&self) {}
}
