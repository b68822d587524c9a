use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, FloatDType, Gradients, Tensor, TensorReadError};

use super::LossScaler;
use crate::accumulate::WeightedAccumulator;
use crate::gradients::{self, Clipping};

impl LossScaler {
    /// Multiplies a loss by the scale: the first step of an iteration.
    ///
    /// What follows is fixed by types: a [`ScaledLoss`] gives [`Scaled`] gradients, those become
    /// [`Unscaled`] once, and stepping an optimizer with them gives the [`Stepped`] that
    /// [`update`](Self::update) asks for. The loss is widened to f32 first.
    ///
    /// # Example
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::optim::SgdConfig;
    /// use burn::tensor::{Device, Tensor};
    /// use burn_memopt::precision::{Autocast, LossScalerConfig, Precision};
    ///
    /// let device = Device::flex().autodiff();
    /// let mut model: Linear = LinearConfig::new(4, 2).init(&device);
    /// let mut optimizer = SgdConfig::new().init();
    /// let mut scaler = LossScalerConfig::new().init();
    /// let autocast = Autocast::new(Precision::F16);
    ///
    /// let input = Tensor::<2>::ones([3, 4], &device);
    /// let loss = autocast.run(&model, input, |m, x| m.forward(x)).square().mean();
    /// let grads = scaler.scale(loss).backward().params(&model).unscale(&model);
    /// let (stepped_model, stepped) = grads.step(&mut optimizer, 0.01, model);
    /// model = stepped_model;
    /// scaler.update(stepped);
    /// # let _ = model;
    /// ```
    ///
    /// Gradients that are still scaled step no optimizer:
    ///
    /// ```compile_fail,E0308
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn::optim::SgdConfig;
    /// # use burn::tensor::{Device, Tensor};
    /// # use burn_memopt::precision::LossScalerConfig;
    /// # let device = Device::flex().autodiff();
    /// # let model: Linear = LinearConfig::new(4, 2).init(&device);
    /// # let mut optimizer = SgdConfig::new().init();
    /// # let mut scaler = LossScalerConfig::new().init();
    /// # let loss = model.forward(Tensor::<2>::ones([3, 4], &device)).mean();
    /// let grads = scaler.scale(loss).backward().params(&model);
    /// let model = optimizer.step(0.01, model, grads); // expects unscaled gradients
    /// ```
    ///
    /// They do not update the scaler before a step was decided on:
    ///
    /// ```compile_fail,E0308
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn::tensor::{Device, Tensor};
    /// # use burn_memopt::precision::LossScalerConfig;
    /// # let device = Device::flex().autodiff();
    /// # let model: Linear = LinearConfig::new(4, 2).init(&device);
    /// # let mut scaler = LossScalerConfig::new().init();
    /// # let loss = model.forward(Tensor::<2>::ones([3, 4], &device)).mean();
    /// let grads = scaler.scale(loss).backward().params(&model).unscale(&model);
    /// scaler.update(grads); // expects what the step returns
    /// ```
    ///
    /// Nothing is unscaled twice:
    ///
    /// ```compile_fail,E0382
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn::tensor::{Device, Tensor};
    /// # use burn_memopt::precision::LossScalerConfig;
    /// # let device = Device::flex().autodiff();
    /// # let model: Linear = LinearConfig::new(4, 2).init(&device);
    /// # let scaler = LossScalerConfig::new().init();
    /// # let loss = model.forward(Tensor::<2>::ones([3, 4], &device)).mean();
    /// let grads = scaler.scale(loss).backward().params(&model);
    /// let once = grads.unscale(&model);
    /// let twice = grads.unscale(&model); // moved by the first
    /// ```
    pub fn scale(&self, loss: Tensor<1>) -> ScaledLoss {
        let scale = self.current();
        ScaledLoss {
            loss: loss.cast(FloatDType::F32).mul_scalar(scale),
            scale,
        }
    }

    /// Marks gradients as those of a loss that was multiplied by
    /// [`current`](Self::current), for losses that are scaled by other means.
    pub fn assume_scaled(&self, grads: GradientsParams) -> Scaled<GradientsParams> {
        Scaled::new(grads, self.current())
    }

