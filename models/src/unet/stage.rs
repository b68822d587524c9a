use burn::module::Module;
use burn::nn::conv::{Conv2d, ConvTranspose2d};
use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn_memopt::grad_checkpoint::own_gradient;

use super::block::{DoubleConv, pad_to};
use super::norm::{Keep, Norm};
use crate::upsample::{Corners, double_bilinear};

/// One block of the chain that a U-Net is for gradient checkpointing: a convolution with its
/// normalization and ReLU, what comes before it, and the head behind the last one.
#[derive(Module, Debug)]
pub struct Stage {
    #[module(skip)]
    before: Before,
    /// The transposed convolution that doubles the image, or `None` for bilinear interpolation.
    up: Option<ConvTranspose2d>,
    conv: Conv2d,
    norm: Norm,
    head: Option<Conv2d>,
}

/// What happens to the image before the convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing.
    Nothing,
    /// 2×2 max pooling.
    Pool,
    /// Doubling, and concatenation with the skip.
    Join,
}

impl Stage {
    /// The two stages of a pair of convolutions.
    pub(super) fn pair(
        before: Before,
        up: Option<ConvTranspose2d>,
        pair: &DoubleConv,
    ) -> [Self; 2] {
        let stage = |before, up, conv: &Conv2d, norm: &Norm| Self {
            before,
            up,
            conv: conv.clone(),
            norm: norm.clone(),
            head: None,
        };
        [
            stage(before, up, &pair.conv1, &pair.norm1),
            stage(Before::Nothing, None, &pair.conv2, &pair.norm2),
        ]
    }

    /// Puts the final convolution behind the stage.
    pub(super) fn with_head(mut self, head: &Conv2d) -> Self {
        self.head = Some(head.clone());
        self
    }

    pub(super) fn forward(&self, keep: Keep, x: Tensor<4>, skip: Option<Tensor<4>>) -> Tensor<4> {
        let x = match (self.before, skip) {
            (Before::Pool, _) => max_pool2d(x, MaxPoolOptions::new([2, 2])),
            (Before::Join, Some(skip)) => self.join(keep, x, skip),
            _ => x,
        };
        let x = self.norm.forward_relu(keep, self.conv.forward(x));
        match &self.head {
            Some(head) => head.forward(x),
            None => x,
        }
    }

    /// Doubles the image and joins it to the skip.
    fn join(&self, keep: Keep, x: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
        let x = match &self.up {
            Some(up) => up.forward(x),
            None => double_bilinear(x, Corners::Aligned),
        };
        let x = pad_to(x, &skip);
        // The skip's gradient waits until the encoder's turn: not as a view of both gradients.
        let skip = match keep {
            Keep::All => skip,
            Keep::Input => own_gradient(skip, &x),
        };
        Tensor::cat(vec![skip, x], 1)
    }
}
