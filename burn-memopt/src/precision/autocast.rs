use std::collections::HashSet;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Device, FloatDType, Tensor};

use super::dtype::is_castable;
use super::policy::Place;
use super::{AutocastPolicy, Precision, PrecisionReport, UnsupportedLayersError};
use crate::accumulate::parameter_ids;
use crate::tensors::Tensors;

/// Runs a model in half precision while its parameters stay in f32.
///
/// burn dispatches operations inside its backends, so they cannot be redirected one by one. Instead
/// the *model* is shown in half precision: every float parameter is cast inside the autodiff graph,
/// and gradients flow through the cast to the f32 parameters, which the optimizer updates.
/// Activations, which are most of the memory of a training step, take half the bytes.
///
/// - Works with any module: one cast a parameter and forward.
/// - [`AutocastPolicy`] selects what stays in f32. `BatchNorm` does: run it
///   through [`batch_norm`](super::batch_norm).
/// - A few layers of burn cannot run in half precision in an unedited model;
///   [`check`](Self::check) lists them before one fails inside burn.
/// - Running statistics are never cast, in any module: the view shares them
///   with the model.
/// - Tensors that are plain fields, not parameters, are not cast.
/// - With [`Precision::F32`] everything here is a no-op.
///
/// # Exactness
/// Approximate: 11 (f16) or 8 (bf16) bits of significand instead of 24. f16
/// needs a [`LossScaler`](super::LossScaler) to train.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{DType, Device, Tensor};
/// use burn_memopt::precision::{Autocast, Precision};
///
/// let device = Device::flex().autodiff();
/// let model: Linear = LinearConfig::new(4, 2).init(&device);
/// let autocast = Autocast::new(Precision::F16);
/// let output = autocast.run(&model, Tensor::<2>::ones([3, 4], &device), |half, x| {
///     assert_eq!(half.weight.val().dtype(), DType::F16);
///     half.forward(x)
/// });
/// assert_eq!(output.dtype(), DType::F32);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Autocast {
    precision: Precision,
    policy: AutocastPolicy,
}

