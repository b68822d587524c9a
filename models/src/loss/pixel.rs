//! A loss of localization networks, pixel by pixel.

use burn::config::Config;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Tensor, TensorData};
use burn_memopt::precision::ops::full;

use super::LossSum;

/// Settings of a [`PixelLoss`].
#[derive(Config, Debug)]
pub struct PixelLossConfig {
    /// Weight of each channel. The default is 1 for six channels.
    #[config(default = "vec![1.0; 6]")]
    pub channel_weights: Vec<f64>,
    /// Weight of pixels with an emitter in the first channel. The default is `1.0`.
    #[config(default = 1.0)]
    pub positive_weight: f64,
}

impl PixelLossConfig {
    /// Builds the loss.
    ///
    /// # Panics
    /// If there is no channel, or a weight is negative.
    pub fn init(&self) -> PixelLoss {
        assert!(
            !self.channel_weights.is_empty(),
            "channel_weights must not be empty"
        );
        let weights = self.channel_weights.iter().chain([&self.positive_weight]);
        for weight in weights {
            assert!(*weight >= 0.0, "weights must not be negative, got {weight}");
        }
        PixelLoss {
            channel_weights: self.channel_weights.clone(),
            positive_weight: self.positive_weight,
        }
    }
}

/// Loss of a [`DoubleMUNet`](crate::decode::DoubleMUNet): pixel by pixel.
///
/// The first channel, logits of an emitter, costs binary cross-entropy; photons, positions and
/// background cost their squared error. Every value is multiplied by its element's weight, which
/// says where there is something to learn, and by its channel's.
///
/// # Exactness
/// [`forward_sum`](Self::forward_sum) adds up over micro-batches. Half precision is widened to f32.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::loss::PixelLossConfig;
///
/// let device = Device::flex();
/// let target = Tensor::<4>::zeros([1, 6, 2, 2], &device);
/// let loss = PixelLossConfig::new().init();
/// let values = loss.forward(target.clone(), target.clone(), target.ones_like());
/// assert_eq!(values.dims(), [1, 6, 2, 2]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PixelLoss {
    channel_weights: Vec<f64>,
    positive_weight: f64,
}

impl PixelLoss {
    /// Computes the loss of every value.
    ///
    /// # Shapes
    /// - output, targets, weights, result: `[batch_size, channels, height, width]`
    ///
    /// # Panics
    /// If the channels are not those of the weights.
    pub fn forward(&self, output: Tensor<4>, targets: Tensor<4>, weights: Tensor<4>) -> Tensor<4> {
        let channels = output.dims()[1];
        assert!(
            channels == self.channel_weights.len(),
            "output must have a channel for each of the {} channel weights, got {channels}",
            self.channel_weights.len()
        );
        let (output, targets) = (full(output), full(targets));
        let rest = channels - 1;
        let (logits, labels) = (
            output.clone().narrow(1, 0, 1),
            targets.clone().narrow(1, 0, 1),
        );
        let positive = labels.clone() * log_sigmoid(logits.clone());
        let negative = labels.neg().add_scalar(1.0) * log_sigmoid(logits.neg());
        let entropy = (positive.mul_scalar(self.positive_weight) + negative).neg();
        let losses = match rest {
            0 => entropy,
            _ => {
                let errors = output.narrow(1, 1, rest) - targets.narrow(1, 1, rest);
                Tensor::cat(vec![entropy, errors.square()], 1)
            }
        };
        let channel_weights: Vec<f32> = self.channel_weights.iter().map(|&w| w as f32).collect();
        let channel_weights = TensorData::new(channel_weights, [1, channels, 1, 1]);
        let channel_weights = Tensor::from_data(channel_weights, &losses.device());
        losses * full(weights) * channel_weights
    }

    /// Computes the sum over all values; its weight is their number.
    ///
    /// Shapes and panics are those of [`forward`](Self::forward).
    pub fn forward_sum(
        &self,
        output: Tensor<4>,
        targets: Tensor<4>,
        weights: Tensor<4>,
    ) -> LossSum {
        let losses = self.forward(output, targets, weights);
        LossSum {
            weight: losses.shape().num_elements() as f64,
            sum: losses.sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use burn_memopt::grad_checkpoint::hold_random_stream;

    #[test]
    #[should_panic(
        expected = "output must have a channel for each of the 2 channel weights, got 3"
    )]
    fn channels_without_a_weight_are_refused() {
        let zeros = Tensor::<4>::zeros([1, 3, 2, 2], &Device::flex());
        let loss = PixelLossConfig::new()
            .with_channel_weights(vec![1.0, 2.0])
            .init();
        loss.forward(zeros.clone(), zeros.clone(), zeros);
    }

    #[test]
    fn elements_without_weight_lose_nothing() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let wild = Tensor::<4>::full([1, 6, 2, 2], 1e3, &Device::flex());
        let loss = PixelLossConfig::new().init();
        let sum = loss.forward_sum(wild.clone(), wild.zeros_like(), wild.zeros_like());
        assert_eq!((sum.weight, sum.sum.into_scalar::<f32>()), (24.0, 0.0));
    }
}
