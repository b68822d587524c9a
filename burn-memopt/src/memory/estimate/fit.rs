//! What a step takes at any batch and size, from what it took at a few.
//!
//! Pure.

use serde::{Deserialize, Serialize};

use super::Workload;
use super::growth::Growth;
use crate::grad_checkpoint::BlockCost;
use crate::memory::Bytes;

/// Where a batch counts as unlimited.
const LARGEST_BATCH: usize = 1 << 30;

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
            if fits(middle) {
                fitting = middle;
            } else {
                too_large = middle;
            }
        }
        fitting
    }
}

/// What the blocks of a chain cost at any batch and size, from profiles of two small ones; of three
/// for [sequences](Workload::sequences) of any length.
///
/// [Profile](crate::grad_checkpoint::Chain::profile) a chain on two samples, and give its costs at a third
/// workload to [`grad_checkpoint::Plan`](crate::grad_checkpoint::Plan), which says where to cut
/// it and predicts the peak. Unlike a [`PeakFit`] this follows the moment of the
/// peak through the step as the workload grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockFit {
    blocks: Vec<BlockGrowth>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct BlockGrowth {
    last_use: usize,
    joins_previous: bool,
    /// In the order of [`amounts`].
    amounts: [Growth; 8],
}

impl BlockFit {
    /// Fits the profiles of one chain on a few workloads.
    ///
    /// # Panics
    /// If the workloads are too few, as for [`PeakFit::new`], or profiles differ
    /// in their number of blocks.
    pub fn new(profiles: &[(Workload, Vec<BlockCost>)]) -> Self {
        let first = profiles.first().map_or(&[][..], |(_, costs)| costs);
        for (workload, costs) in profiles {
            assert!(
                costs.len() == first.len(),
                "every profile must have {} blocks, got {} on {workload}",
                first.len(),
                costs.len()
            );
        }
        let block_growth = |(block, cost): (usize, &BlockCost)| BlockGrowth {
            last_use: cost.last_use,
            joins_previous: cost.joins_previous,
            amounts: std::array::from_fn(|amount| {
                let profiles = profiles.iter();
                Growth::through(
                    profiles.map(|(workload, costs)| (*workload, amounts(&costs[block])[amount])),
                )
            }),
        };
        Self {
            blocks: first.iter().enumerate().map(block_growth).collect(),
        }
    }

    /// What each block costs on a workload.
    ///
    /// # Panics
    /// As [`PeakFit::at`].
    pub fn at(&self, workload: Workload) -> Vec<BlockCost> {
        let cost = |block: &BlockGrowth| {
            let at = |growth: &Growth| growth.at(workload).round() as u64;
            let [bytes @ .., work] = block.amounts.each_ref().map(at);
            let [
                output,
                kept,
                forward_peak,
                recorded_peak,
                backward_peak,
                param_grads,
                nodes,
            ] = bytes.map(Bytes::new);
            BlockCost {
                output,
                last_use: block.last_use,
                joins_previous: block.joins_previous,
                kept,
                forward_peak,
                recorded_peak,
                backward_peak,
                param_grads,
                nodes,
                work,
            }
        };
        self.blocks.iter().map(cost).collect()
    }
}

/// What grows of a block: bytes, and last its work.
fn amounts(cost: &BlockCost) -> [f64; 8] {
    [
        cost.output.get(),
        cost.kept.get(),
        cost.forward_peak.get(),
        cost.recorded_peak.get(),
        cost.backward_peak.get(),
        cost.param_grads.get(),
        cost.nodes.get(),
        cost.work,
    ]
    .map(|amount| amount as f64)
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

    #[test]
    fn costs_grow_with_pixels_but_gradients_stay() {
        let cost = |pixels: u64| BlockCost {
            output: Bytes::new(4 * pixels),
            last_use: 1,
            joins_previous: true,
            kept: Bytes::new(12 * pixels),
            forward_peak: Bytes::new(1000 + 8 * pixels),
            recorded_peak: Bytes::new(1000 + 16 * pixels),
            backward_peak: Bytes::new(500 + 20 * pixels),
            param_grads: Bytes::new(500),
            nodes: Bytes::new(20),
            work: 5 * pixels,
        };
        let workloads = [8, 16, 64].map(|side| Workload::new(2, [side, side]));
        let profile = |workload: Workload| (workload, vec![cost(workload.pixels())]);
        let fit = BlockFit::new(&[profile(workloads[0]), profile(workloads[1])]);
        assert_eq!(fit.at(workloads[2]), vec![cost(workloads[2].pixels())]);
    }
}
