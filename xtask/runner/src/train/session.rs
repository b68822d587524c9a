//! The training loop's state, where its micro-batches come from, and one optimizer step of it.

use std::collections::VecDeque;

use anyhow::{Result, bail};
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use burn_memopt::gradients::Clipping;
use burn_memopt::memory::{Bytes, on_host};
use burn_memopt::precision::Precision;
use burn_memopt::train::{
    DataParallel, MicroBatchTrainer, MicroBatchTrainerConfig, MicroBatchTrainers, MicroBatches,
    StepOutcome,
};
use burn_memopt_datasets::loader::{Batches, Loader, LoaderState};
use burn_memopt_datasets::shuffle::mix;
use serde::{Deserialize, Serialize};

use super::job::{Job, Load, Trainer};
use super::stages::{Schedule, Stage};
use super::{network, optimizer};
use crate::cli::OptimizerSettings;
use crate::report::causes;
use crate::settings::{RunSettings, UsageError};

/// Steps that the last loss is averaged over.
const LAST_LOSSES: usize = 10;

/// The losses a run is summed up by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Losses {
    first: Option<f64>,
    last: VecDeque<f64>,
}

impl Losses {
    /// The loss of the first step that was not skipped.
    pub fn first(&self) -> Option<f64> {
        self.first
    }

    /// The mean over the last ten steps that were not skipped: single steps vary with what is in
    /// their batch.
    pub fn last(&self) -> Option<f64> {
        let sum: f64 = self.last.iter().sum();
        (!self.last.is_empty()).then(|| sum / self.last.len() as f64)
    }

    fn add(&mut self, loss: f64) {
        self.first.get_or_insert(loss);
        self.last.push_back(loss);
        if self.last.len() > LAST_LOSSES {
            self.last.pop_front();
        }
    }
}

/// What a step did.
#[derive(Clone, Copy, Debug)]
pub struct StepDone {
    /// Mean loss of its items; `None` if it changed nothing.
    pub loss: Option<f64>,
    /// Whether an overflow in half precision skipped it; else, without a loss, it had nothing to learn from.
    pub was_skipped: bool,
    /// Items it saw.
    pub items: u64,
}

/// A run in progress, except for its network.
pub struct Session<J: Job> {
    /// The optimizers, their scalers and what is accumulated.
    pub train: J::Trainer,
    /// Where micro-batches come from.
    pub feed: Feed<J>,
    /// How the items of a step are divided.
    pub parts: MicroBatches,
    /// The losses so far.
    pub losses: Losses,
    /// Optimizer steps done since the beginning of the run.
    pub step: u64,
    schedule: Schedule,
    stage: Option<usize>,
    /// As it was given.
    pub optimizer_settings: OptimizerSettings,
    /// An optimizer before its first step.
    pub optimizer: ModuleOptimizer,
    parallel: DataParallel<J::Trainer>,
    lr: f64,
    seed: u64,
    auto_micro_batch: bool,
}

impl<J: Job> Session<J> {
    /// A run before its first step on `devices`, which record gradients.
    ///
    /// # Errors
    /// [`UsageError`] if a device cannot train with the others.
    pub fn new(
        job: &J,
        data: &J::Data,
        run: &RunSettings,
        precision: Precision,
        devices: &[Device],
    ) -> Result<Self> {
        let config = MicroBatchTrainerConfig::new()
            .with_precision(precision)
            .with_policy(network::autocast_policy(run.opt_level))
            .with_loss_scaler(network::loss_scaler(run.loss_scale, precision))
            .with_accumulation_steps(run.accumulation_steps)
            .with_clipping(Some(Clipping::Norm(run.clip_norm)))
            // A host that lacks memory ends the process.
            .with_undo_updates(run.auto_micro_batch && !devices.iter().all(on_host));
        let optimizer = optimizer::init(run.optimizer, J::ADAM);
        let trainer = || job.trainer(data, &config, &optimizer);
        let parallel = DataParallel::new(devices, trainer)
            .map_err(|error| UsageError(format!("--device: {}", causes(&error.into()))))?
            .with_sync_batch_norm(run.sync_batch_norm);
        let parts = MicroBatches::new(run.batch_size, run.accumulation_steps);
        Ok(Self {
            train: trainer(),
            feed: Feed::new(job, data, Load::new(run)?, &parts, devices)?,
            parts,
            losses: Losses::default(),
            step: 0,
            schedule: Schedule::default(),
            stage: None,
            parallel: if J::DRAWS {
                parallel
            } else {
                parallel.without_randomness()
            },
            lr: run.lr,
            seed: run.seed,
            auto_micro_batch: run.auto_micro_batch,
            optimizer_settings: run.optimizer,
            optimizer,
        })
    }

