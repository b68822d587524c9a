use burn::config::Config;
use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::ops::PadMode;
use burn_memopt::precision::ops::full;

use super::canny::flow_edges;
use crate::propainter::flow::{FlowPrediction, Flows, Sampling, combine, masks_of_pairs, warp};
use crate::propainter::layers::inverse;

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
    /// Compares the flows that were predicted for `target` with the true ones.
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
        // Of each, first what belongs to the flow forward and then what to that backward.
        let predicted = [&flows.forward, &flows.backward];
        let combined = [&combined.forward, &combined.backward];
        let truth = [&target.flows.forward, &target.flows.backward];
        let masks = masks_of_pairs(&target.masks);
        let frames = masks_of_pairs(&target.frames);
        let flow = |way: usize| flow_loss(predicted[way], truth[way], &masks[way]);
        let warp = |way: usize| {
            let (current, neighbour) = (&frames[way], &frames[1 - way]);
            census_loss(current, neighbour, combined[way], truth[way], &masks[way])
        };
        let edge = |way: usize| edge_loss(&edges[way], &flow_edges(truth[way]), &masks[way]);
        FlowCompletionTerms {
            flow: (flow(0) + flow(1)).mul_scalar(self.flow),
            warp: (warp(0) + warp(1)).mul_scalar(self.warp),
            edge: (edge(0) + edge(1)).mul_scalar(self.edge),
        }
    }
}

/// Directions of the second differences: across, down and both diagonals.
const LINES: [[isize; 2]; 4] = [[0, 1], [1, 0], [1, 1], [1, -1]];

/// How far a flow is from the true one, in the hole and outside, and how rough it is in the hole.
///
/// # Shapes
/// - predicted, truth: `[batch_size, pairs, 2, height, width]`, one direction
/// - mask: `[batch_size, pairs, 1, height, width]`, 1 in the hole
/// - output: `[1]`
///
/// # References
/// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.2. Smoothness: Sun et al. 2014, "A quantitative
/// analysis of current practices in optical flow estimation", section 3 (generalized Charbonnier).
fn flow_loss(predicted: &Tensor<5>, truth: &Tensor<5>, mask: &Tensor<5>) -> Tensor<1> {
    let outside = inverse(mask.clone());
    let combined = predicted.clone() * mask.clone() + truth.clone() * outside.clone();
    masked_l1(predicted, truth, mask)
        + masked_l1(predicted, truth, &outside)
        + smoothness_loss(&combined, mask)
        + second_order_loss(&combined, mask)
}

/// How much a flow changes from pixel to pixel in the hole.
///
/// # Shapes
/// - flow: `[batch_size, pairs, 2, height, width]`, one direction
/// - mask: `[batch_size, pairs, 1, height, width]`, 1 in the hole
/// - output: `[1]`
pub fn smoothness_loss(flow: &Tensor<5>, mask: &Tensor<5>) -> Tensor<1> {
    roughness(flow, mask, |component| {
        let steps = [[0, 1], [1, 0]];
        let differences =
            steps.map(|[down, right]| component.clone() - shifted(component, down, right));
        differences.into()
    })
}

/// How much the change of a flow changes from pixel to pixel in the hole.
///
/// # Shapes
/// As [`smoothness_loss`].
pub fn second_order_loss(flow: &Tensor<5>, mask: &Tensor<5>) -> Tensor<1> {
    roughness(flow, mask, |component| {
        let differences = LINES.map(|[down, right]| {
            let both = shifted(component, down, right) + shifted(component, -down, -right);
            both - component.clone().mul_scalar(2.0)
        });
        differences.into()
    })
}

/// The mean robust penalty of the differences in the hole, summed over both components.
fn roughness(
    flow: &Tensor<5>,
    mask: &Tensor<5>,
    differences: impl Fn(&Tensor<4>) -> Vec<Tensor<4>>,
) -> Tensor<1> {
    let flow: Tensor<4> = full(flow.clone()).flatten(0, 1);
    let mask: Tensor<4> = full(mask.clone()).flatten(0, 1);
    let penalty = |component: usize| {
        let differences = Tensor::cat(differences(&flow.clone().narrow(1, component, 1)), 1);
        (robust(differences) * mask.clone()).mean()
    };
    penalty(0) + penalty(1)
}

/// Grows nearly with the size of `x`, and is smooth at 0.
fn robust(x: Tensor<4>) -> Tensor<4> {
    x.square().add_scalar(1e-6).powf_scalar(0.45)
}

