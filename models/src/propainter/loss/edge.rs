use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;
use burn_memopt::precision::ops::full;

/// How much more the edges in the hole count.
const HOLE_WEIGHT: f64 = 5.0;

/// How far the edges of a completed flow are from the true ones, and again in the hole.
///
/// # Shapes
/// - predicted: `[batch_size, pairs, 1, height, width]`, what
///   [`FlowCompletion::edges`](crate::propainter::FlowCompletion::edges) says
/// - truth: the same, 1 on edges and 0 elsewhere
/// - mask: the same, 1 in the hole
/// - output: `[1]`
///
/// # Exactness
/// As in the published training, the probabilities are taken for logits once more.
///
/// # References
/// Xie and Tu 2015, "Holistically-Nested Edge Detection", arXiv:1504.06375, eq. 2 (class balance).
pub fn edge_loss(predicted: &Tensor<5>, truth: &Tensor<5>, mask: &Tensor<5>) -> Tensor<1> {
    let [predicted, truth, mask] = [predicted, truth, mask].map(|x| full(x.clone()));
    let outside = mask.clone().neg().add_scalar(1.0);
    let combined = predicted.clone() * mask + truth.clone() * outside;
    let hole = balanced(combined, &truth).mul_scalar(HOLE_WEIGHT);
    balanced(predicted, &truth) + hole
}

/// Binary cross-entropy of logits; edges weigh as much as the rest, map by map.
fn balanced(logits: Tensor<5>, truth: &Tensor<5>) -> Tensor<1> {
    let positive = truth.clone().mean_dims(&[2, 3, 4]);
    let negative = positive.clone().neg().add_scalar(1.0);
    let missed = log_sigmoid(logits.clone()) * truth.clone() * negative;
    let invented = log_sigmoid(logits.neg()) * truth.clone().neg().add_scalar(1.0) * positive;
    (missed + invented).mean().neg()
}
