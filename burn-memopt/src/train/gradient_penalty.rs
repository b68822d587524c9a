use std::any::type_name;
use std::cell::RefCell;
use std::collections::HashSet;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};

use super::moving_average::frozen;
use super::running_statistics::RunningStatistics;
use crate::grad_checkpoint::{SegmentSeed, hold_random_stream};
use crate::gradients::grad_norm;
use crate::nn::kinks::Kinks;
use crate::precision::ops::full;

/// Share of the input's scale by which a pass is moved, in f32.
///
/// The error of a central difference falls with the square of the step, that of rounding grows as one over it:
/// the best step is near the cube root of the precision.
const STEP_F32: f64 = 1e-3;
/// The same in f64.
const STEP_F64: f64 = 5e-6;
/// How much the gradient may depend on the step.
const MAX_DEPENDENCE: f64 = 0.1;
/// Keeps quotients finite where a gradient is zero.
const TINY: f64 = 1e-20;

/// What a [`gradient_penalty`] makes small.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientPenalty {
    weight: f64,
    /// Length that gradients should have; squared lengths are penalized where there is none.
    length: Option<f64>,
    step: Option<f64>,
}

impl GradientPenalty {
    /// `weight` times the mean over the items of the gradient's squared length: R1 on real items.
    ///
    /// # Panics
    /// If `weight` is negative or not finite.
    ///
    /// # References
    /// Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?", arXiv:1801.04406,
    /// equation 9, where `weight` is γ/2.
    pub fn r1(weight: f64) -> Self {
        check("the weight of a gradient penalty", weight);
        Self {
            weight,
            length: None,
            step: None,
        }
    }

    /// `weight` times the mean over the items of the squared difference of the gradient's length and 1: WGAN-GP, on
    /// items between real and generated ones.
    ///
    /// # Panics
    /// If `weight` is negative or not finite.
    ///
    /// # References
    /// Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv:1704.00028, equation 3.
    pub fn wasserstein(weight: f64) -> Self {
        check("the weight of a gradient penalty", weight);
        Self {
            weight,
            length: Some(1.0),
            step: None,
        }
    }

    /// Replaces the step of the central difference, as a share of the input's root mean square. The default is `1e-3`
    /// in f32 and `5e-6` in f64.
    ///
    /// # Panics
    /// If `step` is not above zero and finite.
    #[must_use]
    pub fn with_step(mut self, step: f64) -> Self {
        check("the step of a gradient penalty", step);
        assert!(
            step > 0.0,
            "the step of a gradient penalty must be above 0, got 0"
        );
        self.step = Some(step);
        self
    }
}

fn check(what: &str, value: f64) {
    assert!(
        value.is_finite() && value >= 0.0,
        "{what} must be finite and not negative, got {value}"
    );
}

/// A penalty on the gradient of a model's scores by their input, as a loss to add to others, without second-order
/// autodiff.
///
/// With `v`, the gradient by the input, taken as a constant, the penalty's gradient by the parameters is a derivative
/// of their first-order gradient in the direction of `v`. It is taken by a central difference of two first-order
/// passes. The loss that is returned has the value of the penalty and this gradient; scale it, accumulate it and clip
/// it as any other.
///
/// `forward` runs three times, in f32 whatever the precision of `input`; give it the model itself, not an autocast
/// view. All three passes draw the same random numbers and start from the same running statistics, which are left as
/// they were: a penalty counts as no pass. Take it before the pass that does count, so that both see the same.
///
/// # Shapes
/// - input: the items, over which the mean is taken, along the first axis
/// - output: `[1]`
///
/// # Exactness
/// The value is exact. The gradient's error falls with the square of the step until rounding shows: the norms of
/// GRAF's discriminator are within 0.02 % of those of a second derivative.
///
/// The gradient of a network of ReLUs jumps where a value changes sides, which a second derivative by autodiff does not
/// see. The `relu` and `leaky_relu` of [`nn`](crate::nn) keep every value on its side in the passes of a penalty. Other
/// kinks, such as burn's own ReLU or max pooling, cannot be held; there a difference means nothing, and is refused: the
/// first penalty of each type of model is computed with two steps, which must agree within 10 %. Segments are not
/// recomputed in these passes.
///
/// # Panics
/// If `input` is not on an autodiff device, the scores do not depend on it, or the model has kinks that cannot be held.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::train::{GradientPenalty, gradient_penalty};
///
/// let device = Device::flex().autodiff();
/// let critic: Linear = LinearConfig::new(2, 1).init(&device);
/// let real = Tensor::<2>::ones([8, 2], &device);
/// let penalty = gradient_penalty(GradientPenalty::r1(10.0), &critic, real, |critic, x| critic.forward(x));
/// // The gradient of a linear critic is its weight.
/// let expected = critic.weight.val().square().sum().into_scalar::<f32>() * 10.0;
/// assert!((penalty.clone().into_scalar::<f32>() - expected).abs() < 1e-4 * expected);
/// let grads = penalty.backward();
/// let grad = critic.weight.val().grad(&grads).unwrap();
/// let expected = critic.weight.val().inner().mul_scalar(20.0);
/// assert!((grad - expected).abs().max().into_scalar::<f32>() < 1e-2);
/// ```
pub fn gradient_penalty<M, F, const D: usize, const E: usize>(
    penalty: GradientPenalty,
    model: &M,
    input: Tensor<D>,
    forward: F,
) -> Tensor<1>
where
    M: Module,
    F: Fn(&M, Tensor<D>) -> Tensor<E>,
{
    assert!(
        input.is_autodiff(),
        "a gradient penalty needs input on an autodiff device: call `.autodiff()` on it"
    );
    let _stream = hold_random_stream();
    let passes = Passes {
        seed: SegmentSeed::draw(&input.device()),
        model,
        input: full(input.detach()),
        forward,
    };
    let (gradient, kinks) = passes.input_gradient();
    let (value, direction) = penalty.value_and_direction(gradient);
    let step = penalty.step.unwrap_or(match passes.input.dtype() {
        DType::F64 => STEP_F64,
        _ => STEP_F32,
    });
    let factor = penalty.weight / passes.input.dims()[0] as f64;
    let difference = |step| passes.difference(&kinks, &direction, step, factor);
    if is_first::<M>() {
        check_convergence(model, difference(step), difference(step / 4.0));
    }
    let difference = difference(step);
    // The value of the penalty, and the gradient of the difference.
    difference.clone() - difference.detach() + Tensor::from_inner(value)
}

