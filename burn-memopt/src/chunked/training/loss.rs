//! Losses of tiles, and whether they are sums.

use std::ops::Range;

use burn::tensor::Tensor;

use super::TiledError;
use crate::train::MicroLoss;

/// A loss that is a function of sums over the pixels of whole images: Dice, the number of objects, the class of
/// an image by its mean features.
///
/// [`TiledImages::accumulate_sums`](super::TiledImages::accumulate_sums) asks for the sums of every tile
/// without autodiff, adds them up, and differentiates [`loss`](Self::loss) by them; then it runs each tile
/// again and passes the derivatives on to its [`sums`](Self::sums).
///
/// # Example
/// Dice, one minus `2 Σ p t / (Σ p + Σ t)`, of every image:
/// ```
/// use burn::tensor::{Tensor, activation::sigmoid};
/// use burn_memopt::chunked::SumLoss;
/// use burn_memopt::train::MicroLoss;
///
/// struct Dice;
///
/// impl<M> SumLoss<M> for Dice {
///     fn sums(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<2> {
///         let probs = sigmoid(output);
///         let sum = |map: Tensor<4>| map.flatten::<2>(1, 3).sum_dim(1);
///         Tensor::cat(vec![sum(probs.clone() * target.clone()), sum(probs + target)], 1)
///     }
///
///     fn loss(&self, _: &M, sums: Tensor<2>) -> MicroLoss {
///         let num_images = sums.dims()[0] as f64;
///         let dice = sums.clone().narrow(1, 0, 1) * 2.0 / (sums.narrow(1, 1, 1) + 1e-6);
///         MicroLoss::mean(1.0 - dice.mean(), num_images)
///     }
/// }
/// ```
pub trait SumLoss<M> {
    /// The sums of tiles over the pixels that they own.
    ///
    /// # Shapes
    /// - output: `[tiles, channels, height, width]`, in f32
    /// - target: `[tiles, target_channels, height, width]`, in the resolution of the image
    /// - output: `[tiles, num_sums]`
    fn sums(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<2>;

    /// How many of the sums, the last ones, are logarithms of sums: `ln Σ exp` over the pixels of a tile. They are
    /// added up as `ln Σ exp` over the tiles, and stay finite where a sum itself would be too small or too large for
    /// f32. The default is none.
    ///
    /// # Exactness
    /// A logarithm `l` is rounded by up to `6e-8 |l|`, which is the relative error of its gradient. A tile that adds
    /// nothing may have `-∞`: its gradient there is zero, multiplied by a derivative that must be finite.
    fn num_log_sums(&self) -> usize {
        0
    }

    /// The loss of images, given their sums. Parameters of `model` that it uses, as of a classifier after
    /// pooling, get their gradients too.
    ///
    /// # Shapes
    /// - sums: `[num_images, num_sums]`
    fn loss(&self, model: &M, sums: Tensor<2>) -> MicroLoss;
}

/// How far the sum of two parts may be off, as a share of the largest of the three.
const ROUNDING: f32 = 1e-3;
/// The same of a sum's logarithm, as a share of the logarithm.
const ROUNDING_OF_LOGARITHMS: f32 = 1e-6;

/// Of the sums of a tile or an image, those that are logarithms: the last ones.
///
/// # Panics
/// If there are more than sums.
pub(super) fn logarithms(num_log_sums: usize, num_sums: usize) -> Range<usize> {
    assert!(
        num_log_sums <= num_sums,
        "num_log_sums must be at most the number of sums, {num_sums}, got {num_log_sums}"
    );
    num_sums - num_log_sums..num_sums
}

/// `ln(exp(left) + exp(right))`
pub(super) fn log_add(left: f64, right: f64) -> f64 {
    let largest = left.max(right);
    if largest == f64::NEG_INFINITY {
        return left + right;
    }
    largest + ((left - largest).exp() + (right - largest).exp()).ln()
}

/// Sees that the loss of one tile is that of its halves together.
pub(super) fn check_pixel_sum(
    whole: &MicroLoss,
    output: &Tensor<4>,
    target: &Tensor<4>,
    loss: impl Fn(Tensor<4>, Tensor<4>) -> MicroLoss,
) -> Result<(), TiledError> {
    if !whole.is_sum() {
        let what =
            "got a mean (`MicroLoss::mean`), which counts a small tile as much as a large one";
        let what = what.to_owned();
        return Err(TiledError::NotASum { what });
    }
    let Some(halves) = halves(output, target) else {
        return Ok(());
    };
    let numbers = |loss: &MicroLoss| vec![loss.value(), loss.weight() as f32];
    let halves = halves.map(|(output, target)| numbers(&loss(output, target)));
    compare(
        &numbers(whole),
        &halves,
        |_| false,
        |number| match number {
            0 => "the loss".to_owned(),
            _ => "the weight".to_owned(),
        },
    )
}

/// Sees that the sums of one tile are those of its halves together.
pub(super) fn check_sums(
    whole: &Tensor<2>,
    output: &Tensor<4>,
    target: &Tensor<4>,
    num_log_sums: usize,
    sums: impl Fn(Tensor<4>, Tensor<4>) -> Tensor<2>,
) -> Result<(), TiledError> {
    let Some(halves) = halves(output, target) else {
        return Ok(());
    };
    let numbers = |sums: Tensor<2>| sums.into_data().iter::<f32>().collect::<Vec<_>>();
    let halves = halves.map(|(output, target)| numbers(sums(output, target)));
    let num_sums = whole.dims()[1];
    let logarithms = logarithms(num_log_sums, num_sums);
    compare(
        &numbers(whole.clone()),
        &halves,
        |number| logarithms.contains(&(number % num_sums)),
        |number| format!("sum {}", number % num_sums),
    )
}

/// Compares the numbers of a tile with those of its halves together.
fn compare(
    whole: &[f32],
    halves: &[Vec<f32>; 2],
    is_logarithm: impl Fn(usize) -> bool,
    name: impl Fn(usize) -> String,
) -> Result<(), TiledError> {
    let [first, second] = halves;
    for (number, ((&whole, &first), &second)) in whole.iter().zip(first).zip(second).enumerate() {
        let largest = whole.abs().max(first.abs()).max(second.abs());
        let (together, allowed) = match is_logarithm(number) {
            true => (
                log_add(first.into(), second.into()) as f32,
                ROUNDING + ROUNDING_OF_LOGARITHMS * whole.abs(),
            ),
            false => (first + second, ROUNDING * largest),
        };
        // What is not finite is the trainer's to report.
        if whole.is_finite() && together.is_finite() && (together - whole).abs() > allowed {
            let name = name(number);
            let what = format!(
                "{name} of the first tile is {whole}, but {first} and {second} of its two halves"
            );
            return Err(TiledError::NotASum { what });
        }
    }
    Ok(())
}

/// The upper and the lower half of tiles, without autodiff; `None` if an output has a single row, or rows that do
/// not divide those of its target.
fn halves(output: &Tensor<4>, target: &Tensor<4>) -> Option<[(Tensor<4>, Tensor<4>); 2]> {
    let [output, target] = [output, target].map(|tensor| tensor.clone().detach());
    let (rows, target_rows) = (output.dims()[2], target.dims()[2]);
    if rows < 2 || !target_rows.is_multiple_of(rows) {
        return None;
    }
    let (half, zoom) = (rows / 2, target_rows / rows);
    let part = |start: usize, len: usize| {
        (
            output.clone().narrow(2, start, len),
            target.clone().narrow(2, start * zoom, len * zoom),
        )
    };
    Some([part(0, half), part(half, rows - half)])
}
