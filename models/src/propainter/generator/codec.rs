use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use burn_memopt::nn::{conv2d, leaky_relu, tanh};

use crate::propainter::layers::{UpsamplingConv, before_leaky_relu, conv, conv_config};

/// How much smaller features are than frames.
pub(super) const SCALE: usize = 4;
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
/// The convolutions from here on see the output of the fourth with that of the one before.
const FIRST_JOINED: usize = 5;
/// The convolution whose input the later ones see again.
const KEPT: usize = 4;

/// Encodes frames to features at a quarter of their sides.
///
/// # References
/// Li et al. 2022, "E2FGVI", arXiv:2204.02663, whose context encoder ProPainter keeps.
#[derive(Module, Debug)]
pub struct Encoder {
    /// Each is followed by a leaky ReLU.
    layers: Vec<Conv2d>,
}

impl Encoder {
    pub(super) fn new(device: &Device) -> Self {
        let conv = |[inputs, outputs, stride, groups]: [usize; 4]| {
            conv_config([inputs, outputs], 3)
                .with_stride([stride, stride])
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
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (first, joined) = self.layers.split_at(FIRST_JOINED);
        let run = |x: Tensor<4>, conv: &Conv2d| leaky_relu(conv2d(conv, x), 0.2);
        let kept = first[..KEPT].iter().fold(x, run);
        let x = first[KEPT..].iter().fold(kept.clone(), run);
        joined.iter().fold(x, |x, conv| {
            run(interleave(kept.clone(), x, conv.groups), conv)
        })
    }

    /// What it keeps at its widest, for a frame of `height` × `width` pixels.
    pub(super) fn frame_bytes(height: usize, width: usize) -> usize {
        let widest = LAYERS.iter().map(|[inputs, outputs, ..]| inputs + outputs);
        let widest = widest.max().unwrap_or_default();
        size_of::<f32>() * (widest + LAYERS[KEPT][0]) * (height / 4) * (width / 4)
    }
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
    up1: UpsamplingConv,
    conv1: Conv2d,
    up2: UpsamplingConv,
    pub conv2: Conv2d,
}

impl Decoder {
    pub(super) fn new(channels: usize, device: &Device) -> Self {
        let hidden = |channels| {
            let config = conv_config(channels, 3).with_initializer(before_leaky_relu());
            config.init(device)
        };
        let up = |channels| UpsamplingConv {
            conv: hidden(channels),
        };
        Self {
            up1: up([channels, 128]),
            conv1: hidden([128, 64]),
            up2: up([64, 64]),
            conv2: conv([64, 3], 3, device),
        }
    }

    /// Decodes single frames.
    ///
    /// # Shapes
    /// - x: `[frames, channels, height, width]`
    /// - output: `[frames, 3, 4 * height, 4 * width]`, colours in [-1, 1]
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = leaky_relu(self.up1.forward(x), 0.2);
        let x = leaky_relu(conv2d(&self.conv1, x), 0.2);
        let x = leaky_relu(self.up2.forward(x), 0.2);
        tanh(conv2d(&self.conv2, x))
    }

    /// What it keeps at its widest, for a frame of `height` × `width` pixels.
    pub(super) fn frame_bytes(height: usize, width: usize) -> usize {
        2 * size_of::<f32>() * 64 * height * width
    }
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
