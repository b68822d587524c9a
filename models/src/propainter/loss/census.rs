use burn::tensor::Tensor;
use burn_memopt::precision::ops::full;

use super::shift::shifted;
use crate::propainter::warp::{Sampling, warp};

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
pub fn census_loss(
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
