use std::thread;

use serde::{Deserialize, Serialize};

/// Threads above which more of them seldom help, and each costs an item in memory.
const MAX_DEFAULT_WORKERS: usize = 4;

/// How a [`Loader`](super::Loader) makes batches.
///
/// `batch_size`, `shuffle`, `shuffle_buffer` and `drop_last` decide what the batches are,
/// and a resumed run has to have the same ones. The others decide how they come about, and
/// may change at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderConfig {
    /// Items in a batch.
    pub batch_size: usize,
    /// Seed of the shuffle, which is another one in every epoch. The default is
    /// `None`: items come in their own order.
    pub shuffle: Option<u64>,
    /// Records of a stream among which the next one is drawn when it is shuffled: they are in
    /// memory, their items are not. The default is `1024`.
    pub shuffle_buffer: usize,
    /// Leaves out the last items of an epoch if they do not fill a batch. The
    /// default is `false`.
    pub drop_last: bool,
    /// Threads that load items; 0 loads in the consumer's thread, when it asks. The
    /// default is 4, or the number of cores where there are fewer.
    pub workers: usize,
    /// Bytes of items in memory that the consumer has not got yet, be they loading, waiting or in
    /// a batch: see [`Loader`](super::Loader) for the exact bound. The default is 256 MiB.
    pub prefetch_bytes: u64,
    /// Batches that the workers put together, and on the device, before the consumer asks;
    /// with 0 that is done when it asks. Their items count in `prefetch_bytes`. The
    /// default is `1`.
    pub staged: usize,
    /// Times that a failing item is tried again. The default is `0`.
    pub retries: u32,
    /// What becomes of an item that fails for good. The default is to fail.
    pub on_error: OnError,
}

/// What becomes of an item that cannot be loaded, after all retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The batch is an error, which names the item and ends the iterator.
    #[default]
    Fail,
    /// The item is left out and counted in the loader's report; the next one takes its place,
    /// so that batches stay full.
    Skip,
}

impl LoaderConfig {
    /// Batches of `batch_size`, and the defaults.
    pub fn new(batch_size: usize) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            batch_size,
            shuffle: None,
            shuffle_buffer: 1024,
            drop_last: false,
            workers: cores.min(MAX_DEFAULT_WORKERS),
            prefetch_bytes: 256 << 20,
            staged: 1,
            retries: 0,
            on_error: OnError::Fail,
        }
    }

    /// Shuffles every epoch anew.
    pub fn with_shuffle(self, seed: u64) -> Self {
        Self {
            shuffle: Some(seed),
            ..self
        }
    }

    /// Chooses among how many records of a stream the next one is drawn.
    pub fn with_shuffle_buffer(self, shuffle_buffer: usize) -> Self {
        Self {
            shuffle_buffer,
            ..self
        }
    }

    /// Chooses what happens to the last items of an epoch.
    pub fn with_drop_last(self, drop_last: bool) -> Self {
        Self { drop_last, ..self }
    }

    /// Chooses how many threads load items.
    pub fn with_workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// Chooses how many bytes of items are loaded in advance.
    pub fn with_prefetch_bytes(self, prefetch_bytes: u64) -> Self {
        Self {
            prefetch_bytes,
            ..self
        }
    }

    /// Chooses how many batches are put together in advance.
    pub fn with_staged(self, staged: usize) -> Self {
        Self { staged, ..self }
    }

    /// Chooses how often a failing item is tried again.
    pub fn with_retries(self, retries: u32) -> Self {
        Self { retries, ..self }
    }

    /// Chooses what becomes of an item that fails for good.
    pub fn with_on_error(self, on_error: OnError) -> Self {
        Self { on_error, ..self }
    }

    /// Checks what no loader can work with.
    ///
    /// # Panics
    /// If `batch_size` or `shuffle_buffer` is zero.
    pub(super) fn validate(self) -> Self {
        let Self {
            batch_size,
            shuffle_buffer,
            ..
        } = self;
        assert!(batch_size > 0, "batch_size must be at least 1, got 0");
        assert!(
            shuffle_buffer > 0,
            "shuffle_buffer must be at least 1, got 0"
        );
        self
    }

    /// Items of `total` that an epoch delivers if none fails.
    pub(super) fn delivered(self, total: u64) -> u64 {
        match self.drop_last {
            true => total - total % self.batch_size as u64,
            false => total,
        }
    }

    /// Whether an epoch of `total` items has no batch left after `passed` of them.
    pub(super) fn is_over(self, passed: u64, total: u64) -> bool {
        let least = if self.drop_last { self.batch_size } else { 1 };
        total.saturating_sub(passed) < least as u64
    }
}
