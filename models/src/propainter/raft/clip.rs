use burn::tensor::Tensor;

use super::{Raft, RaftContext};
use crate::propainter::feature_propagation::Flows;
use crate::propainter::layers::{as_batch, as_frames};

impl Raft {
    /// Computes the flows between neighbouring frames, both ways, by `iterations` corrections. What
    /// is computed of a frame serves the flow from it and to it.
    ///
    /// # Shapes
    /// - images: `[batch_size, frames, 3, height, width]`, RGB from -1 to 1
    /// - output: `[batch_size, frames - 1, 2, height, width]` each way
    ///
    /// # Panics
    /// If there is no pair of frames, or a side is not a multiple of 8 or below 64.
    pub fn clip_flows(&self, images: Tensor<5>, iterations: usize) -> Flows {
        let [batch_size, frames, ..] = images.dims();
        assert!(
            frames > 1,
            "a clip must have at least 2 frames, got {frames}"
        );
        let images = as_batch(images);
        let of_pairs = |of_frames: &Tensor<4>, first: usize| {
            let of_frames = as_frames(of_frames.clone(), batch_size);
            as_batch(of_frames.narrow(1, first, frames - 1))
        };
        let features = self.features(images.clone());
        let RaftContext { hidden, input } = self.context(images);
        let [_, _, height, width] = features.dims();
        let pairs = batch_size * (frames - 1);
        let at_once = self.pairs_at_once(pairs, [height, width]);
        let flow = |from: usize, to: usize| {
            let [first, second] = [from, to].map(|first| of_pairs(&features, first));
            let [hidden, input] = [&hidden, &input].map(|of_frames| of_pairs(of_frames, from));
            let parts = (0..pairs).step_by(at_once).map(|start| {
                let len = at_once.min(pairs - start);
                let part = |of_pairs: &Tensor<4>| of_pairs.clone().narrow(0, start, len);
                let context = RaftContext {
                    hidden: part(&hidden),
                    input: part(&input),
                };
                let mut steps = self.steps(part(&first), part(&second), context);
                (0..iterations).for_each(|_| steps.step());
                steps.flow().full
            });
            as_frames(Tensor::cat(parts.collect(), 0), batch_size)
        };
        Flows {
            forward: flow(0, 1),
            backward: flow(1, 0),
        }
    }
}
