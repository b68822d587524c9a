//! Settings of DECODE's networks.

use burn::config::Config;
use burn::module::{Initializer, Param};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Policy;
use serde::{Deserialize, Serialize};

use super::layers::Head;
use super::munet::MUNet;
use super::networks::{DoubleMUNet, SigmaMUNet};
use super::unet2d::UNet2d;

/// The activation after every 3×3 convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x` above zero, `exp(x) - 1` below.
    Elu,
    /// `x` above zero, 0 below.
    Relu,
}

/// How the encoder halves the resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// A learned 2×2 convolution of stride 2 that keeps the channels.
    StridedConv,
    /// The maximum of 2×2 pixels.
    Max,
}

/// How the decoder doubles the resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Every pixel becomes four.
    Nearest,
    /// Bilinear interpolation; the outer edges coincide.
    Bilinear,
}

/// An attribute of an emitter that a [`SigmaMUNet`] estimates with its uncertainty.
///
/// The first image axis, the row, is DECODE's `x`; the names here are those of the axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// Brightness.
    Photons,
    /// Position along the rows' axis (height), DECODE's `x`.
    Row,
    /// Position along the columns' axis (width), DECODE's `y`.
    Column,
    /// Position along the optical axis.
    Z,
}

impl Attribute {
    /// All attributes in the order of a network's channels.
    pub const ALL: [Self; 4] = [Self::Photons, Self::Row, Self::Column, Self::Z];
}

/// Settings of DECODE's own U-Net, [`UNet2d`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::decode::{Pooling, UNet2dConfig};
///
/// let device = Device::flex();
/// let config = UNet2dConfig::new(2, 5).with_features(8).with_pooling(Pooling::Max);
/// let unet = config.init(&device);
/// assert_eq!(unet.forward(Tensor::zeros([1, 2, 8, 12], &device)).dims(), [1, 5, 8, 12]);
/// ```
#[derive(Config, Debug)]
pub struct UNet2dConfig {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Channels at full resolution; every pooling doubles them. The default is `48`.
    #[config(default = 48)]
    pub features: usize,
    /// Number of poolings. The default is `2`.
    #[config(default = 2)]
    pub depth: usize,
    /// Activation after every 3×3 convolution. The default is [`Activation::Elu`].
    #[config(default = "Activation::Elu")]
    pub activation: Activation,
    /// How the encoder halves the resolution. The default is [`Pooling::StridedConv`].
    #[config(default = "Pooling::StridedConv")]
    pub pooling: Pooling,
    /// How the decoder doubles the resolution. The default is [`Interpolation::Nearest`].
    #[config(default = "Interpolation::Nearest")]
    pub interpolation: Interpolation,
    /// Most groups of a group normalization before every 3×3 convolution; fewer where they would
    /// not divide the channels. The default is `None`: no normalization.
    #[config(default = "None")]
    pub norm_groups: Option<usize>,
}

impl UNet2dConfig {
    /// Builds the network with random parameters on `device`.
    ///
    /// # Panics
    /// If a channel count, the depth or the number of groups is zero.
    pub fn init(&self, device: &Device) -> UNet2d {
        for (what, value) in [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("features", self.features),
            ("depth", self.depth),
            ("norm_groups", self.norm_groups.unwrap_or(1)),
        ] {
            assert!(value > 0, "{what} must be at least 1, got {value}");
        }
        UNet2d::new(self, device)
    }
}

/// Settings of the network that [`SigmaMUNet`] and [`DoubleMUNet`] have in common.
///
/// The defaults are those of DECODE's reference parameters.
#[derive(Config, Debug)]
pub struct MUNetConfig {
    /// Neighbouring frames seen at once, with the one that is localized in the middle. The
    /// default is `3`.
    #[config(default = 3)]
    pub num_frames: usize,
    /// Poolings of the U-Net that sees each frame alone. The default is `2`.
    #[config(default = 2)]
    pub depth_shared: usize,
    /// Poolings of the U-Net that sees all frames together. The default is `2`.
    #[config(default = 2)]
    pub depth_union: usize,
    /// Channels of both U-Nets at full resolution. The default is `48`.
    #[config(default = 48)]
    pub initial_features: usize,
    /// Channels that leave either U-Net. The default is `48`.
    #[config(default = 48)]
    pub inter_features: usize,
    /// Activation after every 3×3 convolution. The default is [`Activation::Elu`].
    #[config(default = "Activation::Elu")]
    pub activation: Activation,
    /// How the encoders halve the resolution. The default is [`Pooling::StridedConv`].
    #[config(default = "Pooling::StridedConv")]
    pub pooling: Pooling,
    /// How the decoders double the resolution. The default is [`Interpolation::Nearest`].
    #[config(default = "Interpolation::Nearest")]
    pub interpolation: Interpolation,
    /// Most groups of a group normalization in the U-Nets. The default is `None`: no
    /// normalization.
    #[config(default = "None")]
    pub norm_groups: Option<usize>,
    /// Which blocks are recomputed in the backward pass. The default is [`Policy::None`].
    ///
    /// A budget is planned at the first forward pass of each shape, on the actual input.
    #[config(default = "Policy::None")]
    pub grad_checkpoint: Policy,
}

