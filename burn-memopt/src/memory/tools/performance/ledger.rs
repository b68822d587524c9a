use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::summary::{BatchSizePerformance, PerformanceSummary};
use crate::memory::Bytes;

/// Batches that are kept one by one.
const MAX_RECENT: usize = 1_000;

/// Sizes that are told apart.
const MAX_SIZES: usize = 256;

/// What one batch took; `None` is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BatchSample {
    /// Items in the batch.
    pub batch_size: usize,
    /// Time from its beginning to its end, in seconds.
    pub seconds: f64,
    /// The processor's time that the process used meanwhile, of all threads together, in seconds.
    pub cpu_seconds: Option<f64>,
    /// The highest memory in use during the batch, as far as it is known.
    pub memory: Option<Bytes>,
}

impl BatchSample {
    /// Items a second, `None` if the batch took no measurable time.
    pub fn items_per_second(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.batch_size as f64 / self.seconds)
    }

    /// Processor cores that were busy on average.
    pub fn cpu_cores(&self) -> Option<f64> {
        (self.seconds > 0.0).then_some(self.cpu_seconds? / self.seconds)
    }
}

/// Sums over batches, of which only the last are kept.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    recent: VecDeque<BatchSample>,
    all: Totals,
    by_size: BTreeMap<usize, Totals>,
    num_batches_of_other_sizes: u64,
}

/// Sums over some batches.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    num_batches: u64,
    num_items: u64,
    seconds: f64,
    max_seconds: f64,
    first: Option<BatchSample>,
    cpu_seconds: f64,
    /// The time of the batches whose processor time is known.
    seconds_with_cpu: f64,
    max_cpu_cores: Option<f64>,
    memory_sum: u128,
    num_with_memory: u64,
    max_memory: Option<Bytes>,
}

impl Totals {
    fn push(&mut self, sample: BatchSample) {
        self.num_batches += 1;
        self.num_items += sample.batch_size as u64;
        self.seconds += sample.seconds;
        self.max_seconds = self.max_seconds.max(sample.seconds);
        self.first.get_or_insert(sample);
        if let Some(cpu_seconds) = sample.cpu_seconds {
            self.cpu_seconds += cpu_seconds;
            self.seconds_with_cpu += sample.seconds;
        }
        if let Some(cores) = sample.cpu_cores() {
            self.max_cpu_cores = Some(self.max_cpu_cores.map_or(cores, |max| max.max(cores)));
        }
        if let Some(memory) = sample.memory {
            self.memory_sum += u128::from(memory.get());
            self.num_with_memory += 1;
            self.max_memory = self.max_memory.max(Some(memory));
        }
    }

    /// Items a second without the first batch, which compiles kernels and fills pools; with it if
    /// there is no other.
    fn items_per_second(&self) -> Option<f64> {
        let first = self.first.filter(|_| self.num_batches > 1);
        let (first_items, first_seconds) =
            first.map_or((0, 0.0), |first| (first.batch_size as u64, first.seconds));
        let seconds = self.seconds - first_seconds;
        (seconds > 0.0).then(|| (self.num_items - first_items) as f64 / seconds)
    }

    fn cpu_cores(&self) -> Option<f64> {
        (self.seconds_with_cpu > 0.0).then(|| self.cpu_seconds / self.seconds_with_cpu)
    }

    fn mean_memory(&self) -> Option<Bytes> {
        let mean = self.memory_sum.checked_div(self.num_with_memory.into())?;
        u64::try_from(mean).ok().map(Bytes::new)
    }
}

impl Ledger {
    pub(super) fn push(&mut self, sample: BatchSample) {
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(sample);
        self.all.push(sample);
        let is_known = self.by_size.contains_key(&sample.batch_size);
        if is_known || self.by_size.len() < MAX_SIZES {
            let of_size = self.by_size.entry(sample.batch_size).or_default();
            of_size.push(sample);
        } else {
            self.num_batches_of_other_sizes += 1;
        }
    }

    pub(super) fn recent(&self) -> impl ExactSizeIterator<Item = &BatchSample> {
        self.recent.iter()
    }

