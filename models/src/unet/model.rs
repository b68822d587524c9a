use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn_memopt::grad_checkpoint::Cut;

use super::block::{DoubleConv, Down, Up};

/// The U-Net built by [`UNetConfig`](super::UNetConfig).
///
/// # Exactness
/// Any image of at least `2^depth` pixels a side is accepted: an odd row or column dropped by a
/// pooling is replaced by zeros in the decoder. With batch norm, a micro-batch sees its own
/// statistics; with group norm, splitting a batch changes nothing.
#[derive(Module, Debug)]
pub struct UNet {
    /// Convolutions at full resolution.
    pub inc: DoubleConv,
    /// Encoder blocks, fine to coarse.
    pub downs: Vec<Down>,
    /// Decoder blocks, coarse to fine.
    pub ups: Vec<Up>,
    /// Final 1×1 convolution.
    pub outc: Conv2d,
    /// Where the forward pass is cut for gradient checkpointing.
    #[module(skip)]
    pub(super) cut: Cut,
}

impl UNet {
    /// Computes the network's output: logits, or a density map, depending on the loss.
    ///
    /// # Shapes
    /// - images: `[batch_size, in_channels, height, width]`
    /// - output: `[batch_size, out_channels, height, width]`
    ///
    /// # Panics
    /// If height or width is below `2^depth`, or a budget for gradient checkpointing cannot be kept
    /// ([`plan`](Self::plan) returns that as an error).
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = images.dims();
        let (depth, least) = (self.downs.len(), 1 << self.downs.len());
        assert!(
            height >= least && width >= least,
            "image sides must be at least {least} pixels for depth {depth}, got {height}×{width}"
        );
        self.chain().run(&self.cut, images)
    }
}
