//! What a model brings to a training run, and what makes its optimizer steps at which learning rate.

use std::collections::BTreeMap;
use std::iter;
use std::path::Path;

use anyhow::Result;
use burn::data::dataset::Dataset;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use burn_memopt::memory::Bytes;
use burn_memopt::train::{
    MicroBatchTrainer, MicroBatchTrainerConfig, MicroBatchTrainers, MicroBatches, StepError,
    StepOutcome,
};
use burn_memopt_datasets::loader::{Loader, LoaderConfig};
use burn_memopt_models::gan::{GanStep, Networks};
use burn_memopt_models::propainter::{AdversarialStep, Rivals};

use super::optimizer::AdamSettings;
use super::saved::CutPlan;
use crate::report::TileDisplay;
use crate::run_dir::RunDir;
use crate::settings::{ModelSettings, RunSettings, Settings, UsageError};

/// What a model is evaluated by, by name.
pub type Metrics = BTreeMap<String, f64>;

/// A model with all that a training run needs of it: its settings, data, network and loss, and
/// its evaluation. Steps, saves, resuming, memory and progress are the same for all.
pub trait Job: Sized + Sync {
    /// Its settings besides those of every run.
    type Settings: ModelSettings;
    type Network: Module;
    type Trainer: Trainer<Self::Network>;
    /// What it is trained on and evaluated by.
    type Data;
    /// One item of the data.
    type Item: Send + 'static;
    /// The items of a micro-batch, on the device.
    type Batch: Send + 'static;

    /// Whether a run ends with what other settings would take for the same step. Not for networks
    /// whose steps take seconds.
    const IS_COMPARED: bool = true;
    /// Whether a micro-batch draws random numbers, for dropout or noise.
    const DRAWS: bool = true;
    /// Its optimizer, where it is one of Adam's kind.
    const ADAM: AdamSettings = AdamSettings::DEFAULT;

    /// Refuses settings that do not fit each other.
    fn new(settings: Settings<Self::Settings>) -> Result<Self>;

    /// What makes its optimizer steps on `data`, as `config` says, each network's with an optimizer like `optimizer`.
    fn trainer(
        &self,
        data: &Self::Data,
        config: &MicroBatchTrainerConfig,
        optimizer: &ModuleOptimizer,
    ) -> Self::Trainer;

    /// The learning rate of optimizer step `step`, counted from 1, where `rate` is the highest.
    fn learning_rate(rate: f64, step: u64) -> f64 {
        learning_rate(rate, step)
    }

    /// Opens the data that the settings name; `None` if they name none. Nothing is written.
    fn open(&self) -> Result<Option<Self::Data>>;

    /// Generates the data in `folder`, or opens what was generated there before.
    fn generate(&self, folder: &Path) -> Result<Self::Data>;

    /// Writes what users of the network have to know of the data next to the other artifacts of
    /// `run`. By default, that is nothing.
    fn describe(&self, _data: &Self::Data, _run: &RunDir) -> Result<()> {
        Ok(())
    }

    /// The parts of the data, that to learn from first.
    fn parts(data: &Self::Data) -> Vec<&dyn Dataset<Self::Item>>;

    /// Builds the network for `data`, or for the data that is going to be generated. Where its cut
    /// takes a plan, `cut` is used if it is a plan for that, and else becomes it.
    fn network(
        &self,
        data: Option<&Self::Data>,
        cut: &mut CutPlan,
        device: &Device,
    ) -> Result<Self::Network>;

    /// Refuses a side of images of progressive training that does not fit the data.
    fn check_side(&self, _data: &Self::Data, _side: usize) -> Result<()> {
        Ok(())
    }

    /// Batches of the training data, in the order of the run's seed, which does not depend on their size.
    fn loader(
        &self,
        data: &Self::Data,
        load: &Load,
        device: &Device,
    ) -> Result<Loader<Self::Item, Self::Batch>>;

    /// The name of item `index` of the training part, for messages.
    fn item_name(_data: &Self::Data, index: usize) -> String {
        format!("item {index}")
    }

    /// Shows how far a step is, where it runs on tiles of images.
    fn show_tiles(&self, _display: TileDisplay) {}