    pub(super) fn summary(&self) -> PerformanceSummary {
        let all = &self.all;
        let has_batches = all.num_batches > 0;
        let sizes = self.by_size.iter();
        PerformanceSummary {
            num_batches: all.num_batches,
            num_items: all.num_items,
            seconds: all.seconds,
            mean_seconds: has_batches.then(|| all.seconds / all.num_batches as f64),
            max_seconds: has_batches.then_some(all.max_seconds),
            items_per_second: all.items_per_second(),
            mean_cpu_cores: all.cpu_cores(),
            max_cpu_cores: all.max_cpu_cores,
            mean_memory: all.mean_memory(),
            max_memory: all.max_memory,
            sizes: sizes
                .map(|(&batch_size, of_size)| BatchSizePerformance {
                    batch_size,
                    num_batches: of_size.num_batches,
                    mean_seconds: of_size.seconds / of_size.num_batches as f64,
                    items_per_second: of_size.items_per_second(),
                    mean_cpu_cores: of_size.cpu_cores(),
                    max_memory: of_size.max_memory,
                })
                .collect(),
            num_batches_of_other_sizes: self.num_batches_of_other_sizes,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn sample(batch_size: usize, seconds: f64, mib: u64) -> BatchSample {
        BatchSample {
            batch_size,
            seconds,
            cpu_seconds: Some(2.0 * seconds),
            memory: Some(Bytes::mib(mib)),
        }
    }

    fn summary_of(samples: impl IntoIterator<Item = BatchSample>) -> PerformanceSummary {
        let mut ledger = Ledger::default();
        samples.into_iter().for_each(|sample| ledger.push(sample));
        ledger.summary()
    }

    #[test]
    fn averages_and_maxima_are_those_of_all_batches() {
        let summary = summary_of([sample(4, 1.0, 10), sample(8, 3.0, 30), sample(4, 2.0, 20)]);
        assert_eq!((summary.num_batches, summary.num_items), (3, 16));
        assert_eq!(
            (summary.mean_seconds, summary.max_seconds),
            (Some(2.0), Some(3.0))
        );
        assert_eq!(
            summary.items_per_second,
            Some(12.0 / 5.0),
            "without the first"
        );
        assert_eq!(summary.mean_cpu_cores, Some(2.0));
        assert_eq!(summary.mean_memory, Some(Bytes::mib(20)));
        assert_eq!(summary.max_memory, Some(Bytes::mib(30)));
        assert_eq!(summary.sizes.len(), 2);
        assert_eq!(summary.sizes[0].items_per_second, Some(2.0));
    }

    #[test]
    fn the_best_size_is_the_fastest_that_stays_within_the_limit() {
        let summary = summary_of([
            sample(1, 1.0, 10),
            sample(8, 2.0, 40),
            sample(16, 5.0, 80), // slower an item than 8, as a machine that swaps is
        ]);
        assert_eq!(summary.best_batch_size(None), Some(8));
        assert_eq!(summary.best_batch_size(Some(Bytes::mib(40))), Some(8));
        assert_eq!(summary.best_batch_size(Some(Bytes::mib(39))), Some(1));
        assert_eq!(summary.best_batch_size(Some(Bytes::mib(9))), None);
    }

    #[test]
    fn the_first_batch_of_a_size_does_not_count_against_it() {
        let warm = |size, seconds| [sample(size, 100.0, 1), sample(size, seconds, 1)];
        let summary = summary_of(warm(2, 1.0).into_iter().chain(warm(4, 1.0)));
        assert_eq!(summary.best_batch_size(None), Some(4));
    }

    #[test]
    fn unknown_memory_is_within_no_limit_and_unknown_time_is_no_rate() {
        let silent = BatchSample {
            batch_size: 2,
            seconds: 0.0,
            cpu_seconds: None,
            memory: None,
        };
        let summary = summary_of([silent]);
        assert_eq!(summary.items_per_second, None);
        assert_eq!((summary.mean_memory, summary.max_memory), (None, None));
        assert_eq!(
            (summary.mean_cpu_cores, summary.max_cpu_cores),
            (None, None)
        );
        assert_eq!(summary.best_batch_size(None), None);
        let unknown = BatchSample {
            seconds: 1.0,
            ..silent
        };
        assert_eq!(summary_of([unknown]).best_batch_size(None), Some(2));
        assert_eq!(
            summary_of([unknown]).best_batch_size(Some(Bytes::MAX)),
            None
        );
        assert_eq!(summary_of([]).mean_seconds, None);
    }

    proptest! {
        #[test]
        fn any_number_of_batches_and_sizes_stays_bounded(
            sizes in prop::collection::vec(1usize..2_000, 0..3_000),
        ) {
            let mut ledger = Ledger::default();
            for &size in &sizes {
                ledger.push(sample(size, 1.0, 1));
            }
            prop_assert_eq!(ledger.recent().len(), sizes.len().min(MAX_RECENT));
            let summary = ledger.summary();
            prop_assert!(summary.sizes.len() <= MAX_SIZES);
            prop_assert_eq!(summary.num_items, sizes.iter().sum::<usize>() as u64);
            let of_sizes: u64 = summary.sizes.iter().map(|size| size.num_batches).sum();
            prop_assert_eq!(of_sizes + summary.num_batches_of_other_sizes, sizes.len() as u64);
        }
    }
}
