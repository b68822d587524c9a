//! The loss of density maps.

use burn::config::Config;
use burn::tensor::Tensor;
use burn_memopt::chunked::SumLoss;
use burn_memopt::precision::ops::full;
use burn_memopt::train::MicroLoss;

use super::LossSum;

/// Settings of a [`CountLoss`].
#[derive(Config, Debug)]
pub struct CountLossConfig {
    /// Factor on densities before they are squared. The default is `100.0`, because a point
    /// source spread over a few pixels has densities of a few hundredths.
    #[config(default = 100.0)]
    pub density_scale: f64,
    /// Factor on the count term. The default is `0.3`.
    #[config(default = 0.3)]
    pub count_weight: f64,
}

impl CountLossConfig {
    /// Builds the loss.
    ///
    /// # Panics
    /// If the scale is not positive or the weight is negative.
    pub fn init(&self) -> CountLoss {
        assert!(
            self.density_scale > 0.0,
            "density_scale must be positive, got {}",
            self.density_scale
        );
        assert!(
            self.count_weight >= 0.0,
            "count_weight must not be negative, got {}",
            self.count_weight
        );
        CountLoss {
            density_scale: self.density_scale,
            count_weight: self.count_weight,
        }
    }
}

/// Loss of a density map whose sum is the number of emitters in the frame.
///
/// Each channel of each frame costs
///
/// `mean over pixels of (scale · (p - t))²  +  weight · (√(1 + Δ² / (n + 1)) - 1)`
///
/// with `Δ = Σ p - Σ t` and `n = Σ t`; the loss is the mean over frames and channels. The first
/// term says *where* emitters are. Its minimum is blurred where emitters overlap, and a tiny bias
/// of every pixel, which it hardly sees, is a large error of the sum; so the second term holds
/// the *number*. It is measured in the spread `√(n + 1)` of a Poisson count, so dense frames do
/// not outweigh sparse ones, quadratic near zero, and linear far away, so that the first steps
/// of training, where the sum is off by thousands, stay bounded.
///
/// Begin with a small [`head_scale`](crate::unet::UNetConfig::head_scale), so that the first
/// sums are near zero.
///
/// # Exactness
/// [`forward_sum`](Self::forward_sum) weighs by frames, so micro-batches of any size add up to
/// the batch. Sums run in f32: half-precision input is widened first, because a count beyond
/// 2048 is not even representable in f16.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::loss::CountLossConfig;
///
/// let device = Device::flex();
/// let density = Tensor::<4>::full([2, 1, 8, 8], 0.05, &device);
/// let loss = CountLossConfig::new().init();
/// let exact = loss.forward(density.clone(), density.clone(), None);
/// let biased = loss.forward(density.clone() + 0.01, density, None);
/// assert_eq!(exact.into_scalar::<f32>(), 0.0);
/// assert!(biased.into_scalar::<f32>() > 0.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CountLoss {
    density_scale: f64,
    count_weight: f64,
}

impl CountLoss {
    /// Computes the mean over frames and channels.
    ///
    /// # Shapes
    /// - densities, targets: `[batch_size, channels, height, width]`, emitters per pixel
    /// - mask: the same, 0 or 1; pixels at 0 count in neither term
    /// - output: `[1]`
    pub fn forward(
        &self,
        densities: Tensor<4>,
        targets: Tensor<4>,
        mask: Option<Tensor<4>>,
    ) -> Tensor<1> {
        self.forward_sum(densities, targets, mask).mean()
    }

    /// Computes the sum over frames and channels; its weight is their number, with or without
    /// mask. Shapes are those of [`forward`](Self::forward).
    pub fn forward_sum(
        &self,
        densities: Tensor<4>,
        targets: Tensor<4>,
        mask: Option<Tensor<4>>,
    ) -> LossSum {
        let [batch_size, channels, height, width] = densities.dims();
        let (mut densities, mut targets) = (full(densities), full(targets));
        let mut squares = (densities.clone() - targets.clone())
            .mul_scalar(self.density_scale)
            .square();
        let mut pixels = None;
        if let Some(mask) = mask {
            let mask = full(mask);
            densities = densities * mask.clone();
            targets = targets * mask.clone();
            squares = squares * mask.clone();
            // A fully masked frame divides its zero sum by 1.
            pixels = Some(frame_sums(mask).clamp_min(1.0));
        }
        let squares = frame_sums(squares);
        let density_term = match pixels {
            Some(pixels) => squares / pixels,
            None => squares.div_scalar((height * width) as f64),
        };
        let losses = self.of_frames(density_term, frame_sums(densities), frame_sums(targets));
        LossSum {
            sum: losses.sum(),
            weight: (batch_size * channels) as f64,
        }
    }

    /// The losses of frames, of their mean squares, sums of densities and true sums.
    fn of_frames(&self, squares: Tensor<1>, predicted: Tensor<1>, truth: Tensor<1>) -> Tensor<1> {
        squares + relative_count_error(predicted, truth).mul_scalar(self.count_weight)
    }
}