    /// Optimizer steps in an epoch; the last one of an epoch may be smaller.
    pub fn steps_per_epoch(&self) -> u64 {
        let batches = self.feed.loader.num_batches();
        batches.div_ceil(self.parts.accumulation_steps()) as u64
    }

    /// The stages of growing images.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Takes the sides of its images from `schedule`.
    pub fn follow(&mut self, schedule: Schedule) {
        self.schedule = schedule;
    }

    /// Enters the stage of the next step, and returns it if it is another one.
    pub fn enter_stage(&mut self, job: &J, data: &J::Data) -> Result<Option<&Stage>> {
        let position = self.schedule.position(self.step);
        if position == self.stage {
            return Ok(None);
        }
        self.stage = position;
        let Some(stage) = position.map(|position| &self.schedule.stages()[position]) else {
            return Ok(None);
        };
        let mut parts = MicroBatches::new(stage.micro_batch_size, stage.accumulation_steps);
        if !self.parts.tried().is_empty() {
            // What did not fit before does not fit larger images.
            parts.limit(self.parts.size());
        }
        self.parts = parts;
        let load = Load {
            batch_size: self.parts.size(),
            side: Some(stage.side),
            prefetch: stage.prefetch,
            ..self.feed.load
        };
        let state = self.feed.loader.state();
        self.feed.change(job, data, load, &self.parts)?;
        self.feed.resume(job, data, &self.parts, &state)?;
        Ok(Some(stage))
    }

    /// Goes to where a saved run was in the data, in micro-batches no larger than it had then.
    pub fn resume(&mut self, job: &J, data: &J::Data, state: &LoaderState) -> Result<()> {
        self.enter_stage(job, data)?;
        self.parts.limit(state.batch_size);
        self.feed.resume(job, data, &self.parts, state)
    }

    /// Makes one optimizer step out of micro-batches and returns the network after it. If memory
    /// runs out, it is made of smaller ones where the settings say so.
    pub fn advance(
        &mut self,
        job: &J,
        data: &J::Data,
        network: J::Network,
    ) -> (J::Network, Result<StepDone>) {
        let Self {
            train,
            feed,
            parallel,
            ..
        } = self;
        let (start, effective) = (feed.loader.state(), self.parts.effective_batch_size());
        let mut items = 0;
        let run = |train: &mut J::Trainer, network: &J::Network, size: usize| -> Result<()> {
            // Nothing random may depend on what ran before, for instance in a part of the
            // run that was not resumed.
            parallel.devices()[0].seed(mix(self.seed, self.step));
            let parts = MicroBatches::new(size, effective / size);
            if feed.load.batch_size != size {
                feed.resume(job, data, &parts, &start)?;
            }
            let (mut num_items, mut failed) = (0, None);
            let batches = (0..parts.accumulation_steps()).map_while(|number| {
                let batch = feed.next(number == 0).unwrap_or_else(|error| {
                    failed = Some(error);
                    None
                })?;
                num_items += J::num_items(&batch) as u64;
                Some(batch)
            });
            parallel.micro_batches(train, network, batches, |train, network, batch| {
                job.micro_batch(network, train, batch);
            })?;
            items = num_items;
            failed.map_or(Ok(()), Err)
        };
        let lr = J::learning_rate(self.lr, self.step + 1);
        let (network, outcome) = if self.auto_micro_batch {
            train.step_in_parts(network, lr, &mut self.parts, run)
        } else {
            train.step(network, lr, self.parts.size(), run)
        };
        let (loss, was_skipped) = match outcome {
            Ok(StepOutcome::Stepped { loss, .. }) => (Some(loss), false),
            refused => {
                let checked = self.check_losses(job, data, &network, &start, effective);
                match checked.and(refused) {
                    Ok(outcome) => (None, matches!(outcome, StepOutcome::Skipped { .. })),
                    Err(error) => return (network, Err(error)),
                }
            }
        };
        self.step += 1;
        if let Some(loss) = loss {
            self.losses.add(loss);
        }
        let done = StepDone {
            loss,
            was_skipped,
            items,
        };
        (network, Ok(done))
    }
}

