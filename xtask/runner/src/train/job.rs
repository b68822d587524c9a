//! What a model brings to a training run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use burn::module::Module;
use burn::optim::{AdamWConfig, ModuleOptimizer};
use burn::tensor::Device;
use burn_memopt_datasets::loader::Loader;

use super::cut_plan::CutPlan;
use super::schedule;
use super::trainer::Trainer;
use crate::run_dir::RunDir;
use crate::settings::{ModelSettings, Settings};

/// What a model is judged by, by name.
pub type Metrics = BTreeMap<String, f64>;

/// A model with all that a training run needs of it: its settings, data, network and loss, and
/// how it is judged. Steps, saves, resuming, memory and progress are the same for all.
pub trait Job: Sized {
    /// What its settings have beside those of every run.
    type Settings: ModelSettings;
    /// What is trained.
    type Network: Module;
    /// What makes its optimizer steps.
    type Trainer: Trainer<Self::Network>;
    /// What it is trained on and judged by.
    type Data;
    /// One item of the data.
    type Item: Send + 'static;
    /// The items of a micro-batch, on the device.
    type Batch: Send + 'static;

    /// The job that `settings` describe.
    ///
    /// # Errors
    /// If they do not fit each other.
    fn new(settings: Settings<Self::Settings>) -> Result<Self>;

    /// An optimizer before its first step. The default is AdamW with burn's settings.
    fn optimizer() -> ModuleOptimizer {
        AdamWConfig::new().init()
    }

    /// The learning rate of optimizer step `step`, counted from 1, where `rate` is the highest. The
    /// default is [`schedule::learning_rate`].
    fn learning_rate(rate: f64, step: u64) -> f64 {
        schedule::learning_rate(rate, step)
    }

    /// Opens the data that the settings name; `None` if they name none. Nothing is written.
    ///
    /// # Errors
    /// If it cannot be read, or does not fit the job.
    fn open(&self) -> Result<Option<Self::Data>>;

    /// Generates the data in `folder`, or opens what was generated there before.
    ///
    /// # Errors
    /// If it cannot be written or read.
    fn generate(&self, folder: &Path) -> Result<Self::Data>;

    /// Writes what whoever uses the network has to know of the data beside the other artifacts of
    /// `run`. By default, that is nothing.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn describe(&self, _data: &Self::Data, _run: &RunDir) -> Result<()> {
        Ok(())
    }

    /// Builds the network for `data`, or for the data that is going to be generated, cut as it was
    /// before if `cut` is the plan of that; else `cut` becomes the plan, if it takes one.
    ///
    /// # Errors
    /// If the data does not fit it, its weights cannot be read, or its memory budget is too small.
    fn network(
        &self,
        data: Option<&Self::Data>,
        cut: &mut CutPlan,
        device: &Device,
    ) -> Result<Self::Network>;

    /// Batches of what is learned from, in the order of the run's seed, which does not depend on
    /// `batch_size`.
    ///
    /// # Errors
    /// If there is no batch.
    fn loader(
        &self,
        data: &Self::Data,
        batch_size: usize,
        device: &Device,
    ) -> Result<Loader<Self::Item, Self::Batch>>;

    /// Items in a batch.
    fn num_items(batch: &Self::Batch) -> usize;

    /// Runs one micro-batch forward and backward.
    fn micro_batch(&self, network: &Self::Network, train: &mut Self::Trainer, batch: Self::Batch);

    /// Judges the trained network on what was held out, `batch_size` items at a time, and writes what shows how good it is
    /// beside the other artifacts of `run`.
    ///
    /// # Errors
    /// If an item cannot be read or a file not be written.
    fn judge(
        &self,
        network: &Self::Network,
        data: &Self::Data,
        batch_size: usize,
        run: &RunDir,
        device: &Device,
    ) -> Result<Metrics>;
}
