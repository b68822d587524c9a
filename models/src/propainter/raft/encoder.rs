use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::norm::{Norm, NormKind};
use super::residual::ResidualBlock;

/// Turns frames into features at an eighth of their resolution.
#[derive(Module, Debug)]
pub struct Encoder {
    /// 7×7 convolution with stride 2.
    pub conv1: Conv2d,
    /// Normalization of the first convolution.
    pub norm1: Norm,
    /// 64 channels at a half.
    pub layer1: Vec<ResidualBlock>,
    /// 96 channels at a quarter.
    pub layer2: Vec<ResidualBlock>,
    /// 128 channels at an eighth.
    pub layer3: Vec<ResidualBlock>,
    /// 1×1 convolution to the features.
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
            conv1: Conv2dConfig::new([3, 64], [7, 7])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(3, 3, 3, 3))
                .init(device),
            norm1: Norm::new(norm, 64, device),
            layer1: layer([64, 64], 1),
            layer2: layer([64, 96], 2),
            layer3: layer([96, 128], 2),
            conv2: Conv2dConfig::new([128, features], [1, 1]).init(device),
        }
    }

    /// Computes the features of frames, each for itself.
    ///
    /// # Shapes
    /// - frames: `[batch_size, 3, height, width]`, values from -1 to 1
    /// - output: `[batch_size, features, height / 8, width / 8]`
    pub fn forward(&self, frames: Tensor<4>) -> Tensor<4> {
        let x = relu(self.norm1.forward(self.conv1.forward(frames)));
        let layers = [&self.layer1, &self.layer2, &self.layer3];
        let blocks = layers.into_iter().flatten();
        self.conv2
            .forward(blocks.fold(x, |x, block| block.forward(x)))
    }
}