    /// Ends the iteration: lowers the scale if a step was skipped,
    /// raises it after a long run without.
    ///
    /// Once per iteration. With several optimizers combine their results by
    /// [`Stepped::and`]: each skips for itself, the scale follows any of them.
    pub fn update(&mut self, stepped: Stepped) {
        self.advance(stepped.skipped);
    }
}

/// A loss that was multiplied by the scale.
#[derive(Debug)]
#[must_use = "call backward"]
pub struct ScaledLoss {
    loss: Tensor<1>,
    scale: f32,
}

impl ScaledLoss {
    /// A loss with a scale of one, for a precision that needs none.
    pub(crate) fn unscaled(loss: Tensor<1>) -> Self {
        Self { loss, scale: 1.0 }
    }

    /// The gradients of the scaled loss.
    ///
    /// # Panics
    /// If the loss is not part of an autodiff graph.
    pub fn backward(self) -> Scaled<Gradients> {
        Scaled::new(self.loss.backward(), self.scale)
    }
}

/// Gradients of a loss that was multiplied by the scale.
#[derive(Debug)]
#[must_use = "unscale and step"]
pub struct Scaled<G> {
    grads: G,
    scale: f32,
}

impl<G> Scaled<G> {
    fn new(grads: G, scale: f32) -> Self {
        Self { grads, scale }
    }
}

impl Scaled<Gradients> {
    /// Takes the gradients of one module out of those of a backward pass; for
    /// several modules call it for each.
    pub fn params<M: Module>(&mut self, module: &M) -> Scaled<GradientsParams> {
        let grads = GradientsParams::from_module(&mut self.grads, module);
        Scaled::new(grads, self.scale)
    }
}

impl Default for Scaled<WeightedAccumulator> {
    /// An empty accumulator for the scaled gradients of several micro-batches. The first one of a
    /// group sets its scale.
    fn default() -> Self {
        Self::new(WeightedAccumulator::new(), 1.0)
    }
}

impl Scaled<WeightedAccumulator> {
    /// [`WeightedAccumulator::accumulate`] for scaled gradients.
    ///
    /// # Panics
    /// If the scale changed since the first micro-batch of the group. Update
    /// the scaler between groups only.
    pub fn accumulate<M: Module>(
        &mut self,
        module: &M,
        grads: Scaled<GradientsParams>,
        weight: f64,
    ) {
        self.check_scale(grads.scale);
        self.grads.accumulate(module, grads.grads, weight);
    }

    /// [`WeightedAccumulator::accumulate_sum`] for scaled gradients.
    ///
    /// # Panics
    /// As [`accumulate`](Self::accumulate).
    pub fn accumulate_sum<M: Module>(
        &mut self,
        module: &M,
        grads: Scaled<GradientsParams>,
        weight: f64,
    ) {
        self.check_scale(grads.scale);
        self.grads.accumulate_sum(module, grads.grads, weight);
    }

    /// [`WeightedAccumulator::finish`]: the mean gradients, still scaled.
    pub fn finish<M: Module>(&mut self, module: &M) -> Option<Scaled<GradientsParams>> {
        let grads = self.grads.finish(module)?;
        Some(Scaled::new(grads, self.scale))
    }

    /// Micro-batches accumulated since the last [`finish`](Self::finish).
    pub(crate) fn micro_batches(&self) -> usize {
        self.grads.micro_batches()
    }

    /// Weight accumulated since the last [`finish`](Self::finish).
    pub(crate) fn weight(&self) -> f64 {
        self.grads.weight()
    }

    /// Takes what `other` accumulated, as [`WeightedAccumulator::absorb`].
    pub(crate) fn absorb<M: Module>(&mut self, other: &mut Self, whole: &M, device: &Device) {
        let other = std::mem::take(other);
        if other.micro_batches() == 0 {
            return;
        }
        self.check_scale(other.scale);
        self.grads.absorb(other.grads, whole, device);
    }

    /// Takes what `one` accumulated, as one micro-batch.
    pub(crate) fn join<M: Module>(&mut self, one: &mut Self, module: &M, device: &Device) {
        one.grads.count_as_one();
        self.absorb(one, module, device);
    }

