use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::leaky_relu;
use burn::tensor::{Device, Tensor};

use super::layers::{conv3x3, conv3x3_before_leaky_relu};
use super::upsampling_conv::UpsamplingConv;

/// Makes frames of features at a quarter of their sides.
#[derive(Module, Debug)]
pub struct Decoder {
    /// To half the sides.
    pub up1: UpsamplingConv,
    /// At half the sides.
    pub conv1: Conv2d,
    /// To the full sides.
    pub up2: UpsamplingConv,
    /// To colours.
    pub conv2: Conv2d,
}

impl Decoder {
    /// Builds the decoder for features of `channels` on `device`.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            up1: UpsamplingConv {
                conv: conv3x3_before_leaky_relu([channels, 128], device),
            },
            conv1: conv3x3_before_leaky_relu([128, 64], device),
            up2: UpsamplingConv {
                conv: conv3x3_before_leaky_relu([64, 64], device),
            },
            conv2: conv3x3([64, 3], device),
        }
    }

    /// Decodes single frames.
    ///
    /// # Shapes
    /// - x: `[frames, channels, height, width]`
    /// - output: `[frames, 3, 4 * height, 4 * width]`, colours in [-1, 1]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = leaky_relu(self.up1.forward(x), 0.2);
        let x = leaky_relu(self.conv1.forward(x), 0.2);
        let x = leaky_relu(self.up2.forward(x), 0.2);
        self.conv2.forward(x).tanh()
    }
}

/// What the decoder keeps at its widest, for a frame of `height` × `width` pixels.
pub(super) fn frame_bytes(height: usize, width: usize) -> usize {
    2 * size_of::<f32>() * 64 * height * width
}
