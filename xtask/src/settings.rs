//! The resolved settings of a training run: defaults, then the settings of a
//! resumed run, then a settings file, then flags; each wins over those before it.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::choices::{CheckpointChoice, LossChoice, NormChoice, PrecisionChoice, UpsamplingChoice};
use crate::cli::UNetFlags;
use crate::device::DeviceChoice;

mod layers;
#[cfg(test)]
mod tests;

use layers::{Layers, read_file, shown, to_dict};

/// Wrong usage: the command ends with exit code 2.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Every setting of a UNet run, as saved in `config.json`.
///
/// The meaning, unit and default of each stand in the help of the flag of its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct TrainSettings {
    pub data: Option<PathBuf>,
    pub targets: Option<PathBuf>,
    pub images: Option<PathBuf>,
    pub masks: Option<PathBuf>,
    pub holdout: f64,
    /// Exactly one of `steps` and `epochs` is given.
    pub steps: Option<u64>,
    pub epochs: Option<u64>,
    pub batch_size: usize,
    pub lr: f64,
    pub clip_norm: f64,
    pub seed: u64,
    pub loss: LossChoice,
    pub base_channels: usize,
    pub depth: usize,
    pub norm: NormChoice,
    pub upsampling: UpsamplingChoice,
    pub weights: Option<PathBuf>,
    pub grad_checkpoint: CheckpointChoice,
    pub accumulation_steps: usize,
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

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            data: None,
            targets: None,
            images: None,
            masks: None,
            holdout: 0.2,
            steps: Some(300),
            epochs: None,
            batch_size: 4,
            lr: 1e-3,
            clip_norm: 1.0,
            seed: 42,
            loss: LossChoice::Count,
            base_channels: 16,
            depth: 3,
            norm: NormChoice::Group,
            upsampling: UpsamplingChoice::Bilinear,
            weights: None,
            grad_checkpoint: CheckpointChoice::default(),
            accumulation_steps: 1,
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

/// Settings that belong to what was learned, so a resumed run keeps them.
const KEPT_ON_RESUME: [&str; 12] = [
    "data",
    "targets",
    "images",
    "masks",
    "holdout",
    "batch_size",
    "seed",
    "loss",
    "base_channels",
    "depth",
    "norm",
    "upsampling",
];

impl TrainSettings {
    /// Puts together the settings of a run from `saved`, those of a run that is
    /// resumed, the file that `flags` names, and `flags`.
    ///
    /// # Errors
    /// [`UsageError`] if a key is unknown or a value wrong: it names the flag or
    /// the file and key. Another error if the file cannot be read.
    pub fn resolve(flags: &UNetFlags, saved: Option<&Self>) -> Result<Self> {
        let mut layers = Layers::new(saved)?;
        if let Some(path) = &flags.config {
            layers.add(path.display().to_string(), read_file(path)?)?;
            // Read alone first, so that what is wrong in the file is said of the file.
            layers
                .extract()
                .with_context(|| format!("cannot use the settings in {}", path.display()))?;
        }
        layers.add("the command line".into(), to_dict(flags)?)?;
        let mut settings = layers.extract()?;
        settings.precision = with_amp(flags, settings.precision)?;
        settings.validate(&layers)?;
        if let Some(saved) = saved {
            settings.check_kept(saved)?;
        }
        Ok(settings)
    }

    /// Refuses values that no run can have.
    fn validate(&self, layers: &Layers) -> Result<()> {
        let require = |holds: bool, key: &str, rule: &str, got: &dyn fmt::Display| {
            let place = layers.place(key);
            if holds {
                Ok(())
            } else {
                Err(UsageError(format!("{place} must {rule}, got {got}")))
            }
        };
        let counts = [
            ("steps", self.steps.unwrap_or(1)),
            ("epochs", self.epochs.unwrap_or(1)),
            ("batch_size", self.batch_size as u64),
            ("accumulation_steps", self.accumulation_steps as u64),
            ("base_channels", self.base_channels as u64),
            ("save_every", self.save_every),
            ("log_every", self.log_every),
        ];
        for (key, count) in counts {
            require(count > 0, key, "be at least 1", &count)?;
        }
        for (key, value) in [("lr", self.lr), ("clip_norm", self.clip_norm)] {
            require(value > 0.0 && value.is_finite(), key, "be above 0", &value)?;
        }
        let (depth, holdout) = (self.depth, self.holdout);
        require((1..=8).contains(&depth), "depth", "be 1 to 8", &depth)?;
        let is_share = (0.0..1.0).contains(&holdout);
        require(is_share, "holdout", "be at least 0 and below 1", &holdout)?;
        let pairs = [
            ("data", &self.data, "targets", &self.targets),
            ("images", &self.images, "masks", &self.masks),
        ];
        for (one, a, other, b) in pairs {
            if a.is_some() != b.is_some() {
                bail!(UsageError(format!(
                    "{one} and {other} must be given together, got only one of them"
                )));
            }
        }
        Ok(())
    }

    /// Refuses to resume `saved` with a different model or different data.
    fn check_kept(&self, saved: &Self) -> Result<()> {
        let (new, old) = (to_dict(self)?, to_dict(saved)?);
        for key in KEPT_ON_RESUME {
            if shown(new.get(key)) != shown(old.get(key)) {
                bail!(UsageError(format!(
                    "a resumed run keeps its {key}: it is {}, got {}; leave it out, or start a new run",
                    shown(old.get(key)),
                    shown(new.get(key)),
                )));
            }
        }
        Ok(())
    }
}

impl fmt::Display for TrainSettings {
    /// One setting a line, in the order of the fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Pretty JSON of a flat struct has one field a line, in order.
        let json = serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?;
        for line in json.lines() {
            if let Some((key, value)) = line.split_once("\": ") {
                let key = key.trim_start().trim_start_matches('"');
                let value = value.trim_end_matches(',').trim_matches('"');
                writeln!(f, "{key:<20} {}", if value == "null" { "-" } else { value })?;
            }
        }
        Ok(())
    }
}

/// The precision that `--use-amp` and `--no-amp` make of the one chosen otherwise.
fn with_amp(flags: &UNetFlags, chosen: PrecisionChoice) -> Result<PrecisionChoice> {
    let is_f32 = chosen == PrecisionChoice::F32;
    let contradicts = (flags.use_amp && is_f32) || (flags.no_amp && !is_f32);
    if contradicts && flags.precision.is_some() {
        let flag = if flags.use_amp {
            "--use-amp"
        } else {
            "--no-amp"
        };
        bail!(UsageError(format!(
            "{flag} contradicts --precision {chosen}; leave one out"
        )));
    }
    Ok(match contradicts {
        true if flags.use_amp => PrecisionChoice::F16,
        true => PrecisionChoice::F32,
        false => chosen,
    })
}
