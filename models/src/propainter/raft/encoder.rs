use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, InstanceNorm, InstanceNormConfig};
use burn::tensor::{Device, Tensor};
use burn_memopt::nn::{conv2d, relu};

use crate::propainter::layers::conv_config;

/// Turns frames into features at an eighth of their resolution.
#[derive(Module, Debug)]
pub struct Encoder {
    pub conv1: Conv2d,
    pub norm1: Norm,
    pub layer1: Vec<ResidualBlock>,
    pub layer2: Vec<ResidualBlock>,
    pub layer3: Vec<ResidualBlock>,
    pub conv2: Conv2d,
}

impl Encoder {
    pub(super) fn new(features: usize, norm: NormKind, device: &Device) -> Self {
        let layer = |channels: [usize; 2], stride| {
            let [_, out] = channels;
            vec![
                ResidualBlock::new(channels, stride, norm, device),
                ResidualBlock::new([out, out], 1, norm, device),
            ]
        };
        Self {
            conv1: strided([3, 64], 7, 2, device),
            norm1: Norm::new(norm, 64, device),
            layer1: layer([64, 64], 1),
            layer2: layer([64, 96], 2),
            layer3: layer([96, 128], 2),
            conv2: strided([128, features], 1, 1, device),
        }
    }

    /// Computes the features of frames, each for itself.
    ///
    /// # Shapes
    /// - frames: `[batch_size, 3, height, width]`, values from -1 to 1
    /// - output: `[batch_size, features, height / 8, width / 8]`
    pub fn forward(&self, frames: Tensor<4>) -> Tensor<4> {
        let x = relu(self.norm1.forward(conv2d(&self.conv1, frames)));
        let layers = [&self.layer1, &self.layer2, &self.layer3];
        let blocks = layers.into_iter().flatten();
        conv2d(&self.conv2, blocks.fold(x, |x, block| block.forward(x)))
    }
}

/// Two convolutions and a shortcut around them.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    pub conv1: Conv2d,
    pub norm1: Norm,
    pub conv2: Conv2d,
    pub norm2: Norm,
    /// On the shortcut, where the block halves the resolution.
    downsample: Option<Downsample>,
}

#[derive(Module, Debug)]
struct Downsample {
    pub conv: Conv2d,
    pub norm: Norm,
}

impl ResidualBlock {
    fn new(channels: [usize; 2], stride: usize, norm: NormKind, device: &Device) -> Self {
        let [_, out] = channels;
        let norm = || Norm::new(norm, out, device);
        let downsample = || Downsample {
            conv: strided(channels, 1, stride, device),
            norm: norm(),
        };
        Self {
            conv1: strided(channels, 3, stride, device),
            norm1: norm(),
            conv2: strided([out, out], 3, 1, device),
            norm2: norm(),
            downsample: (stride != 1).then(downsample),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let main = relu(self.norm1.forward(conv2d(&self.conv1, x.clone())));
        let main = relu(self.norm2.forward(conv2d(&self.conv2, main)));
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.norm.forward(conv2d(&downsample.conv, x)),
            None => x,
        };
        relu(shortcut + main)
    }
}

fn strided(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Conv2d {
    let config = conv_config(channels, kernel);
    config.with_stride([stride, stride]).init(device)
}

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
    fn new(kind: NormKind, channels: usize, device: &Device) -> Self {
        match kind {
            NormKind::Instance => {
                let config = InstanceNormConfig::new(channels).with_affine(false);
                Self::Instance(config.init(device))
            }
            NormKind::Batch => Self::Batch(BatchNormConfig::new(channels).init(device)),
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
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
