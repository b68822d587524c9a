//! Samples of memory, joined so that their number stays bounded, and whether memory grows with every
//! step.
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

/// Whether a run keeps more memory with every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leak {
    /// The memory that never becomes free grows steadily.
    Growing {
        /// Growth per step, rounded up to whole bytes.
        per_step: Bytes,
    },
    /// It does not.
    Stable,
    /// Too few samples, or no amounts.
    Unknown,
}

/// Consecutive stretches of the run whose lowest amounts are compared.
const NUM_WINDOWS: usize = 8;

/// Rows a window needs for its lowest amount to mean something.
const MIN_WINDOW_LEN: usize = 4;

/// Windows that may not grow in a leak that comes in rare jumps.
const MAX_STANDSTILLS: usize = 2;

/// Growth from the first to the last window that is worth the name: 64 KiB or one thousandth.
/// Below it are a program's own records, such as logged metrics.
const MIN_GROWTH: Bytes = Bytes::kib(64);

impl Leak {
    /// The worse result of the live bytes and the device bytes.
    pub(super) fn from_rows(rows: &[MemorySample]) -> Self {
        let live = evaluate(&series(rows, |row| row.live_low));
        let device = evaluate(&series(rows, |row| row.device_low));
        match (live, device) {
            (Self::Growing { per_step: live }, Self::Growing { per_step: device }) => {
                Self::Growing {
                    per_step: live.max(device),
                }
            }
            (growing @ Self::Growing { .. }, _) | (_, growing @ Self::Growing { .. }) => growing,
            (Self::Stable, _) | (_, Self::Stable) => Self::Stable,
            (Self::Unknown, Self::Unknown) => Self::Unknown,
        }
    }
}

fn series(
    rows: &[MemorySample],
    amount: impl Fn(&MemorySample) -> Option<Bytes>,
) -> Vec<(usize, u64)> {
    rows.iter()
        .filter_map(|row| Some((row.step, amount(row)?.get())))
        .collect()
}

/// Compares the lowest amounts of equal windows, after leaving out the first quarter, in which
/// optimizer state and caches come into being.
///
/// What a step frees again never reaches the minima, a single late allocation raises them once,
/// and noise lowers some: only a leak raises them window after window.
fn evaluate(series: &[(usize, u64)]) -> Leak {
    let settled = &series[series.len() / 4..];
    // The remainder of the division is left out at the beginning.
    let settled = &settled[settled.len() % NUM_WINDOWS..];
    let window_len = settled.len() / NUM_WINDOWS;
    if window_len < MIN_WINDOW_LEN {
        return Leak::Unknown;
    }
    let lowest: Vec<u64> = settled
        .chunks_exact(window_len)
        .map(|window| window.iter().map(|&(_, amount)| amount).min().unwrap_or(0))
        .collect();

    let falls = lowest.windows(2).any(|pair| pair[1] < pair[0]);
    let standstills = lowest.windows(2).filter(|pair| pair[1] == pair[0]).count();
    let (first, last) = (lowest[0], lowest[NUM_WINDOWS - 1]);
    let growth = last.saturating_sub(first);
    if falls || standstills > MAX_STANDSTILLS || growth < MIN_GROWTH.get().max(first / 1000) {
        return Leak::Stable;
    }
    let last_window = &settled[(NUM_WINDOWS - 1) * window_len..];
    let steps = last_window[0].0.saturating_sub(settled[0].0).max(1);
    Leak::Growing {
        per_step: Bytes::new(growth.div_ceil(steps as u64)),
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

    /// `num_steps` rows whose live bytes are given by the step.
    fn rows(num_steps: usize, live: impl Fn(usize) -> u64) -> Vec<MemorySample> {
        let row = |step| MemorySample {
            step,
            live_low: Some(Bytes::new(live(step))),
            ..MemorySample::default()
        };
        (0..num_steps).map(row).collect()
    }

    /// A number in `0..below` that looks random and is the same in every run.
    fn noise(step: usize, below: u64) -> u64 {
        (step as u64)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(23)
            % below
    }

    #[test]
    fn steady_growth_under_noise_is_a_leak_of_the_right_size() {
        let leaking = rows(2000, |step| {
            (100 << 20) + 4096 * step as u64 + noise(step, 1 << 20)
        });
        let Leak::Growing { per_step } = Leak::from_rows(&leaking) else {
            panic!("a leak of 4 KiB a step was missed");
        };
        assert!((3900..4300).contains(&per_step.get()), "{per_step}");
    }

    #[test]
    fn a_leak_in_rare_jumps_is_found() {
        let leaking = rows(1000, |step| (10 << 20) + (step as u64 / 100) * (1 << 20));
        assert!(matches!(Leak::from_rows(&leaking), Leak::Growing { .. }));
    }

    #[test]
    fn noise_alone_is_stable() {
        let noisy = rows(2000, |step| (100 << 20) + noise(step, 8 << 20));
        assert_eq!(Leak::from_rows(&noisy), Leak::Stable);
    }

    #[test]
    fn a_late_cache_is_stable() {
        let cached = rows(1000, |step| if step < 600 { 50 << 20 } else { 70 << 20 });
        assert_eq!(Leak::from_rows(&cached), Leak::Stable);
    }

    #[test]
    fn growth_that_ends_with_the_warm_up_is_stable() {
        let warm = rows(1000, |step| (50 << 20) + 100_000 * step.min(200) as u64);
        assert_eq!(Leak::from_rows(&warm), Leak::Stable);
    }

    #[test]
    fn a_few_bytes_of_records_are_stable() {
        let recording = rows(1000, |step| (100 << 20) + 16 * step as u64);
        assert_eq!(Leak::from_rows(&recording), Leak::Stable);
    }

    #[test]
    fn a_leak_on_the_device_counts_when_the_host_is_stable() {
        let mut leaking = rows(400, |_| 10 << 20);
        for row in &mut leaking {
            row.device_low = Some(Bytes::kib(1000 + 8 * row.step as u64));
        }
        let Leak::Growing { per_step } = Leak::from_rows(&leaking) else {
            panic!("the leak on the device was missed");
        };
        assert!((8000..8500).contains(&per_step.get()), "{per_step}");
    }

    #[test]
    fn few_samples_or_none_are_no_verdict() {
        assert_eq!(Leak::from_rows(&[]), Leak::Unknown);
        assert_eq!(
            Leak::from_rows(&rows(30, |step| step as u64 * 1_000_000)),
            Leak::Unknown
        );
        let mut silent = rows(1000, |_| 0);
        silent.iter_mut().for_each(|row| row.live_low = None);
        assert_eq!(Leak::from_rows(&silent), Leak::Unknown);
    }
}
