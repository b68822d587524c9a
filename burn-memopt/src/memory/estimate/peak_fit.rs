use serde::{Deserialize, Serialize};

use super::Workload;
use super::growth::Growth;
use crate::memory::Bytes;

/// The peak of a step as a function of its batch and size, fitted through a few real runs.
///
/// For images, what does not grow (gradients, buffers) and what each pixel of the batch adds
/// (activations, workspace) come out of two runs; a third one, near what is asked for, makes it
/// better where a small step peaks at another moment than a large one. For
/// [sequences](Workload::sequences), attention adds something for each pair of tokens: three runs of
/// two lengths or more determine that too. Fit the runs of one precision and one
/// checkpointing policy, measured as they will run: see [`calibrate`](super::calibrate()).
///
/// # Exactness
/// Exact where the peak is affine in the pixels, or quadratic in the length, between the runs and
/// beyond. A peak is the highest of many moments:
/// beyond the runs the fit may be too low by what another moment overtakes it, hence
/// [`budget::verify`](crate::budget::verify) runs what was chosen.
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
    growth: Growth,
}

impl PeakFit {
    /// Fits measured peaks.
    ///
    /// # Panics
    /// If the workloads are too few for a fit: two images must differ in pixels; sequences of several
    /// lengths must be three that determine a quadratic (three lengths, or two lengths and two batch
    /// sizes); sequences of one length must be of two batch sizes, and then it is for this length
    /// only. Or if some are images and some are sequences.
    pub fn new(runs: impl IntoIterator<Item = (Workload, Bytes)>) -> Self {
        let point = |(workload, peak): (Workload, Bytes)| (workload, peak.get() as f64);
        Self {
            growth: Growth::through(runs.into_iter().map(point)),
        }
    }

    /// The predicted peak of a workload.
    ///
    /// # Panics
    /// If sequences of one length were fitted and `workload` has others.
    pub fn at(&self, workload: Workload) -> Bytes {
        Bytes::new(self.growth.at(workload).round() as u64)
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
        Workload::new(1, [2, pixels as usize / 2])
    }

    proptest! {
        #[test]
        fn a_fit_meets_its_runs_and_never_falls(
            mut peaks in prop::collection::vec(0u64..1 << 40, 2..5),
            pixels in prop::collection::btree_set((1u64..1 << 29).prop_map(|half| 2 * half), 5),
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
    fn sequences_of_one_length_grow_with_their_batch() {
        let runs = [1, 2].map(|n| (Workload::sequences(n, 64), Bytes::mib(1 + n as u64)));
        let fit = PeakFit::new(runs);
        assert_eq!(fit.at(Workload::sequences(5, 64)), Bytes::mib(6));
        assert_eq!(fit.largest_batch(Bytes::mib(10), [1, 64]), 9);
    }

    #[test]
    #[should_panic(expected = "sequences of 64 tokens must be asked for such sequences, got 1×128")]
    fn another_length_than_the_one_that_was_measured_is_refused() {
        let runs = [1, 2].map(|n| (Workload::sequences(n, 64), Bytes::mib(n as u64)));
        PeakFit::new(runs).at(Workload::sequences(1, 128));
    }

    #[test]
    #[should_panic(expected = "all images or all sequences")]
    fn images_and_sequences_are_no_fit() {
        let runs = [Workload::sequences(1, 64), Workload::new(1, [8, 8])];
        PeakFit::new(runs.map(|workload| (workload, Bytes::mib(1))));
    }

    #[test]
    #[should_panic(expected = "two workloads of different size, got 1")]
    fn one_size_is_no_fit() {
        PeakFit::new([(workload(4), Bytes::mib(1)), (workload(4), Bytes::mib(2))]);
    }
}
