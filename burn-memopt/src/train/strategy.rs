//! The training step inside burn-train's `SupervisedTraining`.

mod epoch;
mod micro_step;
mod saved_state;
mod update;

use std::path::Path;
use std::sync::Arc;

use burn::data::dataset::DatasetError;
use burn::optim::SgdConfig;
use burn::tensor::Device;
use burn::train::checkpoint::FileCheckpointer;
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTraining, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents,
    TrainingStrategy, ValidLoader,
};

use super::{
    DataParallel, DataParallelError, MicroBatchTrainer, MicroBatchTrainerConfig, StepError,
    TrainState,
};
pub use micro_step::MicroStep;
use saved_state::SavedState;
pub use saved_state::StateCheckpointer;

/// Runs burn-train's `SupervisedTraining` with accumulation, half precision,
/// loss scaling and clipping, on one device or several.
///
/// The loop is that of burn's own single-device strategy: dashboard, metrics, early stopping,
/// checkpointers, interruption and resuming work as they do there. Gradient checkpointing is inside
/// the model and needs nothing here. What differs:
/// - Gradients of a group are averaged by weight, not summed. The last,
///   incomplete group of an epoch is stepped with as what it is.
/// - A step whose scaled gradients overflow is skipped with a warning in the log:
///   parameters, optimizer, running statistics and the schedule of the learning
///   rate stay as they were.
/// - A loss or gradient that is not finite otherwise ends the training before it
///   reaches a parameter. `LearningResult::error` has the reason.
/// - A model with layers that cannot run in the precision of the run is refused
///   before its first step, with the remedy for each
///   ([`Autocast::check`](crate::precision::Autocast::check)).
/// - Validation is in f32, on the parameters the optimizer updates.
///
/// # Resuming
/// With the checkpointers of [`attach`](Self::attach) the loss scale is saved with the model, and a
/// resumed run has the losses of an uninterrupted one. The order of a shuffled loader is repeated
/// too: what burn's loaders drew in the epochs that are done is drawn again. Random numbers of the
/// device (dropout) cannot be saved; [`with_seed`](Self::with_seed) makes them a function of the
/// epoch.
///
/// # What burn-train does not let a strategy do
/// - Its `TrainStep` returns gradients, too late to scale the loss or show the
///   model in half precision: models also implement [`MicroStep`].
/// - It has no checkpointer for a strategy's state: [`StateCheckpointer`] saves it
///   together with the schedule. burn's default checkpointers would lose the loss
///   scale and are refused where the loss is scaled.
/// - It has no error of a strategy's own: a [`StepError`] arrives as
///   `TrainingError::Dataset`, whose innermost source it is.
/// - Its `Learner` keeps the model and steps a copy of it, so that all parameters would be there twice. Here the
///   optimizer gets the parameters of a step in up to 32 parts, of which one is there twice at a time: a
///   `TrainStep::optimize` of one's own is called for each.
/// - `SupervisedTraining::gradient_checkpointing` (burn's own, per operation) does
///   not reach a custom strategy: give a device with
///   `.autodiff().gradient_checkpointing()` instead.
/// - `SupervisedTraining::grads_accumulation` sums and is refused: set
///   `accumulation_steps` of [`MicroBatchTrainerConfig`].
///
/// # Exactness
/// In f32 without accumulation bit-equal to burn's own strategy; otherwise as
/// [`MicroBatchTrainer`](super::MicroBatchTrainer).
///
/// # Example
/// With a model `Net` that implements [`MicroStep`]:
/// ```
/// # use burn::train::{Learner, LearningResult, SupervisedTraining, TrainLoader, ValidLoader};
/// use burn::tensor::Device;
/// use burn_memopt::precision::Precision;
/// use burn_memopt::train::{MicroBatchStrategy, MicroStep, MicroBatchTrainerConfig};
///
/// # fn train<Net: MicroStep>(
/// #     learner: Learner<Net>, train: TrainLoader<Net>, valid: ValidLoader<Net>,
/// # ) -> LearningResult<Net> {
/// let config = MicroBatchTrainerConfig::new()
///     .with_precision(Precision::F16)
///     .with_accumulation_steps(4);
/// let strategy = MicroBatchStrategy::new(config, Device::flex());
///
/// let training = SupervisedTraining::new("artifacts", train, valid).num_epochs(10);
/// let result = strategy.attach(training, "artifacts").launch(learner);
/// # result
/// # }
/// ```
#[derive(Debug)]
pub struct MicroBatchStrategy {
    config: MicroBatchTrainerConfig,
    device: Device,
    /// Those beside it.
    others: Vec<Device>,
    sync_batch_norm: bool,
    seed: Option<u64>,
    saved: SavedState,
}