impl MUNetConfig {
    /// Builds the network with one head for each of `head_channels`.
    fn init(&self, head_channels: &[usize], device: &Device) -> MUNet {
        assert!(self.num_frames > 0, "num_frames must be at least 1, got 0");
        let unet = |in_channels, depth| {
            UNet2dConfig::new(in_channels, self.inter_features)
                .with_features(self.initial_features)
                .with_depth(depth)
                .with_activation(self.activation)
                .with_pooling(self.pooling)
                .with_interpolation(self.interpolation)
                .with_norm_groups(self.norm_groups)
                .init(device)
        };
        let head = |&channels| Head::new(self.inter_features, channels, self.activation, device);
        let mut mt_heads: Vec<_> = head_channels.iter().map(head).collect();
        detect_little(&mut mt_heads[0].out_conv, device);
        let unet_shared = unet(1, self.depth_shared);
        let unet_union = unet(self.num_frames * self.inter_features, self.depth_union);
        MUNet {
            cut: self.grad_checkpoint.into(),
            unet_shared,
            unet_union,
            mt_heads,
            num_frames: self.num_frames,
        }
    }
}

/// Settings of a [`SigmaMUNet`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::decode::{Attribute, MUNetConfig, SigmaMUNetConfig};
///
/// let device = Device::flex();
/// let core = MUNetConfig::new().with_initial_features(4).with_inter_features(4);
/// let config = SigmaMUNetConfig::new().with_core(core).with_disabled(vec![Attribute::Z]);
/// let output = config.init(&device).forward(Tensor::zeros([1, 3, 8, 8], &device));
/// assert_eq!(output.dims(), [1, 10, 8, 8]);
/// ```
#[derive(Config, Debug)]
pub struct SigmaMUNetConfig {
    /// The network before its outputs. The default is DECODE's.
    #[config(default = "MUNetConfig::new()")]
    pub core: MUNetConfig,
    /// Attributes that are not estimated: their mean is 0 and their deviation 0.1 everywhere.
    /// The default is none.
    #[config(default = "Vec::new()")]
    pub disabled: Vec<Attribute>,
}

impl SigmaMUNetConfig {
    /// Builds the network with random parameters on `device`.
    ///
    /// # Panics
    /// If a size is zero.
    pub fn init(&self, device: &Device) -> SigmaMUNet {
        let sigma_eps = Tensor::full([1], SigmaMUNet::LEAST_SIGMA, device);
        SigmaMUNet {
            net: self.core.init(&[1, 4, 4, 1], device),
            sigma_eps: Param::from_tensor(sigma_eps).set_require_grad(false),
            disabled: self.disabled.clone(),
        }
    }
}

/// Settings of a [`DoubleMUNet`].
#[derive(Config, Debug)]
pub struct DoubleMUNetConfig {
    /// Channels of the output: 6, or 5 without background. The default is `6`.
    #[config(default = 6)]
    pub channels: usize,
    /// The network before its outputs. The default is DECODE's.
    #[config(default = "MUNetConfig::new()")]
    pub core: MUNetConfig,
}

impl DoubleMUNetConfig {
    /// Builds the network with random parameters on `device`.
    ///
    /// # Panics
    /// If a size is zero, or there are neither 5 nor 6 channels.
    pub fn init(&self, device: &Device) -> DoubleMUNet {
        let channels = self.channels;
        assert!(
            channels == 5 || channels == 6,
            "channels must be 5 or 6, got {channels}"
        );
        DoubleMUNet {
            net: self.core.init(&vec![1; channels], device),
        }
    }
}

/// A convolution with Kaiming's normal weights and PyTorch's uniform biases.
pub(super) fn convolution(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    device: &Device,
) -> Conv2d {
    let padding = match kernel {
        3 => PaddingConfig2d::Explicit(1, 1, 1, 1),
        _ => PaddingConfig2d::Valid,
    };
    let fan_in = (channels[0] * kernel * kernel) as f64;
    let mut conv = Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(padding)
        .with_initializer(Initializer::KaimingNormal {
            gain: std::f64::consts::SQRT_2,
            fan_out_only: false,
        })
        .init(device);
    let bound = 1.0 / fan_in.sqrt();
    let bias = Initializer::Uniform {
        min: -bound,
        max: bound,
    };
    conv.bias = Some(bias.init([channels[1]], device));
    conv
}

/// Starts the probability of an emitter near 0.002 a pixel: most pixels have none, and a sum over
/// all pixels that begins hundreds too high costs the first steps.
fn detect_little(conv: &mut Conv2d, device: &Device) {
    let bias = Initializer::Constant { value: -6.0 };
    conv.bias = Some(bias.init([1], device));
}
