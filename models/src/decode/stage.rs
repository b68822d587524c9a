use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn_memopt::grad_checkpoint::own_gradient;

use super::heads::Head;
use super::layers::{Keep, Layers};
use super::unet2d::Upsampler;

/// One block of the chain that a localization network is.
#[derive(Module, Debug)]
pub(super) enum Stage {
    Encode(Encode),
    Decode(Decode),
    Heads(Vec<Head>),
}

/// An encoder block, or the block at the coarsest resolution.
#[derive(Module, Debug)]
pub(super) struct Encode {
    #[module(skip)]
    pub regroup: Regroup,
    /// 0 at full resolution; coarser levels halve the image first.
    pub level: usize,
    /// The learned halving; without one the maximum is taken.
    pub pooler: Option<Conv2d>,
    pub layers: Layers,
}

/// A decoder block.
#[derive(Module, Debug)]
pub(super) struct Decode {
    pub upsampler: Upsampler,
    /// The last decoder block ends with the final convolution.
    pub layers: Layers,
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

impl Stage {
    /// Runs the stage on the output of the one before, a decoder block on its skip too.
    pub fn forward(&self, keep: Keep, x: Tensor<4>, skip: Option<Tensor<4>>) -> Tensor<4> {
        match self {
            Self::Encode(encode) => encode.forward(keep, x),
            Self::Decode(decode) => {
                let skip = skip.expect("invariant: the chain gives a decoder block its skip");
                decode.forward(keep, x, skip)
            }
            Self::Heads(heads) => {
                let output = |head: &Head| head.forward_keeping(keep, x.clone());
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
            (_, Some(conv)) => conv.forward(x),
            (_, None) => max_pool2d(x, MaxPoolOptions::new([2, 2])),
        };
        self.layers.forward_keeping(keep, x)
    }
}

impl Decode {
    fn forward(&self, keep: Keep, x: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
        let x = self.upsampler.forward(x);
        let skip = crop_to(skip, &x);
        // The skip's gradient waits until the encoder's turn: not as a view of both gradients.
        let skip = match keep {
            Keep::All => skip,
            Keep::Input => own_gradient(skip, &x),
        };
        let x = Tensor::cat(vec![skip, x], 1);
        self.layers.forward_keeping(keep, x)
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
