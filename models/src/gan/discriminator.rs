use burn::config::Config;
use burn::module::{Module, Param, RunningState};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, Initializer, LeakyRelu, LeakyReluConfig,
};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Int, Tensor};
use burn_memopt::nn::{canonical_strides, conv2d, group_norm, leaky_relu};
use burn_memopt::precision::batch_norm;

use crate::spectral;
use crate::weights::{StateDict, parameter_name};

/// Slope of the leaky ReLUs.
const SLOPE: f64 = 0.2;
/// Sides of the kernels that halve an image.
const KERNEL: usize = 4;
/// Channels between the convolutions of the class head.
const HEAD_WIDTH: usize = 256;

/// Settings of a [`PatchDiscriminator`].
#[derive(Config, Debug, PartialEq)]
pub struct PatchDiscriminatorConfig {
    /// Pixels a side of a patch: 32, 64 or 128.
    pub patch_size: usize,
    /// Channels that the widths are multiples of, `ndf`. The default is `64`.
    #[config(default = 64)]
    pub base_channels: usize,
    /// Classes that it is given and has to tell apart. The default is none.
    pub num_classes: Option<usize>,
}

impl PatchDiscriminatorConfig {
    /// Sides that patches may have.
    pub const PATCH_SIZES: [usize; 3] = [32, 64, 128];

    /// Builds the network on `device`.
    ///
    /// # Panics
    /// If there is no discriminator of this patch size, or base channels or classes are zero.
    pub fn init(&self, device: &Device) -> PatchDiscriminator {
        let sizes = Self::PATCH_SIZES;
        assert!(
            sizes.contains(&self.patch_size),
            "there are discriminators for patches of 32, 64 and 128 pixels a side, got {}",
            self.patch_size
        );
        assert!(
            self.base_channels > 0,
            "a discriminator needs channels, got 0"
        );
        assert!(
            self.num_classes != Some(0),
            "a class is needed to tell apart, got 0"
        );
        match self.num_classes {
            None => self.plain(device),
            Some(num_classes) => self.conditional(num_classes, device),
        }
    }

    fn plain(&self, device: &Device) -> PatchDiscriminator {
        let width = self.base_channels;
        let channels = match self.patch_size {
            32 => vec![3, 2 * width, 4 * width, 8 * width],
            64 => vec![3, width, 2 * width, 4 * width, 8 * width],
            _ => vec![3, width / 2, width, 2 * width, 4 * width, 8 * width],
        };
        let mut main = Vec::new();
        for (number, pair) in channels.windows(2).enumerate() {
            main.push(Layer::Spectral(SpectralConv2d::halving(
                [pair[0], pair[1]],
                device,
            )));
            if number > 0 || self.patch_size == 32 {
                main.push(Layer::instance_norm(pair[1], device));
            }
            main.push(Layer::leaky());
        }
        let last = [8 * width, 1];
        main.push(Layer::Spectral(SpectralConv2d::new(last, 1, 0, device)));
        PatchDiscriminator {
            main,
            conv_out: None,
            label_out: Vec::new(),
            config: self.clone(),
        }
    }

