//! Losses, computed in f32 whatever the network's precision.
//!
//! | loss | for | adds up over micro-batches |
//! |---|---|---|
//! | [`BceLoss`] | a binary mask | exactly, by `forward_sum` |
//! | [`CrossEntropyLoss`] | classes | exactly, by `forward_sum` |
//! | [`CountLoss`] | a density map whose sum is the number of emitters | exactly, by `forward_sum` |
//! | [`MixtureLoss`] | localizations with uncertainties | exactly, by `forward_sum` |
//! | [`PixelLoss`] | localizations, pixel by pixel | exactly, by `forward_sum` |
//! | [`DiceLoss`], [`BceDiceLoss`], [`CrossEntropyDiceLoss`] | overlap of the whole batch | no |
//!
//! On [tiles](burn_memopt::chunked::TiledStep) of images, those that add up are sums over pixels by `forward_sum`; Dice, its sum with
//! others, and [`CountLoss`], which has the number in the whole image, are [`SumLoss`](burn_memopt::chunked::SumLoss)es, and so is a
//! [`MixtureLoss`] by [`on_tiles`](MixtureLoss::on_tiles).
//!
//! # Exactness
//! A mean over a batch is a sum divided by a weight. [`LossSum`] returns both: add the sums and
//! the weights of the micro-batches, divide once, and the result is the loss of the full batch,
//! ragged last groups and masks included. Dice is a quotient of sums over the whole batch; the
//! mean of its values over micro-batches is another loss (a Dice per micro-batch), close to it
//! when the micro-batches are alike.

mod count;
mod dice_on_tiles;
mod mixture;
mod mixture_on_tiles;
mod pixel;
mod segmentation;

pub use count::{CountLoss, CountLossConfig};
pub use mixture::{MixtureLoss, MixtureLossConfig};
pub use mixture_on_tiles::MixtureOnTiles;
pub use pixel::{PixelLoss, PixelLossConfig};
pub use segmentation::{BceDiceLoss, BceLoss, CrossEntropyDiceLoss, CrossEntropyLoss, DiceLoss};

use burn::tensor::Tensor;
use burn_memopt::precision::ops::full;

/// The sum of a loss and the weight to divide it by.
#[derive(Clone, Debug)]
pub struct LossSum {
    /// The weighted sum of the items' losses, one element, f32. Differentiable.
    pub sum: Tensor<1>,
    /// The total weight of the items: their number, or the sum of the mask.
    pub weight: f64,
}

impl LossSum {
    /// Returns the weighted mean of this batch alone, or 0 if it weighs nothing.
    pub fn mean(self) -> Tensor<1> {
        let divisor = if self.weight > 0.0 { self.weight } else { 1.0 };
        self.sum.div_scalar(divisor)
    }
}

/// Sums `values`, each weighted by `mask` where there is one.
fn masked_sum<const D: usize>(values: Tensor<D>, mask: Option<Tensor<D>>) -> LossSum {
    let Some(mask) = mask else {
        let weight = values.shape().num_elements() as f64;
        return LossSum {
            sum: values.sum(),
            weight,
        };
    };
    let mask = full(mask);
    LossSum {
        weight: total(mask.clone()),
        sum: (values * mask).sum(),
    }
}

/// Reads the sum of `mask`. Rows are summed on the device and their sums on the host in f64,
/// because an f32 stops counting at 2^24 pixels.
fn total<const D: usize>(mask: Tensor<D>) -> f64 {
    let rows = mask.detach().sum_dim(D - 1).into_data();
    rows.iter::<f64>().sum()
}
