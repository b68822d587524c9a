use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, InstanceNorm, InstanceNormConfig};
use burn::tensor::{Device, Tensor};

/// Which normalization an encoder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NormKind {
    Instance,
    Batch,
}

/// The normalization layer of an encoder.
///
/// Batch normalization always takes the running statistics, on devices with autodiff too: the
/// flow is estimated by a network that others trained, and whose statistics stay as they are.
#[derive(Module, Debug)]
pub enum Norm {
    /// Statistics of each image and channel; no parameters.
    Instance(InstanceNorm),
    /// Running statistics.
    Batch(BatchNorm),
}

impl Norm {
    pub(super) fn new(kind: NormKind, channels: usize, device: &Device) -> Self {
        match kind {
            NormKind::Instance => {
                let config = InstanceNormConfig::new(channels).with_affine(false);
                Self::Instance(config.init(device))
            }
            NormKind::Batch => Self::Batch(BatchNormConfig::new(channels).init(device)),
        }
    }

    /// Normalizes `input`.
    ///
    /// # Shapes
    /// - input and output: `[batch_size, channels, height, width]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Instance(norm) => norm.forward(input),
            Self::Batch(norm) => by_running_statistics(norm, input),
        }
    }
}

/// One multiplication and one addition a value: mean, variance, weight and bias are constants.
fn by_running_statistics(norm: &BatchNorm, input: Tensor<4>) -> Tensor<4> {
    let deviation = norm.running_var.value().add_scalar(norm.epsilon).sqrt();
    let scale = norm.gamma.val() / deviation;
    let shift = norm.beta.val() - norm.running_mean.value() * scale.clone();
    let per_channel = |values: Tensor<1>| {
        let channels = values.dims()[0];
        values.reshape([1, channels, 1, 1])
    };
    input * per_channel(scale) + per_channel(shift)
}