impl MicroBatchStrategy {
    /// A strategy that trains on `device`, by the settings of a
    /// [`MicroBatchTrainer`](super::MicroBatchTrainer).
    ///
    /// # Panics
    /// As [`MicroBatchTrainerConfig::init`].
    pub fn new(config: MicroBatchTrainerConfig, device: Device) -> Self {
        let _ = config.group();
        Self {
            config,
            device: recording(device),
            others: Vec::new(),
            sync_batch_norm: false,
            seed: None,
            saved: SavedState::default(),
        }
    }

    /// Trains on further devices beside the first one: the micro-batches of a step are spread over all, as by
    /// [`DataParallel`]. Models whose devices differ have to implement [`MicroStep::batch_to_device`].
    ///
    /// # Exactness
    /// Parameters are those of the first device alone, bit for bit on devices of one kind; random numbers are others, as each
    /// micro-batch has a seed of its own.
    #[must_use]
    pub fn with_devices(mut self, others: impl IntoIterator<Item = Device>) -> Self {
        self.others = others.into_iter().map(recording).collect();
        self
    }

    /// As [`DataParallel::with_sync_batch_norm`], with several devices. The default is `false`.
    #[must_use]
    pub fn with_sync_batch_norm(mut self, sync: bool) -> Self {
        self.sync_batch_norm = sync;
        self
    }

    /// Seeds the device before each epoch with a number made of `seed` and the
    /// epoch, so that a resumed run draws the random numbers of an uninterrupted
    /// one. The default is to leave the random stream alone.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// A checkpointer for the learning-rate schedule that saves the state of this strategy too, in
    /// `directory`; for `SupervisedTraining::with_custom_checkpointers`.
    pub fn checkpointer(&self, directory: impl AsRef<Path>) -> StateCheckpointer {
        self.saved.checkpointer(directory.as_ref())
    }

    /// Makes `training` run this strategy and save checkpoints in `directory/checkpoint`, in the
    /// files of burn's default checkpointers with `step-N.json` next to them.
    ///
    /// Without checkpoints use `training.with_training_strategy(strategy.into())`.
    pub fn attach<M: MicroStep>(
        self,
        training: SupervisedTraining<M>,
        directory: impl AsRef<Path>,
    ) -> SupervisedTraining<M> {
        let directory = directory.as_ref().join("checkpoint");
        training
            .with_custom_checkpointers(
                FileCheckpointer::new(&directory, "model"),
                FileCheckpointer::new(&directory, "optim"),
                self.checkpointer(&directory),
            )
            .with_training_strategy(self.into())
    }

    /// A trainer with the state that was restored if there is one. The learner has the optimizer.
    fn trainer<M: MicroStep>(
        &self,
        components: &TrainingComponents<M>,
        model: &M,
    ) -> Result<MicroBatchTrainer, StepError> {
        assert!(
            components.grad_accumulation.is_none(),
            "grads_accumulation must not be set with a MicroBatchStrategy, which uses \
             accumulation_steps of its MicroBatchTrainerConfig; got {}",
            components.grad_accumulation.unwrap_or_default()
        );
        let mut train = self.config.init(SgdConfig::new().init());
        let group = &mut train.group;
        let checked = group.autocast().check(model);
        checked.map_err(StepError::UnsupportedLayers)?;
        assert!(
            components.checkpointer.is_none()
                || self.saved.has_checkpointer()
                || group.state().scaler.is_none(),
            "the checkpointers must save the loss scale: register those of \
             MicroBatchStrategy::attach, got others"
        );
        let state: Option<TrainState> = components
            .checkpoint
            .and_then(|epoch| self.saved.take_restored(epoch));
        if let Some(state) = state {
            group.load_state(state)?;
        }
        Ok(train)
    }

    /// The replicas of several devices.
    fn parallel(&self) -> Result<Option<DataParallel<MicroBatchTrainer>>, DataParallelError> {
        if self.others.is_empty() {
            return Ok(None);
        }
        let devices = [std::slice::from_ref(&self.device), &self.others].concat();
        let parallel = DataParallel::new(&devices, || self.config.init(SgdConfig::new().init()))?;
        Ok(Some(parallel.with_sync_batch_norm(self.sync_batch_norm)))
    }

