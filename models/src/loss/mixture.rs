//! A loss of localization networks: a mixture over all pixels.

use std::ops::Range;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use burn_memopt::grad_checkpoint::Segment;
use burn_memopt::precision::ops::full;

use super::{LossSum, MixtureOnTiles};
use crate::decode::{EmitterTargets, SigmaMUNet};

/// Keeps logarithms of probabilities and quotients by their variance finite. A network whose
/// logits are bounded stays far above.
const LEAST_PROB: f64 = 1e-30;
const LEAST_VARIANCE: f64 = 1e-12;
/// `ln(2 π)`.
const LN_TWO_PI: f64 = 1.837_877_066_409_345_3;
/// The sums of a frame before those that are logarithms, of an emitter each.
const NUM_PLAIN_SUMS: usize = 3;

/// Settings of a [`MixtureLoss`].
#[derive(Config, Debug)]
pub struct MixtureLossConfig {
    /// Weights of the emitters' term and of the background's. The default is `[1.0, 1.0]`.
    #[config(default = "[1.0, 1.0]")]
    pub channel_weights: [f64; 2],
    /// Emitters of a frame that are compared with all pixels at a time. The default is `32`.
    ///
    /// The comparison holds `batch_size · targets_at_once · height · width` values, several
    /// times; with more targets than these, each part is recomputed in the backward pass.
    #[config(default = 32)]
    pub targets_at_once: usize,
    /// Least weight of a frame's count, which weighs as much as there are emitters. The default is
    /// `0.0`, as in DECODE: a frame without emitters does not teach that there are none. Where
    /// such frames are frequent, `1.0` keeps a network from finding emitters in them.
    #[config(default = 0.0)]
    pub least_count_weight: f64,
}

impl MixtureLossConfig {
    /// Builds the loss.
    ///
    /// # Panics
    /// If a weight is negative or not finite, or no target may be compared.
    pub fn init(&self) -> MixtureLoss {
        let [emitters, background] = self.channel_weights;
        assert!(
            emitters >= 0.0 && background >= 0.0,
            "channel_weights must not be negative, got [{emitters}, {background}]"
        );
        assert!(
            self.targets_at_once > 0,
            "targets_at_once must be at least 1, got 0"
        );
        let least = self.least_count_weight;
        assert!(
            least >= 0.0 && least.is_finite(),
            "least_count_weight must be finite and not negative, got {least}"
        );
        MixtureLoss {
            channel_weights: self.channel_weights,
            targets_at_once: self.targets_at_once,
            least_count_weight: least,
        }
    }
}

/// Loss of a [`SigmaMUNet`]: how likely its output makes the emitters that are there.
///
/// The number `n` of emitters in a frame is taken as normally distributed with mean `Σ p` and
/// variance `Σ (p - p²)`; each of them as drawn from a mixture of one Gaussian a pixel, which has
/// the weight `p / Σ p`, the means `(photons, row + Δrow, column + Δcolumn, z)` and their standard
/// deviations. The loss of a frame is
///
/// `-2 (n · ln N(n) + Σ over emitters of ln mixture)` and `2 Σ (background error)²`,
///
/// where the first `n` is at least [`least_count_weight`](MixtureLossConfig::least_count_weight).
///
/// Mixtures are summed as logarithms, around the largest term: emitters far from every pixel's
/// guess give a large loss, never an infinite one.
///
/// # Exactness
/// [`forward_sum`](Self::forward_sum) adds up over micro-batches. Everything is computed in f32;
/// half-precision output is widened first. Parts of the targets are summed apart: equal to
/// rounding for any [`targets_at_once`](MixtureLossConfig::targets_at_once).
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::decode::{Emitter, EmitterTargets, OutputScale};
/// use burn_memopt_models::loss::MixtureLossConfig;
///
/// let device = Device::flex();
/// let emitter = Emitter { x: 2.0, y: 1.0, z: 0.0, photons: 500.0 };
/// let scale = OutputScale::new(1000.0, 50.0);
/// let targets = EmitterTargets::new(&[vec![emitter]], &[20.0], [4, 4], &scale, &device);
/// let loss = MixtureLossConfig::new().init();
/// let output = Tensor::full([1, 10, 4, 4], 0.5, &device);
/// assert_eq!(loss.forward(output, &targets).dims(), [1, 2]);
/// ```
///
/// # References
/// Speiser et al. 2021, Nature Methods 18, 1082-1090, Methods, "Loss function".
#[derive(Module, Debug)]
pub struct MixtureLoss {
    #[module(skip)]
    channel_weights: [f64; 2],
    targets_at_once: usize,
    least_count_weight: f64,
}

