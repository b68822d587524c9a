//! Activations that use all cores, and keep their output alone.
//!
//! Most gradients follow from outputs, which the next layer keeps anyway. burn keeps the inputs.

use burn::tensor::{Tensor, activation};

/// `max(x, 0)`, as burn's `relu`.
///
/// In training on `flex` it keeps its output instead of its input; in f32 it uses all cores.
///
/// # Exactness
/// Equal to burn's, gradients too.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::nn::relu;
///
/// let x = Tensor::<1>::from_floats([-1.0, 2.0], &Device::flex());
/// assert_eq!(relu(x).into_data().try_to_vec::<f32>().unwrap(), [0.0, 2.0]);
/// ```
pub fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    apply(x, Kind::Relu, activation::relu)
}

/// `x` where it is not negative, `negative_slope * x` elsewhere, as burn's `leaky_relu`.
///
/// In training on `flex` it keeps its output instead of its input and a mask; in f32 it uses all cores. A slope that is not above 0 is burn's to compute.
///
/// # Exactness
/// Equal to burn's, gradients too; in half precision to its rounding.
pub fn leaky_relu<const D: usize>(x: Tensor<D>, negative_slope: f64) -> Tensor<D> {
    let kind = Kind::LeakyRelu(negative_slope as f32);
    apply(x, kind, |x| activation::leaky_relu(x, negative_slope))
}

/// `1 / (1 + exp(-x))`, as burn's `sigmoid`.
///
/// In training on `flex` it keeps its output instead of its input; in f32 it uses all cores.
///
/// # Exactness
/// Equal to burn's, gradients too.
pub fn sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    apply(x, Kind::Sigmoid, activation::sigmoid)
}

/// The hyperbolic tangent, as burn's `tanh`.
///
/// In training on `flex` it keeps its output instead of its input; in f32 it uses all cores.
///
/// # Exactness
/// Equal to burn's, gradients to f32 rounding.
pub fn tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    apply(x, Kind::Tanh, activation::tanh)
}

/// `x` times the share of a normal distribution below it, as burn's `gelu`.
///
/// On `flex` in f32 it uses all cores.
///
/// # Exactness
/// Equal to burn's, gradients to f32 rounding.
///
/// # References
/// Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", arXiv:1606.08415, section 2.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::operation::suits::<flex::Gelu, D>(&x) {
        let output = super::operation::run(flex::Gelu, [x.into_dispatch()]);
        return Tensor::from_dispatch(output.expect("invariant: the tensor suits"));
    }
    activation::gelu(x)
}

#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(feature = "flex"),
    allow(dead_code, reason = "other devices compute burn's functions")
)]
enum Kind {
    Relu,
    LeakyRelu(f32),
    Sigmoid,
    Tanh,
}

