use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, InstanceNorm, InstanceNormConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

/// Turns frames into features at an eighth of their resolution.
#[derive(Module, Debug)]
pub struct Encoder {
    /// 7×7 convolution with stride 2.
    pub conv1: Conv2d,
    /// Normalization of the first convolution.
    pub norm1: Norm,
    /// 64 channels at a half.
    pub layer1: Vec<ResidualBlock>,
    /// 96 channels at a quarter.
    pub layer2: Vec<ResidualBlock>,
    /// 128 channels at an eighth.
    pub layer3: Vec<ResidualBlock>,
    /// 1×1 convolution to the features.
    pub conv2: Conv2d,
}

impl Encoder {
    pub(super) fn new(features: usize, norm: NormKind, device: &Device) -> Self {
        let layer = |channels: [usize; 2], stride| {
            let [_, out] = channels;
            vec![
                ResidualBlock::new(channels, stride, norm, device),
                ResidualBlock::new([out, out], 1, norm, device),
            ]
        };
        Self {
            conv1: Conv2dConfig::new([3, 64], [7, 7])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(3, 3, 3, 3))
                .init(device),
            norm1: Norm::new(norm, 64, device),
            layer1: layer([64, 64], 1),
            layer2: layer([64, 96], 2),
            layer3: layer([96, 128], 2),
            conv2: Conv2dConfig::new([128, features], [1, 1]).init(device),
        }
    }

    /// Computes the features of frames, each for itself.
    ///
    /// # Shapes
    /// - frames: `[batch_size, 3, height, width]`, values from -1 to 1
    /// - output: `[batch_size, features, height / 8, width / 8]`
    pub fn forward(&self, frames: Tensor<4>) -> Tensor<4> {
        let x = relu(self.norm1.forward(self.conv1.forward(frames)));
        let layers = [&self.layer1, &self.layer2, &self.layer3];
        let blocks = layers.into_iter().flatten();
        self.conv2
            .forward(blocks.fold(x, |x, block| block.forward(x)))
    }
}

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

/// Which normalization an encoder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NormKind {
    Instance,
    Batch,
}

/// The normalization layer of an encoder.
///
/// Batch normalization always takes the running statistics, on devices with autodiff too: the
/// flow is estimated by a network that others trained, and whose statistics stay as they are.
#[derive(Module, Debug)]
pub enum Norm {
    /// Statistics of each image and channel; no parameters.
    Instance(InstanceNorm),
    /// Running statistics.
    Batch(BatchNorm),
}

impl Norm {
    pub(super) fn new(kind: NormKind, channels: usize, device: &Device) -> Self {
        match kind {
            NormKind::Instance => {
                let config = InstanceNormConfig::new(channels).with_affine(false);
                Self::Instance(config.init(device))
            }
            NormKind::Batch => Self::Batch(BatchNormConfig::new(channels).init(device)),
        }
    }

    /// Normalizes `input`.
    ///
    /// # Shapes
    /// - input and output: `[batch_size, channels, height, width]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Instance(norm) => norm.forward(input),
            Self::Batch(norm) => by_running_statistics(norm, input),
        }
    }
}

/// One multiplication and one addition a value: mean, variance, weight and bias are constants.
fn by_running_statistics(norm: &BatchNorm, input: Tensor<4>) -> Tensor<4> {
    let deviation = norm.running_var.value().add_scalar(norm.epsilon).sqrt();
    let scale = norm.gamma.val() / deviation;
    let shift = norm.beta.val() - norm.running_mean.value() * scale.clone();
    let per_channel = |values: Tensor<1>| {
        let channels = values.dims()[0];
        values.reshape([1, channels, 1, 1])
    };
    input * per_channel(scale) + per_channel(shift)
}
