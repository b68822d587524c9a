//! Whole-model operations on gradients: global norm, clipping, finiteness.
//!
//! burn's own clipping works on one parameter at a time. Training recipes usually mean the norm
//! over *all* parameters, which is what this module computes. Everything runs on plain tensors:
//! parameters are visited for their identifier only and never read through the autodiff graph.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Bool, FloatDType, Tensor, TensorReadError};
use serde::{Deserialize, Serialize};

use crate::precision::ops::full;

/// How gradients are limited before an optimizer step.
///
/// Clipping comes after averaging and unscaling, never before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clipping {
    /// Scale all gradients so that their global L2 norm is at most this.
    Norm(f64),
    /// Limit each element to `[-value, value]`.
    Value(f64),
}

impl Clipping {
    /// Panics unless the limit is finite and positive.
    pub(crate) fn validate(self) -> Self {
        let (Self::Norm(limit) | Self::Value(limit)) = self;
        assert!(
            limit.is_finite() && limit > 0.0,
            "the clipping limit must be finite and positive, got {limit}"
        );
        self
    }
}

/// Limits the global L2 norm of the gradients of `module` and returns the norm they had before.
///
/// Gradients are multiplied by `max_norm / (norm + 1e-6)` where that is below
/// one, the rule of PyTorch's `clip_grad_norm_`. Costs one pass over the
/// gradients, one number read from the device, and a second pass if they are
/// too long. A norm that is not finite is returned and changes nothing.
///
/// Gradients of parameters that are not in `module` are dropped.
///
/// # Panics
/// If `max_norm` is not finite and positive, or the device fails.
///
/// # Example
/// ```
/// use burn::optim::GradientsParams;
/// use burn::{module::Param, tensor::{Device, Tensor}};
/// use burn_memopt::gradients::clip_grad_norm;
///
/// let device = Device::flex();
/// let weight = Param::from_tensor(Tensor::<1>::from_floats([0.0, 0.0], &device));
/// let mut grads = GradientsParams::new();
/// grads.register(weight.id, Tensor::<1>::from_floats([3.0, 4.0], &device));
///
/// let norm = clip_grad_norm(&mut grads, &weight, 1.0);
///
/// assert_eq!(norm, 5.0);
/// let clipped = grads.get::<1>(weight.id).unwrap().into_data().try_to_vec::<f32>().unwrap();
/// assert!((clipped[0] - 0.6).abs() < 1e-6);
/// ```
pub fn clip_grad_norm<M: Module>(grads: &mut GradientsParams, module: &M, max_norm: f64) -> f64 {
    let norm = grad_norm(grads, module);
    limit(grads, module, norm, Clipping::Norm(max_norm));
    norm
}

/// The global L2 norm of the gradients of `module`, accumulated in f32.
///
/// Infinite or NaN if any gradient is, so it is a finiteness check too. Costs
/// one pass and one number read from the device.
///
/// # Panics
/// If the device fails.
pub fn grad_norm<M: Module>(grads: &mut GradientsParams, module: &M) -> f64 {
    try_grad_norm(grads, module)
        .unwrap_or_else(|error| panic!("the gradient norm must be readable, got: {error}"))
}

/// [`grad_norm`], with the device's failure as a value.
pub(crate) fn try_grad_norm<M: Module>(
    grads: &mut GradientsParams,
    module: &M,
) -> Result<f64, TensorReadError> {
    let mut squares = SumOfSquares { total: None };
    transform(grads, module, &mut squares);
    match squares.total {
        Some(total) => Ok(f64::from(total.try_into_scalar::<f32>()?).sqrt()),
        None => Ok(0.0),
    }
}

/// Applies `clipping` to gradients whose global norm is known to be `norm`.
pub(crate) fn limit<M: Module>(
    grads: &mut GradientsParams,
    module: &M,
    norm: f64,
    clipping: Clipping,
) {
    match clipping.validate() {
        Clipping::Norm(max_norm) => {
            let factor = max_norm / (norm + 1e-6);
            if norm.is_finite() && factor < 1.0 {
                transform(grads, module, &mut Scale { factor });
            }
        }
        Clipping::Value(max) => transform(grads, module, &mut Clamp { max }),
    }
}

/// Multiplies the gradients of `module` by `factor` in at least f32.
pub(crate) fn scale<M: Module>(grads: &mut GradientsParams, module: &M, factor: f64) {
    transform(grads, module, &mut Scale { factor });
}

/// The paths of the parameters whose gradient holds an infinity or a NaN.
///
/// For the message after a skipped step: one flag a parameter is computed on
/// the device and all are read at once.
pub(crate) fn non_finite_parameters<M: Module>(grads: &GradientsParams, module: &M) -> Vec<String> {
    let mut finder = NonFinite {
        grads,
        path: Vec::new(),
        names: Vec::new(),
        flags: Vec::new(),
    };
    module.visit(&mut finder);
    if finder.flags.is_empty() {
        return Vec::new();
    }
    let flags = Tensor::cat(finder.flags, 0).into_data();
    let flagged = finder.names.into_iter().zip(flags.iter::<bool>());
    flagged
        .filter_map(|(name, bad)| bad.then_some(name))
        .collect()
}

