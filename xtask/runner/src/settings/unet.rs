//! The settings of `train unet`, and those of every UNet.

use std::path::PathBuf;

use anyhow::{Result, bail};
use figment::Figment;
use figment::value::Dict;
use serde::{Deserialize, Serialize};

use super::{Alternatives, Layers, ModelSettings, RunSettings, Settings, UsageError};
use crate::choices::{LossChoice, NormChoice, UpsamplingChoice};

/// What a UNet run has beside the settings of every run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct UNetSettings {
    #[serde(flatten)]
    pub data: UNetData,
    #[serde(flatten)]
    pub network: UNetNetworkSettings,
}

/// What a UNet learns, and from what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct UNetData {
    pub data: Option<PathBuf>,
    pub targets: Option<PathBuf>,
    pub images: Option<PathBuf>,
    pub masks: Option<PathBuf>,
    pub loss: LossChoice,
}

/// The shape of a UNet and where it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct UNetNetworkSettings {
    pub base_channels: usize,
    pub depth: usize,
    pub norm: NormChoice,
    pub upsampling: UpsamplingChoice,
    pub weights: Option<PathBuf>,
}

impl Default for UNetNetworkSettings {
    fn default() -> Self {
        Self {
            base_channels: 16,
            depth: 3,
            norm: NormChoice::Group,
            upsampling: UpsamplingChoice::Bilinear,
            weights: None,
        }
    }
}

impl UNetNetworkSettings {
    /// Refuses networks that cannot be.
    ///
    /// # Errors
    /// [`UsageError`] that names the setting.
    pub fn validate(&self, layers: &Layers) -> Result<()> {
        let (channels, depth) = (self.base_channels, self.depth);
        layers.require(channels > 0, "base_channels", "be at least 1", &channels)?;
        layers.require((1..=8).contains(&depth), "depth", "be 1 to 8", &depth)
    }
}

impl ModelSettings for UNetSettings {
    const MODEL: &'static str = "unet";
    const ALTERNATIVES: &'static [Alternatives] = &[[&["data", "targets"], &["images", "masks"]]];
    const KEPT_ON_RESUME: &'static [&'static str] = &[
        "data",
        "targets",
        "images",
        "masks",
        "loss",
        "base_channels",
        "depth",
        "norm",
        "upsampling",
    ];

    fn defaults(given: &Dict) -> Settings<Self> {
        let loss = match given.contains_key("images") {
            true => LossChoice::BceDice,
            false => LossChoice::Count,
        };
        let data = UNetData {
            data: None,
            targets: None,
            images: None,
            masks: None,
            loss,
        };
        let network = UNetNetworkSettings::default();
        Settings {
            model: Self { data, network },
            run: RunSettings::default(),
        }
    }

    fn pick(all: &Figment) -> Result<Self, Box<figment::Error>> {
        Ok(Self {
            data: all.extract()?,
            network: all.extract()?,
        })
    }

    fn validate(&self, layers: &Layers) -> Result<()> {
        let data = &self.data;
        let pairs = [
            ("data", &data.data, "targets", &data.targets),
            ("images", &data.images, "masks", &data.masks),
        ];
        for (one, a, other, b) in pairs {
            if a.is_some() != b.is_some() {
                bail!(UsageError(format!(
                    "{one} and {other} must be given together, got only one of them"
                )));
            }
        }
        self.network.validate(layers)
    }
}