impl GradientPenalty {
    /// The penalty `[1]`, and the direction in which the derivative is taken, from the gradient by the input.
    fn value_and_direction<const D: usize>(&self, gradient: Tensor<D>) -> (Tensor<1>, Tensor<D>) {
        let num_items = gradient.dims()[0];
        let squared = gradient.clone().square().reshape([num_items as i64, -1]);
        let squared: Tensor<1> = squared.sum_dim(1).squeeze_dim(1);
        let (values, direction) = match self.length {
            None => (squared, gradient),
            Some(length) => {
                let lengths = squared.sqrt();
                let longer = lengths.clone().sub_scalar(length);
                let mut shape = [1; D];
                shape[0] = num_items;
                let share = longer.clone() / lengths.clamp_min(TINY);
                (longer.square(), gradient * share.reshape(shape))
            }
        };
        (values.mean().mul_scalar(self.weight), direction)
    }
}

/// Passes of a model that all start from the same random numbers and running statistics.
struct Passes<'a, M, F, const D: usize> {
    seed: SegmentSeed,
    model: &'a M,
    input: Tensor<D>,
    forward: F,
}

impl<M, F, const D: usize, const E: usize> Passes<'_, M, F, D>
where
    M: Module,
    F: Fn(&M, Tensor<D>) -> Tensor<E>,
{
    fn sum_of_scores(&self, model: &M, input: Tensor<D>) -> Tensor<1> {
        let statistics = RunningStatistics::read(model);
        self.seed.apply(&input.device());
        let sum = full((self.forward)(model, input)).sum();
        statistics.restore(model);
        sum
    }

    /// The gradient by the input, and the sides of their kinks that activations were on.
    fn input_gradient(&self) -> (Tensor<D>, Kinks) {
        let input = self.input.clone().require_grad();
        let model = frozen(self.model);
        let (sum, kinks) = Kinks::record(|| self.sum_of_scores(&model, input.clone()));
        let gradient = input.grad(&sum.backward()).unwrap_or_else(|| {
            panic!(
                "a gradient penalty needs scores that depend on the input: `forward` detached it"
            )
        });
        (gradient, kinks)
    }

    /// `factor` times the scores ahead of the input minus those behind it, over the step: its gradient by the
    /// parameters is that of a penalty.
    fn difference(
        &self,
        kinks: &Kinks,
        direction: &Tensor<D>,
        step: f64,
        factor: f64,
    ) -> Tensor<1> {
        let rms = |x: Tensor<D>| x.square().mean().sqrt();
        let scale = rms(self.input.clone().inner())
            .clamp_min(TINY)
            .mul_scalar(step);
        let epsilon = scale / rms(direction.clone()).clamp_min(TINY);
        let moved = Tensor::from_inner(direction.clone() * epsilon.clone().reshape([1; D]));
        let scores = |input| kinks.hold(|| self.sum_of_scores(self.model, input));
        let ahead = scores(self.input.clone() + moved.clone());
        let behind = scores(self.input.clone() - moved);
        (ahead - behind) * Tensor::from_inner(epsilon.recip().mul_scalar(factor))
    }
}

/// Whether a model of this type has no penalty yet on this thread.
fn is_first<M>() -> bool {
    thread_local! {
        static SEEN: RefCell<HashSet<&'static str>> = RefCell::default();
    }
    SEEN.with_borrow_mut(|seen| seen.insert(type_name::<M>()))
}

/// Panics if the gradient of a difference depends on its step, as that of kinks does that were not held.
fn check_convergence<M: Module>(model: &M, wide: Tensor<1>, narrow: Tensor<1>) {
    let [wide, narrow] = [wide, narrow].map(|difference| {
        let mut grads = GradientsParams::from_grads(difference.backward(), model);
        grad_norm(&mut grads, model)
    });
    let off = (wide - narrow).abs() / wide.max(narrow).max(TINY);
    assert!(
        off <= MAX_DEPENDENCE,
        "the gradient of the penalty changes by {:.0} % with the step of its central difference: the model has kinks \
         that are not held, such as burn's ReLU or a maximum. Use `relu` and `leaky_relu` of `burn_memopt::nn`, on the \
         thread that asks for the penalty, and smooth layers besides",
        100.0 * off
    );
}