    fn conditional(&self, num_classes: usize, device: &Device) -> PatchDiscriminator {
        let halvings = (self.patch_size / KERNEL).ilog2() as usize;
        // The widths of 64 pixels, from one layer later for 32 and with another in front for 128.
        let width = |layer: usize| (self.base_channels << (layer + 4)) >> halvings;
        let conv = |channels, kernel: usize, stride, padding| {
            let config = Conv2dConfig::new(channels, [kernel; 2]).with_bias(false);
            config
                .with_stride([stride; 2])
                .with_padding(explicit(padding))
                .init(device)
        };
        let batch_norm = |channels| Layer::Batch(BatchNormConfig::new(channels).init(device));
        let mut main = Vec::new();
        let mut inputs = 3 + num_classes;
        for layer in 0..halvings {
            let outputs = width(layer);
            let channels = [inputs, outputs];
            match layer {
                0 => main.push(Layer::Spectral(SpectralConv2d::halving(channels, device))),
                1 => {
                    main.push(Layer::Spectral(SpectralConv2d::halving(channels, device)));
                    main.push(Layer::instance_norm(outputs, device));
                }
                _ => {
                    main.push(Layer::Plain(conv(channels, KERNEL, 2, 1)));
                    main.push(batch_norm(outputs));
                }
            }
            main.push(Layer::leaky());
            inputs = outputs;
        }
        let label_out = vec![
            Layer::Plain(conv([inputs, HEAD_WIDTH], 1, 1, 0)),
            batch_norm(HEAD_WIDTH),
            Layer::leaky(),
            Layer::Average(GlobalAverage),
            Layer::Plain(conv([HEAD_WIDTH, num_classes], 1, 1, 0)),
        ];
        PatchDiscriminator {
            main,
            conv_out: Some(conv([inputs, 1], KERNEL, 1, 0)),
            label_out,
            config: self.clone(),
        }
    }
}

/// Distinguishes patches of real images from rendered ones; with classes, says which class they show too.
///
/// Without classes it is GRAF's; with them the class is given as constant channels behind the colours, and
/// a second head has to find it.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::gan::PatchDiscriminatorConfig;
///
/// let device = Device::flex();
/// let config = PatchDiscriminatorConfig::new(32).with_base_channels(8);
/// let scores = config.init(&device).forward(Tensor::zeros([2, 3, 32, 32], &device), None);
/// assert_eq!(scores.real.dims(), [2, 1]);
/// ```
///
/// # References
/// Schwarz et al. 2020, "GRAF", arXiv:2007.02442, section 3.2.2; Odena et al. 2017, "AC-GAN",
/// arXiv:1610.09585, for the class head.
#[derive(Module, Debug)]
pub struct PatchDiscriminator {
    /// The layers by their place in the published networks.
    pub main: Vec<Layer>,
    /// To the score, where there are classes.
    pub conv_out: Option<Conv2d>,
    /// To the classes; empty without.
    pub label_out: Vec<Layer>,
    #[module(skip)]
    config: PatchDiscriminatorConfig,
}

/// What a discriminator says.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Above 0 for real: `[batch_size, 1]`.
    pub real: Tensor<2>,
    /// Logits of the classes, where there are any: `[batch_size, classes]`.
    pub classes: Option<Tensor<2>>,
}

burn_memopt::impl_tensors!(Scores { real, classes });

impl PatchDiscriminator {
    /// The settings it was built with.
    pub fn config(&self) -> &PatchDiscriminatorConfig {
        &self.config
    }

    /// Scores patches; on an autodiff device every pass moves the estimates of the spectral norms, and the
    /// running statistics where there are any.
    ///
    /// # Shapes
    /// - patches: `[batch_size, 3, patch_size, patch_size]`, in [-1, 1]
    /// - classes: `[batch_size]`, where the network has classes
    ///
    /// # Panics
    /// If classes are given to a network without, or the reverse.
    pub fn forward(&self, patches: Tensor<4>, classes: Option<Tensor<1, Int>>) -> Scores {
        let [batch_size, _, height, width] = patches.dims();
        let x = match (classes, self.config.num_classes) {
            (None, None) => patches,
            (Some(classes), Some(num_classes)) => {
                let channels: Tensor<2> = classes.one_hot::<2>(num_classes).float();
                let channels = channels.cast(burn::tensor::FloatDType::from(patches.dtype()));
                let channels = channels.reshape([batch_size, num_classes, 1, 1]);
                Tensor::cat(
                    vec![
                        patches,
                        channels.expand([batch_size, num_classes, height, width]),
                    ],
                    1,
                )
            }
            (None, Some(_)) => panic!("the discriminator has classes: give those of the patches"),
            (Some(_), None) => panic!("the discriminator has no classes, but got some"),
        };
        let run = |layers: &[Layer], x| layers.iter().fold(x, |x, layer| layer.forward(x));
        let x = run(&self.main, x);
        let Some(conv_out) = &self.conv_out else {
            return Scores {
                real: x.reshape([batch_size, 1]),
                classes: None,
            };
        };
        let classes = run(&self.label_out, x.clone());
        Scores {
            real: conv2d(conv_out, x).reshape([batch_size, 1]),
            classes: Some(classes.flatten(1, 3)),
        }
    }
}

