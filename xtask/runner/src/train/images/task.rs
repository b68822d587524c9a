//! What a U-Net is for: its loss, how its output is read, and how it is built.

use anyhow::Result;
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Tensor};
use burn_memopt::train::MicroLoss;
use burn_memopt_models::loss::{BceDiceLoss, CountLossConfig, CrossEntropyLoss};
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig, Upsample};

use crate::choices::{LossChoice, NormChoice, UpsamplingChoice};
use crate::settings::UNetNetworkSettings;
use crate::train::network::first_weights;

/// Most groups of a group normalisation.
const MAX_GROUPS: usize = 8;

/// The network computes densities times this, so that its outputs are of the size
/// that random weights give.
const DENSITY_SCALE: f64 = 100.0;

/// What the network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    loss: LossChoice,
}

impl Task {
    pub fn new(loss: LossChoice) -> Self {
        Self { loss }
    }

    /// Whether emitters are counted; else masks are drawn.
    pub fn counts(self) -> bool {
        self.loss == LossChoice::Count
    }

    /// The loss of a network's output.
    ///
    /// # Shapes
    /// - output: `[batch_size, out_channels, height, width]`
    /// - targets: `[batch_size, 1, height, width]`
    pub fn loss(self, output: Tensor<4>, targets: Tensor<4>) -> MicroLoss {
        let batch_size = targets.dims()[0];
        match self.loss {
            LossChoice::Count => {
                let config = CountLossConfig::new().with_density_scale(DENSITY_SCALE);
                let densities = output.div_scalar(DENSITY_SCALE);
                let loss = config.init().forward_sum(densities, targets, None);
                MicroLoss::sum(loss.sum, loss.weight)
            }
            LossChoice::BceDice => {
                let loss = BceDiceLoss::default().forward(output, targets, None);
                MicroLoss::mean(loss, batch_size as f64)
            }
            LossChoice::CrossEntropy => {
                let labels = targets.squeeze_dim::<3>(1).int();
                let loss = CrossEntropyLoss.forward_sum(output, labels, None);
                MicroLoss::sum(loss.sum, loss.weight)
            }
        }
    }

    /// The density map or the probability of the mask in a network's output.
    ///
    /// # Shapes
    /// - output: `[batch_size, out_channels, height, width]`
    /// - result: `[batch_size, 1, height, width]`
    pub fn read(self, output: Tensor<4>) -> Tensor<4> {
        match self.loss {
            LossChoice::Count => output.div_scalar(DENSITY_SCALE),
            LossChoice::BceDice => sigmoid(output),
            LossChoice::CrossEntropy => softmax(output, 1).narrow(1, 1, 1),
        }
    }

    /// Channels of a network's output.
    pub fn out_channels(self) -> usize {
        match self.loss {
            LossChoice::Count | LossChoice::BceDice => 1,
            LossChoice::CrossEntropy => 2,
        }
    }
}

/// Builds the network from `channels[0]` to `channels[1]` channels, with random or given weights.
pub fn build(
    settings: &UNetNetworkSettings,
    channels: [usize; 2],
    seed: u64,
    device: &Device,
) -> Result<UNet> {
    let norm = match settings.norm {
        NormChoice::Batch => NormKind::Batch,
        NormChoice::Group => NormKind::Group {
            groups: num_groups(settings.base_channels),
        },
    };
    let upsample = match settings.upsampling {
        UpsamplingChoice::Bilinear => Upsample::Bilinear,
        UpsamplingChoice::Transposed => Upsample::Transposed,
    };
    device.seed(seed);
    let unet = UNetConfig::new(channels[0], channels[1])
        .with_base_channels(settings.base_channels)
        .with_depth(settings.depth)
        .with_norm(norm)
        .with_upsample(upsample)
        .init(device);
    first_weights(unet, settings.weights.as_deref(), "--weights")
}

/// The most groups, up to eight, of at least two channels each, or one.
fn num_groups(channels: usize) -> usize {
    let fits = |groups: &usize| channels.is_multiple_of(*groups) && channels / groups >= 2;
    (1..=MAX_GROUPS).rev().find(fits).unwrap_or(1)
}
