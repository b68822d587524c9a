//! Steps of a job on made-up batches of any size, to learn what they take.

use anyhow::Result;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_memopt::budget::Technique;
use burn_memopt::chunked::BoxError;
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::gradients::Clipping;
use burn_memopt::memory::estimate::{CalibrateError, PeakFit, Workload, calibrate};
use burn_memopt::memory::{PeakMeter, to_host};
use burn_memopt::precision::{Autocast, Precision};
use burn_memopt::train::{MicroBatchTrainer, MicroBatchTrainerConfig, StepOutcome};
use burn_memopt_models::GradCheckpoint;

use super::job::Job;
use super::optimizer::AdamSettings;
use super::{network, optimizer};
use crate::choices::OptLevelChoice;
use crate::cli::OptimizerSettings;

/// Micro-batches after which a step holds all it ever holds at once.
pub(crate) const ENOUGH_MICRO_BATCHES: usize = 2;
/// The learning rate and the norm that a rehearsed step is clipped to; neither matters to memory.
const LR: f64 = 1e-4;
const CLIP_NORM: f32 = 1.0;
/// Sides below this many bottom pixels are not calibrated on: there, nothing grows as it should.
const LEAST_BOTTOM_PIXELS: usize = 2;

/// What rehearsed steps are made with.
pub(crate) struct StepSettings {
    /// What the network computes in.
    pub(crate) precision: Precision,
    /// What stays in f32 below that.
    pub(crate) opt_level: OptLevelChoice,
    /// The optimizer.
    pub(crate) optimizer: OptimizerSettings,
    /// How it is set, if it is one of Adam's kind.
    pub(crate) adam: AdamSettings,
}

/// Optimizer steps, each of some micro-batches that `micro_batch` runs.
pub(crate) fn rehearsed<M: Module>(
    network: M,
    steps: StepSettings,
    micro_batches: usize,
    micro_batch: impl Fn(&M, &mut MicroBatchTrainer),
) -> impl FnMut(&PeakMeter) -> Result<(), BoxError> {
    let mut train = MicroBatchTrainerConfig::new()
        .with_precision(steps.precision)
        .with_policy(network::autocast_policy(steps.opt_level))
        .with_clipping(Some(Clipping::Norm(CLIP_NORM.into())))
        .init(optimizer::init(steps.optimizer, steps.adam));
    let mut network = Some(network);
    move |meter| {
        // In half precision the first steps may overflow and are skipped.
        loop {
            let current = network.take().ok_or("a step failed before")?;
            for _ in 0..micro_batches {
                micro_batch(&current, &mut train);
                meter.sample();
            }
            let (next, outcome) = train.flush(current, LR);
            network = Some(next);
            if !matches!(outcome?, StepOutcome::Skipped { .. }) {
                return Ok(());
            }
        }
    }
}

/// A job that can be tried without data.
pub(crate) trait Rehearsal:
    Job<Network: GradCheckpoint, Trainer = MicroBatchTrainer>
{
    /// The network for images of a size, uncut.
    fn whole_network(&self, size: [usize; 2], device: &Device) -> Result<Self::Network>;
    /// How many pixels become one at the bottom of the network, along a side.
    fn side_multiple(&self) -> usize;
    /// What sides are padded to a multiple of. The default is one pixel: nothing.
    fn padding_multiple(&self) -> usize {
        1
    }
    /// A micro-batch of random images, with targets.
    fn made_up(&self, workload: Workload, device: &Device) -> Self::Batch;
    /// The images of a micro-batch.
    fn input(batch: Self::Batch) -> Tensor<4>;
}

/// A job, its network, and where both run.
pub(crate) struct Stage<J: Rehearsal> {
    /// What is rehearsed.
    pub(crate) job: J,
    /// Its network, uncut.
    pub(crate) network: J::Network,
    /// What makes its steps.
    pub(crate) optimizer: OptimizerSettings,
    /// The device, recording gradients.
    pub(crate) device: Device,
}

impl<J: Rehearsal> Stage<J> {
    /// Optimizer steps of a network that is cut already: each of some micro-batches of `workload`,
    /// which are made within the step as they are loaded in a run.
    pub(crate) fn training<'a>(
        &'a self,
        network: J::Network,
        precision: Precision,
        workload: Workload,
        micro_batches: usize,
    ) -> impl FnMut(&PeakMeter) -> Result<(), BoxError> + use<'a, J> {
        let steps = StepSettings {
            precision,
            opt_level: OptLevelChoice::default(),
            optimizer: self.optimizer,
            adam: J::ADAM,
        };
        rehearsed(network, steps, micro_batches, move |network, train| {
            let batch = self.job.made_up(workload, &self.device);
            self.job.micro_batch(network, train, batch);
        })
    }

    /// Passes without gradients, whose result is read.
    pub(crate) fn inference<'a>(
        &'a self,
        precision: Precision,
        workload: Workload,
    ) -> impl FnMut(&PeakMeter) -> Result<(), BoxError> + use<'a, J> {
        let (network, device) = (self.network.valid(), self.device.clone().inner());
        let autocast = Autocast::new(precision);
        move |meter| {
            let images = J::input(self.job.made_up(workload, &device));
            let output = autocast.run(&network, images, |network, images| network.forward(images));
            meter.sample();
            to_host(output)?;
            Ok(())
        }
    }

    /// The ways to train in a precision, calibrated on less than `workload`.
    pub(crate) fn ways_to_train(
        &self,
        precision: Precision,
        workload: Workload,
    ) -> Result<Vec<Technique>, CalibrateError> {
        if precision != Precision::F32 {
            // Blocks are profiled in f32; in half precision all are recomputed or none.
            let whole = |policy| {
                let fit = self.fit_training(precision, policy, workload)?;
                Ok(Technique::whole(precision, policy, fit))
            };
            return [Policy::None, Policy::EveryBlock]
                .into_iter()
                .map(whole)
                .collect();
        }
        let step = |policy: Policy, workload| {
            let network = self.network.clone().with_grad_checkpoint(policy);
            self.training(network, precision, workload, 1)
        };
        let profile = |workload| {
            let sample = J::input(self.job.made_up(workload, &self.device));
            self.network.profile(sample)
        };
        Technique::calibrate_chain(&self.device, &self.smaller(workload), step, profile)
    }

    /// The peaks of training, fitted on less than `workload`.
    pub(crate) fn fit_training(
        &self,
        precision: Precision,
        policy: Policy,
        workload: Workload,
    ) -> Result<PeakFit, CalibrateError> {
        calibrate(&self.device, &self.smaller(workload), |workload| {
            let network = self.network.clone().with_grad_checkpoint(policy);
            self.training(network, precision, workload, 1)
        })
    }

    /// The way to infer in a precision, calibrated on less than `workload`.
    pub(crate) fn way_to_infer(
        &self,
        precision: Precision,
        workload: Workload,
    ) -> Result<Technique, CalibrateError> {
        let fit = calibrate(&self.device, &self.smaller(workload), |workload| {
            self.inference(precision, workload)
        })?;
        Ok(Technique::whole(precision, Policy::None, fit))
    }

    fn smaller(&self, workload: Workload) -> Vec<Workload> {
        let multiple = self.job.side_multiple();
        workload.calibration(LEAST_BOTTOM_PIXELS * multiple, multiple)
    }
}
