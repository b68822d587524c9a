//! DECODE's own U-Net, and the blocks of the chain that it is.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::nn::{canonical_strides, conv2d};

use super::config::{Interpolation, Pooling, UNet2dConfig, convolution};
use super::layers::{Head, Layer, Layers};
use crate::chain::{Block, Keep, chain};
use crate::layers::{Corners, double_bilinear, double_nearest};

/// DECODE's own U-Net, built by [`UNet2dConfig`].
///
/// Unlike the U-Net of [`unet`](crate::unet) it pools by learned convolutions, has no
/// normalization by default, and names its layers otherwise.
#[derive(Module, Debug)]
pub struct UNet2d {
    /// Convolutions of the encoder, fine to coarse.
    encoder: Vec<Layers>,
    /// Convolutions at the coarsest resolution.
    base: Layers,
    /// Convolutions of the decoder, coarse to fine.
    decoder: Vec<Layers>,
    /// Learned poolings after each encoder block; none for max pooling.
    pub poolers: Vec<Conv2d>,
    /// Doublings before each decoder block.
    upsamplers: Vec<Upsampler>,
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

    /// Whether doubling depends on the size of the image.
    pub(super) fn samples_by_size(&self) -> bool {
        let mut upsamplers = self.upsamplers.iter();
        upsamplers.any(|upsampler| upsampler.interpolation == Interpolation::Bilinear)
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

    /// Writer and reader of each skip, where the first stage has the index `first`.
    pub(super) fn skips(&self, first: usize) -> Vec<(usize, usize)> {
        let depth = self.depth();
        let skip = |level| (first + level, first + 2 * depth - level);
        (0..depth).map(skip).collect()
    }
}

/// Doubles an image and halves its channels by a 1×1 convolution.
#[derive(Module, Debug)]
pub(super) struct Upsampler {
    /// The convolution.
    conv: Conv2d,
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
        let x = conv2d(&self.conv, x);
        match self.interpolation {
            Interpolation::Nearest => double_nearest(x),
            Interpolation::Bilinear => double_bilinear(x, Corners::Edges),
        }
    }
}

/// One block of the chain that a localization network is.
#[derive(Module, Debug)]
pub enum Stage {
    Encode(Encode),
    Decode(Decode),
    Heads(Vec<Head>),
}

/// An encoder block, or the block at the coarsest resolution.
#[derive(Module, Debug)]
pub struct Encode {
    #[module(skip)]
    regroup: Regroup,
    /// 0 at full resolution; coarser levels halve the image first.
    level: usize,
    /// The learned halving; without one the maximum is taken.
    pooler: Option<Conv2d>,
    layers: Layers,
}

/// A decoder block.
#[derive(Module, Debug)]
pub struct Decode {
    upsampler: Upsampler,
    /// The last decoder block ends with the final convolution.
    layers: Layers,
}

/// What happens to the frames of a window before a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Regroup {
    /// Nothing.
    None,
    /// Each frame becomes an image of its own: `[b, n, h, w] -> [b·n, 1, h, w]`.
    Split,
    /// The features of `n` frames become one image: `[b·n, c, h, w] -> [b, n·c, h, w]`.
    Join(usize),
}

impl Regroup {
    fn apply(self, x: Tensor<4>) -> Tensor<4> {
        let [batch_size, channels, height, width] = x.dims();
        match self {
            Self::None => x,
            Self::Split => x.reshape([batch_size * channels, 1, height, width]),
            Self::Join(frames) => {
                x.reshape([batch_size / frames, frames * channels, height, width])
            }
        }
    }
}

impl Block for Stage {
    fn run(&self, keep: Keep, x: Tensor<4>, skip: Option<Tensor<4>>) -> Tensor<4> {
        match self {
            Self::Encode(encode) => encode.forward(keep, x),
            Self::Decode(decode) => {
                let skip = skip.expect("invariant: the chain gives a decoder block its skip");
                decode.forward(keep, x, skip)
            }
            Self::Heads(heads) => {
                let output = |head: &Head| head.forward(keep, x.clone());
                Tensor::cat(heads.iter().map(output).collect(), 1)
            }
        }
    }
}

impl Encode {
    fn forward(&self, keep: Keep, x: Tensor<4>) -> Tensor<4> {
        let x = self.regroup.apply(x);
        let x = match (self.level, &self.pooler) {
            (0, _) => x,
            (_, Some(conv)) => conv2d(conv, x),
            (_, None) => canonical_strides(max_pool2d(x, MaxPoolOptions::new([2, 2]))),
        };
        self.layers.forward(keep, x)
    }
}

impl Decode {
    fn forward(&self, keep: Keep, x: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
        let x = self.upsampler.forward(x);
        let skip = crop_to(skip, &x);
        self.layers.forward(keep, keep.join(skip, x))
    }
}

/// Cuts the centre of `skip` to the size of `x`.
fn crop_to(skip: Tensor<4>, x: &Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let [batch_size, channels, skip_height, skip_width] = skip.dims();
    if (height, width) == (skip_height, skip_width) {
        return skip;
    }
    let (top, left) = ((skip_height - height) / 2, (skip_width - width) / 2);
    let rows = top..top + height;
    skip.slice([0..batch_size, 0..channels, rows, left..left + width])
}
