use burn::module::{Module, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, FloatDType, Tensor};

use super::micro_seeds::end_forward;
use super::running_statistics::RunningStatistics;
use super::{MicroBatchTrainerConfig, MicroLoss, StepError, TrainState};
use crate::accumulate::{WeightedAccumulator, parameter_ids};
use crate::chunked::BoxError;
use crate::gradients::Clipping;
use crate::precision::{Autocast, LossScaler, Scaled, ScaledLoss, Unscaled};

/// A group of micro-batches on its way to one optimizer step: everything of a
/// [`MicroBatchTrainer`](super::MicroBatchTrainer) but the optimizer.
pub(super) struct Group {
    autocast: Autocast,
    accumulation_steps: usize,
    clipping: Option<Clipping>,
    max_skipped_steps: usize,
    accumulator: Scaled<WeightedAccumulator>,
    /// Sum of weight times mean loss over the group, left on the device.
    loss_sum: Option<Tensor<1>>,
    /// Mean loss of the last group that was read.
    last_loss: Option<f64>,
    /// As they were before the group; kept after it, to undo its update.
    statistics: Option<RunningStatistics>,
    /// The parameters of the model that was last trained; none before the first.
    ids: Vec<ParamId>,
    state: TrainState,
    /// What a replica said when its memory ran out.
    pub(super) out_of_memory: Option<BoxError>,
}

/// What a group has accumulated.
pub(super) struct Aside {
    accumulator: Scaled<WeightedAccumulator>,
    loss_sum: Option<Tensor<1>>,
}

/// The result of a group.
pub(super) enum Verdict {
    /// No gradients.
    Empty,
    /// To be stepped with.
    Step {
        /// Mean, unscaled, clipped gradients.
        grads: GradientsParams,
        /// Weighted mean of the losses.
        loss: f64,
        /// Global L2 norm of the gradients before clipping.
        grad_norm: f64,
    },
    /// A scaled gradient overflowed; the model is as before the group.
    Skip {
        /// Scale of the next group.
        scale: f32,
    },
}

impl Group {
    pub(super) fn new(config: &MicroBatchTrainerConfig, scaler: Option<LossScaler>) -> Self {
        Self {
            autocast: Autocast::new(config.precision).with_policy(config.policy.clone()),
            accumulation_steps: config.accumulation_steps,
            clipping: config.clipping.map(Clipping::validate),
            max_skipped_steps: config.max_skipped_steps,
            accumulator: Scaled::default(),
            loss_sum: None,
            last_loss: None,
            statistics: None,
            ids: Vec::new(),
            state: TrainState {
                steps: 0,
                skipped_in_a_row: 0,
                scaler,
            },
            out_of_memory: None,
        }
    }

    pub(super) fn autocast(&self) -> &Autocast {
        &self.autocast
    }

    pub(super) fn state(&self) -> &TrainState {
        &self.state
    }

    pub(super) fn load_state(&mut self, state: TrainState) -> Result<(), StepError> {
        if state.scaler.is_some() != self.state.scaler.is_some() {
            return Err(StepError::OtherScaling {
                saved: state.scaling(),
                expected: self.state.scaling(),
            });
        }
        self.accumulator.clear();
        self.loss_sum = None;
        self.statistics = None;
        self.ids.clear();
        self.state = state;
        Ok(())
    }

    /// Drops the group, which may have ended with an update already, and puts running statistics
    /// back.
    pub(super) fn undo<M: Module>(&mut self, model: &M) {
        self.accumulator.clear();
        self.loss_sum = None;
        if let Some(statistics) = self.statistics.take() {
            statistics.restore(model);
        }
    }

    /// Counts as if the groups since `state` had not been.
    pub(super) fn set_state(&mut self, state: TrainState) {
        self.state = state;
    }

    /// Drops the group and returns its mean loss.
    pub(super) fn discard<M: Module>(&mut self, model: &M) -> Result<Option<f64>, StepError> {
        let mean = self.mean(model);
        self.undo(model);
        Ok(mean?.map(|(loss, _)| loss))
    }

