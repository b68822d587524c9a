//! The training loop's state, and one optimizer step of it.

use std::collections::VecDeque;

use anyhow::Result;
use burn::optim::{AdamWConfig, ModuleOptimizer};
use burn::tensor::Device;
use burn_memopt::gradients::Clipping;
use burn_memopt::precision::Precision;
use burn_memopt::train::{StepOutcome, TrainStep, TrainStepConfig};
use burn_memopt_datasets::loader::{Batches, Loader};
use burn_memopt_datasets::shuffle::mix;
use serde::{Deserialize, Serialize};

use super::job::Job;
use super::schedule::learning_rate;
use crate::settings::RunSettings;

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
    /// The loss of the first step that was made.
    pub fn first(&self) -> Option<f64> {
        self.first
    }

    /// The mean over the last steps that were made, ten at most: single steps vary with
    /// what is in their batch.
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
    /// Mean loss of its items; `None` if an overflow in half precision skipped it.
    pub loss: Option<f64>,
    /// Items it saw.
    pub items: u64,
}

/// The optimizer of every run, before its first step.
pub fn optimizer() -> ModuleOptimizer {
    AdamWConfig::new().init()
}

/// A run in progress, except for its network.
pub struct Session<J: Job> {
    /// The optimizer, the scaler and what is accumulated.
    pub train: TrainStep,
    /// Where batches come from.
    pub loader: Loader<J::Item, J::Batch>,
    /// The losses so far.
    pub losses: Losses,
    /// Optimizer steps done since the beginning of the run.
    pub step: u64,
    device: Device,
    lr: f64,
    seed: u64,
    accumulation_steps: usize,
    batches: Option<Batches<J::Batch>>,
}

impl<J: Job> Session<J> {
    /// A run before its first step. `device` records gradients.
    pub fn new(
        run: &RunSettings,
        precision: Precision,
        loader: Loader<J::Item, J::Batch>,
        device: &Device,
    ) -> Self {
        let train = TrainStepConfig::new()
            .with_precision(precision)
            .with_accumulation_steps(run.accumulation_steps)
            .with_clipping(Some(Clipping::Norm(run.clip_norm)))
            .init(optimizer());
        Self {
            train,
            loader,
            losses: Losses::default(),
            step: 0,
            device: device.clone(),
            lr: run.lr,
            seed: run.seed,
            accumulation_steps: run.accumulation_steps,
            batches: None,
        }
    }

    /// Optimizer steps in an epoch; the last one of an epoch may be smaller.
    pub fn steps_per_epoch(&self) -> u64 {
        self.loader.num_batches().div_ceil(self.accumulation_steps) as u64
    }

    /// Makes one optimizer step out of micro-batches and returns the network after it.
    ///
    /// # Errors
    /// If a batch cannot be loaded, or the loss or a gradient is not finite; then the
    /// network is as before.
    pub fn advance(&mut self, job: &J, network: J::Network) -> (J::Network, Result<StepDone>) {
        // Nothing random may depend on what ran before, for instance in a part of the
        // run that was not resumed.
        self.device.seed(mix(self.seed, self.step));
        let items = match self.accumulate(job, &network) {
            Ok(items) => items,
            Err(error) => return (network, Err(error)),
        };
        let lr = learning_rate(self.lr, self.step + 1);
        let (network, outcome) = self.train.flush(network, lr);
        let loss = match outcome {
            Ok(StepOutcome::Stepped { loss, .. }) => Some(loss),
            Ok(_) => None,
            Err(error) => return (network, Err(error.into())),
        };
        self.step += 1;
        if let Some(loss) = loss {
            self.losses.add(loss);
        }
        (network, Ok(StepDone { loss, items }))
    }

    /// Runs the micro-batches of one step forward and backward. A group ends with its epoch.
    fn accumulate(&mut self, job: &J, network: &J::Network) -> Result<u64> {
        let mut items = 0;
        for micro_batch in 0..self.accumulation_steps {
            let batch = match self.next_batch(micro_batch == 0)? {
                Some(batch) => batch,
                None => break,
            };
            items += J::num_items(&batch) as u64;
            job.micro_batch(network, &mut self.train, batch);
        }
        Ok(items)
    }

    /// The next batch of this epoch; after its end `None`, or the first of the next.
    fn next_batch(&mut self, may_begin_epoch: bool) -> Result<Option<J::Batch>> {
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
