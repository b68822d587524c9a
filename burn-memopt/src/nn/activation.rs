//! Activations that use all cores, and keep their output alone.
//!
//! Most gradients follow from outputs, which the next layer keeps anyway. burn keeps the inputs.

use burn::tensor::{Tensor, activation};

use super::kinks::held;

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
    if let Some(output) = held(&x, 0.0, |x| x.lower_equal_elem(0.0)) {
        return output;
    }
    apply(x, Activation::Relu)
}

/// `x` where it is not negative, `negative_slope * x` elsewhere, as burn's `leaky_relu`.
///
/// In training on `flex` it keeps its output instead of its input and a mask; in f32 it uses all
/// cores. A slope that is not above 0 is burn's to compute.
///
/// # Exactness
/// Equal to burn's, gradients too; in half precision to its rounding.
pub fn leaky_relu<const D: usize>(x: Tensor<D>, negative_slope: f64) -> Tensor<D> {
    if let Some(output) = held(&x, negative_slope, |x| x.lower_elem(0.0)) {
        return output;
    }
    apply(x, Activation::LeakyRelu(negative_slope))
}

/// `1 / (1 + exp(-x))`, as burn's `sigmoid`.
///
/// In training on `flex` it keeps its output instead of its input; in f32 it uses all cores.
///
/// # Exactness
/// Equal to burn's, gradients too.
pub fn sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    apply(x, Activation::Sigmoid)
}

/// The hyperbolic tangent, as burn's `tanh`.
///
/// In training on `flex` it keeps its output instead of its input; in f32 it uses all cores.
///
/// # Exactness
/// Equal to burn's, gradients to f32 rounding.
pub fn tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    apply(x, Activation::Tanh)
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
    apply(x, Activation::Gelu)
}

#[derive(Debug, Clone, Copy)]
enum Activation {
    Relu,
    LeakyRelu(f64),
    Sigmoid,
    Tanh,
    Gelu,
}

fn apply<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    #[cfg(feature = "flex")]
    let x = match super::operation::run(activation, [x.into_dispatch()]) {
        Ok(output) => return Tensor::from_dispatch(output),
        Err([x]) => Tensor::from_dispatch(x),
    };
    match activation {
        Activation::Relu => activation::relu(x),
        Activation::LeakyRelu(slope) => activation::leaky_relu(x, slope),
        Activation::Sigmoid => activation::sigmoid(x),
        Activation::Tanh => activation::tanh(x),
        Activation::Gelu => activation::gelu(x),
    }
}

#[cfg(feature = "flex")]
mod flex {
    use std::f32::consts::{PI, SQRT_2};

    use burn_backend::ops::{ActivationOps, FloatTensorOps};
    use burn_backend::{BoolDType, DType};
    use burn_dispatch::backends::Flex;
    use rayon::prelude::*;

    use super::super::operation::{Operation, Primitive};
    use super::Activation;

    /// Values that a thread takes at a time: what it does with fewer is not worth another thread.
    const CHUNK: usize = 1 << 14;

    impl Operation<1> for Activation {
        const IS_CHEAP: bool = true;

        fn suits(&self, dtype: DType) -> bool {
            match *self {
                // The output has the sign of the input.
                Self::LeakyRelu(slope) if slope as f32 <= 0.0 || slope.is_nan() => false,
                _ => matches!(dtype, DType::F32 | DType::F16 | DType::BF16),
            }
        }

        fn keeps_output(&self) -> bool {
            !matches!(self, Self::Gelu)
        }

        fn forward(&self, [x]: [Primitive; 1]) -> Primitive {
            if x.dtype() != DType::F32 {
                return self.forward_half(x);
            }
            match *self {
                Self::Relu => map(x, |x| if x.is_nan() || x > 0.0 { x } else { 0.0 }),
                Self::LeakyRelu(slope) => {
                    let slope = slope as f32;
                    map(x, |x| if x >= 0.0 { x } else { slope * x })
                }
                Self::Sigmoid => map(x, sigmoid),
                Self::Tanh => map(x, f32::tanh),
                Self::Gelu => map(x, |x| x * below(x)),
            }
        }

        fn backward(
            &self,
            kept: Vec<Primitive>,
            grad: Primitive,
            _: [bool; 1],
        ) -> [Option<Primitive>; 1] {
            let kept = &kept[0];
            if kept.dtype() != DType::F32 {
                return [Some(self.backward_half(kept.clone(), grad))];
            }
            let grad = match *self {
                Self::Relu => join(
                    grad,
                    kept,
                    |grad, y| {
                        if y.is_nan() || y > 0.0 { grad } else { 0.0 }
                    },
                ),
                Self::LeakyRelu(slope) => {
                    let slope = slope as f32;
                    join(
                        grad,
                        kept,
                        |grad, y| if y < 0.0 { slope * grad } else { grad },
                    )
                }
                Self::Sigmoid => join(grad, kept, |grad, y| grad * y * (1.0 - y)),
                Self::Tanh => join(grad, kept, |grad, y| grad * (1.0 - y * y)),
                Self::Gelu => {
                    let scale = 1.0 / (2.0 * PI).sqrt();
                    join(grad, kept, |grad, x| {
                        grad * (below(x) + x * scale * (-0.5 * x * x).exp())
                    })
                }
            };
            [Some(grad)]
        }
    }

    /// In half precision burn's operations compute.
    impl Activation {
        fn forward_half(self, x: Primitive) -> Primitive {
            match self {
                Self::Relu => Flex::relu(x),
                Self::LeakyRelu(slope) => Flex::leaky_relu(x, slope.into()),
                Self::Sigmoid => Flex::sigmoid(x),
                Self::Tanh => Flex::float_tanh(x),
                Self::Gelu => Flex::gelu(x),
            }
        }

        fn backward_half(self, output: Primitive, grad: Primitive) -> Primitive {
            match self {
                Self::Relu => Flex::relu_backward(output, grad),
                Self::Gelu => Flex::gelu_backward(output, grad),
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
    fn map(mut x: Primitive, of: impl Fn(f32) -> f32 + Sync) -> Primitive {
        // Contiguous values are shared with the original, which goes.
        x = x.to_contiguous();
        let chunks = x.storage_mut::<f32>().par_chunks_mut(CHUNK);
        chunks.for_each(|values| values.iter_mut().for_each(|value| *value = of(*value)));
        x
    }

    /// A function of every value of `left` with that of `right`, in the place of `left` where nothing
    /// else has it.
    fn join(
        mut left: Primitive,
        right: &Primitive,
        of: impl Fn(f32, f32) -> f32 + Sync,
    ) -> Primitive {
        let right = right.to_contiguous();
        left = left.to_contiguous();
        let chunks = left.storage_mut::<f32>().par_chunks_mut(CHUNK);
        let chunks = chunks.zip(right.storage::<f32>().par_chunks(CHUNK));
        chunks.for_each(|(left, right)| {
            for (left, &right) in left.iter_mut().zip(right) {
                *left = of(*left, right);
            }
        });
        left
    }
}
