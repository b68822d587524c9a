use burn::module::Module;
use burn::nn::PaddingConfig3d;
use burn::nn::conv::{Conv3d, Conv3dConfig};
use burn::tensor::activation::leaky_relu;
use burn::tensor::{Device, Tensor};

/// A convolution of 3×3 pixels within each frame, then one of three frames, every other one, at
/// each pixel.
///
/// # References
/// Qiu et al. 2017, "Pseudo-3D residual networks", arXiv:1711.10305, fig. 2 (P3D-A).
#[derive(Module, Debug)]
pub struct PseudoConv3d {
    /// Within frames.
    pub conv1: Conv3d,
    /// Between frames.
    pub conv2: Conv3d,
}

impl PseudoConv3d {
    /// Builds the layer for input and output `channels` and a spatial `stride` on `device`.
    pub fn new(channels: [usize; 2], stride: usize, device: &Device) -> Self {
        let spatial = Conv3dConfig::new(channels, [1, 3, 3])
            .with_stride([1, stride, stride])
            .with_padding(PaddingConfig3d::Explicit(0, 1, 1));
        let temporal = Conv3dConfig::new([channels[1], channels[1]], [3, 1, 1])
            .with_dilation([2, 1, 1])
            .with_padding(PaddingConfig3d::Explicit(2, 0, 0));
        Self {
            conv1: spatial.init(device),
            conv2: temporal.init(device),
        }
    }

    /// Convolves, with a leaky ReLU in between.
    ///
    /// # Shapes
    /// - x: `[batch_size, channels, frames, height, width]`
    /// - output: `[batch_size, channels, frames, height / stride, width / stride]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.conv2.forward(leaky_relu(self.conv1.forward(x), 0.2))
    }
}
