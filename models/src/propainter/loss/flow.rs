use burn::tensor::Tensor;
use burn_memopt::precision::ops::full;

use super::masked_l1::masked_l1;
use super::shift::shifted;

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
pub fn flow_loss(predicted: &Tensor<5>, truth: &Tensor<5>, mask: &Tensor<5>) -> Tensor<1> {
    let outside = mask.clone().neg().add_scalar(1.0);
    let combined = predicted.clone() * mask.clone() + truth.clone() * outside.clone();
    masked_l1(predicted, truth, mask)
        + masked_l1(predicted, truth, &outside)
        + smoothness_loss(&combined, mask)
        + second_order_loss(&combined, mask)
}

/// How much a flow changes from pixel to pixel in the hole.
///
/// # Shapes
/// As [`flow_loss`].
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
/// As [`flow_loss`].
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
