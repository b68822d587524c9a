use burn::module::{Module, RunningState};
use burn::nn::{BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig};
use burn::tensor::activation::relu;
use burn::tensor::module::batch_norm_train;
use burn::tensor::{DType, Device, Tensor};
use burn_memopt::grad_checkpoint::Segment;

use super::config::NormKind;

/// The normalization layer of a [`DoubleConv`](super::DoubleConv).
///
/// Half-precision input is normalized in f32 and returned in its own type; a `TrainStep` in half
/// precision believes that of batch norm if its policy says `keep_type("BatchNorm")`.
///
/// # Exactness
/// Batch norm normalizes with burn's own kernel. Its running variance takes the *unbiased*
/// variance of the batch, as PyTorch does; `burn::nn::BatchNorm::forward` takes the biased one,
/// which is `1 / n` smaller for `n` pixels a channel and shows in deep layers of small images.
#[derive(Module, Debug)]
pub enum Norm {
    /// Batch normalization; statistics of the batch while training.
    Batch(BatchNorm),
    /// Group normalization; statistics of each image.
    Group(GroupNorm),
}

/// What a normalization and the ReLU behind it keep for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// What burn keeps: the inputs of both.
    All,
    /// The input of the normalization; the rest is recomputed, which costs little.
    Input,
}

impl Norm {
    /// Normalizes `input` and applies a ReLU.
    ///
    /// In half precision only the half-precision input is ever kept: the f32 values between are
    /// recomputed.
    pub(super) fn forward_relu(&self, keep: Keep, input: Tensor<4>) -> Tensor<4> {
        let forward = |norm: &Self, input| relu(norm.forward(input));
        match (keep, input.dtype()) {
            (Keep::All, DType::F32) => forward(self, input),
            _ => Segment::new()
                .without_randomness()
                .run(self, input, forward),
        }
    }

    /// Builds a layer of `kind` for `channels` channels on `device`.
    pub fn new(kind: NormKind, channels: usize, device: &Device) -> Self {
        match kind {
            NormKind::Batch => Self::Batch(BatchNormConfig::new(channels).init(device)),
            NormKind::Group { groups } => {
                Self::Group(GroupNormConfig::new(groups, channels).init(device))
            }
        }
    }

    /// Normalizes `input`.
    ///
    /// Batch norm uses and updates the batch's statistics when `input` lives on an autodiff
    /// device and the layer is not frozen; otherwise it uses the running ones.
    ///
    /// # Shapes
    /// - input and output: `[batch_size, channels, height, width]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Batch(norm) => batch_norm(norm, input),
            Self::Group(norm) => norm.forward(input),
        }
    }
}

fn batch_norm(norm: &BatchNorm, input: Tensor<4>) -> Tensor<4> {
    let dtype = input.dtype();
    let input = match dtype {
        DType::F16 | DType::BF16 => input.cast(DType::F32),
        _ => input,
    };
    let output = match input.device().is_autodiff() && norm.training.is_enabled() {
        true => batch_norm_tracked(norm, input),
        false => norm.forward(input),
    };
    match output.dtype() == dtype {
        true => output,
        false => output.cast(dtype),
    }
}

/// Normalizes with the batch's statistics and moves the running ones.
fn batch_norm_tracked(norm: &BatchNorm, input: Tensor<4>) -> Tensor<4> {
    let [batch_size, _, height, width] = input.dims();
    let count = batch_size * height * width;
    let batch = batch_norm_train(input, norm.gamma.val(), norm.beta.val(), norm.epsilon);
    // A single value per channel has no unbiased variance; its biased one, 0, is kept.
    let unbias = count as f64 / (count - 1).max(1) as f64;
    track(&norm.running_mean, batch.mean, norm.momentum);
    track(
        &norm.running_var,
        batch.variance.mul_scalar(unbias),
        norm.momentum,
    );
    batch.output
}

fn track(running: &RunningState<Tensor<1>>, batch: Tensor<1>, momentum: f64) {
    let old = running.value_sync().to_device(&batch.device());
    let new = old.mul_scalar(1.0 - momentum) + batch.detach().mul_scalar(momentum);
    running.update(new.detach());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_channel_batch(device: &Device) -> Tensor<4> {
        Tensor::from_floats([[[[1.0, 2.0, 4.0, 5.0]]]], device)
    }

    #[test]
    fn the_running_variance_takes_the_unbiased_variance_of_the_batch() {
        let device = Device::flex().autodiff();
        let norm = BatchNormConfig::new(1).init(&device);
        Norm::Batch(norm.clone()).forward(one_channel_batch(&device));

        let mean = norm.running_mean.value_sync().into_scalar::<f32>();
        let variance = norm.running_var.value_sync().into_scalar::<f32>();
        assert!((mean - 0.3).abs() < 1e-6, "{mean}");
        // 0.9 * 1 + 0.1 * (10 / 3); the biased variance would give 1.15.
        assert!((variance - 1.233_333_3).abs() < 1e-6, "{variance}");
    }

    #[test]
    fn training_output_equals_that_of_the_layer_in_burn() {
        let device = Device::flex().autodiff();
        let theirs = BatchNormConfig::new(1).init(&device);
        let ours = Norm::new(NormKind::Batch, 1, &device);
        let input = one_channel_batch(&device);
        assert_eq!(
            ours.forward(input.clone()).into_data(),
            theirs.forward(input).into_data()
        );
    }

    #[test]
    fn half_precision_input_is_normalized_in_full_precision_and_returned_in_half() {
        let device = Device::flex().autodiff();
        let norm = Norm::new(NormKind::Batch, 1, &device);
        let input = one_channel_batch(&device);
        let half = norm.forward(input.clone().cast(DType::F16));
        assert_eq!(half.dtype(), DType::F16);
        let full = norm.forward(input);
        let error = (half.cast(DType::F32) - full).abs().max();
        assert!(error.into_scalar::<f32>() < 1e-3);
    }

    #[test]
    fn a_frozen_layer_leaves_its_statistics_alone() {
        let device = Device::flex().autodiff();
        let norm = BatchNormConfig::new(1).init(&device).freeze();
        Norm::Batch(norm.clone()).forward(one_channel_batch(&device));
        assert_eq!(norm.running_mean.value_sync().into_scalar::<f32>(), 0.0);
    }
}
