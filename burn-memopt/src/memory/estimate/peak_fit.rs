use serde::{Deserialize, Serialize};

use super::Workload;
use super::line::Line;
use crate::memory::Bytes;

/// The peak of a step as a function of its batch and pixels, fitted through a few real runs.
///
/// What does not grow (gradients, buffers) and what each pixel of the batch adds (activations,
/// workspace) come out of two runs; a third one, near what is asked for, makes it better where a
/// small step peaks at another moment than a large one. Fit the runs of one precision and one
/// checkpointing policy, measured as they will run: see [`calibrate`](super::calibrate()).
///
/// # Exactness
/// Exact where the peak is affine between the runs and beyond. A peak is the highest of many moments:
/// beyond the runs the fit may be too low by what another moment overtakes it, hence
/// [`plan`](crate::memory::plan) runs what it chose.
///
/// # Example
/// ```
/// use burn_memopt::memory::{Bytes, estimate::{PeakFit, Workload}};
///
/// // 10 MiB whatever the input, and 256 bytes a pixel.
/// let measured = |side: usize| Bytes::mib(10) + Bytes::new(256) * (side * side) as u64;
/// let runs = [64, 128].map(|side| (Workload::new(1, [side; 2]), measured(side)));
/// let fit = PeakFit::new(runs);
/// assert_eq!(fit.at(Workload::new(4, [512, 512])), Bytes::mib(10 + 256));
/// assert_eq!(fit.largest_batch(Bytes::mib(300), [512, 512]), 4);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeakFit {
    line: Line,
}

impl PeakFit {
    /// Fits measured peaks.
    ///
    /// # Panics
    /// If no two workloads differ in pixels.
    pub fn new(runs: impl IntoIterator<Item = (Workload, Bytes)>) -> Self {
        let point = |(workload, peak): (Workload, Bytes)| (workload.pixels(), peak.get() as f64);
        Self {
            line: Line::through(runs.into_iter().map(point)),
        }
    }

    /// The predicted peak of a workload.
    pub fn at(&self, workload: Workload) -> Bytes {
        Bytes::new(self.line.at(workload.pixels()).round() as u64)
    }

    /// The most images of `size` whose step stays within `budget`, 0 if one is too many.
    pub fn largest_batch(&self, budget: Bytes, size: [usize; 2]) -> usize {
        let fits = |batch_size| self.at(Workload::new(batch_size, size)) <= budget;
        // Doubled until too large, then halved: the fit never falls.
        let (mut fitting, mut too_large) = (0, 1);
        while fits(too_large) {
            if too_large > LARGEST_BATCH {
                return too_large;
            }
            (fitting, too_large) = (too_large, too_large * 2);
        }
        while too_large - fitting > 1 {
            let middle = fitting + (too_large - fitting) / 2;
            match fits(middle) {
                true => fitting = middle,
                false => too_large = middle,
            }
        }
        fitting
    }
}

/// Where a batch counts as unlimited.
const LARGEST_BATCH: usize = 1 << 30;

/// How to choose a batch size from a [`PeakFit`].
///
/// ```
/// use burn_memopt::memory::{Bytes, estimate::{BatchLimit, PeakFit, Workload}};
///
/// let one_mib_each = [1, 2].map(|n| (Workload::new(n, [8, 8]), Bytes::mib(n as u64)));
/// let fit = PeakFit::new(one_mib_each);
/// let limit = BatchLimit::new();
/// assert_eq!(limit.max_batch_size(&fit, Bytes::mib(100), [8, 8]), Some(90));
/// let limit = limit.with_power_of_two(true);
/// assert_eq!(limit.max_batch_size(&fit, Bytes::mib(100), [8, 8]), Some(64));
/// assert_eq!(limit.max_batch_size(&fit, Bytes::kib(100), [8, 8]), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchLimit {
    safety_factor: f64,
    power_of_two: bool,
}

impl Default for BatchLimit {
    fn default() -> Self {
        Self {
            safety_factor: 0.9,
            power_of_two: false,
        }
    }
}

impl BatchLimit {
    /// Any size whose step takes at most 0.9 of the memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the share of the memory that a step may take. The default is `0.9`.
    ///
    /// # Panics
    /// If it is not above 0 and at most 1.
    pub fn with_safety_factor(mut self, safety_factor: f64) -> Self {
        assert!(
            safety_factor > 0.0 && safety_factor <= 1.0,
            "safety_factor must be above 0 and at most 1, got {safety_factor}"
        );
        self.safety_factor = safety_factor;
        self
    }

    /// Sets whether the size is a power of two. The default is `false`.
    pub fn with_power_of_two(mut self, power_of_two: bool) -> Self {
        self.power_of_two = power_of_two;
        self
    }

    /// The most images of `size` whose step stays within the safe share of `free`, the memory free
    /// for a step; `None` if not even one does.
    pub fn max_batch_size(&self, fit: &PeakFit, free: Bytes, size: [usize; 2]) -> Option<usize> {
        let safe = Bytes::new((free.get() as f64 * self.safety_factor) as u64);
        let most = fit.largest_batch(safe, size);
        let most = match self.power_of_two && most > 0 {
            true => 1 << most.ilog2(),
            false => most,
        };
        (most > 0).then_some(most)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn workload(pixels: u64) -> Workload {
        Workload::new(1, [1, pixels as usize])
    }

    proptest! {
        #[test]
        fn a_fit_meets_its_runs_and_never_falls(
            mut peaks in prop::collection::vec(0u64..1 << 40, 2..5),
            pixels in prop::collection::btree_set(1u64..1 << 30, 5),
            asked in prop::array::uniform2(0u64..1 << 31),
        ) {
            peaks.sort_unstable();
            let runs: Vec<_> = pixels.into_iter().map(workload).zip(peaks.into_iter().map(Bytes::new)).collect();
            let fit = PeakFit::new(runs.clone());
            for (workload, peak) in runs {
                prop_assert!(fit.at(workload).get().abs_diff(peak.get()) <= 1);
            }
            let [less, more] = [asked[0].min(asked[1]), asked[0].max(asked[1])];
            prop_assert!(fit.at(workload(less)) <= fit.at(workload(more)));
        }

        #[test]
        fn the_largest_batch_fits_and_one_more_does_not(
            fixed in 0u64..1 << 30, each in 1u64..1 << 20, budget in 0u64..1 << 32,
        ) {
            let runs = [1, 2].map(|n| (Workload::new(n, [16, 16]), Bytes::new(fixed + each * n as u64)));
            let fit = PeakFit::new(runs);
            let budget = Bytes::new(budget);
            let batch_size = fit.largest_batch(budget, [16, 16]);
            if batch_size > 0 {
                prop_assert!(fit.at(Workload::new(batch_size, [16, 16])) <= budget);
            }
            prop_assert!(fit.at(Workload::new(batch_size + 1, [16, 16])) > budget);
        }
    }

    #[test]
    #[should_panic(expected = "two workloads of different size, got 1")]
    fn one_size_is_no_fit() {
        PeakFit::new([(workload(4), Bytes::mib(1)), (workload(4), Bytes::mib(2))]);
    }
}