impl Autocast {
    /// Computes in `precision`, keeping `BatchNorm` in f32.
    ///
    /// Ask [`Precision::check`] first whether the device can.
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            policy: AutocastPolicy::default(),
        }
    }

    /// Replaces the policy. The default keeps `BatchNorm` in f32.
    #[must_use]
    pub fn with_policy(mut self, policy: AutocastPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The precision computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What stays in f32.
    pub fn policy(&self) -> &AutocastPolicy {
        &self.policy
    }

    /// Runs `forward` on a view of `model`: float inputs are cast to half
    /// precision, float outputs back to f32, so that losses see f32.
    ///
    /// Inputs and outputs are tensors, tuples, vectors or structs of tensors; see
    /// [`Tensors`]. What must stay in f32, coordinates for grid sampling for
    /// instance, is captured by the closure or is an `uncast` field of
    /// [`impl_tensors!`](crate::impl_tensors).
    pub fn run<M, I, O>(&self, model: &M, input: I, forward: impl FnOnce(&M, I) -> O) -> O
    where
        M: Module,
        I: Tensors,
        O: Tensors,
    {
        if self.precision == Precision::F32 {
            return forward(model, input);
        }
        let view = self.view(model);
        forward(&view, self.cast(input)).cast_floats(FloatDType::F32)
    }

    /// A view of `model` whose float parameters are in half precision.
    ///
    /// Parameters keep their identifiers. Take gradients from the *model*: the
    /// view's parameters are results of a cast and hold none. A view is made
    /// for one forward pass; it goes stale with the next optimizer step.
    #[must_use]
    pub fn view<M: Module>(&self, model: &M) -> M {
        let view = model.clone();
        if self.precision == Precision::F32 {
            return view;
        }
        let mut caster = Caster {
            policy: &self.policy,
            dtype: self.precision.dtype(),
            running: running_states(model),
            place: Place::default(),
        };
        view.map(&mut caster)
    }

    /// Casts the float tensors of `input` as [`run`](Self::run) does.
    #[must_use]
    pub fn cast<I: Tensors>(&self, input: I) -> I {
        match self.precision {
            Precision::F32 => input,
            half => input.cast_floats(half.dtype()),
        }
    }

    /// Whether every layer of `model` can run in this precision.
    ///
    /// Finds burn's own layers by type: `BatchNorm`, `Lstm`, `Gru`, `PositionalEncoding` and others
    /// that mix f32 tensors of their own with half-precision input, which burn refuses or, without
    /// debug assertions, may compute wrongly. Layers that the policy keeps in f32 by
    /// [`keep_type`](AutocastPolicy::keep_type) or
    /// [`keep_path`](AutocastPolicy::keep_path) pass: naming them there states
    /// that the model gives them f32. [`MicroBatchTrainer`](crate::train::MicroBatchTrainer)
    /// and its strategy check before their first step.
    ///
    /// # Errors
    /// If there are such layers; lists them by path with the remedy for each.
    ///
    /// # Example
    /// ```
    /// use burn::nn::{BatchNorm, BatchNormConfig};
    /// use burn::tensor::Device;
    /// use burn_memopt::precision::{Autocast, AutocastPolicy, Precision};
    ///
    /// let norm: BatchNorm = BatchNormConfig::new(4).init(&Device::flex());
    /// let autocast = Autocast::new(Precision::F16);
    /// let error = autocast.check(&norm).expect_err("burn's own forward cannot");
    /// assert!(error.to_string().contains("precision::batch_norm"));
    ///
    /// // The model calls `precision::batch_norm`, which the policy states.
    /// let policy = AutocastPolicy::default().keep_type("BatchNorm");
    /// assert!(autocast.with_policy(policy).check(&norm).is_ok());
    /// ```
    pub fn check<M: Module>(&self, model: &M) -> Result<(), UnsupportedLayersError> {
        UnsupportedLayersError::check(self, model)
    }

    /// What each parameter of `model` is computed in, and its bytes.
    pub fn report<M: Module>(&self, model: &M) -> PrecisionReport {
        PrecisionReport::new(self, model)
    }

    /// The dtype a parameter of dtype f32 gets at a place in the module tree.
    pub(super) fn compute_dtype(&self, place: &Place, running: bool) -> Option<FloatDType> {
        let kept = running || place.is_kept(&self.policy);
        (self.precision != Precision::F32 && !kept).then_some(self.precision.dtype())
    }
}

struct Caster<'a> {
    policy: &'a AutocastPolicy,
    dtype: FloatDType,
    running: HashSet<ParamId>,
    place: Place,
}

impl ModuleMapper for Caster<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.place.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.place.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.running.contains(&param.id) || self.place.is_kept(self.policy) {
            return param;
        }
        let master = param.base();
        if !is_castable(master.dtype()) {
            return param;
        }
        // Cast at the first use: a cast that no loss depends on would leave a
        // node in the autodiff graph that no backward pass frees.
        let (id, device, shape) = (param.id, master.device(), master.shape());
        let (dtype, tracked) = (self.dtype, master.is_require_grad());
        let cast = move |_: &Device, _| master.cast(dtype);
        Param::uninitialized(id, cast, device, tracked, shape)
    }
}

/// The identifiers of the running statistics in `model`.
///
/// A `RunningState` is shared between clones of a module and mapping changes it
/// in place, so a cast there would reach the model behind the view. Visitors
/// see it as an ordinary parameter. What gives it away: it keeps its own
/// identifier whatever a mapper returns, while a parameter takes the new one.
pub(crate) fn running_states<M: Module>(model: &M) -> HashSet<ParamId> {
    let before: HashSet<_> = parameter_ids(model).into_iter().collect();
    let after = parameter_ids(&model.clone().map(&mut Rename)).into_iter();
    after.filter(|id| before.contains(id)).collect()
}

struct Rename;

impl ModuleMapper for Rename {
    fn map_float<const D: usize>(&mut self, mut param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // Not a new random one: nothing here may move a random stream.
        param.id = ParamId::from(!param.id.val());
        param
    }
}
