//! Gradient accumulation: several micro-batches, one optimizer step.
//!
//! Only one micro-batch's activations are in memory at a time. The accumulator keeps the *weighted
//! sum* of the gradients and divides once, at the end, by the accumulated weight. So the result is
//! that of the whole batch also where micro-batches differ in size, where the last group is
//! incomplete and where losses are masked, and nothing has to be known in advance.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::gradients;
use crate::nn::canonical_strides;
use crate::precision::ops::full;

/// Accumulates the gradients of one module over micro-batches.
///
/// Memory: one set of gradients in f32, whatever dtype the gradients arrive in, instead of the
/// activations of the whole batch. Gradients are consumed and added in place.
///
/// Several models train side by side with an accumulator each.
///
/// # Exactness
/// Equal to the full batch up to f32 rounding when the loss is a (weighted)
/// mean or a sum over items. Batch normalization computes its statistics per
/// micro-batch, so a network that contains it is approximate.
///
/// # Example
/// ```
/// use burn::module::Param;
/// use burn::optim::GradientsParams;
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::accumulate::WeightedAccumulator;
///
/// let device = Device::flex().autodiff();
/// let weight = Param::from_tensor(Tensor::<1>::from_floats([1.0], &device));
/// let mut accumulator = WeightedAccumulator::new();
/// // A batch of three items as 2 + 1; each loss is the mean over its items.
/// for items in [vec![1.0, 2.0], vec![6.0]] {
///     let num_items = items.len();
///     let items = Tensor::<1>::from_floats(items.as_slice(), &device);
///     let loss = (weight.val() * items).mean();
///     let grads = GradientsParams::from_grads(loss.backward(), &weight);
///     accumulator.accumulate(&weight, grads, num_items as f64);
/// }
/// let grads = accumulator.finish(&weight).unwrap();
/// assert_eq!(grads.get::<1>(weight.id).unwrap().into_scalar::<f32>(), 3.0);
/// ```
#[derive(Debug, Default)]
pub struct WeightedAccumulator {
    grads: GradientsParams,
    /// Weight that counts as one in `grads`. The first micro-batch sets it, so that equal weights
    /// need no multiplication and a single micro-batch comes back bit for bit.
    unit: Option<f64>,
    weight: f64,
    micro_batches: usize,
    /// The parameters of the module that the group began with.
    ids: Vec<ParamId>,
}

impl WeightedAccumulator {
    /// An empty accumulator.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the gradients of a **mean** loss over `weight` items.
    ///
    /// `weight` is what the mean was taken over: items, tokens or unmasked pixels. A weight of zero
    /// (everything masked, where the mean is 0/0) counts as a micro-batch and adds nothing.
    ///
    /// # Panics
    /// - If `weight` is negative or not finite.
    /// - If `module` has other parameters than that of the group's first micro-batch.
    /// - If parameters are trained and none of them has a gradient, while the weight is not zero:
    ///   `grads` were taken from an autocast view, or of a loss that does not depend on `module`.
    pub fn accumulate<M: Module>(&mut self, module: &M, grads: GradientsParams, weight: f64) {
        let unit = self.unit.unwrap_or(weight);
        self.add(module, grads, [weight, unit, weight / unit]);
    }

    /// Adds the gradients of a **sum** loss over `weight` items.
    ///
    /// As [`accumulate`](Self::accumulate), for a loss that was not divided.
    ///
    /// # Panics
    /// As [`accumulate`](Self::accumulate).
    pub fn accumulate_sum<M: Module>(&mut self, module: &M, grads: GradientsParams, weight: f64) {
        let unit = self.unit.unwrap_or(1.0);
        self.add(module, grads, [weight, unit, 1.0 / unit]);
    }

