use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::leaky_relu;
use burn::tensor::{Device, Tensor};

use crate::propainter::layers::{
    UpsamplingConv, before_leaky_relu, conv3x3, conv3x3_before_leaky_relu,
};

/// How much smaller features are than frames.
pub(crate) const SCALE: usize = 4;
/// Inputs, outputs, stride and groups of each convolution.
const LAYERS: [[usize; 4]; 9] = [
    [5, 64, 2, 1],
    [64, 64, 1, 1],
    [64, 128, 2, 1],
    [128, 256, 1, 1],
    [256, 384, 1, 1],
    [640, 512, 1, 2],
    [768, 384, 1, 4],
    [640, 256, 1, 8],
    [512, 128, 1, 1],
];
/// The convolutions from here on see the output of the fourth beside that of the one before.
const FIRST_JOINED: usize = 5;
/// The convolution whose input the later ones see again.
const KEPT: usize = 4;

/// Encodes frames to features at a quarter of their sides.
///
/// # References
/// Li et al. 2022, "E2FGVI", arXiv:2204.02663, whose context encoder ProPainter keeps.
#[derive(Module, Debug)]
pub struct Encoder {
    /// The convolutions, each followed by a leaky ReLU.
    pub layers: Vec<Conv2d>,
}

impl Encoder {
    /// Builds the encoder on `device`.
    pub fn new(device: &Device) -> Self {
        let conv = |[inputs, outputs, stride, groups]: [usize; 4]| {
            Conv2dConfig::new([inputs, outputs], [3, 3])
                .with_stride([stride, stride])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_groups(groups)
                .with_initializer(before_leaky_relu())
                .init(device)
        };
        Self {
            layers: LAYERS.map(conv).into(),
        }
    }

    /// Encodes single frames.
    ///
    /// # Shapes
    /// - x: `[frames, 5, height, width]`: colours, mask of the hole, mask of what is still unknown
    /// - output: `[frames, 128, height / 4, width / 4]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (first, joined) = self.layers.split_at(FIRST_JOINED);
        let run = |x: Tensor<4>, conv: &Conv2d| leaky_relu(conv.forward(x), 0.2);
        let kept = first[..KEPT].iter().fold(x, run);
        let x = first[KEPT..].iter().fold(kept.clone(), run);
        joined.iter().fold(x, |x, conv| {
            run(interleave(kept.clone(), x, conv.groups), conv)
        })
    }
}

/// What the encoder keeps at its widest, for a frame of `height` × `width` pixels.
pub(crate) fn encoder_frame_bytes(height: usize, width: usize) -> usize {
    let widest = LAYERS.iter().map(|[inputs, outputs, ..]| inputs + outputs);
    let widest = widest.max().unwrap_or_default();
    size_of::<f32>() * (widest + LAYERS[KEPT][0]) * (height / 4) * (width / 4)
}

/// Puts the channels of `a` and `b` together, group by group.
fn interleave(a: Tensor<4>, b: Tensor<4>, groups: usize) -> Tensor<4> {
    let grouped = |x: Tensor<4>| -> Tensor<5> {
        let [items, channels, height, width] = x.dims();
        x.reshape([items, groups, channels / groups, height, width])
    };
    Tensor::cat(vec![grouped(a), grouped(b)], 2).flatten(1, 2)
}

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
pub(crate) fn decoder_frame_bytes(height: usize, width: usize) -> usize {
    2 * size_of::<f32>() * 64 * height * width
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    #[test]
    fn untrained_layers_keep_values_as_large_as_they_are() {
        let device = Device::flex();
        let noise = Distribution::Normal(0.0, 1.0);
        let frames = Tensor::<4>::random([2, 5, 32, 32], noise, &device);
        let features = Encoder::new(&device).forward(frames);
        assert_eq!(features.dims(), [2, 128, 8, 8]);
        let size = features.square().mean().sqrt().into_scalar::<f32>();
        assert!((0.3..3.0).contains(&size), "{size}");
    }
}