/// A layer of a discriminator.
#[derive(Module, Debug)]
pub enum Layer {
    /// A convolution whose weight is divided by its largest singular value.
    Spectral(SpectralConv2d),
    /// A convolution.
    Plain(Conv2d),
    /// Normalizes every channel of every image.
    Instance(GroupNorm),
    /// Normalizes every channel of the batch.
    Batch(BatchNorm),
    /// A leaky ReLU.
    Leaky(LeakyRelu),
    /// The mean over the pixels.
    Average(GlobalAverage),
}

/// The mean over the pixels.
#[derive(Module, Debug)]
pub struct GlobalAverage;

impl Layer {
    fn instance_norm(channels: usize, device: &Device) -> Self {
        let config = GroupNormConfig::new(channels, channels).with_affine(false);
        Self::Instance(config.init(device))
    }

    fn leaky() -> Self {
        Self::Leaky(LeakyReluConfig::new().with_negative_slope(SLOPE).init())
    }

    /// Runs the layer on `[batch_size, channels, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Spectral(conv) => conv.forward(x),
            Self::Plain(conv) => conv2d(conv, x),
            Self::Instance(norm) => group_norm(norm, x),
            Self::Batch(norm) => batch_norm(norm, x),
            Self::Leaky(activation) => leaky_relu(x, activation.negative_slope),
            Self::Average(_) => x.mean_dim(2).mean_dim(3),
        }
    }
}

/// A convolution without bias whose weight is divided by its largest singular value.
///
/// On an autodiff device every forward pass improves the estimate of the singular vectors by one power
/// iteration. Elsewhere it stays.
///
/// # References
/// Miyato et al. 2018, "Spectral Normalization for GANs", arXiv:1802.05957, algorithm 1.
#[derive(Module, Debug)]
pub struct SpectralConv2d {
    /// The weight that is learned: `[outputs, inputs, 4, 4]`.
    pub weight_orig: Param<Tensor<4>>,
    /// The left singular vector `[outputs]`.
    pub weight_u: RunningState<Tensor<1>>,
    /// The right singular vector `[inputs * 16]`.
    pub weight_v: RunningState<Tensor<1>>,
    stride: usize,
    padding: usize,
}

impl SpectralConv2d {
    fn halving(channels: [usize; 2], device: &Device) -> Self {
        Self::new(channels, 2, 1, device)
    }

    fn new([inputs, outputs]: [usize; 2], stride: usize, padding: usize, device: &Device) -> Self {
        let values = inputs * KERNEL * KERNEL;
        let bound = 1.0 / (values as f64).sqrt();
        let uniform = Initializer::Uniform {
            min: -bound,
            max: bound,
        };
        let [weight_u, weight_v] = spectral::vectors([outputs, values], device);
        Self {
            weight_orig: uniform.init([outputs, inputs, KERNEL, KERNEL], device),
            weight_u,
            weight_v,
            stride,
            padding,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let weight = self.weight_orig.val();
        let weight = spectral::normalized(weight, &self.weight_u, &self.weight_v);
        let options = ConvOptions::new([self.stride; 2], [self.padding; 2], [1; 2], 1);
        let output = burn::tensor::module::conv2d(canonical_strides(x), weight, None, options);
        canonical_strides(output)
    }
}

fn explicit(padding: usize) -> burn::nn::PaddingConfig2d {
    burn::nn::PaddingConfig2d::Explicit(padding, padding, padding, padding)
}

/// The names are those of the published discriminators.
impl StateDict for PatchDiscriminator {
    fn state_dict_name(path: &str) -> String {
        let (module, parameter) = path.rsplit_once('.').unwrap_or(("", path));
        format!("{module}.{}", parameter_name(parameter))
    }
}