    fn seed_epoch(&self, epoch: usize) {
        if let Some(seed) = self.seed {
            // An odd constant spreads neighbouring epochs over the 64 bits.
            let of_epoch = (epoch as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.device.seed(seed.wrapping_add(of_epoch));
        }
    }
}

impl<M: MicroStep> From<MicroBatchStrategy> for TrainingStrategy<M> {
    fn from(strategy: MicroBatchStrategy) -> Self {
        Self::Custom(Arc::new(strategy))
    }
}

impl<M: MicroStep> SupervisedLearningStrategy<M> for MicroBatchStrategy {
    fn fit(
        &self,
        mut components: TrainingComponents<M>,
        mut learner: Learner<M>,
        train_loader: TrainLoader<M>,
        valid_loader: ValidLoader<M>,
        starting_epoch: usize,
    ) -> (M, SupervisedTrainingEventProcessor<M>) {
        let train_loader = train_loader.to_device(&self.device);
        let valid_loader = valid_loader.to_device(&self.device.clone().inner());
        learner.fork(&self.device);
        let trainer = self.trainer(&components, &learner.model());
        match trainer.and_then(|train| Ok((train, self.parallel()?))) {
            Ok((mut train, mut parallel)) => {
                // A shuffled loader draws an order for each iterator.
                for _ in 1..starting_epoch {
                    drop(train_loader.iter());
                }
                for epoch in starting_epoch..=components.num_epochs {
                    self.seed_epoch(epoch);
                    let loaders = (&train_loader, &valid_loader);
                    let step = (&mut train, parallel.as_mut());
                    if !run_epoch(epoch, &mut components, &mut learner, step, loaders) {
                        break;
                    }
                    self.saved.end_epoch(epoch, train.state().clone());
                    if keep(epoch, &mut components, &learner) {
                        break;
                    }
                }
            }
            Err(error) => fail(&components.interrupter, error),
        }
        (learner.model(), components.event_processor)
    }
}

/// Trains and validates; false if the run was interrupted.
fn run_epoch<M: MicroStep>(
    epoch: usize,
    components: &mut TrainingComponents<M>,
    learner: &mut Learner<M>,
    (train, parallel): (
        &mut MicroBatchTrainer,
        Option<&mut DataParallel<MicroBatchTrainer>>,
    ),
    (train_loader, valid_loader): (&TrainLoader<M>, &ValidLoader<M>),
) -> bool {
    let interrupter = &components.interrupter;
    let processor = &mut components.event_processor;

    log::info!("Executing training step for epoch {epoch}");
    interrupter.fail_on_error(processor.process_train(LearnerEvent::StartSplit {
        epoch_number: epoch,
        total_items: train_loader.num_items(),
    }));
    let mut pass = epoch::Pass {
        learner,
        train,
        processor,
        interrupter,
    };
    match parallel {
        Some(parallel) => pass.run_spread(train_loader, parallel),
        None => pass.run(train_loader),
    }
    interrupter.fail_on_error(processor.process_train(LearnerEvent::EndSplit(epoch)));
    if interrupter.should_stop() {
        if let Some(interruption) = interrupter.interruption() {
            let reason = interruption.reason.as_deref().unwrap_or("reason unknown");
            log::info!("Training interrupted: {reason}");
        }
        return false;
    }

    log::info!("Executing validation step for epoch {epoch}");
    interrupter.fail_on_error(processor.process_valid(LearnerEvent::StartSplit {
        epoch_number: epoch,
        total_items: valid_loader.num_items(),
    }));
    epoch::validate(valid_loader, learner, processor, interrupter);
    interrupter.fail_on_error(processor.process_valid(LearnerEvent::EndSplit(epoch)));
    interrupter.fail_on_error(processor.process_train(LearnerEvent::EndEpoch(epoch)));
    if components.checkpointer.is_some() || components.early_stopping.is_some() {
        interrupter.fail_on_error(processor.flush());
    }
    !interrupter.should_stop()
}

/// Saves a checkpoint; true if the training is to be stopped early.
fn keep<M: MicroStep>(
    epoch: usize,
    components: &mut TrainingComponents<M>,
    learner: &Learner<M>,
) -> bool {
    let store = &components.event_store;
    if let Some(checkpointer) = &mut components.checkpointer {
        checkpointer.checkpoint(learner, epoch, store);
    }
    match &mut components.early_stopping {
        Some(early_stopping) => early_stopping.should_stop(epoch, store),
        None => false,
    }
}

/// The device, recording gradients: by the user's settings where it does so already.
fn recording(device: Device) -> Device {
    match device.is_autodiff() {
        true => device,
        false => device.autodiff(),
    }
}

/// Ends the training with the one kind of error that carries any other.
fn fail(interrupter: &Interrupter, error: StepError) {
    interrupter.fail(DatasetError::new(error));
}