    pub(super) fn last_loss(&self) -> Option<f64> {
        self.last_loss
    }

    pub(super) fn micro_batches(&self) -> usize {
        self.accumulator.micro_batches()
    }

    pub(super) fn accumulation_steps(&self) -> usize {
        self.accumulation_steps
    }

    pub(super) fn is_complete(&self) -> bool {
        self.micro_batches() >= self.accumulation_steps
    }

    /// Remembers the running statistics before the first micro-batch; before the very first, sees
    /// that the model can run in this precision.
    pub(super) fn begin<M: Module>(&mut self, model: &M) {
        if self.ids.is_empty()
            && let Err(error) = self.autocast.check(model)
        {
            panic!("{error}");
        }
        self.check_model(model);
        if self.accumulator.micro_batches() == 0 {
            self.statistics = Some(RunningStatistics::read(model));
        }
    }

    /// One optimizer, one loss scale and one group are for one model. It may grow or shrink between
    /// groups; within one the accumulator sees that it stays the same.
    fn check_model<M: Module>(&mut self, model: &M) {
        let ids = parameter_ids(model);
        assert!(
            self.ids.is_empty() || ids.iter().any(|id| self.ids.contains(id)),
            "a `MicroBatchTrainer` must train one model, got another that shares no parameter with it: give \
             each model a `MicroBatchTrainer` of its own"
        );
        self.ids = ids;
    }

    /// Accumulates the gradients of one micro-batch.
    pub(super) fn backward<M: Module>(&mut self, model: &M, loss: MicroLoss) {
        self.check_model(model);
        end_forward(&loss.loss.device());
        let loss = MicroLoss {
            loss: loss.loss.cast(FloatDType::F32),
            ..loss
        };
        let (value, is_sum) = (loss.loss.clone().without_autodiff(), loss.is_sum);
        let (scaled, loss) = match &self.state.scaler {
            Some(scaler) => {
                // Gradients of a sum over many pixels are too large for f16.
                let mean = loss.into_mean();
                (scaler.scale(mean.loss.clone()), mean)
            }
            None => (ScaledLoss::unscaled(loss.loss.clone()), loss),
        };
        let grads = scaled.backward().params(model);
        if loss.is_sum {
            self.accumulator.accumulate_sum(model, grads, loss.weight);
        } else {
            self.accumulator.accumulate(model, grads, loss.weight);
        }
        self.add_loss(value, loss.weight, is_sum);
    }

    fn add_loss(&mut self, loss: Tensor<1>, weight: f64, is_sum: bool) {
        if weight > 0.0 {
            self.add_loss_sum(match is_sum {
                true => loss,
                false => loss.mul_scalar(weight),
            });
        }
    }

    fn add_loss_sum(&mut self, loss: Tensor<1>) {
        self.loss_sum = Some(match self.loss_sum.take() {
            Some(sum) => sum.add(loss),
            None => loss,
        });
    }

    /// Forgets what is only known of the group before, where this one has not begun.
    pub(super) fn expect_replicas(&mut self) {
        self.out_of_memory = None;
        if self.micro_batches() == 0 {
            self.statistics = None;
        }
    }

    /// Begins a group of micro-batches on a replica of the model that `main` trains.
    pub(super) fn follow(&mut self, main: &Self) {
        self.accumulator.clear();
        self.loss_sum = None;
        self.state = main.state.clone();
    }

    /// Takes what a replica accumulated, as if its micro-batches had run here, on `device`; `replica` is the
    /// replica's model, or contains it.
    pub(super) fn absorb<M: Module>(&mut self, other: &mut Self, replica: &M, device: &Device) {
        if other.micro_batches() == 0 {
            return;
        }
        if self.micro_batches() == 0 {
            let statistics = other.statistics.take();
            self.statistics = statistics.map(|statistics| statistics.moved(replica, device));
        }
        self.ids.clone_from(&other.ids);
        self.accumulator
            .absorb(&mut other.accumulator, replica, device);
        if let Some(loss) = other.loss_sum.take() {
            self.add_loss_sum(loss.to_device(device));
        }
    }

