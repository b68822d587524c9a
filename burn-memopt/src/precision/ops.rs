//! Which operation needs which precision.
//!
//! The table is that of PyTorch's automatic mixed precision ("CUDA Ops that can
//! autocast", <https://docs.pytorch.org/docs/stable/amp.html>), restricted to
//! what burn has. burn does not promote dtypes, so a model says where it leaves
//! half precision: with the functions here, or with
//! [`full_precision`](super::full_precision) for a piece that has parameters.
//!
//! | operations | run in |
//! |---|---|
//! | matmul, linear, convolutions, attention, prelu | half |
//! | exp, log, powers, reciprocals, softmax, softplus, sums, means, norms, losses | f32 |
//! | LSTM and GRU (half in PyTorch; burn's layers make an f32 output of their own) | f32 |
//! | grid sampling and its coordinates, scatter, dot and cross products | the widest input |
//! | everything else (activations, pooling, interpolation, concatenation) | their input's |
//!
//! Functions whose result stays in the half-precision stream ([`softmax`])
//! narrow it again; those whose result is a statistic or goes into a loss
//! ([`sum`], [`mean`], [`log_softmax`]) leave it in f32.

use burn::tensor::{FloatDType, Tensor, activation};

use super::dtype::is_half;

/// The precision an operation must run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunIn {
    /// Half precision: fast, and accumulated in f32 by the kernels.
    Half,
    /// f32: half precision overflows or loses what matters.
    Full,
    /// The widest dtype among the inputs.
    Widest,
    /// The dtype of the input: safe in either.
    Input,
}

/// Operations and the precision each must run in; others run in their input's.
pub const OPERATIONS: &[(&str, RunIn)] = &[
    ("attention", RunIn::Half),
    ("bilinear", RunIn::Widest),
    ("binary_cross_entropy_with_logits", RunIn::Full),
    ("cdist", RunIn::Full),
    ("conv1d", RunIn::Half),
    ("conv2d", RunIn::Half),
    ("conv3d", RunIn::Half),
    ("conv_transpose1d", RunIn::Half),
    ("conv_transpose2d", RunIn::Half),
    ("conv_transpose3d", RunIn::Half),
    ("cosine_similarity", RunIn::Full),
    ("cross", RunIn::Widest),
    ("cross_entropy", RunIn::Full),
    ("cumprod", RunIn::Full),
    ("cumsum", RunIn::Full),
    ("deform_conv2d", RunIn::Half),
    ("dot", RunIn::Widest),
    ("einsum", RunIn::Half),
    ("exp", RunIn::Full),
    ("grid_sample_2d", RunIn::Widest),
    ("group_norm", RunIn::Full),
    ("gru", RunIn::Full),
    ("instance_norm", RunIn::Full),
    ("kl_div", RunIn::Full),
    ("l1_loss", RunIn::Full),
    ("layer_norm", RunIn::Full),
    ("linear", RunIn::Half),
    ("log", RunIn::Full),
    ("log1p", RunIn::Full),
    ("log_softmax", RunIn::Full),
    ("lstm", RunIn::Full),
    ("matmul", RunIn::Half),
    ("mean", RunIn::Full),
    ("mse_loss", RunIn::Full),
    ("norm", RunIn::Full),
    ("powf", RunIn::Full),
    ("prelu", RunIn::Half),
    ("prod", RunIn::Full),
    ("recip", RunIn::Full),
    ("rms_norm", RunIn::Full),
    ("scatter", RunIn::Widest),
    ("smooth_l1_loss", RunIn::Full),
    ("softmax", RunIn::Full),
    ("softmin", RunIn::Full),
    ("softplus", RunIn::Full),
    ("sum", RunIn::Full),
    ("var", RunIn::Full),
];

/// The precision `operation` must run in.
///
/// # Example
/// ```
/// use burn_memopt::precision::ops::{RunIn, run_in};
///
/// assert_eq!(run_in("conv2d"), RunIn::Half);
/// assert_eq!(run_in("softmax"), RunIn::Full);
/// assert_eq!(run_in("relu"), RunIn::Input);
/// ```
pub fn run_in(operation: &str) -> RunIn {
    OPERATIONS
        .binary_search_by_key(&operation, |(name, _)| name)
        .map_or(RunIn::Input, |index| OPERATIONS[index].1)
}

/// `tensor` in f32 if it is in half precision; before every loss.
#[must_use]
pub fn full<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    crate::gradients::at_least_f32(tensor)
}

/// Softmax over `dim`, computed in f32 and returned in the dtype of `tensor`.
#[must_use]
pub fn softmax<const D: usize>(tensor: Tensor<D>, dim: usize) -> Tensor<D> {
    narrowed(tensor, |tensor| activation::softmax(tensor, dim))
}

/// Softplus, computed in f32 and returned in the dtype of `tensor`.
#[must_use]
pub fn softplus<const D: usize>(tensor: Tensor<D>, beta: f64) -> Tensor<D> {
    narrowed(tensor, |tensor| activation::softplus(tensor, beta))
}

/// The exponential, computed in f32 and returned in f32.
#[must_use]
pub fn exp<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    full(tensor).exp()
}

/// The logarithm, computed in f32 and returned in f32.
#[must_use]
pub fn log<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    full(tensor).log()
}

/// The logarithm of softmax over `dim`, computed in f32 and returned in f32.
#[must_use]
pub fn log_softmax<const D: usize>(tensor: Tensor<D>, dim: usize) -> Tensor<D> {
    activation::log_softmax(full(tensor), dim)
}

/// The sum of all elements, in f32: f16 ends at 65504.
///
/// # Example
/// ```
/// use burn::tensor::{Device, FloatDType, Tensor};
/// use burn_memopt::precision::ops::sum;
///
/// let image = Tensor::<2>::full([300, 300], 1.0, &Device::flex()).cast(FloatDType::F16);
/// assert_eq!(sum(image).into_scalar::<f32>(), 90_000.0);
/// ```
#[must_use]
pub fn sum<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    full(tensor).sum()
}

/// The sum over `dim`, which stays with length one, in f32.
#[must_use]
pub fn sum_dim<const D: usize>(tensor: Tensor<D>, dim: usize) -> Tensor<D> {
    full(tensor).sum_dim(dim)
}

/// The mean of all elements, in f32.
#[must_use]
pub fn mean<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    full(tensor).mean()
}

/// The mean over `dim`, which stays with length one, in f32.
#[must_use]
pub fn mean_dim<const D: usize>(tensor: Tensor<D>, dim: usize) -> Tensor<D> {
    full(tensor).mean_dim(dim)
}

fn narrowed<const D: usize>(
    tensor: Tensor<D>,
    run: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let dtype = tensor.dtype();
    match is_half(dtype) {
        true => run(tensor.cast(FloatDType::F32)).cast(FloatDType::from(dtype)),
        false => run(tensor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    #[test]
    fn the_table_is_sorted_and_names_each_operation_once() {
        assert!(OPERATIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn softmax_stays_in_half_precision_and_log_softmax_widens() {
        let logits = Tensor::<2>::from_floats([[0.0, 60.0]], &Device::flex());
        let logits = logits.cast(FloatDType::F16);
        assert_eq!(softmax(logits.clone(), 1).dtype(), DType::F16);
        let log = log_softmax(logits, 1);
        assert_eq!(log.dtype(), DType::F32);
        assert_eq!(log.into_data().try_to_vec::<f32>().expect("f32")[0], -60.0);
    }
}