impl MixtureLoss {
    /// Computes the two terms of every frame.
    ///
    /// # Shapes
    /// - output: `[batch_size, 10, height, width]`, as of [`SigmaMUNet::forward`]
    /// - result: `[batch_size, 2]`: emitters, background
    ///
    /// # Panics
    /// If the output has other channels, or the targets another size.
    pub fn forward(&self, output: Tensor<4>, targets: &EmitterTargets) -> Tensor<2> {
        let output = full(output);
        check_shapes(&output, targets);
        let [.., height, width] = output.dims();
        let pixels = Pixels {
            background: targets.background.clone(),
            places: pixel_places(0..height, 0..width, &output.device()).unsqueeze(),
        };
        let sums = self.sums(output, pixels, known_params(targets));
        self.of_sums(sums, &targets.mask)
    }

    /// Computes the sum of all terms; its weight is their number, two a frame.
    ///
    /// Shapes and panics are those of [`forward`](Self::forward).
    pub fn forward_sum(&self, output: Tensor<4>, targets: &EmitterTargets) -> LossSum {
        let loss = self.forward(output, targets);
        LossSum {
            weight: loss.shape().num_elements() as f64,
            sum: loss.sum(),
        }
    }

    /// The loss of frames that are seen tile by tile, on a [`TiledStep`](burn_memopt::chunked::TiledStep).
    pub fn on_tiles(&self, targets: &EmitterTargets) -> MixtureOnTiles<'_> {
        MixtureOnTiles::new(self, targets)
    }

    /// The sums over pixels that the loss is of: `Σ p`, `Σ (p - p²)`, `Σ (background error)²`, and for each emitter the
    /// logarithm of the sum of all Gaussians there, each times its `p`.
    ///
    /// # Shapes
    /// - output: `[batch_size, 10, height, width]`, f32
    /// - params: `[batch_size, most_emitters, 4]`
    /// - result: `[batch_size, 3 + most_emitters]`
    pub(super) fn sums(&self, output: Tensor<4>, pixels: Pixels, params: Tensor<3>) -> Tensor<2> {
        let sum = |values: Tensor<3>| values.flatten::<2>(1, 2).sum_dim(1);
        let error = output.clone().narrow(1, 9, 1).squeeze_dim::<3>(1) - pixels.background;
        let mixture = Mixture::new(&output, pixels.places);
        let probs = mixture.probs.clone();
        let mut sums = vec![
            sum(probs.clone()),
            sum(probs.clone() - probs.square()),
            sum(error.square()),
        ];
        let num_targets = params.dims()[1];
        for first in (0..num_targets).step_by(self.targets_at_once) {
            let count = self.targets_at_once.min(num_targets - first);
            let inputs = (
                mixture.clone().into_parts(),
                params.clone().narrow(1, first, count),
            );
            sums.push(match count == num_targets {
                true => log_densities(inputs.0, inputs.1),
                false => Segment::new().without_randomness().run(
                    self,
                    inputs,
                    |_: &Self, (mixture, part)| log_densities(mixture, part),
                ),
            });
        }
        Tensor::cat(sums, 1)
    }

    /// The two terms of every frame, given its sums.
    ///
    /// # Shapes
    /// - mask: `[batch_size, most_emitters]`
    /// - result: `[batch_size, 2]`: emitters, background
    pub(super) fn of_sums(&self, sums: Tensor<2>, mask: &Tensor<2>) -> Tensor<2> {
        let [probs, variance, background] =
            [0, 1, 2].map(|number| sums.clone().narrow(1, number, 1).squeeze_dim::<1>(1));
        let count = mask.clone().sum_dims_squeeze::<1, _>(&[1]);
        let densities = sums.narrow(1, NUM_PLAIN_SUMS, mask.dims()[1]);
        let densities = (densities * mask.clone()).sum_dims_squeeze::<1, _>(&[1]);
        // The weights of the mixture sum to one.
        let all = probs.clone().clamp_min(LEAST_PROB).log() * count.clone();
        let emitters = self.count_term(probs, variance, count) + densities - all;
        let [emitter_weight, background_weight] = self.channel_weights;
        Tensor::stack(
            vec![
                emitters.mul_scalar(-2.0 * emitter_weight),
                background.mul_scalar(2.0 * background_weight),
            ],
            1,
        )
    }

    /// `max(n, least_weight) · ln N(n; Σ p, Σ (p - p²))`, `[batch_size]`.
    fn count_term(&self, mean: Tensor<1>, variance: Tensor<1>, count: Tensor<1>) -> Tensor<1> {
        let variance = variance.clamp_min(LEAST_VARIANCE);
        let error = (count.clone() - mean).square() / variance.clone();
        let log_density = (error + variance.log()).add_scalar(LN_TWO_PI) * -0.5;
        log_density * count.clamp_min(self.least_count_weight)
    }
}

