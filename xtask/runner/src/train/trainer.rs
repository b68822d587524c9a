//! What makes the optimizer steps of a run.

use anyhow::Result;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn_memopt::train::{
    MicroBatchTrainer, MicroBatchTrainerConfig, MicroBatches, StepError, StepOutcome,
};
use burn_memopt_models::propainter::{AdversarialStep, Rivals};

/// What makes optimizer steps out of micro-batches: one optimizer, or one for each of several
/// networks that learn from each other.
pub trait Trainer<M: Module>: Sized {
    /// What the network of each optimizer is called; empty where there is one alone.
    const NAMES: &'static [&'static str];

    /// Steps as `config` says, of optimizers that `optimizer` makes.
    fn new(config: &MicroBatchTrainerConfig, optimizer: fn() -> ModuleOptimizer) -> Self;

    /// The steps of all optimizers, in the order of their names.
    fn steps(&self) -> Vec<&MicroBatchTrainer>;

    /// As [`steps`](Self::steps), to go on from saved ones.
    fn steps_mut(&mut self) -> Vec<&mut MicroBatchTrainer>;

    /// Steps every optimizer with what is accumulated; the outcome is that of the first.
    ///
    /// # Errors
    /// As [`MicroBatchTrainer::step`].
    fn flush(&mut self, network: M, lr: f64) -> (M, Result<StepOutcome, StepError>);

    /// Steps with what `run` accumulates in micro-batches of a size.
    ///
    /// # Errors
    /// As [`MicroBatchTrainer::step`], and as `run` fails.
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
    ///
    /// # Errors
    /// As [`step`](Self::step).
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

    fn new(config: &MicroBatchTrainerConfig, optimizer: fn() -> ModuleOptimizer) -> Self {
        config.init(optimizer())
    }

    fn steps(&self) -> Vec<&MicroBatchTrainer> {
        vec![self]
    }

    fn steps_mut(&mut self) -> Vec<&mut MicroBatchTrainer> {
        vec![self]
    }

    fn flush(&mut self, network: M, lr: f64) -> (M, Result<StepOutcome, StepError>) {
        MicroBatchTrainer::flush(self, network, lr)
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

    fn new(config: &MicroBatchTrainerConfig, optimizer: fn() -> ModuleOptimizer) -> Self {
        Self::new(config.init(optimizer()), config.init(optimizer()))
    }

    fn steps(&self) -> Vec<&MicroBatchTrainer> {
        vec![&self.generator, &self.discriminator]
    }

    fn steps_mut(&mut self) -> Vec<&mut MicroBatchTrainer> {
        vec![&mut self.generator, &mut self.discriminator]
    }

    fn flush(&mut self, rivals: Rivals, lr: f64) -> (Rivals, Result<StepOutcome, StepError>) {
        let (rivals, outcomes) = AdversarialStep::flush(self, rivals, lr);
        (rivals, outcomes.map(|[generator, _]| generator))
    }
}
