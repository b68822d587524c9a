//! The cross-entropy of many classes, whose logits are never whole in memory.

use burn::nn::Linear;
use burn::tensor::{Int, Tensor};

use super::Segment;
use crate::nn::cross_entropy;

/// The cross-entropy of every position, of logits `hidden · weight + bias` that exist for `len` positions at a
/// time only, forward and backward.
///
/// For a language model's head: 4,096 positions over 32,000 words are half a gigabyte of logits, and a training
/// step keeps them several times. Here it keeps `hidden`, and computes the logits of each slice once more in
/// the backward pass. A few hundred positions a slice take about the plain time and a third more.
///
/// Mask, weigh and average the result as the loss needs it: a position to be ignored needs some target all the
/// same. Weights that are tied to an embedding are its transpose.
///
/// # Shapes
/// - hidden: `[positions, features]`
/// - weight: `[features, words]`, as that of [`Linear`]
/// - bias: `[words]`
/// - targets: `[positions]`, each below `words`
/// - output: `[positions]`, in f32 where `hidden` is in half precision
///
/// # Exactness
/// Losses are those of the whole logits to rounding; the gradient of `weight` is a sum over slices.
///
/// # Panics
/// If the shapes do not fit each other, there are no positions, or `len` is zero; on the CPU if a target is no word.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_memopt::grad_checkpoint::chunked_cross_entropy;
///
/// let device = Device::flex().autodiff();
/// let hidden = Tensor::<2>::ones([6, 4], &device).require_grad();
/// let weight = Tensor::<2>::zeros([4, 10], &device).require_grad();
/// let next = Tensor::<1, Int>::arange(0..6, &device);
/// let losses = chunked_cross_entropy(hidden, weight.clone(), None, next, 2);
/// let loss = losses.mean();
/// assert!((loss.clone().into_scalar::<f32>() - 10f32.ln()).abs() < 1e-6);
/// assert_eq!(weight.grad(&loss.backward()).unwrap().dims(), [4, 10]);
/// ```
pub fn chunked_cross_entropy(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    len: usize,
) -> Tensor<1> {
    let ([positions, features], [rows, words]) = (hidden.dims(), weight.dims());
    let biases = bias.as_ref().map(|bias| bias.dims()[0]);
    assert!(
        features == rows && biases.is_none_or(|biases| biases == words),
        "the weight must be [features, words] with a bias of [words], got a weight of {rows}×{words} for \
         {features} features and a bias of {biases:?}"
    );
    assert!(
        targets.dims()[0] == positions,
        "there must be a target for each position, got {} for {positions}",
        targets.dims()[0]
    );
    let no_module = Vec::<Linear>::new();
    let segment = Segment::new().without_randomness();
    let losses = segment.chunks(
        &no_module,
        (hidden, targets),
        (weight, bias),
        [0, len],
        |_, (hidden, targets): (Tensor<2>, Tensor<1, Int>), (weight, bias)| {
            losses(hidden, weight, bias, targets)
        },
    );
    Tensor::cat(losses.collect(), 0)
}

fn losses(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    let logits = hidden.matmul(weight);
    let logits = match bias {
        Some(bias) => logits + bias.unsqueeze(),
        None => logits,
    };
    cross_entropy(logits, targets)
}