    /// Items in a batch.
    fn num_items(batch: &Self::Batch) -> usize;

    /// Runs one micro-batch forward and backward.
    fn micro_batch(&self, network: &Self::Network, train: &mut Self::Trainer, batch: Self::Batch);

    /// Evaluates the trained network on what was held out, `batch_size` items at a time on
    /// each of as many of `devices` as it can use, and writes
    /// what shows how good it is next to the other artifacts of `run`.
    fn evaluate(
        &self,
        network: &Self::Network,
        data: &Self::Data,
        batch_size: usize,
        run: &RunDir,
        devices: &[Device],
    ) -> Result<Metrics>;
}

/// How batches are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Items in a batch.
    pub batch_size: usize,
    /// Pixels a side of the images, in a stage of progressive training.
    pub side: Option<usize>,
    /// Threads that load items; `None` for the loader's default.
    pub workers: Option<usize>,
    /// What items may take that are loaded before their turn.
    pub prefetch: Bytes,
}

impl Load {
    /// Batches of whole images, loaded as the loader does by default.
    pub fn with_defaults(batch_size: usize) -> Self {
        Self {
            batch_size,
            side: None,
            workers: None,
            prefetch: Bytes::new(LoaderConfig::new(batch_size).prefetch_bytes),
        }
    }

    /// As a run says.
    ///
    /// # Errors
    /// [`UsageError`] if `--prefetch` is no amount of memory.
    pub fn new(run: &RunSettings) -> Result<Self> {
        let prefetch = run.prefetch.parse::<Bytes>();
        Ok(Self {
            workers: run.workers,
            prefetch: prefetch.map_err(|why| UsageError(format!("--prefetch: {why}")))?,
            ..Self::with_defaults(run.batch_size)
        })
    }

    /// The loader's settings, for items shuffled by `seed`.
    pub fn config(&self, seed: u64) -> LoaderConfig {
        let config = LoaderConfig::new(self.batch_size)
            .with_shuffle(Some(seed))
            .with_prefetch_bytes(self.prefetch.get());
        match self.workers {
            Some(workers) => config.with_workers(workers),
            None => config,
        }
    }
}

/// What is learned from, and what is held out, if anything is.
pub fn parts<'a, I, D: Dataset<I>>(
    training: &'a D,
    held_out: &'a Option<D>,
) -> Vec<&'a dyn Dataset<I>> {
    let all = iter::once(training).chain(held_out);
    all.map(|part| part as _).collect()
}

/// What makes optimizer steps out of micro-batches: one optimizer, or one for each of several
/// networks that learn from each other.
pub trait Trainer<M: Module>: MicroBatchTrainers + Sized {
    /// The name of each optimizer's network; empty where there is one alone.
    const NAMES: &'static [&'static str];

    /// Steps every optimizer with what is accumulated; the outcome is that of the first.
    fn flush(&mut self, network: M, lr: f64) -> (M, Result<StepOutcome, StepError>);

    /// Drops what is accumulated, and returns whether the losses were finite.
    fn discard(&mut self, network: &M) -> Result<bool, StepError>;

    /// Steps with what `run` accumulates in micro-batches of a size.
    fn step(
        &mut self,
        network: M,
        lr: f64,
        size: usize,
        mut run: impl FnMut(&mut Self, &M, usize) -> Result<()>,
    ) -> (M, Result<StepOutcome>) {
        match run(self, &network, size) {
            Ok(()) => {
                let (network, outcome) = self.flush(network, lr);
                (network, outcome.map_err(Into::into))
            }
            Err(error) => (network, Err(error)),
        }
    }

    /// As [`MicroBatchTrainer::step_in_parts`], where a step can be undone; by default it cannot, and a lack
    /// of memory is an error.
    fn step_in_parts(
        &mut self,
        network: M,
        lr: f64,
        parts: &mut MicroBatches,
        run: impl FnMut(&mut Self, &M, usize) -> Result<()>,
    ) -> (M, Result<StepOutcome>) {
        self.step(network, lr, parts.size(), run)
    }
}