/// The loss of whole images on tiles of them: the number in the image, not in each tile.
///
/// # Shapes
/// - sums: the squares, densities, true densities and numbers of pixels of every channel
impl<M> SumLoss<M> for CountLoss {
    fn sums(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<2> {
        let [tiles, channels, height, width] = output.dims();
        let (output, target) = (full(output), full(target));
        let squares = (output.clone() - target.clone())
            .mul_scalar(self.density_scale)
            .square();
        let sums = [squares, output, target];
        let mut sums: Vec<_> = sums
            .map(|map| frame_sums(map).reshape([tiles, channels]))
            .into();
        sums.push(sums[0].full_like((height * width) as f64));
        Tensor::cat(sums, 1)
    }

    fn loss(&self, _: &M, sums: Tensor<2>) -> MicroLoss {
        let [images, num_sums] = sums.dims();
        let frames = images * num_sums / 4;
        let chunks = sums.chunk(4, 1).into_iter();
        let chunks: Vec<_> = chunks.map(|sums| sums.reshape([frames])).collect();
        let [squares, predicted, truth, pixels] = chunks
            .try_into()
            .expect("invariant: four sums of every channel");
        let losses = self.of_frames(squares / pixels, predicted, truth);
        MicroLoss::sum(losses.sum(), frames as f64)
    }
}

/// `[b, c, h, w] -> [b · c]`
fn frame_sums(map: Tensor<4>) -> Tensor<1> {
    let [batch_size, channels, height, width] = map.dims();
    map.reshape([batch_size * channels, height * width])
        .sum_dim(1)
        .squeeze_dim(1)
}

/// `√(1 + (predicted - true)² / (true + 1)) - 1` of every frame.
fn relative_count_error(predicted: Tensor<1>, truth: Tensor<1>) -> Tensor<1> {
    let spread = truth.clone().clamp_min(0.0).add_scalar(1.0);
    let squared = (predicted - truth).square() / spread;
    squared.add_scalar(1.0).sqrt().sub_scalar(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device, Distribution};
    use burn_memopt::grad_checkpoint::hold_random_stream;

    fn frames(device: &Device) -> (Tensor<4>, Tensor<4>) {
        let random = || Tensor::random([3, 2, 5, 4], Distribution::Uniform(0.0, 0.3), device);
        (random(), random())
    }

    #[test]
    fn one_missing_emitter_costs_what_the_formula_says() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex();
        let truth = Tensor::<4>::full([1, 1, 2, 2], 0.75, &device); // 3 emitters
        let found = Tensor::<4>::full([1, 1, 2, 2], 0.5, &device); // 2 emitters
        let loss = CountLossConfig::new()
            .with_density_scale(2.0)
            .with_count_weight(0.5)
            .init()
            .forward(found, truth, None);
        let wanted = 0.25 + 0.5 * (1.25f32.sqrt() - 1.0);
        assert!((loss.into_scalar::<f32>() - wanted).abs() < 1e-6);
    }

    #[test]
    fn sums_and_weights_of_ragged_micro_batches_add_up_to_the_batch() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex();
        let (densities, targets) = frames(&device);
        let loss = CountLossConfig::new().init();
        let part = |range: std::ops::Range<usize>| {
            let cut = |map: &Tensor<4>| map.clone().slice_dim(0, range.clone());
            loss.forward_sum(cut(&densities), cut(&targets), None)
        };
        let (first, second) = (part(0..2), part(2..3));
        assert_eq!((first.weight, second.weight), (4.0, 2.0));
        let parts = ((first.sum + second.sum) / 6.0).into_scalar::<f32>();
        let whole = loss.forward(densities.clone(), targets.clone(), None);
        let whole = whole.into_scalar::<f32>();
        assert!((parts - whole).abs() <= 1e-6 * whole, "{parts} {whole}");
    }

    #[test]
    fn masked_pixels_count_in_neither_term() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex();
        let (densities, targets) = frames(&device);
        let mask = Tensor::<4>::zeros([3, 2, 5, 4], &device).slice_assign(
            [0..3, 0..2, 0..5, 0..2],
            Tensor::ones([3, 2, 5, 2], &device),
        );
        let loss = CountLossConfig::new().init();
        let masked = loss.forward(densities.clone(), targets.clone(), Some(mask));
        let cut = |map: Tensor<4>| map.slice([0..3, 0..2, 0..5, 0..2]);
        let wanted = loss.forward(cut(densities), cut(targets), None);
        let (masked, wanted) = (masked.into_scalar::<f32>(), wanted.into_scalar::<f32>());
        assert!(
            (masked - wanted).abs() <= 1e-6 * wanted,
            "{masked} {wanted}"
        );
    }

    #[test]
    fn counts_far_beyond_half_precision_stay_finite() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex().autodiff();
        let wild = Tensor::<4>::full([1, 1, 256, 256], 8.0, &device).cast(DType::F16);
        let wild = wild.require_grad();
        let loss = CountLossConfig::new()
            .init()
            .forward(wild.clone(), wild.zeros_like(), None);
        assert!(loss.clone().into_scalar::<f32>().is_finite());
        assert!(wild.grad(&loss.backward()).is_some());
    }

    #[test]
    #[should_panic(expected = "density_scale must be positive, got 0")]
    fn a_scale_that_hides_the_densities_is_refused() {
        CountLossConfig::new().with_density_scale(0.0).init();
    }
}
