//! The memory a run is going to need: what is known exactly, and the rest measured by
//! running a step of it.

use std::fmt;

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_memopt::memory::estimate::{ModelBytes, OptimizerKind};
use burn_memopt::memory::{Bytes, MemoryTracker, PeakMeter, PeakMethod};
use burn_memopt::train::StepOutcome;
use serde::Serialize;

use super::job::Job;
use super::session::Session;
use super::trainer::Trainer;
use crate::settings::RunSettings;

/// Micro-batches after which a step holds all it ever holds at once.
const ENOUGH_MICRO_BATCHES: usize = 2;

/// The memory a run is going to need.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// Parameters and running statistics, f32, exact.
    pub parameters: Bytes,
    /// One gradient for each trained parameter, f32, exact.
    pub gradients: Bytes,
    /// What the optimizer keeps, f32, exact.
    pub optimizer_state: Bytes,
    /// The measured peak of a step without its gradients; `None` if unknown.
    pub activations: Option<Bytes>,
    /// What the program itself keeps, on the host: measured; `None` if unknown.
    pub program: Option<Bytes>,
    /// All of it together, which the run's summary will say; `None` if unknown.
    pub peak: Option<Bytes>,
    /// How the peak of the step was measured.
    pub method: PeakMethod,
}

impl Estimate {
    /// Measures one optimizer step of `session`, which is used up by it.
    ///
    /// The step is measured when the optimizer has its state. Of many micro-batches two
    /// are run: a third adds nothing.
    ///
    /// # Errors
    /// If a batch cannot be loaded or the step fails.
    pub fn measure<J: Job>(
        job: &J,
        run: &RunSettings,
        network: J::Network,
        mut session: Session<J>,
        device: &Device,
    ) -> Result<Self> {
        let model = ModelBytes::of(&network);
        let ModelBytes {
            parameters,
            gradients,
            ..
        } = model;
        // The record of the run is memory too.
        let tracker = run
            .memory_tracking
            .then(|| MemoryTracker::of_device(device));
        let network = first_step(job, run, network, &mut session)?;
        let meter = PeakMeter::start(device);
        let num_micro_batches = run.accumulation_steps.min(ENOUGH_MICRO_BATCHES);
        run_step(job, run, network, &mut session, num_micro_batches)?;
        let reading = meter.finish();
        drop(tracker);
        let optimizer_state = model.optimizer_state(OptimizerKind::AdamW);
        let less = |whole: Bytes, part: Bytes| Bytes::new(whole.get().saturating_sub(part.get()));
        Ok(Self {
            parameters,
            gradients,
            optimizer_state,
            activations: reading.peak.map(|peak| less(peak, gradients)),
            program: reading
                .baseline
                .map(|baseline| less(baseline, parameters + optimizer_state)),
            peak: reading.highest(),
            method: reading.method,
        })
    }
}

/// Steps until one was made: in half precision the first ones may overflow.
fn first_step<J: Job>(
    job: &J,
    run: &RunSettings,
    mut network: J::Network,
    session: &mut Session<J>,
) -> Result<J::Network> {
    loop {
        let (next, outcome) = run_step(job, run, network, session, 1)?;
        network = next;
        if matches!(outcome, StepOutcome::Stepped { .. }) {
            return Ok(network);
        }
    }
}

/// One optimizer step of `num_micro_batches`.
fn run_step<J: Job>(
    job: &J,
    run: &RunSettings,
    network: J::Network,
    session: &mut Session<J>,
    num_micro_batches: usize,
) -> Result<(J::Network, StepOutcome)> {
    for _ in 0..num_micro_batches {
        // Whole batches only: the last of an epoch may be smaller.
        session.feed.loader.rewind();
        let batch = session
            .feed
            .loader
            .batches()
            .next()
            .context("there is no batch")??;
        job.micro_batch(&network, &mut session.train, batch);
    }
    let (network, outcome) = session.train.flush(network, run.lr);
    Ok((network, outcome.context("cannot measure a step")?))
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.method {
            PeakMethod::Exact => "measured in one step",
            PeakMethod::Sampled => "sampled in one step, a lower bound",
            PeakMethod::Unknown => "this device does not report its memory",
        };
        let shown =
            |bytes: Option<Bytes>| bytes.map_or("unknown".into(), |bytes| bytes.to_string());
        let rows = [
            ("parameters", self.parameters.to_string(), "exact"),
            ("gradients", self.gradients.to_string(), "exact"),
            ("optimizer_state", self.optimizer_state.to_string(), "exact"),
            ("activations", shown(self.activations), how),
            ("program", shown(self.program), "measured beside the run"),
            ("expected_peak", shown(self.peak), how),
        ];
        rows.iter()
            .try_for_each(|(name, amount, how)| writeln!(f, "{name:<20} {amount:<12} {how}"))
    }
}
