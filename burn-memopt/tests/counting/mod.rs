//! The counting allocator, and turns for tests that read its counts, which are the process's.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn_memopt::memory::CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Until this is dropped, no other test that takes a turn runs.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