    /// Adds what `other` accumulated of the same module, as its micro-batches would have been added here; `whole`
    /// has its parameters, and others maybe.
    pub(crate) fn absorb<M: Module>(&mut self, other: Self, whole: &M, device: &Device) {
        if other.micro_batches == 0 {
            return;
        }
        if self.micro_batches == 0 {
            self.ids.clone_from(&other.ids);
        }
        assert_eq!(
            self.ids, other.ids,
            "invariant: replicas have the parameters of their model"
        );
        if let Some(of_other) = other.unit {
            let unit = *self.unit.get_or_insert(of_other);
            let mut add = Add {
                total: &mut self.grads,
                grads: other.grads.to_device(device, whole),
                factor: of_other / unit,
                is_trained: false,
                has_gradients: false,
            };
            whole.visit(&mut add);
            self.weight += other.weight;
        }
        self.micro_batches += other.micro_batches;
    }

    /// Counts what was accumulated as one micro-batch, if it was anything.
    pub(crate) fn count_as_one(&mut self) {
        self.micro_batches = self.micro_batches.min(1);
    }

    fn add<M: Module>(
        &mut self,
        module: &M,
        grads: GradientsParams,
        [weight, unit, factor]: [f64; 3],
    ) {
        check_weight(weight);
        self.check_module(module);
        // Nothing of weight zero is added: it may be NaN, and as the unit it would divide by zero.
        if weight > 0.0 {
            let mut add = Add {
                total: &mut self.grads,
                grads,
                factor,
                is_trained: false,
                has_gradients: false,
            };
            module.visit(&mut add);
            assert!(
                add.has_gradients || !add.is_trained,
                "the gradients must be those of the module's own parameters, got none: take them \
                 from the model, not from an autocast view of it \
                 (`GradientsParams::from_grads(loss.backward(), &model)`), and of a loss that \
                 depends on it"
            );
            self.unit = Some(unit);
            self.weight += weight;
        }
        self.micro_batches += 1;
    }

    /// Sums by identifier are for one module; updated versions and clones of it have its identifiers.
    fn check_module<M: Module>(&mut self, module: &M) {
        let ids = parameter_ids(module);
        if self.micro_batches == 0 {
            self.ids = ids;
        } else {
            assert!(
                ids == self.ids,
                "the model must stay the same from the first micro-batch of a group to its step, \
                 got one with other parameters: give each model an accumulator or `MicroBatchTrainer` of \
                 its own"
            );
        }
    }

    /// Takes the mean gradients of everything accumulated since the last call.
    ///
    /// `None` if nothing with a weight above zero was accumulated. Call it for
    /// the last, incomplete group too: the weights make it exact.
    ///
    /// # Panics
    /// If `module` has other parameters than that of the group's micro-batches.
    pub fn finish<M: Module>(&mut self, module: &M) -> Option<GradientsParams> {
        if self.micro_batches > 0 {
            self.check_module(module);
        }
        let Self {
            mut grads,
            unit,
            weight,
            ..
        } = std::mem::take(self);
        let unit = unit.filter(|_| weight > 0.0)?;
        if weight != unit {
            gradients::scale(&mut grads, module, unit / weight);
        }
        Some(grads)
    }

    /// Micro-batches accumulated since the last [`finish`](Self::finish).
    pub fn micro_batches(&self) -> usize {
        self.micro_batches
    }

    /// Weight accumulated since the last [`finish`](Self::finish).
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Forgets what was accumulated.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Panics unless a loss can be taken over `weight` items.
pub(crate) fn check_weight(weight: f64) {
    assert!(
        weight.is_finite() && weight >= 0.0,
        "the weight of a micro-batch must be finite and not negative, got {weight}"
    );
}

/// The identifiers of a module's float parameters, in their order.
pub(crate) fn parameter_ids<M: Module>(module: &M) -> Vec<ParamId> {
    let mut ids = Ids(Vec::new());
    module.visit(&mut ids);
    ids.0
}

struct Ids(Vec<ParamId>);

impl ModuleVisitor for Ids {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.id);
    }
}

struct Add<'a> {
    total: &'a mut GradientsParams,
    grads: GradientsParams,
    factor: f64,
    /// Whether some parameter is trained.
    is_trained: bool,
    /// Whether some parameter has a gradient.
    has_gradients: bool,
}