impl<J: Job> Session<J> {
    /// After a refused step of the items from `start`: if its loss was not finite before it was
    /// scaled, computes the loss of each item in f32.
    ///
    /// # Errors
    /// If losses are not finite in f32 either; names the items.
    fn check_losses(
        &self,
        job: &J,
        data: &J::Data,
        network: &J::Network,
        start: &LoaderState,
        num_items: usize,
    ) -> Result<()> {
        let is_finite = |train: &MicroBatchTrainer| train.last_loss().is_none_or(f64::is_finite);
        if self.train.trainers().into_iter().all(is_finite) {
            return Ok(());
        }
        let mut train = job.trainer(data, &MicroBatchTrainerConfig::new(), &self.optimizer);
        let (parts, devices) = (MicroBatches::new(1, 1), self.parallel.devices());
        let mut feed = Feed::<J>::new(job, data, self.feed.load, &parts, &devices[..1])?;
        feed.resume(job, data, &parts, start)?;
        let mut names = Vec::new();
        for (index, _) in feed.loader.upcoming(num_items) {
            let Some(batch) = feed.next(true)? else { break };
            job.micro_batch(network, &mut train, batch);
            if !train.discard(network)? {
                names.push(J::item_name(data, index as usize));
            }
        }
        if names.is_empty() {
            return Ok(());
        }
        bail!(
            "training step {}: the loss of {} of {num_items} items is not finite, even in f32: \
             {}. Look for NaN or infinite values in their files; if there are none, lower the \
             learning rate",
            self.step + 1,
            names.len(),
            names.join(", ")
        )
    }
}

/// The batches of a loader, one epoch after the other.
pub struct Feed<J: Job> {
    /// Makes the batches.
    pub loader: Loader<J::Item, J::Batch>,
    load: Load,
    devices: Vec<Device>,
    batches: Option<Batches<J::Item, J::Batch>>,
}

impl<J: Job> Feed<J> {
    /// Batches for micro-batches as in `parts` from the beginning of the data, those of each step on `devices` in
    /// turn.
    pub fn new(
        job: &J,
        data: &J::Data,
        load: Load,
        parts: &MicroBatches,
        devices: &[Device],
    ) -> Result<Self> {
        let load = Load {
            batch_size: parts.size(),
            ..load
        };
        Ok(Self {
            loader: Self::loader(job, data, &load, parts, devices)?,
            load,
            devices: devices.to_vec(),
            batches: None,
        })
    }

    fn loader(
        job: &J,
        data: &J::Data,
        load: &Load,
        parts: &MicroBatches,
        devices: &[Device],
    ) -> Result<Loader<J::Item, J::Batch>> {
        let turns = devices.iter().cycle().take(parts.accumulation_steps());
        let turns: Vec<_> = turns.cloned().collect();
        Ok(job.loader(data, load, &devices[0])?.with_devices(&turns))
    }

    /// Continues from `state` in batches as in `parts`, whatever size they had: items come in the same order.
    pub fn resume(
        &mut self,
        job: &J,
        data: &J::Data,
        parts: &MicroBatches,
        state: &LoaderState,
    ) -> Result<()> {
        self.batches = None;
        let load = Load {
            batch_size: parts.size(),
            ..self.load
        };
        if load != self.load {
            self.change(job, data, load, parts)?;
        }
        let state = LoaderState {
            batch_size: load.batch_size,
            ..state.clone()
        };
        Ok(self.loader.resume(&state)?)
    }

    /// What the next `count` items take once they are loaded, those that may wait for their step.
    pub fn waiting(&self, count: usize) -> Bytes {
        let items = self.loader.upcoming(count).into_iter();
        let bytes = Bytes::new(items.map(|(_, bytes)| bytes).sum());
        bytes.min(self.load.prefetch)
    }

    /// Loads as in `load` from the beginning of the data.
    fn change(&mut self, job: &J, data: &J::Data, load: Load, parts: &MicroBatches) -> Result<()> {
        self.batches = None;
        self.loader = Self::loader(job, data, &load, parts, &self.devices)?;
        self.load = load;
        Ok(())
    }

    /// The next batch of this epoch; after its end `None`, or the first of the next.
    fn next(&mut self, may_begin_epoch: bool) -> Result<Option<J::Batch>> {
        if let Some(batch) = self.batches.as_mut().and_then(Iterator::next) {
            return Ok(Some(batch?));
        }
        if !may_begin_epoch {
            return Ok(None);
        }
        let batches = self.batches.insert(self.loader.batches());
        Ok(batches.next().transpose()?)
    }
}

#[cfg(test)]
mod tests;