    /// Drops what was accumulated.
    pub(crate) fn clear(&mut self) {
        self.grads.clear();
    }

    fn check_scale(&mut self, scale: f32) {
        if self.grads.micro_batches() == 0 {
            self.scale = scale;
        }
        assert!(
            self.scale == scale,
            "the loss scale must stay {} within an accumulation group, got {scale}",
            self.scale,
        );
    }
}

impl Scaled<GradientsParams> {
    /// Divides the gradients by the scale, in f32, and looks whether they are
    /// finite. One number is read from the device.
    ///
    /// # Panics
    /// If the device fails.
    pub fn unscale<M: Module>(self, module: &M) -> Unscaled {
        self.try_unscale(module)
            .unwrap_or_else(|error| panic!("the gradients must be readable, got: {error}"))
    }

    /// [`unscale`](Self::unscale), with the device's failure as a value.
    ///
    /// # Errors
    /// If the device fails, out of memory for instance.
    pub fn try_unscale<M: Module>(self, module: &M) -> Result<Unscaled, TensorReadError> {
        let mut grads = self.grads;
        // Through f32 as the gradients are: a reciprocal that is rounded to
        // zero there must not look right here.
        let reciprocal = (1.0 / f64::from(self.scale)) as f32;
        gradients::scale(&mut grads, module, f64::from(reciprocal));
        let norm = gradients::try_grad_norm(&mut grads, module)?;
        Ok(Unscaled {
            finite: norm.is_finite() || gradients::non_finite_parameters(&grads, module).is_empty(),
            grads,
            norm,
        })
    }
}

/// Gradients of the loss without its scale, and whether they are finite.
#[derive(Debug)]
#[must_use = "step, or nothing is learned"]
pub struct Unscaled {
    grads: GradientsParams,
    norm: f64,
    finite: bool,
}

impl Unscaled {
    /// Whether every gradient is finite. If not, the step will be skipped.
    pub fn is_finite(&self) -> bool {
        self.finite
    }

    /// The global L2 norm before clipping; not finite where gradients are not.
    pub fn norm(&self) -> f64 {
        self.norm
    }

    /// The paths of the parameters with gradients that are not finite.
    pub fn overflowed<M: Module>(&self, module: &M) -> Vec<String> {
        if self.finite {
            Vec::new()
        } else {
            gradients::non_finite_parameters(&self.grads, module)
        }
    }

    /// Limits the gradients; changes nothing where they are not finite.
    ///
    /// # Panics
    /// If the limit is not finite and positive.
    pub fn clip<M: Module>(mut self, module: &M, clipping: Clipping) -> Self {
        if self.finite {
            gradients::limit(&mut self.grads, module, self.norm, clipping);
        }
        self
    }

    /// Steps `optimizer`, or returns `model` as it is if a gradient is not finite.
    pub fn step<M: Module>(
        self,
        optimizer: &mut ModuleOptimizer,
        lr: impl Into<ModuleLearningRate>,
        model: M,
    ) -> (M, Stepped) {
        match self.into_grads() {
            (Some(grads), stepped) => (optimizer.step(lr, model, grads), stepped),
            (None, stepped) => (model, stepped),
        }
    }

    /// Drops the gradients, because of a loss that is not finite for instance.
    pub(crate) fn skip(self) -> Stepped {
        Stepped { skipped: true }
    }

    /// The gradients if they are finite, to step by other means.
    pub fn into_grads(self) -> (Option<GradientsParams>, Stepped) {
        let skipped = !self.finite;
        (self.finite.then_some(self.grads), Stepped { skipped })
    }
}

/// Whether the step of an optimizer was made or skipped.
#[derive(Debug)]
#[must_use = "pass it to LossScaler::update"]
pub struct Stepped {
    skipped: bool,
}

impl Stepped {
    /// Whether the step was skipped because a gradient was not finite.
    pub fn skipped(&self) -> bool {
        self.skipped
    }

    /// The result of two optimizers in one iteration: skipped if either was.
    pub fn and(self, other: Self) -> Self {
        Self {
            skipped: self.skipped || other.skipped,
        }
    }
}
