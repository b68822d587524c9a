//! Which operation needs which precision.
//!
//! The table is that of PyTorch's automatic mixed precision ("CUDA Ops that can
//! autocast", <https://docs.pytorch.org/docs/stable/amp.html>), restricted to
//! what burn has. burn does not promote dtypes, so a model marks where it leaves
//! half precision: with the functions here (`full(x).exp()`), or with
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

/// `tensor` in f32 if it is in half precision; before every loss.
#[must_use]
pub fn full<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if is_half(tensor.dtype()) {
        tensor.cast(FloatDType::F32)
    } else {
        tensor
    }
}

/// Softmax over `dim`, computed in f32 and returned in the dtype of `tensor`.
#[must_use]
pub fn softmax<const D: usize>(tensor: Tensor<D>, dim: usize) -> Tensor<D> {
    narrowed(tensor, |tensor| activation::softmax(tensor, dim))
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

/// The mean of all elements, in f32.
#[must_use]
pub fn mean<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    full(tensor).mean()
}

fn narrowed<const D: usize>(
    tensor: Tensor<D>,
    run: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let dtype = tensor.dtype();
    if is_half(dtype) {
        run(tensor.cast(FloatDType::F32)).cast(FloatDType::from(dtype))
    } else {
        run(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

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
