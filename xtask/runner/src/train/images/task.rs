//! What a U-Net is for: its loss, how its output is read, and how it is built.

use std::borrow::Cow;
use std::ops::ControlFlow;

use anyhow::Result;
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Tensor};
use burn_memopt::chunked::{Progress, SumLoss, TiledError, TiledImages};
use burn_memopt::train::{MicroBatchTrainer, MicroLoss};
use burn_memopt_models::loss::{BceDiceLoss, CountLoss, CountLossConfig, CrossEntropyLoss};
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
    /// Classes of the masks, where these have more than an object.
    classes: Option<usize>,
}

impl Task {
    pub fn new(loss: LossChoice, classes: Option<usize>) -> Self {
        Self { loss, classes }
    }

    /// Classes of the masks, where these have more than an object.
    pub fn classes(self) -> Option<usize> {
        self.classes
    }

    /// Whether emitters are counted; else masks are drawn.
    pub fn counts(self) -> bool {
        self.loss == LossChoice::Count
    }

    /// The loss of a network's output.
    ///
    /// # Shapes
    /// - output: `[batch_size, out_channels, height, width]`
    /// - targets: `[batch_size, 1, height, width]`; of classes -1 where a pixel has none
    pub fn loss(self, output: Tensor<4>, targets: Tensor<4>) -> MicroLoss {
        let batch_size = targets.dims()[0];
        match self.loss {
            LossChoice::Count => {
                let densities = output.div_scalar(DENSITY_SCALE);
                let loss = count_loss().forward_sum(densities, targets, None);
                MicroLoss::sum(loss.sum, loss.weight)
            }
            LossChoice::BceDice => {
                let loss = BceDiceLoss::default().forward(output, targets, None);
                MicroLoss::mean(loss, batch_size as f64)
            }
            LossChoice::CrossEntropy => {
                let labels = targets.squeeze_dim::<3>(1);
                let has_class = labels.clone().greater_equal_scalar(0.0).float();
                let labels = labels.clamp_min(0.0).int();
                let mask = self.classes.map(|_| has_class);
                let loss = CrossEntropyLoss.forward_sum(output, labels, mask);
                MicroLoss::sum(loss.sum, loss.weight)
            }
        }
    }

    /// Accumulates the loss of whole images, tile by tile.
    pub fn accumulate(
        self,
        tiles: &TiledImages,
        train: &mut MicroBatchTrainer,
        network: &UNet,
        progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), TiledError> {
        let margin = tiles.margin();
        let forward = |network: &UNet, tiles| network.forward_tiles_within(tiles, margin);
        match self.loss {
            LossChoice::Count => tiles.accumulate_sums(train, network, forward, &Count, progress),
            LossChoice::BceDice => {
                let loss = BceDiceLoss::default();
                tiles.accumulate_sums(train, network, forward, &loss, progress)
            }
            LossChoice::CrossEntropy => {
                let loss = |output, targets| self.loss(output, targets);
                tiles.accumulate(train, network, forward, loss, progress)
            }
        }
    }

    /// The density map, the probability of the mask, or that of each class in a network's output.
    ///
    /// # Shapes
    /// - output: `[batch_size, out_channels, height, width]`
    /// - result: `[batch_size, 1 or classes, height, width]`
    pub fn read(self, output: Tensor<4>) -> Tensor<4> {
        match self.loss {
            LossChoice::Count => output.div_scalar(DENSITY_SCALE),
            LossChoice::BceDice => sigmoid(output),
            LossChoice::CrossEntropy if self.classes.is_some() => softmax(output, 1),
            LossChoice::CrossEntropy => softmax(output, 1).narrow(1, 1, 1),
        }
    }

    /// Channels of a network's output.
    pub fn out_channels(self) -> usize {
        match self.loss {
            LossChoice::Count | LossChoice::BceDice => 1,
            LossChoice::CrossEntropy => self.classes.unwrap_or(2),
        }
    }
}

fn count_loss() -> CountLoss {
    CountLossConfig::new()
        .with_density_scale(DENSITY_SCALE)
        .init()
}

/// The loss of the number of emitters in whole images, of a network's outputs.
struct Count;

impl SumLoss<UNet> for Count {
    fn sums(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<2> {
        SumLoss::<UNet>::sums(&count_loss(), output.div_scalar(DENSITY_SCALE), target)
    }

    fn loss(&self, network: &UNet, sums: Tensor<2>) -> MicroLoss {
        count_loss().loss(network, sums)
    }
}

/// The most probable class of each pixel; a single plane stays as it is.
///
/// # Shapes
/// - planes: `[channels, pixels]`
/// - result: `[pixels]`
pub fn most_probable(planes: &[f32], channels: usize) -> Cow<'_, [f32]> {
    if channels == 1 {
        return planes.into();
    }
    let pixels = planes.len() / channels;
    let at = |class: usize, pixel: usize| planes[class * pixels + pixel];
    let best = |pixel: usize| {
        // The first of several that are as probable.
        (1..channels).fold(0, |best, class| {
            if at(class, pixel) > at(best, pixel) {
                class
            } else {
                best
            }
        })
    };
    (0..pixels).map(|pixel| best(pixel) as f32).collect()
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
        NormChoice::Channel => NormKind::Channel,
        NormChoice::None => NormKind::None,
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
