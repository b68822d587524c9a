use burn::config::Config;
use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};

use super::group::{Group, Verdict};
use super::{MicroLoss, StepError, StepOutcome, TrainState};
use crate::grad_checkpoint::share_seed;
use crate::gradients::Clipping;
use crate::precision::{Autocast, AutocastPolicy, LossScalerConfig, Precision};
use crate::tensors::Tensors;

/// Gradients that overflow at this scale overflow without scaling.
const LOWEST_SCALE: f64 = 1.0;

/// Settings of a [`MicroBatchTrainer`].
#[derive(Config, Debug)]
pub struct MicroBatchTrainerConfig {
    /// What the model computes in. The default is `f32`.
    #[config(default = "Precision::F32")]
    pub precision: Precision,
    /// What stays in f32 below that. The default keeps `BatchNorm`.
    #[config(default = "AutocastPolicy::default()")]
    pub policy: AutocastPolicy,
    /// Loss scaling. The default is [`LossScalerConfig::new`] with a lowest scale of 1 for f16, and
    /// none for other precisions.
    pub loss_scaler: Option<LossScalerConfig>,
    /// Micro-batches per optimizer step. The default is `1`.
    #[config(default = 1)]
    pub accumulation_steps: usize,
    /// Limit of the averaged, unscaled gradients. The default is none.
    pub clipping: Option<Clipping>,
    /// Whether parameters and optimizer of before an update are kept until it was read back, so that
    /// an update that runs out of memory is undone as well. They take their memory twice during the
    /// update, but for an optimizer's state [on the host](crate::optim::HostState). The default is `false`: only what comes before the update is undone.
    #[config(default = false)]
    pub undo_updates: bool,
    /// Skipped steps in a row after which training is given up. The default is `50`.
    #[config(default = 50)]
    pub max_skipped_steps: usize,
}

impl MicroBatchTrainerConfig {
    /// A step that updates parameters with `optimizer`.
    ///
    /// Gradient clipping set on `optimizer` itself is per parameter and comes
    /// after the clipping here.
    ///
    /// # Panics
    /// If `accumulation_steps` or `max_skipped_steps` is zero, or the clipping
    /// limit or a value of the loss scaler is out of range.
    pub fn init(&self, optimizer: impl Into<ModuleOptimizer>) -> MicroBatchTrainer {
        MicroBatchTrainer::new(self.group(), optimizer.into(), self.undo_updates)
    }

    /// The part of the step that needs no optimizer.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub(super) fn group(&self) -> Group {
        assert!(
            self.accumulation_steps > 0,
            "accumulation_steps must be at least 1, got 0"
        );
        assert!(
            self.max_skipped_steps > 0,
            "max_skipped_steps must be at least 1, got 0"
        );
        let scaler = match &self.loss_scaler {
            Some(config) => Some(config.init()),
            None if self.precision.needs_loss_scaling() => {
                let config = LossScalerConfig::new().with_min_scale(Some(LOWEST_SCALE));
                Some(config.init())
            }
            None => None,
        };
        Group::new(self, scaler)
    }
}

