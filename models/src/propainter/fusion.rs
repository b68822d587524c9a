use burn::module::Module;
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};

use super::in_parts::in_parts;
use super::patches::{PATCH_LEN, fold, overlaps, unfold};
use super::projection::Projection;
use super::stage::stage;
use super::warp::in_dtype;

/// The two linear layers behind the attention, with an exchange between overlapping patches in
/// the middle: each takes the mean of what all say about its pixels.
///
/// # References
/// Liu et al. 2021, "FuseFormer", arXiv:2109.02974, section 3.4 (fusion feed-forward network).
#[derive(Module, Debug)]
pub struct FusionFeedForward {
    /// To the patches.
    pub fc1: Projection,
    /// From the patches.
    pub fc2: Projection,
    /// Whether the backward pass of training computes the patches again.
    pub(super) recompute: bool,
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
