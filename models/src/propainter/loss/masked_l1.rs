use burn::tensor::Tensor;
use burn_memopt::precision::ops::full;

/// The mean absolute difference where the mask is 1.
///
/// # Shapes
/// - predicted, truth: `[batch_size, frames, channels, height, width]`
/// - mask: `[batch_size, frames, 1, height, width]`
/// - output: `[1]`; 0 where the mask is 0 everywhere
pub fn masked_l1(predicted: &Tensor<5>, truth: &Tensor<5>, mask: &Tensor<5>) -> Tensor<1> {
    let mask = full(mask.clone());
    let difference = full(predicted.clone()) - full(truth.clone());
    let share = mask.clone().mean().clamp_min(f64::from(f32::MIN_POSITIVE));
    (difference.abs() * mask).mean() / share
}