/// One optimizer step out of micro-batches, with everything in the right order: half-precision
/// forward, scaled loss, backward, weighted sum, mean, unscale, check, clip, step or skip.
///
/// For one model and one optimizer in a loop of your own. Several models have
/// a `MicroBatchTrainer` each, and a second one is refused; where they share a loss scaler, compose the pieces of
/// [`precision`](crate::precision) and [`accumulate`](crate::accumulate)
/// instead.
///
/// The loss and the gradients are read and found finite before a parameter changes. A step that is
/// skipped or fails, out of device memory included, leaves no trace: parameters, optimizer and
/// running statistics are as they were.
///
/// # Memory
/// The model moves through the optimizer: one parameter at a time is there twice, unless updates are to be
/// [undone](MicroBatchTrainerConfig::undo_updates) or somebody else has a clone of the model. What an optimizer
/// keeps may be [less](crate::optim).
///
/// # Exactness
/// As its parts: accumulation is exact up to f32 rounding, f32 without
/// accumulation is bit-equal to a plain step, half precision is approximate.
/// Batch normalization takes its statistics per micro-batch.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::optim::SgdConfig;
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::train::{MicroLoss, StepOutcome, MicroBatchTrainerConfig};
///
/// let device = Device::flex().autodiff();
/// let mut model: Linear = LinearConfig::new(4, 1).init(&device);
/// let mut train = MicroBatchTrainerConfig::new()
///     .with_accumulation_steps(2)
///     .init(SgdConfig::new().init());
///
/// for num_items in [3, 1] {
///     let images = Tensor::<2>::ones([num_items, 4], &device);
///     train.micro_batch(&model, images, |m, x| m.forward(x), |output| {
///         MicroLoss::mean(output.square().mean(), num_items as f64)
///     });
///     let (next, outcome) = train.step(model, 0.1);
///     model = next;
///     if let StepOutcome::Stepped { loss, grad_norm } = outcome? {
///         assert!(loss.is_finite() && grad_norm > 0.0);
///     }
/// }
/// assert_eq!(train.state().steps, 1);
/// # Ok::<(), burn_memopt::train::StepError>(())
/// ```
pub struct MicroBatchTrainer {
    pub(super) group: Group,
    pub(super) optimizer: ModuleOptimizer,
    pub(super) undo_updates: bool,
}

impl MicroBatchTrainer {
    pub(super) fn new(group: Group, optimizer: ModuleOptimizer, undo_updates: bool) -> Self {
        Self {
            group,
            optimizer,
            undo_updates,
        }
    }

    /// Runs one micro-batch forward and backward and accumulates its gradients.
    ///
    /// `forward` sees the model and `input` in the precision of the step; `loss` sees the output in
    /// f32. Nothing of the micro-batch stays in memory but one set of gradients.
    ///
    /// # Panics
    /// - Before anything ran, if the model has layers that cannot run in the precision of the step;
    ///   lists them with the remedy for each, as [`Autocast::check`] does.
    /// - If `model` is not the one that this step trains: other parameters within a group, none in
    ///   common with the model of the group before.
    /// - If the loss is not part of an autodiff graph, or no parameter has a gradient: `model` is an
    ///   autocast view, or the loss does not depend on it.
    pub fn micro_batch<M, I, O>(
        &mut self,
        model: &M,
        input: I,
        forward: impl FnOnce(&M, I) -> O,
        loss: impl FnOnce(O) -> MicroLoss,
    ) where
        M: Module,
        I: Tensors,
        O: Tensors,
    {
        self.begin(model);
        let output = share_seed(|| self.autocast().run(model, input, forward));
        self.backward(model, loss(output));
    }

    /// Remembers the running statistics of `model` at the start of a group, and
    /// checks it before the first.
    ///
    /// [`micro_batch`](Self::micro_batch) does it; call it before a forward pass
    /// of your own, whose loss goes to [`backward`](Self::backward). Without it
    /// a refused step keeps the statistics of its forward passes.
    ///
    /// # Panics
    /// If `model` cannot run in this precision, or is not the one that this step
    /// trains, as [`micro_batch`](Self::micro_batch).
    pub fn begin<M: Module>(&mut self, model: &M) {
        self.group.begin(model);
    }

    /// Accumulates the gradients of a loss that was computed by other means,
    /// from [`autocast`](Self::autocast) or without.
    ///
    /// # Panics
    /// As [`micro_batch`](Self::micro_batch).
    pub fn backward<M: Module>(&mut self, model: &M, loss: MicroLoss) {
        self.group.backward(model, loss);
    }

    /// Steps the optimizer if the group is complete; call it after every micro-batch.
    ///
    /// Returns the model in any case: changed only if the outcome is
    /// [`StepOutcome::Stepped`].
    ///
    /// # Errors
    /// - Without loss scaling, if the loss or a gradient is not finite.
    /// - With it, if `max_skipped_steps` steps in a row were skipped, or one at the lowest scale.
    /// - If the device fails, out of memory for instance.
    ///
    /// The gradients of the group are dropped; the model and the optimizer are
    /// as before, running statistics included.
    ///
    /// # Panics
    /// If `model` is not that of the group's micro-batches.
    pub fn step<M: Module>(
        &mut self,
        model: M,
        lr: impl Into<ModuleLearningRate>,
    ) -> (M, Result<StepOutcome, StepError>) {
        if !self.group.is_complete() {
            let micro_batches = self.group.micro_batches();
            return (model, Ok(StepOutcome::Accumulating { micro_batches }));
        }
        self.flush(model, lr)
    }

