use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};

use super::layers::conv3x3;
use crate::upsample::{Corners, double_bilinear};

/// Doubles height and width, the corner pixels kept in place, and convolves 3×3 pixels.
#[derive(Module, Debug)]
pub struct UpsamplingConv {
    /// Applied to the doubled map.
    pub conv: Conv2d,
}

impl UpsamplingConv {
    /// Builds the layer for input and output `channels` on `device`.
    pub fn new(channels: [usize; 2], device: &Device) -> Self {
        Self {
            conv: conv3x3(channels, device),
        }
    }

    /// Doubles and convolves.
    ///
    /// # Shapes
    /// - x: `[batch_size, channels, height, width]`
    /// - output: `[batch_size, channels, 2 * height, 2 * width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv.forward(double_bilinear(x, Corners::Aligned))
    }
}
