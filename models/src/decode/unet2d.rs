use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Policy;

use super::chain::chain;
use super::config::{Interpolation, Pooling, UNet2dConfig, convolution};
use super::layers::{Keep, Layer, Layers};
use super::stage::{Decode, Encode, Regroup, Stage};
use crate::upsample::{Corners, double_bilinear, double_nearest};

/// DECODE's own U-Net, built by [`UNet2dConfig`].
///
/// Unlike the U-Net of [`unet`](crate::unet) it pools by learned convolutions, has no
/// normalization by default, and names its layers otherwise.
#[derive(Module, Debug)]
pub struct UNet2d {
    /// Convolutions of the encoder, fine to coarse.
    pub encoder: Vec<Layers>,
    /// Convolutions at the coarsest resolution.
    pub base: Layers,
    /// Convolutions of the decoder, coarse to fine.
    pub decoder: Vec<Layers>,
    /// Learned poolings behind each encoder block; none for max pooling.
    pub poolers: Vec<Conv2d>,
    /// Doublings before each decoder block.
    pub upsamplers: Vec<Upsampler>,
    /// Final 1×1 convolution, without activation.
    pub out_conv: Conv2d,
}

impl UNet2d {
    pub(super) fn new(config: &UNet2dConfig, device: &Device) -> Self {
        let depth = config.depth;
        let width = |level: usize| config.features << level;
        let block = |inputs, outputs| {
            let channels = [inputs, outputs, outputs];
            Layers::new(&channels, config.activation, config.norm_groups, device)
        };
        let encoder = (0..depth)
            .map(|level| match level {
                0 => block(config.in_channels, width(0)),
                _ => block(width(level - 1), width(level)),
            })
            .collect();
        let poolers = match config.pooling {
            Pooling::Max => Vec::new(),
            Pooling::StridedConv => (0..depth)
                .map(|level| convolution([width(level); 2], 2, 2, device))
                .collect(),
        };
        Self {
            encoder,
            base: block(width(depth - 1), width(depth)),
            decoder: (0..depth)
                .rev()
                .map(|level| block(width(level + 1), width(level)))
                .collect(),
            poolers,
            upsamplers: (0..depth)
                .rev()
                .map(|level| Upsampler {
                    conv: convolution([width(level + 1), width(level)], 1, 1, device),
                    interpolation: config.interpolation,
                })
                .collect(),
            out_conv: convolution([width(0), config.out_channels], 1, 1, device),
        }
    }

    /// Computes the network's output.
    ///
    /// Where a pooling drops an odd last row or column, the decoder crops: the output is smaller
    /// than the input. Sides that are multiples of `2^depth` come back as they are.
    ///
    /// # Shapes
    /// - x: `[batch_size, in_channels, height, width]`
    /// - output: `[batch_size, out_channels, height, width]`
    ///
    /// # Panics
    /// If height or width is below `2^depth`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = x.dims();
        let (depth, least) = (self.depth(), 1 << self.depth());
        assert!(
            height >= least && width >= least,
            "image sides must be at least {least} pixels for depth {depth}, got {height}×{width}",
        );
        chain(self.stages(Regroup::None), self.skips(0), Keep::All).run(Policy::None, x)
    }

    /// Number of poolings.
    pub fn depth(&self) -> usize {
        self.encoder.len()
    }

    /// The network as stages that run one after the other.
    pub(super) fn stages(&self, regroup: Regroup) -> Vec<Stage> {
        let depth = self.depth();
        let encoders = self.encoder.iter().chain([&self.base]).enumerate();
        let encode = encoders.map(|(level, layers)| {
            Stage::Encode(Encode {
                regroup: if level == 0 { regroup } else { Regroup::None },
                level,
                pooler: level
                    .checked_sub(1)
                    .and_then(|finer| self.poolers.get(finer).cloned()),
                layers: layers.clone(),
            })
        });
        let decode = (0..depth).map(|index| {
            let mut layers = self.decoder[index].clone();
            if index + 1 == depth {
                layers.layers.push(Layer::Conv(self.out_conv.clone()));
            }
            Stage::Decode(Decode {
                upsampler: self.upsamplers[index].clone(),
                layers,
            })
        });
        encode.chain(decode).collect()
    }
}

/// Doubles an image and halves its channels by a 1×1 convolution.
#[derive(Module, Debug)]
pub struct Upsampler {
    /// The convolution.
    pub conv: Conv2d,
    #[module(skip)]
    interpolation: Interpolation,
}

impl Upsampler {
    /// Applies both, the convolution first.
    ///
    /// # Shapes
    /// - x: `[batch_size, in, height, width]`
    /// - output: `[batch_size, in / 2, 2 * height, 2 * width]`
    ///
    /// # Exactness
    /// DECODE interpolates first. A 1×1 convolution and an interpolation, whose weights sum to
    /// one, commute: the results are equal to rounding, for a quarter of the products and with a
    /// quarter of the input kept for the backward pass.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.conv.forward(x);
        match self.interpolation {
            Interpolation::Nearest => double_nearest(x),
            Interpolation::Bilinear => double_bilinear(x, Corners::Edges),
        }
    }
}
