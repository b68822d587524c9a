use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::norm::{Norm, NormKind};

/// Two convolutions around which the input is led, and the sum of both.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// 3×3 convolution with the block's stride.
    pub conv1: Conv2d,
    /// Normalization of the first convolution.
    pub norm1: Norm,
    /// 3×3 convolution.
    pub conv2: Conv2d,
    /// Normalization of the second convolution.
    pub norm2: Norm,
    /// What the input becomes where the block halves the resolution.
    pub downsample: Option<Downsample>,
}

/// The input of a [`ResidualBlock`] at half its resolution.
#[derive(Module, Debug)]
pub struct Downsample {
    /// 1×1 convolution with stride 2.
    pub conv: Conv2d,
    /// Normalization of the convolution.
    pub norm: Norm,
}

impl ResidualBlock {
    pub(super) fn new(
        channels: [usize; 2],
        stride: usize,
        norm: NormKind,
        device: &Device,
    ) -> Self {
        let [_, out] = channels;
        let convolution = |channels, stride| {
            Conv2dConfig::new(channels, [3, 3])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        let downsample = || Downsample {
            conv: Conv2dConfig::new(channels, [1, 1])
                .with_stride([stride, stride])
                .init(device),
            norm: Norm::new(norm, out, device),
        };
        Self {
            conv1: convolution(channels, stride),
            norm1: Norm::new(norm, out, device),
            conv2: convolution([out, out], 1),
            norm2: Norm::new(norm, out, device),
            downsample: (stride != 1).then(downsample),
        }
    }

    /// Runs the block.
    ///
    /// # Shapes
    /// - x: `[batch_size, in, height, width]`
    /// - output: `[batch_size, out, height / stride, width / stride]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let main = relu(self.norm1.forward(self.conv1.forward(x.clone())));
        let main = relu(self.norm2.forward(self.conv2.forward(main)));
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.norm.forward(downsample.conv.forward(x)),
            None => x,
        };
        relu(shortcut + main)
    }
}
