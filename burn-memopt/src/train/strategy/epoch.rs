use std::sync::{Mutex, PoisonError};

use burn::data::dataloader::Progress;
use burn::train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent,
    SupervisedTrainingEventProcessor, TrainLoader, TrainStep, TrainingItem, ValidLoader,
};

use super::update::in_parts;
use super::{MicroStep, fail};
use crate::grad_checkpoint::share_seed;
use crate::train::group::Verdict;
use crate::train::{DataParallel, MicroBatchTrainer};

/// One pass over the training data. Whatever is left of a group at its end is
/// stepped with; an interruption drops it.
pub(super) struct Pass<'a, M: MicroStep> {
    pub(super) learner: &'a mut Learner<M>,
    pub(super) train: &'a mut MicroBatchTrainer,
    pub(super) processor: &'a mut SupervisedTrainingEventProcessor<M>,
    pub(super) interrupter: &'a Interrupter,
}

impl<M: MicroStep> Pass<'_, M> {
    /// On one device.
    pub(super) fn run(&mut self, loader: &TrainLoader<M>) {
        let mut batches = loader.iter();
        let mut iteration = 0;
        while let Some(batch) = batches.next() {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return self.interrupter.fail(error),
            };
            iteration += 1;
            log::info!("Iteration {iteration}");
            let progress = batches.progress();

            let model = self.learner.model();
            let output = micro_step(self.train, &model, batch);
            drop(model);
            if self.train.group.is_complete() || progress.is_completed() {
                self.finish();
            }
            self.show(output, progress, iteration);
            if self.interrupter.should_stop() {
                return;
            }
        }
        // Loaders that do not know their length never say that they are at the end.
        self.finish();
    }

    /// A step's micro-batches on as many devices as there are.
    pub(super) fn run_spread(
        &mut self,
        loader: &TrainLoader<M>,
        parallel: &mut DataParallel<MicroBatchTrainer>,
    ) {
        let devices = parallel.devices().to_vec();
        let is_mixed = devices.iter().any(|device| *device != devices[0]);
        let group_len = self.train.group.accumulation_steps();
        let mut batches = loader.iter();
        let mut iteration = 0;
        loop {
            let (mut progresses, mut failed) = (Vec::new(), None);
            let outputs: Vec<_> = (0..group_len).map(|_| Mutex::new(None)).collect();
            let group = (0..group_len).map_while(|number| {
                let batch = batches.next()?.map_err(|error| failed = Some(error)).ok()?;
                progresses.push(batches.progress());
                Some((number, batch))
            });
            let model = self.learner.model();
            let ran = parallel.micro_batches(self.train, &model, group, |train, model, (number, batch)| {
                let batch = match is_mixed {
                    true => M::batch_to_device(batch, &devices[number % devices.len()]).expect(
                        "training on devices that differ needs an implementation of `MicroStep::batch_to_device`",
                    ),
                    false => batch,
                };
                let output = micro_step(train, model, batch);
                *outputs[number].lock().unwrap_or_else(PoisonError::into_inner) = Some(output);
            });
            drop(model);
            if let Some(error) = failed {
                return self.interrupter.fail(error);
            }
            if let Err(error) = ran {
                return fail(self.interrupter, error);
            }
            if progresses.is_empty() {
                return;
            }
            let last = progresses.len() - 1;
            for (number, (output, progress)) in outputs.into_iter().zip(progresses).enumerate() {
                if number == last {
                    self.finish();
                }
                iteration += 1;
                let output = output.into_inner().unwrap_or_else(PoisonError::into_inner);
                let output = output.expect("invariant: every micro-batch ran");
                self.show(output, progress, iteration);
            }
            if self.interrupter.should_stop() {
                return;
            }
        }
    }

    /// Ends a group: the schedule and the optimizer move, or neither does.
    fn finish(&mut self) {
        let Self {
            learner,
            train,
            interrupter,
            ..
        } = self;
        let model = learner.model();
        let verdict = train.group.finish(&model);
        match verdict {
            Ok(Verdict::Step { grads, .. }) => {
                let parts = in_parts(&model, grads);
                // Its parameters would be kept through the update.
                drop(model);
                learner.lr_step();
                parts
                    .into_iter()
                    .for_each(|grads| learner.optimizer_step(grads));
            }
            Ok(Verdict::Skip { scale }) => log::warn!(
                "training step {}: a scaled gradient overflowed, the step is skipped; the loss scale \
                 is now {scale}",
                train.state().steps
            ),
            Ok(Verdict::Empty) => {}
            Err(error) => fail(interrupter, error),
        }
    }

    fn show(&mut self, output: <M as TrainStep>::Output, progress: Progress, iteration: usize) {
        let lr = Some(self.learner.lr_current());
        let item = TrainingItem::new(output, progress, Some(iteration), lr);
        let event = LearnerEvent::ProcessedItem(item);
        self.interrupter
            .fail_on_error(self.processor.process_train(event));
    }
}

/// Runs one micro-batch forward and backward.
fn micro_step<M: MicroStep>(
    train: &mut MicroBatchTrainer,
    model: &M,
    batch: <M as TrainStep>::Input,
) -> <M as TrainStep>::Output {
    train.begin(model);
    let (loss, output) = share_seed(|| model.micro_step(batch, train.autocast()));
    train.backward(model, loss);
    output
}

/// One pass over the validation data, in f32.
pub(super) fn validate<M: MicroStep>(
    loader: &ValidLoader<M>,
    learner: &Learner<M>,
    processor: &mut SupervisedTrainingEventProcessor<M>,
    interrupter: &Interrupter,
) {
    let model = learner.model().valid();
    let mut batches = loader.iter();
    let mut iteration = 0;
    while let Some(batch) = batches.next() {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return interrupter.fail(error),
        };
        iteration += 1;
        let progress = batches.progress();
        let output = InferenceStep::step(&model, batch);
        let item = TrainingItem::new(output, progress, Some(iteration), None);
        interrupter.fail_on_error(processor.process_valid(LearnerEvent::ProcessedItem(item)));
        if interrupter.should_stop() {
            return;
        }
    }
}