    /// Steps the optimizer with whatever is accumulated: the last, incomplete
    /// group of an epoch, weighted as what it is.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn flush<M: Module>(
        &mut self,
        model: M,
        lr: impl Into<ModuleLearningRate>,
    ) -> (M, Result<StepOutcome, StepError>) {
        let state = self.group.state().clone();
        match self.group.finish(&model) {
            Ok(Verdict::Step {
                grads,
                loss,
                grad_norm,
            }) => {
                let (model, updated) = self.update(model, lr.into(), grads);
                if let Err(source) = updated {
                    let step = self.group.state().steps;
                    self.group.undo(&model);
                    self.group.set_state(state);
                    return (model, Err(StepError::Device { step, source }));
                }
                (model, Ok(StepOutcome::Stepped { loss, grad_norm }))
            }
            Ok(Verdict::Skip { scale }) => (model, Ok(StepOutcome::Skipped { scale })),
            Ok(Verdict::Empty) => (model, Ok(StepOutcome::Empty)),
            Err(error) => (model, Err(error)),
        }
    }

    /// Drops what is accumulated and returns its mean loss, with running statistics as before; `None`
    /// if there was nothing to learn from.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If `model` is not that of the group's micro-batches.
    pub fn discard<M: Module>(&mut self, model: &M) -> Result<Option<f64>, StepError> {
        self.group.discard(model)
    }

    /// Ends the group, complete or not, and returns its mean gradients in place of a step: unscaled, found finite and
    /// clipped. `None` if there was nothing to learn from, or a scaled gradient overflowed.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    ///
    /// # Panics
    /// If `model` is not that of the group's micro-batches.
    pub fn take_gradients<M: Module>(
        &mut self,
        model: &M,
    ) -> Result<Option<GradientsParams>, StepError> {
        Ok(match self.group.finish(model)? {
            Verdict::Step { grads, .. } => Some(grads),
            Verdict::Empty | Verdict::Skip { .. } => None,
        })
    }

    /// Counts what `run` accumulates as one micro-batch: added up by itself, and then to the group.
    pub(crate) fn as_one<M: Module, T>(
        &mut self,
        model: &M,
        run: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.begin(model);
        let before = self.group.set_aside();
        let result = run(self);
        self.group.join(before, model);
        result
    }

    /// Drops the group, and puts running statistics back.
    pub(crate) fn undo<M: Module>(&mut self, model: &M) {
        self.group.undo(model);
    }

    /// The mean loss of the last group, before it was scaled; `None` before the first.
    ///
    /// After a skipped step it is finite if gradients overflowed because of the scale alone.
    pub fn last_loss(&self) -> Option<f64> {
        self.group.last_loss()
    }

    /// The precision and policy of the forward pass.
    pub fn autocast(&self) -> &Autocast {
        self.group.autocast()
    }

    /// The optimizer, to save its record.
    pub fn optimizer(&self) -> &ModuleOptimizer {
        &self.optimizer
    }

    /// Replaces the optimizer, by one with a loaded record for instance.
    pub fn set_optimizer(&mut self, optimizer: impl Into<ModuleOptimizer>) {
        self.optimizer = optimizer.into();
    }

    /// What a resumed run needs besides model and optimizer. Take it between
    /// groups: accumulated gradients are not part of it.
    pub fn state(&self) -> &TrainState {
        self.group.state()
    }

    /// Continues from a saved state; what was accumulated is dropped.
    ///
    /// # Errors
    /// If one of the two scales the loss and the other does not: the state is
    /// of a run in another precision.
    pub fn load_state(&mut self, state: TrainState) -> Result<(), StepError> {
        self.group.load_state(state)
    }
}
