use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::correlation::NUM_VALUES;

/// Turns the flow so far, and what was looked up where it leads, into features.
#[derive(Module, Debug)]
pub struct MotionEncoder {
    /// 1×1 convolution of the looked-up values.
    pub convc1: Conv2d,
    /// 3×3 convolution of the looked-up values.
    pub convc2: Conv2d,
    /// 7×7 convolution of the flow.
    pub convf1: Conv2d,
    /// 3×3 convolution of the flow.
    pub convf2: Conv2d,
    /// 3×3 convolution of both.
    pub conv: Conv2d,
}

impl MotionEncoder {
    /// Builds the encoder.
    pub fn new(device: &Device) -> Self {
        let conv = |channels, size| convolution(channels, size, device);
        Self {
            convc1: conv([NUM_VALUES, 256], 1),
            convc2: conv([256, 192], 3),
            convf1: conv([2, 128], 7),
            convf2: conv([128, 64], 3),
            conv: conv([192 + 64, 128 - 2], 3),
        }
    }

    /// Computes the features; the last two channels are the flow itself.
    ///
    /// # Shapes
    /// - flow: `[batch_size, 2, height, width]`
    /// - correlation: `[batch_size, 324, height, width]`
    /// - output: `[batch_size, 128, height, width]`
    pub fn forward(&self, flow: Tensor<4>, correlation: Tensor<4>) -> Tensor<4> {
        let values = relu(self.convc1.forward(correlation));
        let values = relu(self.convc2.forward(values));
        let motion = relu(self.convf1.forward(flow.clone()));
        let motion = relu(self.convf2.forward(motion));
        let both = relu(self.conv.forward(Tensor::cat(vec![values, motion], 1)));
        Tensor::cat(vec![both, flow], 1)
    }
}

/// A convolution of odd `size` that keeps the size of the map.
pub(super) fn convolution(channels: [usize; 2], size: usize, device: &Device) -> Conv2d {
    let padding = size / 2;
    Conv2dConfig::new(channels, [size, size])
        .with_padding(PaddingConfig2d::Explicit(
            padding, padding, padding, padding,
        ))
        .init(device)
}
