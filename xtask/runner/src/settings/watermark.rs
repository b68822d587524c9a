//! The settings of `train watermark`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use figment::Figment;
use figment::value::Dict;
use serde::{Deserialize, Serialize};

use super::{Layers, ModelSettings, RunSettings, Settings, UNetNetworkSettings, UsageError};

/// What a watermark run has beside the settings of every run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct WatermarkSettings {
    #[serde(flatten)]
    pub data: WatermarkData,
    #[serde(flatten)]
    pub network: UNetNetworkSettings,
}

/// Where images with watermarks come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct WatermarkData {
    pub images: Option<PathBuf>,
    pub masks: Option<PathBuf>,
    pub num_images: usize,
    pub image_size: usize,
}

impl ModelSettings for WatermarkSettings {
    const MODEL: &'static str = "watermark";
    const KEPT_ON_RESUME: &'static [&'static str] = &[
        "images",
        "masks",
        "num_images",
        "image_size",
        "base_channels",
        "depth",
        "norm",
        "upsampling",
    ];

    fn defaults(_: &Dict) -> Settings<Self> {
        let data = WatermarkData {
            images: None,
            masks: None,
            num_images: 400,
            image_size: 64,
        };
        let network = UNetNetworkSettings {
            base_channels: 8,
            ..UNetNetworkSettings::default()
        };
        let run = RunSettings {
            steps: Some(500),
            batch_size: 8,
            lr: 5e-3,
            ..RunSettings::default()
        };
        Settings {
            model: Self { data, network },
            run,
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
        if data.masks.is_some() && data.images.is_none() {
            bail!(UsageError(
                "masks must be given with images, got them alone".into()
            ));
        }
        let (count, size) = (data.num_images, data.image_size);
        layers.require(count > 1, "num_images", "be at least 2", &count)?;
        layers.require(size >= 16, "image_size", "be at least 16", &size)?;
        self.network.validate(layers)
    }
}