impl ModuleVisitor for Add<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // A parameter of a view is no leaf: it requires no gradient, but it is tracked.
        self.is_trained |=
            param.is_require_grad() || param.is_initialized() && param.base().is_tracked();
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return;
        };
        self.has_gradients = true;
        let grad = canonical_strides(full(grad));
        let grad = match self.factor {
            1.0 => grad,
            factor => grad.mul_scalar(factor),
        };
        let total = match self.total.remove::<D>(param.id) {
            Some(total) => total.add(grad),
            None => grad,
        };
        self.total.register(param.id, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, FloatDType};

    fn grads_of(param: &Param<Tensor<1>>, value: f32, dtype: FloatDType) -> GradientsParams {
        let mut grads = GradientsParams::new();
        let grad = Tensor::<1>::from_floats([value], &Device::flex()).cast(dtype);
        grads.register(param.id, grad);
        grads
    }

    fn param() -> Param<Tensor<1>> {
        Param::from_tensor(Tensor::zeros([1], &Device::flex()))
    }

    fn value(param: &Param<Tensor<1>>, grads: &GradientsParams) -> f32 {
        let grad = grads.get::<1>(param.id).expect("a gradient");
        assert_eq!(grad.dtype(), DType::F32);
        grad.into_scalar()
    }

    #[test]
    fn half_precision_gradients_are_accumulated_in_f32() {
        let param = param();
        let mut accumulator = WeightedAccumulator::new();
        // In f16, 2048 + 1 is 2048.
        for value in [2048.0, 1.0] {
            accumulator.accumulate_sum(&param, grads_of(&param, value, FloatDType::F16), 0.5);
        }
        let grads = accumulator.finish(&param).expect("two micro-batches");
        assert_eq!(value(&param, &grads), 2049.0);
    }

    #[test]
    fn a_single_micro_batch_comes_back_bit_for_bit() {
        let param = param();
        let mut accumulator = WeightedAccumulator::new();
        let odd = f32::from_bits(0x3eaa_aaab);
        accumulator.accumulate(&param, grads_of(&param, odd, FloatDType::F32), 7.0);
        let grads = accumulator.finish(&param).expect("one micro-batch");
        assert_eq!(value(&param, &grads), odd);
    }

    #[test]
    fn means_and_sums_mix_in_one_group() {
        let param = param();
        let mut accumulator = WeightedAccumulator::new();
        accumulator.accumulate(&param, grads_of(&param, 2.0, FloatDType::F32), 4.0);
        accumulator.accumulate_sum(&param, grads_of(&param, 12.0, FloatDType::F32), 6.0);
        let grads = accumulator.finish(&param).expect("two micro-batches");
        assert_eq!(value(&param, &grads), 2.0);
    }

    #[test]
    fn a_fully_masked_micro_batch_adds_nothing_even_if_it_is_nan() {
        let param = param();
        let mut accumulator = WeightedAccumulator::new();
        accumulator.accumulate(&param, grads_of(&param, f32::NAN, FloatDType::F32), 0.0);
        accumulator.accumulate(&param, grads_of(&param, 3.0, FloatDType::F32), 2.0);
        accumulator.accumulate(&param, grads_of(&param, f32::NAN, FloatDType::F32), 0.0);
        assert_eq!(accumulator.micro_batches(), 3);
        let grads = accumulator.finish(&param).expect("one has a weight");
        assert_eq!(value(&param, &grads), 3.0);
        assert_eq!(accumulator.micro_batches(), 0);
    }

    #[test]
    fn nothing_accumulated_gives_no_gradients() {
        let param = param();
        let mut accumulator = WeightedAccumulator::new();
        assert!(accumulator.finish(&param).is_none());
        accumulator.accumulate(&param, grads_of(&param, 1.0, FloatDType::F32), 0.0);
        assert!(accumulator.finish(&param).is_none());
    }

    #[test]
    #[should_panic(expected = "must be finite and not negative, got -1")]
    fn a_negative_weight_is_refused() {
        let param = param();
        let grads = grads_of(&param, 1.0, FloatDType::F32);
        WeightedAccumulator::new().accumulate(&param, grads, -1.0);
    }
}
