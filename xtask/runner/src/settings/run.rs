//! The settings that every run has, whatever it trains.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Alternatives, Layers};
use crate::choices::{CheckpointChoice, PrecisionChoice};
use crate::device::DeviceChoice;

/// The settings that every run has.
///
/// The meaning, unit and default of each stand in the help of the flag of its name; a model may
/// have other defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RunSettings {
    pub holdout: f64,
    /// Exactly one of `steps` and `epochs` is given.
    pub steps: Option<u64>,
    pub epochs: Option<u64>,
    pub batch_size: usize,
    pub lr: f64,
    pub clip_norm: f64,
    pub seed: u64,
    pub grad_checkpoint: CheckpointChoice,
    pub accumulation_steps: usize,
    /// Not in the settings of runs that were saved before it was there.
    #[serde(default)]
    pub auto_micro_batch: bool,
    pub precision: PrecisionChoice,
    pub memory_tracking: bool,
    pub memory_log_file: Option<PathBuf>,
    pub device: DeviceChoice,
    pub save_every: u64,
    pub log_every: u64,
    /// Not saved, so that saved settings can start another run.
    #[serde(skip_serializing)]
    pub artifact_dir: Option<PathBuf>,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            holdout: 0.2,
            steps: Some(300),
            epochs: None,
            batch_size: 4,
            lr: 1e-3,
            clip_norm: 1.0,
            seed: 42,
            grad_checkpoint: CheckpointChoice::default(),
            accumulation_steps: 1,
            auto_micro_batch: false,
            precision: PrecisionChoice::F32,
            memory_tracking: true,
            memory_log_file: None,
            device: DeviceChoice::default(),
            save_every: 100,
            log_every: 10,
            artifact_dir: None,
        }
    }
}

impl RunSettings {
    /// Different ways to say what to do.
    pub const ALTERNATIVES: &'static [Alternatives] = &[[&["steps"], &["epochs"]]];
    /// Settings that belong to what was learned, so a resumed run keeps them.
    pub const KEPT_ON_RESUME: &'static [&'static str] = &["holdout", "batch_size", "seed"];
    /// Settings that are given but not saved.
    pub const NOT_SAVED: [&'static str; 1] = ["artifact_dir"];

    /// Refuses values that no run can have.
    ///
    /// # Errors
    /// [`UsageError`](super::UsageError) that names the setting.
    pub fn validate(&self, layers: &Layers) -> Result<()> {
        let counts = [
            ("steps", self.steps.unwrap_or(1)),
            ("epochs", self.epochs.unwrap_or(1)),
            ("batch_size", self.batch_size as u64),
            ("accumulation_steps", self.accumulation_steps as u64),
            ("save_every", self.save_every),
            ("log_every", self.log_every),
        ];
        for (key, count) in counts {
            layers.require(count > 0, key, "be at least 1", &count)?;
        }
        for (key, value) in [("lr", self.lr), ("clip_norm", self.clip_norm)] {
            let is_positive = value > 0.0 && value.is_finite();
            layers.require(is_positive, key, "be above 0", &value)?;
        }
        let is_share = (0.0..1.0).contains(&self.holdout);
        layers.require(
            is_share,
            "holdout",
            "be at least 0 and below 1",
            &self.holdout,
        )
    }
}
