//! The settings of `train decode`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use figment::Figment;
use figment::value::Dict;
use serde::{Deserialize, Serialize};

use super::{Layers, ModelSettings, RunSettings, Settings, UsageError};

/// What a DECODE run has beside the settings of every run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DecodeSettings {
    pub data: Option<PathBuf>,
    pub targets: Option<PathBuf>,
    pub base_channels: usize,
    pub depth: usize,
    pub norm_groups: usize,
    pub weights: Option<PathBuf>,
    pub threshold: f64,
    pub radius: f64,
}

impl ModelSettings for DecodeSettings {
    const MODEL: &'static str = "decode";
    const KEPT_ON_RESUME: &'static [&'static str] =
        &["data", "targets", "base_channels", "depth", "norm_groups"];

    fn defaults(_: &Dict) -> Settings<Self> {
        let model = Self {
            data: None,
            targets: None,
            base_channels: 12,
            depth: 1,
            norm_groups: 4,
            weights: None,
            threshold: 0.3,
            radius: 2.0,
        };
        let run = RunSettings {
            lr: 8e-3,
            clip_norm: 0.03,
            ..RunSettings::default()
        };
        Settings { model, run }
    }

    fn pick(all: &Figment) -> Result<Self, Box<figment::Error>> {
        Ok(all.extract()?)
    }

    fn validate(&self, layers: &Layers) -> Result<()> {
        if self.data.is_some() != self.targets.is_some() {
            bail!(UsageError(
                "data and targets must be given together, got only one of them".into()
            ));
        }
        let (channels, depth) = (self.base_channels, self.depth);
        layers.require(channels > 0, "base_channels", "be at least 1", &channels)?;
        layers.require((1..=8).contains(&depth), "depth", "be 1 to 8", &depth)?;
        let is_prob = self.threshold > 0.0 && self.threshold <= 1.0;
        let rule = "be above 0 and at most 1";
        layers.require(is_prob, "threshold", rule, &self.threshold)?;
        let is_distance = self.radius > 0.0 && self.radius.is_finite();
        layers.require(is_distance, "radius", "be above 0", &self.radius)
    }
}