impl<M: Module> Trainer<M> for MicroBatchTrainer {
    const NAMES: &'static [&'static str] = &[""];

    fn flush(&mut self, network: M, lr: f64) -> (M, Result<StepOutcome, StepError>) {
        MicroBatchTrainer::flush(self, network, lr)
    }

    fn discard(&mut self, network: &M) -> Result<bool, StepError> {
        let loss = MicroBatchTrainer::discard(self, network)?;
        Ok(loss.is_none_or(f64::is_finite))
    }

    fn step_in_parts(
        &mut self,
        network: M,
        lr: f64,
        parts: &mut MicroBatches,
        run: impl FnMut(&mut Self, &M, usize) -> Result<()>,
    ) -> (M, Result<StepOutcome>) {
        MicroBatchTrainer::step_in_parts(self, network, lr, parts, run)
    }
}

impl Trainer<Rivals> for AdversarialStep {
    const NAMES: &'static [&'static str] = &["generator", "discriminator"];

    fn flush(&mut self, rivals: Rivals, lr: f64) -> (Rivals, Result<StepOutcome, StepError>) {
        let (rivals, outcomes) = AdversarialStep::flush(self, rivals, lr);
        (rivals, outcomes.map(|[generator, _]| generator))
    }

    fn discard(&mut self, rivals: &Rivals) -> Result<bool, StepError> {
        let losses = [
            self.generator.discard(&rivals.generator)?,
            self.discriminator.discard(&rivals.discriminator)?,
        ];
        Ok(losses.into_iter().flatten().all(f64::is_finite))
    }
}

impl Trainer<Networks> for GanStep {
    const NAMES: &'static [&'static str] = &["generator", "discriminator"];

    fn flush(&mut self, networks: Networks, lr: f64) -> (Networks, Result<StepOutcome, StepError>) {
        let (networks, outcomes) = GanStep::flush(self, networks, lr);
        (networks, outcomes.map(|[generator, _]| generator))
    }

    fn discard(&mut self, networks: &Networks) -> Result<bool, StepError> {
        let losses = [
            self.generator.discard(&networks.generator)?,
            self.discriminator.discard(&networks.discriminator)?,
        ];
        Ok(losses.into_iter().flatten().all(f64::is_finite))
    }
}

/// Steps over which the rate rises to its full value.
const WARM_UP_STEPS: f64 = 10.0;
/// Step from which on it falls.
const FALL_FROM: f64 = 60.0;
/// The share of it that stays.
const LEAST_SHARE: f64 = 0.1;

/// The rate of optimizer step `step`, counted from 1, where `rate` is the highest.
///
/// It rises linearly over 10 steps, stays, and falls as one over the step from step 60
/// on, down to a tenth. It depends on the step alone and not on how many there will be,
/// so that resuming a run for longer changes no step.
fn learning_rate(rate: f64, step: u64) -> f64 {
    let step = step as f64;
    let fallen = (FALL_FROM / step.max(FALL_FROM)).max(LEAST_SHARE);
    rate * (step / WARM_UP_STEPS).min(1.0) * fallen
}

/// The rate of optimizer step `step`, counted from 1, where `rate` is that of the first and becomes
/// `share` of what it was after each of some steps.
pub fn stepped_rate(rate: f64, step: u64, share: f64, after: &[u64]) -> f64 {
    let falls = after.iter().filter(|&&last| step > last).count();
    rate * share.powi(falls as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_stays_and_falls_to_a_tenth() {
        assert_eq!(learning_rate(2.0, 1), 0.2);
        assert_eq!(learning_rate(2.0, 10), 2.0);
        assert_eq!(learning_rate(2.0, 60), 2.0);
        assert_eq!(learning_rate(2.0, 240), 0.5);
        assert_eq!(learning_rate(2.0, 100_000), 0.2);
    }

    #[test]
    fn a_stepped_rate_falls_after_each_of_its_steps() {
        let rate = |step| stepped_rate(8.0, step, 0.5, &[10, 20]);
        let rates = [1, 10, 11, 20, 21, 1000].map(rate);
        assert_eq!(rates, [8.0, 8.0, 4.0, 4.0, 2.0, 2.0]);
    }
}