#[cfg(feature = "flex")]
fn apply<const D: usize>(
    x: Tensor<D>,
    kind: Kind,
    burns: impl Fn(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let has_slope = match kind {
        Kind::LeakyRelu(slope) => slope > 0.0,
        _ => true,
    };
    if !has_slope || !super::operation::suits::<Kind, D>(&x) {
        return burns(x);
    }
    let output = super::operation::run(kind, [x.into_dispatch()]);
    Tensor::from_dispatch(output.expect("invariant: the tensor suits"))
}

#[cfg(not(feature = "flex"))]
fn apply<const D: usize>(
    x: Tensor<D>,
    _: Kind,
    burns: impl Fn(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    burns(x)
}

#[cfg(feature = "flex")]
mod flex {
    use std::f32::consts::{PI, SQRT_2};

    use burn_backend::ops::{ActivationOps, FloatTensorOps};
    use burn_backend::{BoolDType, DType, TensorMetadata};
    use burn_dispatch::backends::Flex;
    use rayon::prelude::*;

    use super::super::operation::{Operation, Primitive, tensor};
    use super::Kind;

    /// Values that a thread takes at a time: what it does with fewer is not worth another thread.
    const CHUNK: usize = 1 << 14;

    impl Operation<1> for Kind {
        const KEEPS_OUTPUT: bool = true;

        fn suits(dtype: DType) -> bool {
            matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
        }

        fn forward(&self, [x]: [Primitive; 1]) -> Primitive {
            if x.dtype() != DType::F32 {
                return self.forward_half(x);
            }
            match *self {
                Self::Relu => map(x, |x| if x.is_nan() || x > 0.0 { x } else { 0.0 }),
                Self::LeakyRelu(slope) => map(x, |x| if x >= 0.0 { x } else { slope * x }),
                Self::Sigmoid => map(x, sigmoid),
                Self::Tanh => map(x, f32::tanh),
            }
        }

        fn backward(
            &self,
            kept: Vec<Primitive>,
            grad: Primitive,
            _: [bool; 1],
        ) -> [Option<Primitive>; 1] {
            let output = &kept[0];
            if output.dtype() != DType::F32 {
                return [Some(self.backward_half(output.clone(), grad))];
            }
            let grad = match *self {
                Self::Relu => join(
                    grad,
                    output,
                    |grad, y| {
                        if y.is_nan() || y > 0.0 { grad } else { 0.0 }
                    },
                ),
                Self::LeakyRelu(slope) => {
                    join(
                        grad,
                        output,
                        |grad, y| if y < 0.0 { slope * grad } else { grad },
                    )
                }
                Self::Sigmoid => join(grad, output, |grad, y| grad * y * (1.0 - y)),
                Self::Tanh => join(grad, output, |grad, y| grad * (1.0 - y * y)),
            };
            [Some(grad)]
        }
    }

    /// In half precision burn's operations compute.
    impl Kind {
        fn forward_half(self, x: Primitive) -> Primitive {
            match self {
                Self::Relu => Flex::relu(x),
                Self::LeakyRelu(slope) => Flex::leaky_relu(x, slope.into()),
                Self::Sigmoid => Flex::sigmoid(x),
                Self::Tanh => Flex::float_tanh(x),
            }
        }

        fn backward_half(self, output: Primitive, grad: Primitive) -> Primitive {
            match self {
                Self::Relu => Flex::relu_backward(output, grad),
                Self::LeakyRelu(slope) => {
                    let below = Flex::float_lower_elem(output, 0.0_f32.into(), BoolDType::Native);
                    let scaled = Flex::float_mul_scalar(grad.clone(), slope.into());
                    Flex::float_mask_where(grad, below, scaled)
                }
                Self::Sigmoid => Flex::sigmoid_backward(output, grad),
                Self::Tanh => {
                    let square = Flex::float_mul(output.clone(), output);
                    let slope = Flex::float_add_scalar(Flex::float_neg(square), 1.0_f32.into());
                    Flex::float_mul(grad, slope)
                }
            }
        }
    }

    #[derive(Debug, Clone)]
    pub(super) struct Gelu;

    impl Operation<1> for Gelu {
        fn forward(&self, [x]: [Primitive; 1]) -> Primitive {
            map(x, |x| x * below(x))
        }

        fn backward(
            &self,
            kept: Vec<Primitive>,
            grad: Primitive,
            _: [bool; 1],
        ) -> [Option<Primitive>; 1] {
            let scale = 1.0 / (2.0 * PI).sqrt();
            let grad = join(grad, &kept[0], |grad, x| {
                grad * (below(x) + x * scale * (-0.5 * x * x).exp())
            });
            [Some(grad)]
        }
    }

    /// The share of a normal distribution below `x`.
    fn below(x: f32) -> f32 {
        0.5 * (1.0 + libm::erff(x / SQRT_2))
    }

    /// Without overflow of the exponential.
    fn sigmoid(x: f32) -> f32 {
        if x >= 0.0 {
            1.0 / (1.0 + (-x).exp())
        } else {
            let exp = x.exp();
            exp / (1.0 + exp)
        }
    }

    /// A function of every value, in place where nothing else has the tensor.
    fn map(x: Primitive, of: impl Fn(f32) -> f32 + Sync) -> Primitive {
        let mut x = owned(x);
        if let Some(values) = x.try_storage_mut::<f32>() {
            let chunks = values.par_chunks_mut(CHUNK);
            chunks.for_each(|values| values.iter_mut().for_each(|value| *value = of(*value)));
            return x;
        }
        let from = x.storage::<f32>();
        let mut to = vec![0.0; from.len()];
        to.par_chunks_mut(CHUNK)
            .zip(from.par_chunks(CHUNK))
            .for_each(|(to, from)| {
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = of(from);
                }
            });
        tensor(to, x.shape())
    }

    /// A function of every value of `left` with that of `right`, in the place of `left` where nothing
    /// else has it.
    fn join(left: Primitive, right: &Primitive, of: impl Fn(f32, f32) -> f32 + Sync) -> Primitive {
        let right = right.to_contiguous();
        let right = right.storage::<f32>();
        let mut left = owned(left);
        if let Some(values) = left.try_storage_mut::<f32>() {
            values
                .par_chunks_mut(CHUNK)
                .zip(right.par_chunks(CHUNK))
                .for_each(|(values, right)| {
                    for (left, &right) in values.iter_mut().zip(right) {
                        *left = of(*left, right);
                    }
                });
            return left;
        }
        let from = left.storage::<f32>();
        let mut to = vec![0.0; from.len()];
        let from = from.par_chunks(CHUNK).zip(right.par_chunks(CHUNK));
        to.par_chunks_mut(CHUNK)
            .zip(from)
            .for_each(|(to, (left, right))| {
                for (to, (&left, &right)) in to.iter_mut().zip(left.iter().zip(right)) {
                    *to = of(left, right);
                }
            });
        tensor(to, left.shape())
    }

    /// The tensor with its values one after the other.
    fn owned(tensor: Primitive) -> Primitive {
        // What was contiguous shares its memory with the original until that is gone.
        tensor.to_contiguous()
    }
}
