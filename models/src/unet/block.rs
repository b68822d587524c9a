use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};

use super::config::{NormKind, Upsample};
use super::norm::{Keep, Norm};
use crate::upsample::{Corners, Part, double_bilinear, double_part};

/// Twice: 3×3 convolution without bias, normalization, ReLU. Keeps the image size.
#[derive(Module, Debug)]
pub struct DoubleConv {
    /// First convolution.
    pub conv1: Conv2d,
    /// Normalization behind the first convolution.
    pub norm1: Norm,
    /// Second convolution.
    pub conv2: Conv2d,
    /// Normalization behind the second convolution.
    pub norm2: Norm,
}

impl DoubleConv {
    /// Builds the pair for `[in, middle, out]` channels on `device`.
    pub fn new(channels: [usize; 3], norm: NormKind, device: &Device) -> Self {
        let [inputs, middle, outputs] = channels;
        Self {
            conv1: conv3x3([inputs, middle], device),
            norm1: Norm::new(norm, middle, device),
            conv2: conv3x3([middle, outputs], device),
            norm2: Norm::new(norm, outputs, device),
        }
    }

    /// Applies both convolutions.
    ///
    /// # Shapes
    /// - x: `[batch_size, in, height, width]`
    /// - output: `[batch_size, out, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.norm1.forward_relu(Keep::All, self.conv1.forward(x));
        self.norm2.forward_relu(Keep::All, self.conv2.forward(x))
    }
}

fn conv3x3(channels: [usize; 2], device: &Device) -> Conv2d {
    Conv2dConfig::new(channels, [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .with_bias(false)
        .init(device)
}

/// Encoder block: 2×2 max pooling, then a [`DoubleConv`].
#[derive(Module, Debug)]
pub struct Down {
    /// Convolutions behind the pooling.
    pub conv: DoubleConv,
}

impl Down {
    /// Builds the block on `device`.
    pub fn new(inputs: usize, outputs: usize, norm: NormKind, device: &Device) -> Self {
        Self {
            conv: DoubleConv::new([inputs, outputs, outputs], norm, device),
        }
    }

    /// Halves the image, an odd last row or column being dropped, and applies the convolutions.
    ///
    /// # Shapes
    /// - x: `[batch_size, in, height, width]`
    /// - output: `[batch_size, out, height / 2, width / 2]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv
            .forward(max_pool2d(x, MaxPoolOptions::new([2, 2])))
    }
}

/// Decoder block: doubles the image, pads it to the skip's size, concatenates both, convolves.
#[derive(Module, Debug)]
pub struct Up {
    /// The transposed convolution that doubles the image, or `None` for bilinear interpolation.
    pub up: Option<ConvTranspose2d>,
    /// Convolutions behind the concatenation.
    pub conv: DoubleConv,
}

impl Up {
    /// Builds the block on `device`; `inputs` counts the channels behind the concatenation.
    pub fn new(
        inputs: usize,
        outputs: usize,
        norm: NormKind,
        upsample: Upsample,
        device: &Device,
    ) -> Self {
        let (up, middle) = match upsample {
            Upsample::Bilinear => (None, inputs / 2),
            Upsample::Transposed => {
                let config =
                    ConvTranspose2dConfig::new([inputs, inputs / 2], [2, 2]).with_stride([2, 2]);
                (Some(config.init(device)), outputs)
            }
        };
        Self {
            up,
            conv: DoubleConv::new([inputs, middle, outputs], norm, device),
        }
    }

    /// Doubles `x`, joins it to `skip`, and applies the convolutions.
    ///
    /// # Shapes
    /// - x: `[batch_size, coarse, height / 2, width / 2]`
    /// - skip: `[batch_size, fine, height, width]`
    /// - output: `[batch_size, out, height, width]`
    pub fn forward(&self, x: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
        let x = match &self.up {
            Some(up) => up.forward(x),
            None => double_bilinear(x, Corners::Aligned),
        };
        self.join(x, skip)
    }

    /// As [`forward`](Self::forward) of a part of an image: `sides` are those of the whole coarse one.
    pub(super) fn forward_part(
        &self,
        x: Tensor<4>,
        skip: Tensor<4>,
        sides: [Part; 2],
    ) -> Tensor<4> {
        let x = match &self.up {
            Some(up) => up.forward(x),
            None => double_part(x, sides),
        };
        self.join(x, skip)
    }

    /// Joins the doubled image to the skip and applies the convolutions.
    fn join(&self, x: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
        let x = pad_to(x, &skip);
        self.conv.forward(Tensor::cat(vec![skip, x], 1))
    }
}

/// Surrounds `x` with zeros up to the size of `skip`: half before, rounded down, the rest after.
pub(super) fn pad_to(x: Tensor<4>, skip: &Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let [_, _, skip_height, skip_width] = skip.dims();
    let (rows, columns) = (skip_height - height, skip_width - width);
    if rows == 0 && columns == 0 {
        return x;
    }
    let (top, left) = (rows / 2, columns / 2);
    x.pad([(top, rows - top), (left, columns - left)], 0.0)
}
