use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn::BatchNorm;
use burn::tensor::{FloatDType, Tensor};

use super::dtype::is_half;
use crate::grad_checkpoint::Segment;

/// Runs `forward` in f32 inside a half-precision forward and narrows the result
/// back to the dtype of `input`.
///
/// The island is a gradient-checkpointed segment: for the backward pass it
/// keeps its half-precision input only and is recomputed. Parameters of
/// `module` that are in half precision are widened inside; keep them in f32 by
/// [`AutocastPolicy`](super::AutocastPolicy) to compute with their exact values.
///
/// An input that is not in half precision just runs `forward`.
///
/// # Exactness
/// The island computes as f32 does; its result is rounded once.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{DType, Device, FloatDType, Tensor};
/// use burn_memopt::precision::full_precision;
///
/// let device = Device::flex().autodiff();
/// let head: Linear = LinearConfig::new(4, 2).init(&device);
/// let x = Tensor::<2>::ones([1, 4], &device).cast(FloatDType::F16);
/// let y = full_precision(&head, x, |head, x| head.forward(x).exp().log());
/// assert_eq!(y.dtype(), DType::F16);
/// ```
pub fn full_precision<M, const D: usize, const E: usize>(
    module: &M,
    input: Tensor<D>,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<E> + Send + 'static,
) -> Tensor<E>
where
    M: Module + 'static,
{
    island(Segment::new(), module, input, forward)
}

fn island<M, const D: usize, const E: usize>(
    segment: Segment,
    module: &M,
    input: Tensor<D>,
    forward: impl Fn(&M, Tensor<D>) -> Tensor<E> + Send + 'static,
) -> Tensor<E>
where
    M: Module + 'static,
{
    let narrow = input.dtype();
    if !is_half(narrow) {
        return forward(module, input);
    }
    let narrow = FloatDType::from(narrow);
    segment.run(module, input, move |module: &M, input: Tensor<D>| {
        // The cast is inside, so that the half-precision input is what is kept.
        let input = input.cast(FloatDType::F32);
        let output = match has_half(module) {
            true => forward(&module.clone().map(&mut Widen), input),
            false => forward(module, input),
        };
        output.cast(narrow)
    })
}

/// Applies a `BatchNorm` that stayed in f32 to input of any precision.
///
/// burn's own forward refuses half-precision input, because its parameters and
/// statistics are f32 in an [`Autocast`](super::Autocast) view. Call this
/// instead of `norm.forward(input)`: statistics are computed and updated in
/// f32, and for the backward pass only the half-precision input is kept. A
/// function rather than a module of its own, so that models keep their fields,
/// their parameter paths and their saved weights.
///
/// # Shapes
/// - input, output: `[batch_size, channels, ...]`
///
/// # Example
/// ```
/// use burn::nn::BatchNormConfig;
/// use burn::tensor::{DType, Device, FloatDType, Tensor};
/// use burn_memopt::precision::batch_norm;
///
/// let device = Device::flex().autodiff();
/// let norm = BatchNormConfig::new(3).init(&device);
/// let x = Tensor::<4>::ones([1, 3, 2, 2], &device).cast(FloatDType::F16);
/// assert_eq!(batch_norm(&norm, x).dtype(), DType::F16);
/// ```
pub fn batch_norm<const D: usize>(norm: &BatchNorm, input: Tensor<D>) -> Tensor<D> {
    let segment = Segment::new().without_randomness();
    island(segment, norm, input, |norm, input| norm.forward(input))
}

fn has_half<M: Module>(module: &M) -> bool {
    let mut search = FindHalf(false);
    module.visit(&mut search);
    search.0
}

struct FindHalf(bool);

impl ModuleVisitor for FindHalf {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 |= is_half(param.base().dtype());
    }
}

/// Widens half-precision parameters and leaves all others alone, running
/// statistics (which mapping would change in place) among them.
struct Widen;

impl ModuleMapper for Widen {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if is_half(param.base().dtype()) {
            param.map(|tensor| tensor.cast(FloatDType::F32))
        } else {
            param
        }
    }
}
