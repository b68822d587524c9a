//! Samples of memory, joined so that their number stays bounded.
//!
//! Pure.

use std::sync::Arc;

use serde::Serialize;

use crate::memory::Bytes;

/// One row of a memory history; `None` is unknown.
///
/// In a long run a row contains several consecutive samples: it has the time, step and phase of
/// the last and the highest amounts of all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MemorySample {
    /// Seconds since the tracker was made.
    pub seconds: f64,
    /// The step that was given with the sample.
    pub step: usize,
    /// The last phase that was marked before the sample.
    pub phase: Option<Arc<str>>,
    /// Resident memory of the process.
    pub process_rss: Option<Bytes>,
    /// Bytes live in a [`CountingAllocator`](crate::memory::CountingAllocator) at the sample.
    pub live: Option<Bytes>,
    /// The highest live bytes since the sample before.
    pub live_peak: Option<Bytes>,
    /// Bytes in use on the devices at the sample.
    pub device_in_use: Option<Bytes>,
    /// The highest bytes in use on the device that a peak meter saw in the step.
    pub device_peak: Option<Bytes>,
    /// Bytes reserved on the devices.
    pub device_reserved: Option<Bytes>,
    /// The lowest live bytes of the samples in this row, which a leak raises.
    pub(super) live_low: Option<Bytes>,
    /// The lowest device bytes in use of the samples in this row.
    pub(super) device_low: Option<Bytes>,
}

impl MemorySample {
    /// Takes a later sample into this row.
    fn absorb(&mut self, later: Self) {
        self.seconds = later.seconds;
        self.step = later.step;
        self.phase = later.phase;
        self.process_rss = self.process_rss.max(later.process_rss);
        self.live = self.live.max(later.live);
        self.live_peak = self.live_peak.max(later.live_peak);
        self.device_in_use = self.device_in_use.max(later.device_in_use);
        self.device_peak = self.device_peak.max(later.device_peak);
        self.device_reserved = self.device_reserved.max(later.device_reserved);
        self.live_low = lower(self.live_low, later.live_low);
        self.device_low = lower(self.device_low, later.device_low);
    }
}

/// `None` is unknown, not low, so the derived order does not serve here.
fn lower(first: Option<Bytes>, second: Option<Bytes>) -> Option<Bytes> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first.min(second)),
        (first, second) => first.or(second),
    }
}

/// The highest amounts of a run; `None` was never known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MemoryMaxima {
    /// Resident memory of the process, from the system's own high-water mark where there is one.
    pub process_rss: Option<Bytes>,
    /// Live bytes in a [`CountingAllocator`](crate::memory::CountingAllocator), exact.
    pub live: Option<Bytes>,
    /// Bytes in use on the devices, of the samples and the peak meters.
    pub device_in_use: Option<Bytes>,
    /// Bytes reserved on the devices.
    pub device_reserved: Option<Bytes>,
}

impl MemoryMaxima {
    pub(super) fn include(&mut self, sample: &MemorySample) {
        let device = sample.device_in_use.max(sample.device_peak);
        self.process_rss = self.process_rss.max(sample.process_rss);
        self.live = self.live.max(sample.live).max(sample.live_peak);
        self.device_in_use = self.device_in_use.max(device);
        self.device_reserved = self.device_reserved.max(sample.device_reserved);
    }
}

/// A series of samples of bounded length.
///
/// When it is full, neighbours are joined two by two and from then on twice as many samples make
/// a row, so a run of any length has between half and all of the rows, evenly spread.
#[derive(Debug)]
pub(super) struct History {
    rows: Vec<MemorySample>,
    max_rows: usize,
    samples_per_row: usize,
    samples_in_last: usize,
}

impl History {
    /// An empty series of at most `max_rows`, an even number.
    pub(super) fn new(max_rows: usize) -> Self {
        debug_assert!(max_rows > 0 && max_rows.is_multiple_of(2));
        Self {
            // All at once: a history that grew while it watched would look like a leak.
            rows: Vec::with_capacity(max_rows),
            max_rows,
            samples_per_row: 1,
            samples_in_last: 0,
        }
    }

    pub(super) fn rows(&self) -> &[MemorySample] {
        &self.rows
    }

    pub(super) fn push(&mut self, sample: MemorySample) {
        if self.samples_in_last < self.samples_per_row
            && let Some(last) = self.rows.last_mut()
        {
            last.absorb(sample);
            self.samples_in_last += 1;
            return;
        }
        if self.rows.len() == self.max_rows {
            self.halve();
        }
        self.rows.push(sample);
        self.samples_in_last = 1;
    }

    /// Joins rows two by two. All of them are complete and their number is even.
    fn halve(&mut self) {
        for row in 0..self.rows.len() / 2 {
            let mut joined = std::mem::take(&mut self.rows[2 * row]);
            joined.absorb(std::mem::take(&mut self.rows[2 * row + 1]));
            self.rows[row] = joined;
        }
        self.rows.truncate(self.rows.len() / 2);
        self.samples_per_row *= 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(step: usize, live: u64) -> MemorySample {
        MemorySample {
            seconds: step as f64,
            step,
            live: Some(Bytes::new(live)),
            live_low: Some(Bytes::new(live)),
            ..MemorySample::default()
        }
    }

    #[test]
    fn a_short_series_keeps_every_sample() {
        let mut history = History::new(8);
        let samples: Vec<_> = (0..8).map(|step| sample(step, 100 - step as u64)).collect();
        samples
            .iter()
            .for_each(|sample| history.push(sample.clone()));
        assert_eq!(history.rows(), samples);
    }

    #[test]
    fn joined_rows_have_the_last_step_and_the_extremes() {
        let mut history = History::new(4);
        for (step, live) in [5, 9, 2, 1, 7].into_iter().enumerate() {
            history.push(sample(step, live));
        }
        let rows: Vec<_> = history
            .rows()
            .iter()
            .map(|row| {
                (
                    row.step,
                    row.live.unwrap().get(),
                    row.live_low.unwrap().get(),
                )
            })
            .collect();
        assert_eq!(rows, [(1, 9, 5), (3, 2, 1), (4, 7, 7)]);
    }

    #[test]
    fn what_was_known_once_is_known_in_the_joined_row() {
        let mut row = sample(0, 5);
        row.absorb(MemorySample::default());
        assert_eq!(
            (row.live, row.live_low),
            (Some(Bytes::new(5)), Some(Bytes::new(5)))
        );
        assert_eq!(row.process_rss, None);
    }

    proptest! {
        #[test]
        fn a_series_of_any_length_is_bounded_ordered_and_keeps_its_extremes(
            amounts in prop::collection::vec(0u64..1000, 1..400),
            half in 1usize..20,
        ) {
            let mut history = History::new(2 * half);
            for (step, &live) in amounts.iter().enumerate() {
                history.push(sample(step, live));
            }
            let rows = history.rows();
            prop_assert!(rows.len() <= 2 * half);
            prop_assert!(rows.len() >= half.min(amounts.len()));
            prop_assert!(rows.is_sorted_by(|a, b| a.step < b.step));
            prop_assert_eq!(rows.last().unwrap().step, amounts.len() - 1);
            let highest = rows.iter().filter_map(|row| row.live).max().unwrap();
            let lowest = rows.iter().filter_map(|row| row.live_low).min().unwrap();
            prop_assert_eq!(highest.get(), *amounts.iter().max().unwrap());
            prop_assert_eq!(lowest.get(), *amounts.iter().min().unwrap());
        }
    }
}
