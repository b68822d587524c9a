use burn::config::Config;
use burn::module::{Module, Param, RunningState};
use burn::nn::conv::{Conv3d, Conv3dConfig};
use burn::nn::{Initializer, PaddingConfig3d};
use burn::tensor::module::conv3d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};
use burn_memopt::nn::{canonical_strides, leaky_relu};

use crate::spectral;

/// Channels before, between and after the layers.
const CHANNELS: [usize; 7] = [3, 32, 64, 128, 128, 128, 128];

/// What a [`Discriminator`] sees at a time.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum View {
    /// Clips: kernels reach over three frames.
    Clip,
    /// Every frame alone.
    Frame,
}

/// Distinguishes real clips from completed ones, patch by patch.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::propainter::{Discriminator, View};
///
/// let device = Device::flex();
/// let discriminator = Discriminator::new(View::Clip, &device);
/// let clip = Tensor::zeros([1, 2, 3, 64, 64], &device);
/// assert_eq!(discriminator.forward(clip).dims(), [1, 2, 128, 1, 1]);
/// ```
///
/// # References
/// Chang et al. 2019, "Free-form Video Inpainting with 3D Gated Convolution and Temporal PatchGAN",
/// arXiv:1904.10247, section 3.2; layers and names follow `sczhou/ProPainter`, whose code is not
/// used here.
#[derive(Module, Debug)]
pub struct Discriminator {
    /// The normalized layers, each followed by a leaky ReLU.
    pub conv: Vec<SpectralConv3d>,
    /// To the scores.
    pub last: Conv3d,
}

impl Discriminator {
    /// Builds the network on `device`.
    pub fn new(view: View, device: &Device) -> Self {
        let stride = [1, 2, 2];
        let kernel = match view {
            View::Clip => [3, 5, 5],
            View::Frame => [1, 5, 5],
        };
        let padding = |layer: usize| match (view, layer) {
            (View::Clip, 0) => [1, 1, 1],
            (View::Clip, _) => [1, 2, 2],
            (View::Frame, _) => [0, 2, 2],
        };
        let last = CHANNELS.len() - 2;
        let channels = |layer: usize| [CHANNELS[layer], CHANNELS[layer + 1]];
        let conv = |layer: usize| {
            SpectralConv3d::new(channels(layer), kernel, stride, padding(layer), device)
        };
        let [frames, height, width] = padding(last);
        let plain = Conv3dConfig::new(channels(last), kernel)
            .with_stride(stride)
            .with_padding(PaddingConfig3d::Explicit(frames, height, width));
        Self {
            conv: (0..last).map(conv).collect(),
            last: plain.init(device),
        }
    }

    /// Scores clips: above 0 for real, below for completed.
    ///
    /// On an autodiff device every pass moves the estimates of the spectral norms, as
    /// [`SpectralConv3d`] says.
    ///
    /// # Shapes
    /// - clips: `[batch_size, frames, 3, height, width]`, in [-1, 1]
    /// - output: `[batch_size, frames, 128, height / 64, width / 64]`, rounded up or down
    pub fn forward(&self, clips: Tensor<5>) -> Tensor<5> {
        let x = clips.swap_dims(1, 2);
        let layers = self.conv.iter();
        let x = layers.fold(x, |x, conv| leaky_relu(conv.forward(x), 0.2));
        self.last.forward(x).swap_dims(1, 2)
    }
}

/// A convolution in space and time, without bias, whose weight is divided by its largest singular
/// value.
///
/// On an autodiff device every forward pass improves the estimate of the singular vectors by one
/// power iteration; the estimate counts as a constant in the gradient. Elsewhere it stays. Both
/// are computed in f32.
///
/// # References
/// Miyato et al. 2018, "Spectral Normalization for GANs", arXiv:1802.05957, algorithm 1.
#[derive(Module, Debug)]
pub struct SpectralConv3d {
    /// The weight that is learned: `[outputs, inputs, frames, height, width]`.
    pub weight_orig: Param<Tensor<5>>,
    /// The left singular vector `[outputs]`.
    pub weight_u: RunningState<Tensor<1>>,
    /// The right singular vector `[inputs * frames * height * width]`.
    pub weight_v: RunningState<Tensor<1>>,
    stride: [usize; 3],
    padding: [usize; 3],
}

impl SpectralConv3d {
    /// Builds a layer for input and output `channels` on `device`.
    pub fn new(
        [inputs, outputs]: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
        device: &Device,
    ) -> Self {
        let values = inputs * kernel.iter().product::<usize>();
        let bound = 1.0 / (values as f64).sqrt();
        let uniform = Initializer::Uniform {
            min: -bound,
            max: bound,
        };
        let [frames, height, width] = kernel;
        let [weight_u, weight_v] = spectral::vectors([outputs, values], device);
        Self {
            weight_orig: uniform.init([outputs, inputs, frames, height, width], device),
            weight_u,
            weight_v,
            stride,
            padding,
        }
    }

    /// Convolves with the normalized weight.
    ///
    /// # Shapes
    /// - x: `[batch_size, channels, frames, height, width]`
    /// - output: the same axes
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let weight = self.weight_orig.val();
        let weight = spectral::normalized(weight, &self.weight_u, &self.weight_v);
        let options = ConvOptions::new(self.stride, self.padding, [1; 3], 1);
        canonical_strides(conv3d(x, weight, None, options))
    }
}
