use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};

use super::in_parts::in_parts;
use super::patches::{PATCH_LEN, fold, token_grid, unfold};
use super::projection::Projection;
use super::stage::stage;

/// Makes tokens of overlapping patches of feature maps.
///
/// # References
/// Liu et al. 2021, "FuseFormer", arXiv:2109.02974, section 3.3 (soft split).
#[derive(Module, Debug)]
pub struct SoftSplit {
    /// From the values of a patch to the width of a token.
    pub embedding: Projection,
    /// Whether the backward pass of training computes the patches again.
    pub(super) recompute: bool,
}

impl SoftSplit {
    /// Builds the layer for `channels` and tokens of `width` on `device`.
    pub fn new(channels: usize, width: usize, device: &Device) -> Self {
        Self {
            embedding: Projection::new([channels * PATCH_LEN, width], device),
            recompute: false,
        }
    }

    /// Makes the tokens, of as many frames at a time as their patches fit into `bytes`.
    ///
    /// # Shapes
    /// - x: `[frames, channels, height, width]`
    /// - output: `[frames, rows, columns, token_width]`
    pub fn forward(&self, x: Tensor<4>, bytes: usize) -> Tensor<4> {
        let [frames, channels, height, width] = x.dims();
        let [rows, columns] = token_grid([height, width]);
        let each = patch_bytes(channels, rows * columns);
        let tokens = in_parts(x, each, bytes, |x| {
            stage(self.recompute, &self.embedding, x, |embedding, x| {
                embedding.forward(unfold(x))
            })
        });
        tokens.reshape([frames as i64, rows as i64, columns as i64, -1])
    }
}

/// Makes feature maps of tokens: the sum of their patches, convolved.
///
/// # References
/// Liu et al. 2021, "FuseFormer", arXiv:2109.02974, section 3.3 (soft composition).
#[derive(Module, Debug)]
pub struct SoftComposition {
    /// From the width of a token to the values of a patch.
    pub embedding: Projection,
    /// Applied to the sum of the patches.
    pub bias_conv: Conv2d,
    /// Whether the backward pass of training computes the patches again.
    pub(super) recompute: bool,
}

impl SoftComposition {
    /// Builds the layer for `channels` and tokens of `width` on `device`.
    pub fn new(channels: usize, width: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([channels, channels], [3, 3])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        Self {
            embedding: Projection::new([width, channels * PATCH_LEN], device),
            bias_conv: conv.init(device),
            recompute: false,
        }
    }

    /// Makes feature maps of `size`, of as many frames at a time as their patches fit into `bytes`.
    ///
    /// # Shapes
    /// - tokens: `[frames, rows, columns, token_width]`
    /// - output: `[frames, channels, height, width]`
    pub fn forward(&self, tokens: Tensor<4>, size: [usize; 2], bytes: usize) -> Tensor<4> {
        let [_, rows, columns, width] = tokens.dims();
        let [channels, ..] = self.bias_conv.weight.dims();
        let each = patch_bytes(channels, rows * columns);
        in_parts(tokens, each, bytes, |tokens| {
            let frames = tokens.dims()[0];
            let tokens = tokens.reshape([frames, rows * columns, width]);
            stage(self.recompute, self, tokens, move |layers, tokens| {
                let sum = fold(layers.embedding.forward(tokens), size);
                layers.bias_conv.forward(sum)
            })
        })
    }
}

/// What the patches of one frame need: twice their values.
fn patch_bytes(channels: usize, tokens: usize) -> usize {
    2 * size_of::<f32>() * channels * PATCH_LEN * tokens
}
