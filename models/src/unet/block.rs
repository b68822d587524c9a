//! The layers of a U-Net, and the blocks of its chain.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, Identity, LayerNorm, LayerNormConfig,
    PaddingConfig2d,
};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{DType, Device, Tensor};
use burn_memopt::nn::{canonical_strides, conv2d, relu};
use burn_memopt::precision::batch_norm;

use super::config::{NormKind, Upsample};
use super::places::{Places, cropped};
use crate::chain::{Block, Keep};
use crate::layers::{Corners, Part, channel_norm, double_bilinear, double_parts, group_norm};

/// The normalization layer of a [`DoubleConv`].
///
/// Half-precision input is normalized in f32 and returned in its own type; a `MicroBatchTrainer` in half
/// precision believes that of batch norm if its policy says `keep_type("BatchNorm")`.
///
/// # Exactness
/// Batch norm is that of [`batch_norm`]: its running variance takes the *unbiased* variance of the
/// batch, as PyTorch does.
#[derive(Module, Debug)]
pub enum Norm {
    /// Batch normalization; statistics of the batch while training.
    Batch(BatchNorm),
    /// Group normalization; statistics of each image.
    Group(GroupNorm),
    /// Normalization over channels; statistics of each pixel.
    Channel(LayerNorm),
    /// None.
    None(Identity),
}

impl Norm {
    /// Builds a layer of `kind` for `channels` channels on `device`.
    pub fn new(kind: NormKind, channels: usize, device: &Device) -> Self {
        match kind {
            NormKind::Batch => Self::Batch(BatchNormConfig::new(channels).init(device)),
            NormKind::Group { groups } => {
                Self::Group(GroupNormConfig::new(groups, channels).init(device))
            }
            NormKind::Channel => Self::Channel(LayerNormConfig::new(channels).init(device)),
            NormKind::None => Self::None(Identity::new()),
        }
    }

    /// Normalizes `input`.
    ///
    /// Batch norm uses and updates the batch's statistics when `input` is on an autodiff
    /// device and the layer is not frozen; otherwise it uses the running ones.
    ///
    /// # Shapes
    /// - input and output: `[batch_size, channels, height, width]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Batch(norm) => batch_norm(norm, input),
            Self::Group(norm) => group_norm(norm, input),
            Self::Channel(norm) => channel_norm(norm, input),
            Self::None(_) => input,
        }
    }

    /// Normalizes `input` and applies a ReLU.
    ///
    /// In half precision only the half-precision input is ever kept: the f32 values between are
    /// recomputed.
    fn forward_relu(&self, keep: Keep, input: Tensor<4>) -> Tensor<4> {
        let keep = match (self, input.dtype()) {
            // Keeps its input alone, and the ReLU keeps its output, which the next layer keeps too.
            (Self::Batch(_), DType::F16 | DType::BF16) => Keep::All,
            (Self::Group(_) | Self::Channel(_), DType::F16 | DType::BF16) => Keep::Input,
            (Self::None(_), _) => Keep::All,
            _ => keep,
        };
        keep.run(self, input, |norm, input| relu(norm.forward(input)))
    }
}

/// Twice: 3×3 convolution without bias, normalization, ReLU. Keeps the image size.
#[derive(Module, Debug)]
pub struct DoubleConv {
    /// First convolution.
    pub conv1: Conv2d,
    /// Normalization after the first convolution.
    pub norm1: Norm,
    /// Second convolution.
    pub conv2: Conv2d,
    /// Normalization after the second convolution.
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
        let x = self.norm1.forward_relu(Keep::All, conv2d(&self.conv1, x));
        self.norm2.forward_relu(Keep::All, conv2d(&self.conv2, x))
    }
}

fn conv3x3(channels: [usize; 2], device: &Device) -> Conv2d {
    Conv2dConfig::new(channels, [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .with_bias(false)
        .init(device)
}

/// 2×2 max pooling; an odd last row or column is dropped.
fn pool(x: Tensor<4>) -> Tensor<4> {
    canonical_strides(max_pool2d(x, MaxPoolOptions::new([2, 2])))
}

/// Encoder block: 2×2 max pooling, then a [`DoubleConv`].
#[derive(Module, Debug)]
pub struct Down {
    /// Convolutions after the pooling.
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
        self.conv.forward(pool(x))
    }
}

/// Decoder block: doubles the image, pads it to the skip's size, concatenates both, convolves.
#[derive(Module, Debug)]
pub struct Up {
    /// The transposed convolution that doubles the image, or `None` for bilinear interpolation.
    pub up: Option<ConvTranspose2d>,
    /// Convolutions after the concatenation.
    pub conv: DoubleConv,
}

impl Up {
    /// Builds the block on `device`; `inputs` counts the channels after the concatenation.
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
        let joined = join(Keep::All, double(self.up.as_ref(), x, None), skip);
        self.conv.forward(joined)
    }
}

