//! Steps that are undone when memory runs out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, TensorReadError};
use burn_backend::ExecutionError;

use super::readable::try_read;
use super::{MicroBatches, StepError, StepOutcome, TrainStep};
use crate::batch::Failure;

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
        let update = AssertUnwindSafe(|| self.optimizer.step(lr, model, grads));
        let failed = match catch_unwind(update) {
            Ok(updated) => match try_read(&updated) {
                Ok(()) => return (updated, Ok(())),
                Err(error) => error,
            },
            Err(panic) => error_of(panic),
        };
        let model;
        (model, self.optimizer) = before;
        (model, Err(failed))
    }

    /// Makes one optimizer step of an effective batch, in micro-batches as large as memory allows.
    ///
    /// `run` runs all of its micro-batches, of a size that it is given, through
    /// [`micro_batch`](Self::micro_batch). If memory runs out, what it did is undone and it is asked
    /// again, for the same items in smaller micro-batches: `parts` goes on with these. Set
    /// [`undo_updates`](super::TrainStepConfig::undo_updates), lest an update that runs out of memory be
    /// taken for one that was made.
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
        mut model: M,
        lr: impl Into<ModuleLearningRate>,
        parts: &mut MicroBatches,
        mut run: impl FnMut(&mut Self, &M, usize) -> Result<(), E>,
    ) -> (M, Result<StepOutcome, E>) {
        let lr = lr.into();
        loop {
            let attempt = AssertUnwindSafe(|| run(self, &model, parts.size()));
            let source = match catch_unwind(attempt) {
                Ok(Ok(())) => {
                    let (next, outcome) = self.flush(model, lr.clone());
                    model = next;
                    match outcome {
                        Err(StepError::Device { source, .. }) if is_out_of_memory(&source) => {
                            source
                        }
                        outcome => return (model, outcome.map_err(E::from)),
                    }
                }
                Ok(Err(error)) => {
                    self.group.undo(&model);
                    return (model, Err(error));
                }
                Err(panic) => {
                    self.group.undo(&model);
                    error_of(panic)
                }
            };
            model.devices().iter().for_each(Device::memory_cleanup);
            if !parts.shrink() {
                let (step, tried) = (self.state().steps + 1, parts.tried().to_vec());
                let error = StepError::OutOfMemory {
                    step,
                    tried,
                    source,
                };
                return (model, Err(error.into()));
            }
        }
    }
}

fn is_out_of_memory(error: &TensorReadError) -> bool {
    Failure::of(error).is_out_of_memory()
}

/// The lack of memory that a panic tells of; any other goes on.
fn error_of(panic: Box<dyn Any + Send>) -> TensorReadError {
    match Failure::of_panic(&*panic).is_out_of_memory() {
        true => ExecutionError::with_context(Failure::panic_text(&*panic)).into(),
        false => resume_unwind(panic),
    }
}