/// How differently frames look where a completed flow says they show the same, in the hole.
///
/// Compares what every pixel's neighbours are relative to it, so that brightness does not count.
/// Pixels that even the true flow does not match weigh little.
///
/// # Shapes
/// - current, neighbour: `[batch_size, pairs, 3, height, width]`, in [-1, 1]: the frames that the
///   flow begins and ends in
/// - flow, truth: `[batch_size, pairs, 2, height, width]`
/// - mask: `[batch_size, pairs, 1, height, width]`, 1 in the hole
/// - output: `[1]`
///
/// # References
/// Meister et al. 2018, "UnFlow", arXiv:1711.07837, section 3.2 (census transform).
fn census_loss(
    current: &Tensor<5>,
    neighbour: &Tensor<5>,
    flow: &Tensor<5>,
    truth: &Tensor<5>,
    mask: &Tensor<5>,
) -> Tensor<1> {
    let [current, neighbour, flow, truth, mask] = [current, neighbour, flow, truth, mask]
        .map(|x| -> Tensor<4> { full(x.clone()).flatten(0, 1) });
    let off = warp(neighbour.clone(), truth, Sampling::Bilinear) - current.clone();
    let trust = off.abs().sum_dim(1).square().mul_scalar(-50.0).exp();
    let warped = warp(neighbour, flow, Sampling::Bilinear);
    let distance = census_distance(current, warped);
    let share = mask.clone().mean().clamp_min(f64::from(f32::MIN_POSITIVE));
    (distance * trust * mask).mean() / share
}

/// The robust distance of the census transforms of two images, summed over the neighbours.
fn census_distance(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    let difference = (census(a) - census(b)).square();
    let distance = difference.clone() / difference.add_scalar(0.1);
    distance.sum_dim(1)
}

/// The differences of a pixel's neighbourhood to itself, limited to between -1 and 1.
///
/// # Shapes
/// - output: `[batch_size, 9, height, width]`
fn census(image: Tensor<4>) -> Tensor<4> {
    let channel = |at: usize, weight: f64| image.clone().narrow(1, at, 1).mul_scalar(weight);
    let grey = channel(0, 0.299) + channel(1, 0.587) + channel(2, 0.110);
    let grey = grey.mul_scalar(255.0);
    let around = (-1..=1).flat_map(|down| (-1..=1).map(move |right| (down, right)));
    let around = around.map(|(down, right)| shifted(&grey, down, right) - grey.clone());
    let around = Tensor::cat(around.collect(), 1);
    around.clone() / around.square().add_scalar(0.81).sqrt()
}

/// How much more the edges in the hole count.
const HOLE_WEIGHT: f64 = 5.0;

/// How far the edges of a completed flow are from the true ones, and again in the hole.
///
/// # Shapes
/// - predicted: `[batch_size, pairs, 1, height, width]`, from `FlowCompletion::edges`
/// - truth: the same, 1 on edges and 0 elsewhere
/// - mask: the same, 1 in the hole
/// - output: `[1]`
///
/// # Exactness
/// As in the published training, the probabilities are taken for logits once more.
///
/// # References
/// Xie and Tu 2015, "Holistically-Nested Edge Detection", arXiv:1504.06375, eq. 2 (class balance).
fn edge_loss(predicted: &Tensor<5>, truth: &Tensor<5>, mask: &Tensor<5>) -> Tensor<1> {
    let [predicted, truth, mask] = [predicted, truth, mask].map(|x| full(x.clone()));
    let outside = inverse(mask.clone());
    let combined = predicted.clone() * mask + truth.clone() * outside;
    let hole = balanced(combined, &truth).mul_scalar(HOLE_WEIGHT);
    balanced(predicted, &truth) + hole
}

/// Binary cross-entropy of logits; edges weigh as much as the rest, map by map.
fn balanced(logits: Tensor<5>, truth: &Tensor<5>) -> Tensor<1> {
    let positive = truth.clone().mean_dims(&[2, 3, 4]);
    let negative = inverse(positive.clone());
    let missed = log_sigmoid(logits.clone()) * truth.clone() * negative;
    let invented = log_sigmoid(logits.neg()) * inverse(truth.clone()) * positive;
    (missed + invented).mean().neg()
}

/// The mean absolute difference where the mask is 1.
///
/// # Shapes
/// - predicted, truth: `[batch_size, frames, channels, height, width]`
/// - mask: `[batch_size, frames, 1, height, width]`
/// - output: `[1]`; 0 where the mask is 0 everywhere
pub(super) fn masked_l1(predicted: &Tensor<5>, truth: &Tensor<5>, mask: &Tensor<5>) -> Tensor<1> {
    let mask = full(mask.clone());
    let difference = full(predicted.clone()) - full(truth.clone());
    let share = mask.clone().mean().clamp_min(f64::from(f32::MIN_POSITIVE));
    (difference.abs() * mask).mean() / share
}

/// The value `down` rows further down and `right` columns further right of every pixel, zero
/// outside.
///
/// # Shapes
/// - x and output: `[batch_size, channels, height, width]`
fn shifted(x: &Tensor<4>, down: isize, right: isize) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let cut = |by: isize, len: usize| {
        let gap = by.unsigned_abs().min(len);
        if by >= 0 {
            (gap, len - gap, (0, gap))
        } else {
            (0, len - gap, (gap, 0))
        }
    };
    let (row, rows, above_and_below) = cut(down, height);
    let (column, columns, left_and_right) = cut(right, width);
    let seen = x.clone().narrow(2, row, rows).narrow(3, column, columns);
    seen.pad([above_and_below, left_and_right], PadMode::Constant(0.0))
}