/// Doubles an image, or parts of images, by a transposed convolution, or by bilinear interpolation where there is none.
fn double(up: Option<&ConvTranspose2d>, x: Tensor<4>, parts: Option<&[[Part; 2]]>) -> Tensor<4> {
    match (up, parts) {
        (Some(up), _) => canonical_strides(up.forward(x)),
        (None, Some(parts)) => double_parts(x, parts),
        (None, None) => double_bilinear(x, Corners::Aligned),
    }
}

/// Joins the doubled image to the skip. Where it is smaller it is surrounded with zeros: half of
/// them before, rounded down, the rest after.
fn join(keep: Keep, x: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let [_, _, skip_height, skip_width] = skip.dims();
    let (rows, columns) = (skip_height - height, skip_width - width);
    let x = if rows == 0 && columns == 0 {
        x
    } else {
        let (top, left) = (rows / 2, columns / 2);
        x.pad([(top, rows - top), (left, columns - left)], 0.0)
    };
    keep.join(skip, x)
}

/// One block of the chain that a U-Net is for gradient checkpointing: a convolution with its
/// normalization and ReLU, what comes before it, and the head after the last one.
#[derive(Module, Debug)]
pub struct Stage {
    #[module(skip)]
    before: Before,
    up: Option<ConvTranspose2d>,
    conv: Conv2d,
    norm: Norm,
    head: Option<Conv2d>,
}

/// What happens to the image before the convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    /// 2×2 max pooling.
    Pool,
    /// Doubling, and concatenation with the skip; of tiles at their places.
    Join(Option<Arc<Places>>),
}

impl Stage {
    /// The two stages of a pair of convolutions.
    pub(super) fn pair(
        before: Before,
        up: Option<ConvTranspose2d>,
        pair: &DoubleConv,
    ) -> [Self; 2] {
        let stage = |before, up, conv: &Conv2d, norm: &Norm| Self {
            before,
            up,
            conv: conv.clone(),
            norm: norm.clone(),
            head: None,
        };
        [
            stage(before, up, &pair.conv1, &pair.norm1),
            stage(Before::Nothing, None, &pair.conv2, &pair.norm2),
        ]
    }

    /// Puts the final convolution after the stage.
    pub(super) fn with_head(mut self, head: &Conv2d) -> Self {
        self.head = Some(head.clone());
        self
    }
}

impl Block for Stage {
    fn run(&self, keep: Keep, x: Tensor<4>, skip: Option<Tensor<4>>) -> Tensor<4> {
        let x = match (&self.before, skip) {
            (Before::Pool, _) => pool(x),
            (Before::Join(None), Some(skip)) => join(keep, double(self.up.as_ref(), x, None), skip),
            (Before::Join(Some(places)), Some(skip)) => {
                let doubled = double(self.up.as_ref(), x, Some(&places.parts));
                let skip = cropped(skip, places.skip);
                join(keep, cropped(doubled, places.doubled), skip)
            }
            _ => x,
        };
        let x = self.norm.forward_relu(keep, conv2d(&self.conv, x));
        match &self.head {
            Some(head) => conv2d(head, x),
            None => x,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_memopt::grad_checkpoint::hold_random_stream;

    fn one_channel_batch(device: &Device) -> Tensor<4> {
        Tensor::from_floats([[[[1.0, 2.0, 4.0, 5.0]]]], device)
    }

    #[test]
    fn the_running_variance_takes_the_unbiased_variance_of_the_batch() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex().autodiff();
        let norm = BatchNormConfig::new(1).init(&device);
        Norm::Batch(norm.clone()).forward(one_channel_batch(&device));

        let mean = norm.running_mean.value_sync().into_scalar::<f32>();
        let variance = norm.running_var.value_sync().into_scalar::<f32>();
        assert!((mean - 0.3).abs() < 1e-6, "{mean}");
        // 0.9 * 1 + 0.1 * (10 / 3); the biased variance would give 1.15.
        assert!((variance - 1.233_333_3).abs() < 1e-6, "{variance}");
    }

    #[test]
    fn training_output_equals_that_of_the_layer_in_burn() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex().autodiff();
        let theirs = BatchNormConfig::new(1).init(&device);
        let ours = Norm::new(NormKind::Batch, 1, &device);
        let input = one_channel_batch(&device);
        assert_eq!(
            ours.forward(input.clone()).into_data(),
            theirs.forward(input).into_data()
        );
    }

    #[test]
    fn half_precision_input_is_normalized_in_full_precision_and_returned_in_half() {
        let device = Device::flex().autodiff();
        let norm = Norm::new(NormKind::Batch, 1, &device);
        let input = one_channel_batch(&device);
        let half = norm.forward(input.clone().cast(DType::F16));
        assert_eq!(half.dtype(), DType::F16);
        let full = norm.forward(input);
        let error = (half.cast(DType::F32) - full).abs().max();
        assert!(error.into_scalar::<f32>() < 1e-3);
    }

    #[test]
    fn a_frozen_layer_leaves_its_statistics_alone() {
        let device = Device::flex().autodiff();
        let norm = BatchNormConfig::new(1).init(&device).freeze();
        Norm::Batch(norm.clone()).forward(one_channel_batch(&device));
        assert_eq!(norm.running_mean.value_sync().into_scalar::<f32>(), 0.0);
    }
}
