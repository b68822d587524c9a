use burn::train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingItem, ValidLoader,
};

use super::{MicroStep, fail};
use crate::grad_checkpoint::share_seed;
use crate::train::group::{Group, Verdict};

/// One pass over the training data. Whatever is left of a group at its end is
/// stepped with; an interruption drops it.
pub(super) fn train<M: MicroStep>(
    loader: &TrainLoader<M>,
    learner: &mut Learner<M>,
    group: &mut Group,
    processor: &mut SupervisedTrainingEventProcessor<M>,
    interrupter: &Interrupter,
) {
    let mut batches = loader.iter();
    let mut iteration = 0;
    while let Some(batch) = batches.next() {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return interrupter.fail(error),
        };
        iteration += 1;
        log::info!("Iteration {iteration}");
        let progress = batches.progress();

        let model = learner.model();
        group.begin(&model);
        let (loss, output) = share_seed(|| model.micro_step(batch, group.autocast()));
        group.backward(&model, loss);
        drop(model);
        if group.is_complete() || progress.is_completed() {
            finish(learner, group, interrupter);
        }

        let lr = Some(learner.lr_current());
        let item = TrainingItem::new(output, progress, Some(iteration), lr);
        interrupter.fail_on_error(processor.process_train(LearnerEvent::ProcessedItem(item)));
        if interrupter.should_stop() {
            return;
        }
    }
    // Loaders that do not know their length never say that they are at the end.
    finish(learner, group, interrupter);
}

/// Ends a group: the schedule and the optimizer move, or neither does.
fn finish<M: MicroStep>(learner: &mut Learner<M>, group: &mut Group, interrupter: &Interrupter) {
    match group.finish(&learner.model()) {
        Ok(Verdict::Step { grads, .. }) => {
            learner.lr_step();
            learner.optimizer_step(grads);
        }
        Ok(Verdict::Skip { scale }) => log::warn!(
            "training step {}: a scaled gradient overflowed, the step is skipped; the loss scale \
             is now {scale}",
            group.state().steps
        ),
        Ok(Verdict::Empty) => {}
        Err(error) => fail(interrupter, error),
    }
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
