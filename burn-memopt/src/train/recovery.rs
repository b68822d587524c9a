//! Steps in smaller micro-batches when memory runs out.

use burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, Tensor, TensorReadError};
use burn_backend::ExecutionError;

use super::{MicroBatchTrainer, StepError, StepOutcome};
use crate::batch::Failure;
use crate::budget::{AttemptError, catch_out_of_memory, retry};
use crate::memory::to_host;

/// How an effective batch, the items of one optimizer step, is divided into micro-batches.
///
/// Their size only ever gets smaller, to numbers that divide the effective batch, so that it keeps its
/// items.
///
/// # Example
/// ```
/// use burn_memopt::train::MicroBatches;
///
/// let mut parts = MicroBatches::new(12, 2);
/// assert!(parts.shrink());
/// assert_eq!((parts.size(), parts.accumulation_steps()), (6, 4));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicroBatches {
    effective: usize,
    size: usize,
    tried: Vec<usize>,
}

impl MicroBatches {
    /// `accumulation_steps` micro-batches of `size` items.
    ///
    /// # Panics
    /// If one of them is zero.
    pub fn new(size: usize, accumulation_steps: usize) -> Self {
        assert!(
            size > 0 && accumulation_steps > 0,
            "micro-batches must be at least 1 of at least 1 item, got {accumulation_steps} of {size}"
        );
        Self {
            effective: size * accumulation_steps,
            size,
            tried: Vec::new(),
        }
    }

    /// Items in a micro-batch.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Micro-batches in a step.
    pub fn accumulation_steps(&self) -> usize {
        self.effective / self.size
    }

    /// Items in a step.
    pub fn effective_batch_size(&self) -> usize {
        self.effective
    }

    /// Sizes that did not fit, in the order in which they were tried.
    pub fn tried(&self) -> &[usize] {
        &self.tried
    }

    /// Takes the largest size of at most `most` items, for a run that is resumed.
    ///
    /// # Panics
    /// If `most` is zero.
    pub fn limit(&mut self, most: usize) {
        assert!(most > 0, "micro-batches must have at least 1 item, got 0");
        let divides = |size: &usize| self.effective.is_multiple_of(*size);
        let smaller = (1..=most.min(self.size)).rev().find(divides);
        self.size = smaller.expect("invariant: 1 divides any number");
    }

    /// Notes that the size did not fit and takes half of it, or to the next smaller that divides
    /// the effective batch; returns whether there is one.
    pub fn shrink(&mut self) -> bool {
        self.tried.push(self.size);
        if self.size == 1 {
            return false;
        }
        self.limit(self.size / 2);
        true
    }
}

impl MicroBatchTrainer {
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
            try_read(&updated).map_err(AttemptError::Failed)?;
            Ok(updated)
        });
        let failed = match updated {
            Ok(updated) => return (updated, Ok(())),
            Err(AttemptError::Failed(error)) => error,
            Err(AttemptError::OutOfMemory(why)) => {
                ExecutionError::with_context(why.to_string()).into()
            }
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
    /// [`undo_updates`](super::MicroBatchTrainerConfig::undo_updates), so that an update that runs out of memory
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
    /// use burn_memopt::train::{MicroBatches, MicroLoss, StepError, StepOutcome, MicroBatchTrainerConfig};
    ///
    /// let device = Device::flex().autodiff();
    /// let model: Linear = LinearConfig::new(4, 1).init(&device);
    /// let config = MicroBatchTrainerConfig::new().with_undo_updates(true);
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
                    run(train, &current, parts.size()).map_err(AttemptError::Failed)
                });
                let (next, outcome) = match ran {
                    Ok(()) => train.flush(current, lr.clone()),
                    Err(failed) => {
                        train.group.undo(&current);
                        *model = Some(current);
                        return Err(match train.group.out_of_memory.take() {
                            Some(source) => AttemptError::OutOfMemory(source),
                            None => failed,
                        });
                    }
                };
                *model = Some(next);
                outcome.map_err(|error| match error {
                    StepError::Device { source, .. } if Failure::of(&source).is_out_of_memory() => {
                        AttemptError::OutOfMemory(source.into())
                    }
                    error => AttemptError::Failed(error.into()),
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

/// Reads one number of each float tensor of `model`, so that a tensor which the device never wrote
/// shows.
///
/// Where an allocation fails, a device skips whatever depends on it and says so only when that is
/// read: see [`batch`](crate::batch).
fn try_read<M: Module>(model: &M) -> Result<(), TensorReadError> {
    let mut firsts = Firsts(Vec::new());
    model.visit(&mut firsts);
    if !firsts.0.is_empty() {
        to_host(Tensor::cat(firsts.0, 0))?;
    }
    Ok(())
}

struct Firsts(Vec<Tensor<1>>);

impl ModuleVisitor for Firsts {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val().without_autodiff();
        let num_elements = tensor.shape().num_elements();
        if num_elements > 0 {
            let first = tensor.reshape([num_elements]).narrow(0, 0, 1);
            self.0.push(first.cast(FloatDType::F32));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_effective_batch_stays_what_it_was(size in 1_usize..200, steps in 1_usize..20) {
            let mut parts = MicroBatches::new(size, steps);
            loop {
                let before = parts.size();
                prop_assert_eq!(parts.size() * parts.accumulation_steps(), size * steps);
                prop_assert_eq!(parts.effective_batch_size(), size * steps);
                if !parts.shrink() {
                    break;
                }
                prop_assert!(2 * parts.size() <= before);
            }
            prop_assert_eq!(parts.size(), 1);
            prop_assert_eq!(parts.tried().first(), Some(&size));
        }
    }

    #[test]
    fn sizes_are_halved_where_that_is_possible() {
        let mut parts = MicroBatches::new(24, 1);
        while parts.shrink() {}
        assert_eq!(parts.tried(), [24, 12, 6, 3, 1]);
        let mut odd = MicroBatches::new(7, 2);
        while odd.shrink() {}
        assert_eq!(odd.tried(), [7, 2, 1]);
    }

    #[test]
    fn a_limit_never_makes_them_larger() {
        let mut parts = MicroBatches::new(8, 3);
        parts.limit(100);
        assert_eq!(parts.size(), 8);
        parts.limit(5);
        assert_eq!(parts.size(), 4);
    }

    #[test]
    fn a_model_on_the_host_is_always_readable() {
        let device = Device::flex().autodiff();
        let model = vec![
            Param::from_tensor(Tensor::<2>::ones([2, 3], &device)),
            Param::from_tensor(Tensor::<2>::full([1, 1], f32::NAN, &device)),
        ];
        assert!(try_read(&model).is_ok());
    }
}