/// What is known of pixels.
pub(super) struct Pixels {
    /// Their background, `[batch_size, height, width]`.
    pub background: Tensor<3>,
    /// Their row and column in the frame, `[batch_size or 1, 2, height, width]`.
    pub places: Tensor<4>,
}

/// A network's output as a mixture of one Gaussian a pixel.
#[derive(Clone)]
struct Mixture {
    /// `[batch_size, 1, pixels]`
    probs: Tensor<3>,
    /// `[batch_size, 4, pixels]`
    means: Tensor<3>,
    /// `[batch_size, 4, pixels]`
    sigmas: Tensor<3>,
}

impl Mixture {
    fn new(output: &Tensor<4>, places: Tensor<4>) -> Self {
        let part = |first, count| output.clone().narrow(1, first, count).flatten(2, 3);
        // Nothing is added to photons and z.
        let none = places.zeros_like().narrow(1, 0, 1);
        let centres = Tensor::cat(vec![none.clone(), places, none], 1);
        Self {
            probs: part(0, 1),
            means: part(1, 4) + centres.flatten::<3>(2, 3),
            sigmas: part(5, 4),
        }
    }

    fn into_parts(self) -> [Tensor<3>; 3] {
        [self.probs, self.means, self.sigmas]
    }
}

/// The logarithm of the density of all Gaussians, each times its probability, at each target.
///
/// # Shapes
/// - targets: `[batch_size, targets, 4]`
/// - output: `[batch_size, targets]`
fn log_densities([probs, means, sigmas]: [Tensor<3>; 3], targets: Tensor<3>) -> Tensor<2> {
    let normalization = sigmas.clone().log().sum_dim(1).add_scalar(2.0 * LN_TWO_PI);
    // [b, 1, pixels], then [b, targets, pixels]
    let mut terms = probs.clamp_min(LEAST_PROB).log() - normalization;
    for attribute in 0..4 {
        let target = targets.clone().narrow(2, attribute, 1);
        let mean = means.clone().narrow(1, attribute, 1);
        let error = (target - mean) / sigmas.clone().narrow(1, attribute, 1);
        terms = terms - error.square().mul_scalar(0.5);
    }
    let largest = terms.clone().detach().max_dim(2);
    let sum = (terms - largest.clone()).exp().sum_dim(2).log();
    (sum + largest).squeeze_dim::<2>(2)
}

/// The attributes of emitters. Whatever the padding holds, its density must be finite to vanish when it is masked.
pub(super) fn known_params(targets: &EmitterTargets) -> Tensor<3> {
    let padding = targets.mask.clone().equal_scalar(0.0).unsqueeze_dim::<3>(2);
    let params = targets.params.clone();
    let shape = params.dims();
    params.mask_fill(padding.expand(shape), 0.0)
}

/// Row and column of each pixel, `[2, rows, columns]`.
pub(super) fn pixel_places(
    rows: Range<usize>,
    columns: Range<usize>,
    device: &Device,
) -> Tensor<3> {
    let size = [rows.len(), columns.len()];
    let line = |range: Range<usize>| {
        Tensor::<1, Int>::arange(range.start as i64..range.end as i64, device).float()
    };
    let rows = line(rows).reshape([size[0], 1]).expand(size);
    let columns = line(columns).reshape([1, size[1]]).expand(size);
    Tensor::stack(vec![rows, columns], 0)
}

pub(super) fn check_channels(output: &Tensor<4>) {
    let channels = output.dims()[1];
    assert!(
        channels == SigmaMUNet::CHANNELS,
        "output must have {} channels, got {channels}",
        SigmaMUNet::CHANNELS
    );
}