    /// Takes what is accumulated, so that what comes next is added up by itself.
    pub(super) fn set_aside(&mut self) -> Aside {
        Aside {
            accumulator: std::mem::take(&mut self.accumulator),
            loss_sum: self.loss_sum.take(),
        }
    }

    /// Adds what was accumulated since as one micro-batch.
    pub(super) fn join<M: Module>(&mut self, before: Aside, model: &M) {
        let mut one = std::mem::replace(&mut self.accumulator, before.accumulator);
        let loss = std::mem::replace(&mut self.loss_sum, before.loss_sum);
        if let Some(device) = model.devices().first() {
            self.accumulator.join(&mut one, model, device);
        }
        if let Some(loss) = loss {
            self.add_loss_sum(loss);
        }
    }

    /// The weight of what is accumulated.
    pub(super) fn weight(&self) -> f64 {
        self.accumulator.weight()
    }

    /// Ends the group, complete or not, and decides what to do with it. Running
    /// statistics are put back unless it is to be stepped with.
    ///
    /// # Errors
    /// As [`MicroBatchTrainer::step`](crate::train::MicroBatchTrainer::step).
    pub(super) fn finish<M: Module>(&mut self, model: &M) -> Result<Verdict, StepError> {
        let refused = match self.mean(model) {
            Ok(None) => return Ok(Verdict::Empty),
            Ok(Some((loss, grads))) if loss.is_finite() && grads.is_finite() => {
                return Ok(self.accept(model, loss, grads));
            }
            Ok(Some((loss, grads))) => self.refuse(model, loss, grads),
            Err(error) => Err(error),
        };
        self.undo(model);
        refused
    }

    /// The mean loss and the mean, unscaled gradients, read from the device.
    fn mean<M: Module>(&mut self, model: &M) -> Result<Option<(f64, Unscaled)>, StepError> {
        let step = self.state.steps + 1;
        let failed = |source| StepError::Device { step, source };
        let weight = self.accumulator.weight();
        let grads = self.accumulator.finish(model);
        let (Some(grads), Some(loss_sum)) = (grads, self.loss_sum.take()) else {
            return Ok(None);
        };
        let grads = grads.try_unscale(model).map_err(failed)?;
        let loss_sum = loss_sum.try_into_scalar::<f32>().map_err(failed)?;
        let loss = f64::from(loss_sum) / weight;
        self.last_loss = Some(loss);
        Ok(Some((loss, grads)))
    }

    fn accept<M: Module>(&mut self, model: &M, loss: f64, grads: Unscaled) -> Verdict {
        let grad_norm = grads.norm();
        let grads = match self.clipping {
            Some(clipping) => grads.clip(model, clipping),
            None => grads,
        };
        let (grads, stepped) = grads.into_grads();
        self.state.advance(stepped);
        Verdict::Step {
            grads: grads.expect("invariant: only finite gradients are accepted"),
            loss,
            grad_norm,
        }
    }

    fn refuse<M: Module>(
        &mut self,
        model: &M,
        loss: f64,
        grads: Unscaled,
    ) -> Result<Verdict, StepError> {
        let step = self.state.steps + 1;
        if self.state.scaler.is_none() {
            return Err(if loss.is_finite() {
                StepError::NonFiniteGradients {
                    step,
                    parameters: grads.overflowed(model),
                }
            } else {
                StepError::NonFiniteLoss { step, loss }
            });
        }
        let scaler = self.state.scaler.as_ref();
        let was_lowest = scaler.is_some_and(LossScaler::is_lowest);
        let scale = self.state.advance(grads.skip()).unwrap_or(1.0);
        let skipped = self.state.skipped_in_a_row;
        if was_lowest || skipped >= self.max_skipped_steps {
            return Err(StepError::Diverged {
                step,
                skipped,
                scale,
                loss,
            });
        }
        Ok(Verdict::Skip { scale })
    }
}
