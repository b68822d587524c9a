//! What `plan` found, for people and for machines.

use std::fmt;

use burn_memopt::budget::{StepSettings, Verified};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::memory::Bytes;
use burn_memopt::memory::estimate::ModelBytes;
use serde::Serialize;
use xtask::cli::values::Words;

use crate::cli::{OptimizerChoice, OptimizerStateChoice, WorkFlags};
use crate::interrupt::program;

/// A plan that was verified. Serialised, it is the object that `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: &'static str,
    device: String,
    purpose: &'static str,
    budget: Bytes,
    batch_size: u64,
    size: [usize; 2],
    parameters: Bytes,
    gradients: Option<Bytes>,
    optimizer_state: Option<Bytes>,
    optimizer: OptimizerChoice,
    optimizer_state_on: OptimizerStateChoice,
    #[serde(flatten)]
    verified: Verified,
    command: String,
}

impl Report {
    pub(super) fn new(
        model: &'static str,
        device: &str,
        work: &WorkFlags,
        bytes: ModelBytes,
        optimizer_state: Bytes,
        budget: Bytes,
        verified: Verified,
    ) -> Self {
        let trains = !work.inference;
        Self {
            model,
            device: device.into(),
            purpose: if trains { "training" } else { "inference" },
            budget,
            batch_size: work.batch,
            size: work.size.0,
            parameters: bytes.parameters,
            gradients: trains.then_some(bytes.gradients),
            optimizer_state: trains.then_some(optimizer_state),
            verified,
            optimizer: work.optimizer.optimizer,
            optimizer_state_on: work.optimizer.optimizer_state,
            command: String::new(),
        }
    }

    /// Adds the command that realises the plan: `network` are the flags of the network that were
    /// given, `size` the images' as they are computed, `policy` what a run is to recompute.
    pub(super) fn with_command(
        mut self,
        network: &Words,
        size: [usize; 2],
        policy: Policy,
    ) -> Self {
        self.verified.choice.settings.policy = policy;
        let StepSettings {
            precision,
            micro_batch_size,
            accumulation_steps,
            tile,
            ..
        } = self.verified.choice.settings;
        let mut flags = vec![format!("--precision {precision}")];
        if self.purpose == "training" {
            flags.extend([
                format!("--grad-checkpoint {policy}"),
                format!("--batch-size {micro_batch_size}"),
                format!("--accumulation-steps {accumulation_steps}"),
            ]);
            if self.optimizer != OptimizerChoice::default() {
                flags.push(format!("--optimizer {}", self.optimizer));
            }
            if self.optimizer_state_on != OptimizerStateChoice::default() {
                flags.push(format!("--optimizer-state {}", self.optimizer_state_on));
            }
            if self.model == "watermark" && size[0] == size[1] {
                flags.push(format!("--image-size {}", size[0]));
            }
        } else {
            flags.push(format!("--batch-size {micro_batch_size}"));
            if tile != size {
                flags.push(format!("--chunk-size {}", tile[0].max(tile[1])));
            }
        }
        let given = network.iter();
        flags.extend(given.map(|(name, word)| format!("--{} {word}", name.replace('_', "-"))));
        flags.push(format!("--device {}", self.device));
        let verb = if self.purpose == "training" {
            "train"
        } else {
            "infer"
        };
        self.command = format!("{} {verb} {} {}", program(), self.model, flags.join(" "));
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [height, width] = self.size;
        writeln!(
            f,
            "{}: {} on {} images of {height}×{width} within {} on {}",
            self.model, self.purpose, self.batch_size, self.budget, self.device
        )?;
        write!(f, "parameters {}", self.parameters)?;
        if let (Some(gradients), Some(state)) = (self.gradients, self.optimizer_state) {
            write!(f, ", gradients {gradients}, optimizer state {state}")?;
        }
        let Verified {
            choice,
            measured_peak,
            rounds,
        } = &self.verified;
        writeln!(f, "\n\n{choice}")?;
        let runs = rounds.len();
        let plural = if runs == 1 { "" } else { "s" };
        let off = 100.0 * (measured_peak.get() as f64 / choice.predicted_peak.get() as f64 - 1.0);
        writeln!(
            f,
            "{:<16} {:<18} {off:+.1} % from the prediction; {runs} choice{plural} run for two steps",
            "measured peak",
            measured_peak.to_string(),
        )?;
        writeln!(f, "\n{}", self.command)
    }
}
