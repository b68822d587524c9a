use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, RunningState};
use burn::nn::BatchNorm;
use burn::tensor::module::batch_norm_train;
use burn::tensor::{FloatDType, Tensor};
use burn_backend::TensorMetadata;

use super::dtype::is_half;
use crate::grad_checkpoint::Segment;
use crate::tensors::Tensors;

/// Runs `forward` in f32 inside a half-precision forward and narrows the results
/// back to the dtype of `inputs`.
///
/// For a piece that half precision would make inexact, and for the layers that
/// [`Autocast::check`](super::Autocast::check) lists. Inputs and outputs are
/// [`Tensors`]; all floats of the outputs are narrowed.
///
/// The island is a gradient-checkpointed segment: for the backward pass it keeps
/// its half-precision inputs only and is recomputed. Parameters of `module` that
/// are in half precision are widened inside; keep them in f32 by
/// [`AutocastPolicy`](super::AutocastPolicy) to compute with their exact values.
///
/// Where no input is in half precision, `forward` just runs.
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
///
/// An LSTM with its state, in chunks of the sequence. Each chunk is recomputed, so the peak of a
/// pass over 128 steps of `[64, 128]` falls to 0.38 of plain f32 in chunks of 32 steps and to 0.32
/// in chunks of 8. With states of `[16, 64]` it is 0.78 and 0.69, and in one chunk more than plain:
/// there autodiff's own records of the many small operations weigh as much as the tensors, and no
/// precision makes them smaller.
/// ```
/// use burn::nn::{Lstm, LstmConfig, LstmState};
/// use burn::tensor::{DType, Device, Tensor};
/// use burn_memopt::precision::{Autocast, AutocastPolicy, Precision, full_precision};
///
/// let device = Device::flex().autodiff();
/// let lstm: Lstm = LstmConfig::new(4, 8, true).init(&device);
/// let policy = AutocastPolicy::default().keep_type("Lstm");
/// let autocast = Autocast::new(Precision::F16).with_policy(policy);
/// autocast.check(&lstm)?;
///
/// let x = Tensor::<3>::ones([2, 6, 4], &device);
/// let y = autocast.run(&lstm, x, |lstm: &Lstm, x: Tensor<3>| {
///     let (mut outputs, mut state) = (Vec::new(), None);
///     for chunk in x.split(3, 1) {
///         let forward = |lstm: &Lstm, (x, state): (Tensor<3>, Option<LstmState<2>>)| {
///             lstm.forward(x, state)
///         };
///         let (y, after) = full_precision(lstm, (chunk, state), forward);
///         assert_eq!(y.dtype(), DType::F16);
///         outputs.push(y);
///         state = Some(after);
///     }
///     Tensor::cat(outputs, 1)
/// });
/// assert_eq!((y.dims(), y.dtype()), ([2, 6, 8], DType::F32));
/// # Ok::<(), burn_memopt::precision::UnsupportedLayersError>(())
/// ```
pub fn full_precision<M, I, O>(
    module: &M,
    inputs: I,
    forward: impl Fn(&M, I) -> O + Send + 'static,
) -> O
where
    M: Module + 'static,
    I: Tensors,
    O: Tensors,
{
    full_precision_with(Segment::new(), module, inputs, forward)
}

/// [`full_precision`], as a segment with options: one that draws no random numbers, for instance.
pub fn full_precision_with<M, I, O>(
    segment: Segment,
    module: &M,
    inputs: I,
    forward: impl Fn(&M, I) -> O + Send + 'static,
) -> O
where
    M: Module + 'static,
    I: Tensors,
    O: Tensors,
{
    let mut parts = Vec::new();
    let structure = inputs.flatten(&mut parts);
    let narrow = parts
        .iter()
        .map(|part| part.dtype())
        .find(|&dtype| is_half(dtype));
    let inputs = I::unflatten(&structure, &mut parts.into_iter());
    let Some(narrow) = narrow.map(FloatDType::from) else {
        return forward(module, inputs);
    };
    segment.run(module, inputs, move |module: &M, inputs: I| {
        // The cast is inside, so that the half-precision input is what is kept.
        let inputs = inputs.cast_floats(FloatDType::F32);
        let outputs = if has_half(module) {
            forward(&module.clone().map(&mut Widen), inputs)
        } else {
            forward(module, inputs)
        };
        outputs.cast_floats(narrow)
    })
}

/// Applies a `BatchNorm` that stayed in f32 to input of any precision.
///
/// burn's own forward refuses half-precision input, because its parameters and statistics are f32
/// in an [`Autocast`](super::Autocast) view. Call this instead of `norm.forward(input)`: statistics
/// are computed and updated in f32, and for the backward pass only the half-precision input is
/// kept. A function rather than a module of its own, so that models keep their fields, their
/// parameter paths and their saved weights.
///
/// # Shapes
/// - input, output: `[batch_size, channels, ...]`
///
/// # Exactness
/// The output is that of `norm.forward`. The running variance takes the *unbiased* variance of the
/// batch, as PyTorch's does; `norm.forward` takes the biased one, which is smaller by `1 / n` for
/// `n` values a channel and shows in deep layers of small images.
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
    full_precision_with(
        Segment::new().without_randomness(),
        norm,
        input,
        |norm: &BatchNorm, input: Tensor<D>| {
            if input.device().is_autodiff() && norm.training.is_enabled() {
                normalize_and_track(norm, input)
            } else {
                norm.forward(input)
            }
        },
    )
}

/// Normalizes with the batch's statistics and moves the running ones.
fn normalize_and_track<const D: usize>(norm: &BatchNorm, input: Tensor<D>) -> Tensor<D> {
    let dims = input.dims();
    let num_values = dims.iter().product::<usize>() / dims[1];
    let batch = batch_norm_train(input, norm.gamma.val(), norm.beta.val(), norm.epsilon);
    // A single value per channel has no unbiased variance; its biased one, 0, is kept.
    let unbias = num_values as f64 / (num_values - 1).max(1) as f64;
    let track = |running: &RunningState<Tensor<1>>, batch: Tensor<1>| {
        let old = running.value_sync().to_device(&batch.device());
        let new = old.mul_scalar(1.0 - norm.momentum) + batch.mul_scalar(norm.momentum);
        running.update(new.detach());
    };
    track(&norm.running_mean, batch.mean.detach());
    track(
        &norm.running_var,
        batch.variance.detach().mul_scalar(unbias),
    );
    batch.output
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
