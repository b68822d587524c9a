use burn::config::Config;
use burn::tensor::Tensor;

use super::canny::flow_edges;
use super::census::census_loss;
use super::edge::edge_loss;
use super::flow::flow_loss;
use crate::propainter::feature_propagation::Flows;
use crate::propainter::flow_completion::{FlowPrediction, combine, masks_of_pairs};

/// Weights of the terms that train a [`FlowCompletion`](crate::propainter::FlowCompletion).
#[derive(Config, Debug, PartialEq)]
pub struct FlowCompletionLoss {
    /// Of the distance from the true flow and the roughness. The default is `0.25`.
    #[config(default = 0.25)]
    pub flow: f64,
    /// Of what frames look like along the flow. The default is `0.01`.
    #[config(default = 0.01)]
    pub warp: f64,
    /// Of the edges of the flow. The default is `1.0`.
    #[config(default = 1.0)]
    pub edge: f64,
}

/// A clip whose true flows are known.
#[derive(Clone, Debug)]
pub struct FlowCompletionTarget {
    /// Frames in [-1, 1]: `[batch_size, frames, 3, height, width]`.
    pub frames: Tensor<5>,
    /// The true flows.
    pub flows: Flows,
    /// 1 in the hole: `[batch_size, frames, 1, height, width]`.
    pub masks: Tensor<5>,
}

impl FlowCompletionTarget {
    /// The same on a device that records gradients, to learn from.
    #[must_use]
    pub fn autodiff(self) -> Self {
        Self {
            frames: self.frames.autodiff(),
            flows: self.flows.autodiff(),
            masks: self.masks.autodiff(),
        }
    }
}

/// The weighted terms; both directions together.
#[derive(Clone, Debug)]
pub struct FlowCompletionTerms {
    /// Distance from the true flow, and roughness.
    pub flow: Tensor<1>,
    /// What frames look like along the flow.
    pub warp: Tensor<1>,
    /// Edges of the flow.
    pub edge: Tensor<1>,
}

impl FlowCompletionTerms {
    /// The loss.
    pub fn total(self) -> Tensor<1> {
        self.flow + self.warp + self.edge
    }
}

impl FlowCompletionLoss {
    /// Judges the flows that were predicted for `target`.
    ///
    /// # References
    /// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.2 and its supplement.
    pub fn terms(
        &self,
        predicted: &FlowPrediction,
        target: &FlowCompletionTarget,
    ) -> FlowCompletionTerms {
        let FlowPrediction { flows, edges } = predicted;
        let combined = combine(flows.clone(), target.flows.clone(), &target.masks);
        let [there, back] = masks_of_pairs(&target.masks);
        let [first, second] = masks_of_pairs(&target.frames);
        let forward = Way {
            predicted: &flows.forward,
            edges: &edges[0],
            combined: &combined.forward,
            truth: &target.flows.forward,
            mask: &there,
            frames: [&first, &second],
        };
        let backward = Way {
            predicted: &flows.backward,
            edges: &edges[1],
            combined: &combined.backward,
            truth: &target.flows.backward,
            mask: &back,
            frames: [&second, &first],
        };
        let both = |term: &dyn Fn(&Way<'_>) -> Tensor<1>| term(&forward) + term(&backward);
        FlowCompletionTerms {
            flow: both(&|way| flow_loss(way.predicted, way.truth, way.mask)).mul_scalar(self.flow),
            warp: both(&|way| way.warp()).mul_scalar(self.warp),
            edge: both(&|way| edge_loss(way.edges, &flow_edges(way.truth), way.mask))
                .mul_scalar(self.edge),
        }
    }
}

/// One direction of time.
struct Way<'a> {
    predicted: &'a Tensor<5>,
    /// Of what is predicted.
    edges: &'a Tensor<5>,
    /// Predicted in the hole, true outside.
    combined: &'a Tensor<5>,
    truth: &'a Tensor<5>,
    mask: &'a Tensor<5>,
    /// Frames that the flows begin and end in.
    frames: [&'a Tensor<5>; 2],
}

impl Way<'_> {
    fn warp(&self) -> Tensor<1> {
        let [current, neighbour] = self.frames;
        census_loss(current, neighbour, self.combined, self.truth, self.mask)
    }
}
