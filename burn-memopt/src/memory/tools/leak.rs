//! Whether memory grows with every step.
//!
//! Pure.

use super::MemorySample;
use crate::memory::Bytes;

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
    use super::*;

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
