use serde::{Deserialize, Serialize};

use super::Workload;
use super::growth::Growth;
use crate::grad_checkpoint::BlockCost;
use crate::memory::Bytes;

/// What the blocks of a chain cost at any batch and size, from profiles of two small ones; of three
/// for [sequences](Workload::sequences) of any length.
///
/// [Profile](crate::grad_checkpoint::Chain::profile) a chain on two samples, and its costs at a third
/// workload go to [`grad_checkpoint::Plan`](crate::grad_checkpoint::Plan), which says where to cut
/// it and predicts the peak. Unlike a [`PeakFit`](super::PeakFit) this follows the moment of the
/// peak through the step as the workload grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockFit {
    blocks: Vec<BlockGrowth>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct BlockGrowth {
    last_use: usize,
    joins_previous: bool,
    /// Output, kept, peaks of the unrecorded, recorded and backward pass, gradients and nodes in
    /// bytes; work.
    amounts: [Growth; 8],
}

impl BlockFit {
    /// Fits the profiles of one chain on a few workloads.
    ///
    /// # Panics
    /// If the workloads are too few, as for [`PeakFit::new`](super::PeakFit::new), or profiles differ
    /// in their number of blocks.
    pub fn new(profiles: &[(Workload, Vec<BlockCost>)]) -> Self {
        let num_blocks = profiles.first().map_or(0, |(_, costs)| costs.len());
        for (workload, costs) in profiles {
            assert!(
                costs.len() == num_blocks,
                "every profile must have {num_blocks} blocks, got {} on {workload}",
                costs.len()
            );
        }
        let growth = |block: usize, amount: fn(&BlockCost) -> f64| {
            let point =
                |(workload, costs): &(Workload, Vec<BlockCost>)| (*workload, amount(&costs[block]));
            Growth::through(profiles.iter().map(point))
        };
        let block_growth = |block: usize| BlockGrowth {
            last_use: profiles[0].1[block].last_use,
            joins_previous: profiles[0].1[block].joins_previous,
            amounts: AMOUNTS.map(|amount| growth(block, amount)),
        };
        Self {
            blocks: (0..num_blocks).map(block_growth).collect(),
        }
    }

    /// What each block costs on a workload.
    ///
    /// # Panics
    /// As [`PeakFit::at`](super::PeakFit::at).
    pub fn at(&self, workload: Workload) -> Vec<BlockCost> {
        let costs = self.blocks.iter().map(|block| {
            let [
                output,
                kept,
                forward_peak,
                recorded_peak,
                backward_peak,
                param_grads,
                nodes,
                work,
            ] = block.amounts.each_ref().map(|growth| growth.at(workload));
            let bytes = |amount: f64| Bytes::new(amount.round() as u64);
            BlockCost {
                output: bytes(output),
                last_use: block.last_use,
                joins_previous: block.joins_previous,
                kept: bytes(kept),
                forward_peak: bytes(forward_peak),
                recorded_peak: bytes(recorded_peak),
                backward_peak: bytes(backward_peak),
                param_grads: bytes(param_grads),
                nodes: bytes(nodes),
                work: work.round() as u64,
            }
        });
        costs.collect()
    }
}

const AMOUNTS: [fn(&BlockCost) -> f64; 8] = [
    |cost| cost.output.get() as f64,
    |cost| cost.kept.get() as f64,
    |cost| cost.forward_peak.get() as f64,
    |cost| cost.recorded_peak.get() as f64,
    |cost| cost.backward_peak.get() as f64,
    |cost| cost.param_grads.get() as f64,
    |cost| cost.nodes.get() as f64,
    |cost| cost.work as f64,
];

#[cfg(test)]
mod tests {
    use super::*;

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
