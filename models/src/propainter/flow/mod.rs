//! What follows optical flow: pixels and features carried along it, and its completion in holes.

mod completion;
mod propagation;
mod warp;

use burn::tensor::Tensor;
use burn_memopt::impl_tensors;

use super::layers::frame;

pub use completion::{FlowCompletion, FlowPrediction, PseudoConv3d, combine, masks_of_pairs};
pub(super) use propagation::{DeformAlign, FlowPropagation};
pub use warp::{ImagePropagation, MaskedFrame, Sampling, consistency, sampling_grid, warp};

/// Flows between neighbouring frames at the size of what is propagated.
#[derive(Clone, Debug)]
pub struct Flows {
    /// From each frame to the next: `[batch_size, frames - 1, 2, height, width]`, in pixels.
    pub forward: Tensor<5>,
    /// From each frame but the first to the one before.
    pub backward: Tensor<5>,
}

impl_tensors!(Flows { forward, backward });

impl From<Flows> for [Tensor<5>; 2] {
    fn from(flows: Flows) -> Self {
        [flows.forward, flows.backward]
    }
}

impl Flows {
    /// The same on a device that records gradients.
    #[must_use]
    pub fn autodiff(self) -> Self {
        self.map(Tensor::autodiff)
    }

    /// Applies `compute` to both directions.
    pub(super) fn map(self, compute: impl Fn(Tensor<5>) -> Tensor<5>) -> Self {
        Self {
            forward: compute(self.forward),
            backward: compute(self.backward),
        }
    }

    /// The flow from frame `from` to its neighbour `to`, and the opposite one.
    pub(super) fn between(&self, from: usize, to: usize) -> [Tensor<4>; 2] {
        let forward = frame(&self.forward, from.min(to));
        let backward = frame(&self.backward, from.min(to));
        if from < to {
            [forward, backward]
        } else {
            [backward, forward]
        }
    }
}

/// The order in which a propagation visits frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the last to the first.
    Backward,
    /// From the first to the last.
    Forward,
}

impl Direction {
    /// Computes a result for each of `count` frames from its number and the number and result of
    /// the frame visited before; results are in the order of the frames.
    pub(super) fn run<T>(
        self,
        count: usize,
        mut step: impl FnMut(usize, Option<(usize, &T)>) -> T,
    ) -> Vec<T> {
        let at = |visit: usize| match self {
            Self::Backward => count - 1 - visit,
            Self::Forward => visit,
        };
        let mut results: Vec<T> = Vec::with_capacity(count);
        for visit in 0..count {
            let before = results.last().map(|result| (at(visit - 1), result));
            let result = step(at(visit), before);
            results.push(result);
        }
        if self == Self::Backward {
            results.reverse();
        }
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_follows_its_neighbour() {
        let visit = |at: usize, before: Option<(usize, &String)>| match before {
            None => format!("{at}"),
            Some((from, result)) => format!("{at}<{from}({result})"),
        };
        let forward = Direction::Forward.run(3, visit);
        assert_eq!(forward, ["0", "1<0(0)", "2<1(1<0(0))"]);
        let backward = Direction::Backward.run(3, visit);
        assert_eq!(backward, ["0<1(1<2(2))", "1<2(2)", "2"]);
    }
}
