//! Dice, alone and with a cross-entropy, of images that are seen tile by tile.

use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Int, Tensor};
use burn_memopt::chunked::SumLoss;
use burn_memopt::precision::ops::full;
use burn_memopt::train::MicroLoss;

use super::segmentation::one_hot;
use super::{BceDiceLoss, BceLoss, CrossEntropyDiceLoss, CrossEntropyLoss, DiceLoss};

/// Of probabilities, over all images together.
impl<M> SumLoss<M> for DiceLoss {
    fn sums(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<2> {
        Tensor::cat(overlap(output, target).into(), 1)
    }

    fn loss(&self, _: &M, sums: Tensor<2>) -> MicroLoss {
        MicroLoss::mean(of_sums(self, &sums, 0), sums.dims()[0] as f64)
    }
}

/// Of logits, over all images together.
impl<M> SumLoss<M> for BceDiceLoss {
    fn sums(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<2> {
        let logits = full(output);
        let cross_entropies = BceLoss.each(logits.clone(), target.clone());
        with_dice(cross_entropies, sigmoid(logits), target)
    }

    fn loss(&self, _: &M, sums: Tensor<2>) -> MicroLoss {
        let loss = mean_of_sums(&sums) + of_sums(&self.dice, &sums, 2);
        MicroLoss::mean(loss, sums.dims()[0] as f64)
    }
}

/// Of logits, over all images together; the target is the number of the class of each pixel.
impl<M> SumLoss<M> for CrossEntropyDiceLoss {
    fn sums(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<2> {
        let logits = full(output);
        let labels: Tensor<3, Int> = target.squeeze_dim::<3>(1).int();
        let targets = one_hot(labels.clone(), logits.dims());
        let cross_entropies = CrossEntropyLoss.each(logits.clone(), labels);
        with_dice(cross_entropies, softmax(logits, 1), targets)
    }

    fn loss(&self, _: &M, sums: Tensor<2>) -> MicroLoss {
        let loss = mean_of_sums(&sums) + of_sums(&self.dice, &sums, 2);
        MicroLoss::mean(loss, sums.dims()[0] as f64)
    }
}

/// Sums of cross-entropies, their number, and the sums of Dice.
fn with_dice(cross_entropies: Tensor<4>, probs: Tensor<4>, targets: Tensor<4>) -> Tensor<2> {
    let num_pixels = cross_entropies.shape().num_elements() / cross_entropies.dims()[0];
    let sum = tile_sums(cross_entropies);
    let weight = sum.full_like(num_pixels as f64);
    let [products, sizes] = overlap(probs, targets);
    Tensor::cat(vec![sum, weight, products, sizes], 1)
}

/// `Σ p t` and `Σ p + Σ t` of every tile, `[tiles, 1]` each.
fn overlap(probs: Tensor<4>, targets: Tensor<4>) -> [Tensor<2>; 2] {
    let (probs, targets) = (full(probs), full(targets));
    let products = tile_sums(probs.clone() * targets.clone());
    [products, tile_sums(probs) + tile_sums(targets)]
}

/// `[tiles, ..]` to `[tiles, 1]`
fn tile_sums(map: Tensor<4>) -> Tensor<2> {
    map.flatten::<2>(1, 3).sum_dim(1)
}

/// One sum over all images.
fn total(sums: &Tensor<2>, number: usize) -> Tensor<1> {
    sums.clone().narrow(1, number, 1).sum()
}

fn mean_of_sums(sums: &Tensor<2>) -> Tensor<1> {
    total(sums, 0) / total(sums, 1)
}

fn of_sums(dice: &DiceLoss, sums: &Tensor<2>, first: usize) -> Tensor<1> {
    dice.of_sums(total(sums, first), total(sums, first + 1))
}
