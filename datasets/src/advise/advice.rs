use std::fmt;

use burn_memopt::memory::Bytes;
use serde::{Deserialize, Serialize};

/// What to do with a data set between its files and the batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loading {
    /// Load an item when it is its turn, and keep none.
    Stream,
    /// Load an item when it is asked for, and keep those asked for last.
    Cache,
    /// Load everything once, before the first batch.
    Preload,
}

impl fmt::Display for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stream => "stream",
            Self::Cache => "lazy + cache",
            Self::Preload => "preload",
        })
    }
}

/// A setting, and what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advised<T> {
    /// What to set.
    pub value: T,
    /// Why, with the numbers it was computed from.
    pub reason: String,
}

impl<T> Advised<T> {
    pub(super) fn new(value: T, reason: impl Into<String>) -> Self {
        Self {
            value,
            reason: reason.into(),
        }
    }
}

/// Settings of a loader, each with its reason.
///
/// [`Display`](fmt::Display) is a table for people; in files, amounts are numbers of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// What becomes of the data set in memory.
    pub loading: Advised<Loading>,
    /// Threads that load items during the training; 0 loads them between the steps.
    pub num_workers: Advised<u64>,
    /// Items of a batch.
    pub batch_size: Advised<u64>,
    /// Bytes of items that may wait, loaded, for their batch.
    pub prefetch: Advised<Bytes>,
    /// Bytes of items that may be kept after their use.
    pub cache: Advised<Bytes>,
    /// Records of a stream that one is drawn from at random; 0 where no buffer is needed.
    pub shuffle_buffer: Advised<u64>,
    /// All that the above takes of the host's memory at once.
    pub host_memory: Advised<Bytes>,
    /// What was not known, and what was taken for it.
    pub assumptions: Vec<String>,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |advised: &Advised<Bytes>| match advised.value {
            Bytes::ZERO => "none".into(),
            amount => amount.to_string(),
        };
        let records = match self.shuffle_buffer.value {
            0 => "none".into(),
            number => format!("{number} records"),
        };
        let rows = [
            (
                "loading",
                self.loading.value.to_string(),
                &self.loading.reason,
            ),
            (
                "workers",
                self.num_workers.value.to_string(),
                &self.num_workers.reason,
            ),
            (
                "batch size",
                self.batch_size.value.to_string(),
                &self.batch_size.reason,
            ),
            ("prefetch", bytes(&self.prefetch), &self.prefetch.reason),
            ("cache", bytes(&self.cache), &self.cache.reason),
            ("shuffle buffer", records, &self.shuffle_buffer.reason),
            (
                "host memory",
                bytes(&self.host_memory),
                &self.host_memory.reason,
            ),
        ];
        let width = rows.iter().map(|(_, value, _)| value.chars().count()).max();
        let width = width.unwrap_or(0);
        for (name, value, reason) in rows {
            writeln!(f, "{name:<14}  {value:<width$}  {reason}")?;
        }
        for assumption in &self.assumptions {
            writeln!(f, "assumed: {assumption}")?;
        }
        Ok(())
    }
}
