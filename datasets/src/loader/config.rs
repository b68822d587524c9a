use std::thread;

use burn::config::Config;
use serde::{Deserialize, Serialize};

/// Threads above which more of them rarely help, and each costs an item in memory.
const MAX_DEFAULT_WORKERS: usize = 4;

/// How a [`Loader`](super::Loader) makes batches.
///
/// `batch_size`, `shuffle`, `shuffle_buffer` and `drop_last` decide what the batches are,
/// and a resumed run has to have the same ones. The others decide how they come about, and
/// may change at any time.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Items in a batch.
    pub batch_size: usize,
    /// Seed of the shuffle, which is another one in every epoch. The default is
    /// `None`: items come in their own order.
    pub shuffle: Option<u64>,
    /// Records of a stream among which the next one is drawn when it is shuffled: they are in
    /// memory, their items are not. The default is `1024`.
    #[config(default = 1024)]
    pub shuffle_buffer: usize,
    /// Leaves out the last items of an epoch if they do not fill a batch. The
    /// default is `false`.
    #[config(default = false)]
    pub drop_last: bool,
    /// Threads that load items; 0 loads in the consumer's thread, when it asks. The
    /// default is 4, or the number of cores where there are fewer.
    #[config(default = "default_workers()")]
    pub workers: usize,
    /// Bytes of items in memory that the consumer has not got yet, whether they load, wait or are
    /// in a batch: see [`Loader`](super::Loader) for the exact bound. The default is 256 MiB.
    #[config(default = 268435456)]
    pub prefetch_bytes: u64,
    /// Batches that the workers put together, and on the device, before the consumer asks;
    /// with 0 that is done when it asks. Their items count in `prefetch_bytes`. The
    /// default is `1`.
    #[config(default = 1)]
    pub staged: usize,
    /// Times that a failing item is tried again. The default is `0`.
    #[config(default = 0)]
    pub retries: u32,
    /// What becomes of an item that fails for good. The default is to fail.
    #[config(default = "OnError::Fail")]
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

fn default_workers() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.min(MAX_DEFAULT_WORKERS)
}

impl LoaderConfig {
    /// Checks what no loader can work with.
    ///
    /// # Panics
    /// If `batch_size` or `shuffle_buffer` is zero.
    pub(super) fn check(&self) {
        for (name, value) in [
            ("batch_size", self.batch_size),
            ("shuffle_buffer", self.shuffle_buffer),
        ] {
            assert!(value > 0, "{name} must be at least 1, got 0");
        }
    }

    /// Items of `total` that an epoch delivers if none fails.
    pub(super) fn delivered(&self, total: u64) -> u64 {
        if self.drop_last {
            total - total % self.batch_size as u64
        } else {
            total
        }
    }

    /// Whether an epoch of `total` items has no batch left after `passed` of them.
    pub(super) fn is_over(&self, passed: u64, total: u64) -> bool {
        let least = if self.drop_last { self.batch_size } else { 1 };
        total.saturating_sub(passed) < least as u64
    }
}
