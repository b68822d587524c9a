//! Steps that are undone when memory runs out.

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::TensorReadError;
use burn_backend::ExecutionError;

use super::readable::try_read;
use super::{MicroBatches, StepError, StepOutcome, TrainStep};
use crate::batch::Failure;
use crate::budget::{Attempt, catch_out_of_memory, retry};

impl TrainStep {
    /// Steps the optimizer; if updates are undone, and this one cannot be read, model and optimizer
    /// are as before.
    pub(super) fn update<M: Module>(
        &mut self,
        model: M,
        lr: ModuleLearningRate,
        grads: GradientsParams,
    ) -> (M, Result<(), TensorReadError>) {
        if !self.undo_updates {
            return (self.optimizer.step(lr, model, grads), Ok(()));
        }
        let before = (model.clone(), self.optimizer.clone());
        let updated = catch_out_of_memory(|| {
            let updated = self.optimizer.step(lr, model, grads);
            try_read(&updated).map_err(Attempt::Failed)?;
            Ok(updated)
        });
        let failed = match updated {
            Ok(updated) => return (updated, Ok(())),
            Err(Attempt::Failed(error)) => error,
            Err(Attempt::OutOfMemory(why)) => ExecutionError::with_context(why.to_string()).into(),
        };
        let model;
        (model, self.optimizer) = before;
        (model, Err(failed))
    }

    /// Makes one optimizer step of an effective batch, in micro-batches as large as memory allows.
    ///
    /// `run` runs all of its micro-batches, of the size that it gets, through
    /// [`micro_batch`](Self::micro_batch). If memory runs out, what it did is undone and it is
    /// [called again](retry), for the same items in smaller micro-batches, which `parts` keeps. Set
    /// [`undo_updates`](super::TrainStepConfig::undo_updates), so that an update that runs out of memory
    /// is noticed.
    ///
    /// # Exactness
    /// The step is the one that a run makes which has this size from the beginning.
    ///
    /// # Errors
    /// As [`step`](Self::step), and as `run` fails; [`StepError::OutOfMemory`] if not even micro-batches
    /// of one item fit. The model is as before the step.
    ///
    /// # Panics
    /// As `run` does, unless for lack of memory.
    ///
    /// # Example
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::optim::SgdConfig;
    /// use burn::tensor::{Device, Tensor};
    /// use burn_memopt::train::{MicroBatches, MicroLoss, StepError, StepOutcome, TrainStepConfig};
    ///
    /// let device = Device::flex().autodiff();
    /// let model: Linear = LinearConfig::new(4, 1).init(&device);
    /// let config = TrainStepConfig::new().with_undo_updates(true);
    /// let mut train = config.init(SgdConfig::new().init());
    /// let images = Tensor::<2>::ones([12, 4], &device);
    ///
    /// let mut parts = MicroBatches::new(12, 1);
    /// let (_, outcome) = train.step_in_parts(model, 0.1, &mut parts, |train, model, size| {
    ///     for images in images.clone().split(size, 0) {
    ///         // As a small device would say.
    ///         assert!(images.dims()[0] < 5, "can't allocate buffer of size: 64");
    ///         let loss = |output: Tensor<2>| MicroLoss::mean(output.square().mean(), size as f64);
    ///         train.micro_batch(model, images, |m, x| m.forward(x), loss);
    ///     }
    ///     Ok::<_, StepError>(())
    /// });
    /// assert!(matches!(outcome?, StepOutcome::Stepped { .. }));
    /// assert_eq!((parts.tried(), parts.size(), parts.accumulation_steps()), (&[12, 6][..], 3, 4));
    /// # Ok::<(), StepError>(())
    /// ```
    pub fn step_in_parts<M: Module, E: From<StepError>>(
        &mut self,
        model: M,
        lr: impl Into<ModuleLearningRate>,
        parts: &mut MicroBatches,
        mut run: impl FnMut(&mut Self, &M, usize) -> Result<(), E>,
    ) -> (M, Result<StepOutcome, E>) {
        let lr = lr.into();
        let devices = model.devices();
        // A model that is updated moves through the optimizer.
        let mut state = (self, Some(model), parts);
        let outcome = retry(
            &mut state,
            &devices,
            |(train, model, parts)| {
                let current = model.take().expect(HELD);
                let ran = catch_out_of_memory(|| {
                    run(train, &current, parts.size()).map_err(Attempt::Failed)
                });
                let (next, outcome) = match ran {
                    Ok(()) => train.flush(current, lr.clone()),
                    Err(failed) => {
                        train.group.undo(&current);
                        *model = Some(current);
                        return Err(failed);
                    }
                };
                *model = Some(next);
                outcome.map_err(|error| match error {
                    StepError::Device { source, .. } if Failure::of(&source).is_out_of_memory() => {
                        Attempt::OutOfMemory(source.into())
                    }
                    error => Attempt::Failed(error.into()),
                })
            },
            |(train, _, parts), source| {
                if parts.shrink() {
                    return Ok(());
                }
                let error = StepError::OutOfMemory {
                    step: train.state().steps + 1,
                    tried: parts.tried().to_vec(),
                    source,
                };
                Err(error.into())
            },
        );
        (state.1.expect(HELD), outcome)
    }
}

const HELD: &str = "invariant: every attempt gives the model back";
