use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};
use burn_memopt::nn::gelu;
use burn_memopt::precision::full_precision;

use super::attention::SparseWindowAttention;
use super::tokens::{PATCH_LEN, fold, overlaps, unfold};
use super::windows::Holes;
use crate::projection::Projection;
use crate::propainter::layers::{in_dtype, in_parts, stage};

/// Every how many frames a block takes keys and values.
const DILATION: usize = 2;

/// A block of the transformer: attention and two linear layers, each normalized before and added
/// to what went in.
#[derive(Module, Debug)]
pub struct TransformerBlock {
    /// Before the attention.
    pub norm1: LayerNorm,
    /// The attention.
    pub attention: SparseWindowAttention,
    norm2: LayerNorm,
    mlp: FusionFeedForward,
}

impl TransformerBlock {
    /// Builds a block for tokens of `width`, `heads` heads and patches of `hidden` values.
    pub fn new(width: usize, heads: usize, hidden: usize, device: &Device) -> Self {
        let norm = || LayerNormConfig::new(width).init(device);
        Self {
            norm1: norm(),
            attention: SparseWindowAttention::new(width, heads, device),
            norm2: norm(),
            mlp: FusionFeedForward::new(width, hidden, device),
        }
    }

    /// Runs block `number` of its transformer.
    ///
    /// # Shapes
    /// - x and output: `[batch_size, frames, rows, columns, width]`, of feature maps of `size`
    pub fn forward(
        &self,
        x: Tensor<5>,
        holes: &Holes,
        number: usize,
        size: [usize; 2],
        bytes: usize,
    ) -> Tensor<5> {
        let normal = normalized(&self.norm1, x.clone());
        let x = x + self
            .attention
            .forward(normal, holes, number % DILATION, bytes);
        let dims = x.dims();
        let [batch_size, frames, rows, columns, width] = dims;
        let normal = normalized(&self.norm2, x.clone());
        let normal = normal.reshape([batch_size * frames, rows, columns, width]);
        x + self.mlp.forward(normal, size, bytes).reshape(dims)
    }
}

fn normalized(norm: &LayerNorm, x: Tensor<5>) -> Tensor<5> {
    full_precision(norm, x, |norm, x| norm.forward(x))
}

/// The mask-guided sparse video transformer: blocks one after the other.
///
/// # References
/// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.4.
#[derive(Module, Debug)]
pub struct SparseTransformer {
    /// The blocks.
    pub transformer: Vec<TransformerBlock>,
    recompute: bool,
}

impl SparseTransformer {
    /// Builds `depth` blocks; see [`TransformerBlock::new`].
    pub fn new(depth: usize, width: usize, heads: usize, hidden: usize, device: &Device) -> Self {
        let block = |_| TransformerBlock::new(width, heads, hidden, device);
        Self {
            transformer: (0..depth).map(block).collect(),
            recompute: false,
        }
    }

    pub(super) fn set_recompute(&mut self, recompute: bool) {
        self.recompute = recompute;
        for block in &mut self.transformer {
            block.attention.recompute = recompute;
            block.mlp.recompute = recompute;
        }
    }

    /// Runs all blocks; what a block allocates at a time besides the tokens is about `bytes`.
    ///
    /// # Shapes
    /// - tokens and output: `[batch_size, frames, rows, columns, width]`, of feature maps of `size`
    pub fn forward(
        &self,
        tokens: Tensor<5>,
        holes: &Holes,
        size: [usize; 2],
        bytes: usize,
    ) -> Tensor<5> {
        let blocks = self.transformer.iter().enumerate();
        blocks.fold(tokens, |tokens, (number, block)| {
            let holes = holes.clone();
            stage(self.recompute, block, tokens, move |block, tokens| {
                block.forward(tokens, &holes, number, size, bytes)
            })
        })
    }
}

/// The two linear layers after the attention, with an exchange between overlapping patches in
/// the middle: each takes the mean of all for its pixels.
///
/// # References
/// Liu et al. 2021, "FuseFormer", arXiv:2109.02974, section 3.4 (fusion feed-forward network).
#[derive(Module, Debug)]
pub struct FusionFeedForward {
    fc1: Projection,
    fc2: Projection,
    recompute: bool,
}

impl FusionFeedForward {
    /// Builds the layers for tokens of `width` and patches of `hidden` values on `device`.
    ///
    /// # Panics
    /// If `hidden` is no multiple of the 49 pixels of a patch.
    pub fn new(width: usize, hidden: usize, device: &Device) -> Self {
        assert!(
            hidden.is_multiple_of(PATCH_LEN),
            "hidden values must be a multiple of {PATCH_LEN}, got {hidden}"
        );
        Self {
            fc1: Projection::new([width, hidden], device),
            fc2: Projection::new([hidden, width], device),
            recompute: false,
        }
    }

    /// Applies the layers, to as many frames at a time as their patches fit into `bytes`.
    ///
    /// # Shapes
    /// - tokens and output: `[frames, rows, columns, width]`, of feature maps of `size`
    pub fn forward(&self, tokens: Tensor<4>, size: [usize; 2], bytes: usize) -> Tensor<4> {
        let [_, rows, columns, _] = tokens.dims();
        let [hidden, _] = self.fc1.weight.dims();
        let each = 3 * size_of::<f32>() * hidden * rows * columns;
        in_parts(tokens, each, bytes, |tokens| {
            stage(self.recompute, self, tokens, move |layers, tokens| {
                layers.exchange(tokens, size)
            })
        })
    }

    fn exchange(&self, tokens: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        let [frames, rows, columns, width] = tokens.dims();
        let tokens = tokens.reshape([frames, rows * columns, width]);
        let sum = fold(self.fc1.forward(tokens), size);
        let count = in_dtype(overlaps(size, &sum.device()), sum.dtype());
        let patches = unfold(sum / count);
        let tokens = self.fc2.forward(gelu(patches));
        tokens.reshape([frames, rows, columns, width])
    }
}