/// A function over gradients of any rank, which closures cannot express.
pub(crate) trait GradientOp {
    /// The gradient that replaces `grad`.
    fn apply<const D: usize>(&mut self, grad: Tensor<D>) -> Tensor<D>;
}

/// Replaces each gradient of `module` by what `op` makes of it, once each (shared parameters are
/// visited twice), moving it so that it can be changed in place.
pub(crate) fn transform<M: Module, O: GradientOp>(
    grads: &mut GradientsParams,
    module: &M,
    op: &mut O,
) {
    let mut visitor = Transform {
        from: std::mem::take(grads),
        into: GradientsParams::new(),
        op,
    };
    module.visit(&mut visitor);
    *grads = visitor.into;
}

struct Transform<'a, O> {
    from: GradientsParams,
    into: GradientsParams,
    op: &'a mut O,
}

impl<O: GradientOp> ModuleVisitor for Transform<'_, O> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.from.remove::<D>(param.id) {
            self.into.register(param.id, self.op.apply(grad));
        }
    }
}

struct Scale {
    factor: f64,
}

impl GradientOp for Scale {
    fn apply<const D: usize>(&mut self, grad: Tensor<D>) -> Tensor<D> {
        let grad = full(grad);
        match self.factor {
            1.0 => grad,
            factor => grad.mul_scalar(factor),
        }
    }
}

struct Clamp {
    max: f64,
}

impl GradientOp for Clamp {
    fn apply<const D: usize>(&mut self, grad: Tensor<D>) -> Tensor<D> {
        grad.clamp(-self.max, self.max)
    }
}

struct SumOfSquares {
    total: Option<Tensor<1>>,
}

impl GradientOp for SumOfSquares {
    fn apply<const D: usize>(&mut self, grad: Tensor<D>) -> Tensor<D> {
        // burn rejects mixed dtypes and devices; the total stays where it began.
        let squares = grad.clone().cast(FloatDType::F32).square().sum();
        self.total = Some(match self.total.take() {
            Some(total) => {
                let squares = squares.to_device(&total.device());
                total.add(squares)
            }
            None => squares,
        });
        grad
    }
}

struct NonFinite<'a> {
    grads: &'a GradientsParams,
    path: Vec<String>,
    names: Vec<String>,
    flags: Vec<Tensor<1, Bool>>,
}

impl ModuleVisitor for NonFinite<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.grads.get::<D>(param.id) else {
            return;
        };
        let flag = grad.is_finite().bool_not().any();
        let flag = match self.flags.first() {
            Some(first) => flag.to_device(&first.device()),
            None => flag,
        };
        self.flags.push(flag);
        self.names.push(self.path.join("."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    fn gradients(values: [f32; 2]) -> (Linear, GradientsParams) {
        let device = Device::flex();
        let linear = LinearConfig::new(1, 2).init(&device);
        let mut grads = GradientsParams::new();
        let weight = Tensor::<2>::from_floats([values], &device);
        grads.register(linear.weight.id, weight);
        let bias = linear.bias.as_ref().expect("bias is on by default");
        grads.register(bias.id, Tensor::<1>::from_floats([12.0, 0.0], &device));
        (linear, grads)
    }

    fn weight_of(linear: &Linear, grads: &GradientsParams) -> Vec<f32> {
        let grad = grads.get::<2>(linear.weight.id).expect("registered above");
        grad.into_data().try_to_vec().expect("f32")
    }

    #[test]
    fn the_norm_is_taken_over_all_parameters() {
        let (linear, mut grads) = gradients([3.0, 4.0]);
        assert_eq!(grad_norm(&mut grads, &linear), 13.0);
        assert_eq!(grads.len(), 2);
    }

    #[test]
    fn short_gradients_are_not_changed() {
        let (linear, mut grads) = gradients([3.0, 4.0]);
        assert_eq!(clip_grad_norm(&mut grads, &linear, 13.1), 13.0);
        assert_eq!(weight_of(&linear, &grads), [3.0, 4.0]);
    }

    #[test]
    fn clipping_by_value_limits_each_element() {
        let (linear, mut grads) = gradients([3.0, -4.0]);
        limit(&mut grads, &linear, 5.0, Clipping::Value(3.5));
        assert_eq!(weight_of(&linear, &grads), [3.0, -3.5]);
    }

    #[test]
    fn parameters_with_non_finite_gradients_are_named() {
        let (linear, mut grads) = gradients([3.0, f32::NAN]);
        assert_eq!(non_finite_parameters(&grads, &linear), ["weight"]);
        assert!(clip_grad_norm(&mut grads, &linear, 1.0).is_nan());
        assert_eq!(weight_of(&linear, &grads)[0], 3.0);
    }

    #[test]
    #[should_panic(expected = "the clipping limit must be finite and positive, got 0")]
    fn a_limit_of_zero_is_refused() {
        let (linear, mut grads) = gradients([3.0, 4.0]);
        clip_grad_norm(&mut grads, &linear, 0.0);
    }
}