fn check_shapes(output: &Tensor<4>, targets: &EmitterTargets) {
    check_channels(output);
    let [batch_size, _, height, width] = output.dims();
    let wanted = [batch_size, height, width];
    let found = targets.background.dims();
    assert!(
        found == wanted && targets.mask.dims()[0] == batch_size,
        "targets must be of {batch_size} frames of {height}×{width} pixels, got {found:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Emitter, OutputScale};
    use burn::tensor::{DType, Distribution, Tolerance};
    use burn_memopt::grad_checkpoint::hold_random_stream;

    fn emitter(x: f32, y: f32) -> Emitter {
        Emitter {
            x,
            y,
            z: 0.0,
            photons: 0.5,
        }
    }

    fn targets(frames: &[Vec<Emitter>], device: &Device) -> EmitterTargets {
        let backgrounds = vec![0.5; frames.len()];
        let scale = OutputScale::new(1.0, 1.0);
        EmitterTargets::new(frames, &backgrounds, [6, 5], &scale, device)
    }

    fn output(batch_size: usize, device: &Device) -> Tensor<4> {
        let _stream = hold_random_stream().seeded(device, 3);
        let shape = [batch_size, 10, 6, 5];
        Tensor::random(shape, Distribution::Uniform(0.1, 0.9), device)
    }

    #[test]
    fn any_number_of_targets_at_once_gives_the_same_loss_and_gradients() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex().autodiff();
        let frame = (0..5).map(|i| emitter(i as f32, 2.0)).collect();
        let targets = targets(&[frame, vec![emitter(1.0, 1.0)]], &device.clone().inner());
        let run = |at_once| {
            let output = output(2, &device).require_grad();
            let loss = MixtureLossConfig::new()
                .with_targets_at_once(at_once)
                .init();
            let loss = loss.forward_sum(output.clone(), &targets).sum;
            let grads = loss.backward();
            (loss.into_data(), output.grad(&grads).unwrap().into_data())
        };
        let whole = run(5);
        for at_once in [1, 2, 4] {
            let parts = run(at_once);
            let tolerance = Tolerance::<f32>::rel_abs(1e-5, 1e-5);
            parts.0.assert_approx_eq::<f32>(&whole.0, tolerance);
            parts.1.assert_approx_eq::<f32>(&whole.1, tolerance);
        }
    }

    #[test]
    fn a_frame_without_emitters_loses_only_its_background() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex();
        let loss = MixtureLossConfig::new().init();
        let both = loss.forward(
            output(2, &device),
            &targets(&[vec![], vec![emitter(1.0, 2.0)]], &device),
        );
        let values: Vec<f32> = both.into_data().iter::<f32>().collect();
        assert_eq!(values[0], 0.0);
        assert!(values[1] > 0.0 && values[2] != 0.0);
    }

    #[test]
    fn a_least_weight_teaches_that_an_empty_frame_is_empty_and_changes_no_other() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex();
        let targets = targets(&[vec![], vec![emitter(1.0, 2.0)]], &device);
        let terms = |least, output: &Tensor<4>| -> Vec<f32> {
            let loss = MixtureLossConfig::new().with_least_count_weight(least);
            let terms = loss.init().forward(output.clone(), &targets);
            terms.into_data().iter::<f32>().collect()
        };
        let sure = output(2, &device);
        let unsure = sure.clone() * 0.1;
        let [plain, weighted] = [0.0, 1.0].map(|least| terms(least, &sure));
        assert_eq!(plain[1..], weighted[1..]);
        assert!(
            weighted[0] > 2.0 * terms(1.0, &unsure)[0].abs(),
            "{weighted:?}"
        );
    }

    #[test]
    fn emitters_far_from_every_guess_lose_much_but_not_everything() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex().autodiff();
        let sure = output(1, &device) * 1e-3;
        let sure = sure.detach().require_grad();
        let targets = targets(&[vec![emitter(1e4, -1e4)]], &device.clone().inner());
        let loss = MixtureLossConfig::new()
            .init()
            .forward(sure.clone(), &targets);
        let grads = loss.clone().sum().backward();
        let grad = sure.grad(&grads).unwrap().into_data();
        assert!(loss.into_data().iter::<f32>().all(f32::is_finite));
        assert!(grad.iter::<f32>().all(f32::is_finite));
    }

    #[test]
    fn probabilities_are_summed_in_full_precision() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex();
        let half = output(1, &device).cast(DType::F16);
        let loss = MixtureLossConfig::new().init();
        let targets = targets(&[vec![emitter(2.0, 2.0)]], &device);
        let (from_half, full) = (
            loss.forward(half.clone(), &targets),
            loss.forward(half.cast(DType::F32), &targets),
        );
        assert_eq!(from_half.into_data(), full.into_data());
    }

    #[test]
    fn sums_and_weights_of_frames_add_up_to_the_batch() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex();
        let frames = [vec![emitter(1.0, 2.0), emitter(4.0, 4.0)], vec![]];
        let loss = MixtureLossConfig::new().init();
        let whole = loss.forward_sum(output(2, &device), &targets(&frames, &device));
        let part = |i: usize| {
            let output = output(2, &device).slice_dim(0, i..i + 1);
            loss.forward_sum(output, &targets(&frames[i..i + 1], &device))
        };
        let (first, second) = (part(0), part(1));
        assert_eq!(first.weight + second.weight, whole.weight);
        let (sum, whole) = (first.sum + second.sum, whole.sum);
        let (sum, whole) = (sum.into_scalar::<f32>(), whole.into_scalar::<f32>());
        assert!((sum - whole).abs() <= 1e-5 * whole.abs(), "{sum} {whole}");
    }

    #[test]
    #[should_panic(expected = "targets must be of 2 frames of 6×5 pixels, got [1, 6, 5]")]
    fn targets_of_another_batch_are_refused() {
        let device = Device::flex();
        let loss = MixtureLossConfig::new().init();
        loss.forward(output(2, &device), &targets(&[vec![]], &device));
    }
}
