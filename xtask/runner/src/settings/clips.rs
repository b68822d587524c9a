//! The settings of models that learn from videos.

use std::path::PathBuf;

use anyhow::Result;
use figment::Figment;
use figment::value::{Dict, Value};
use serde::{Deserialize, Serialize};

use super::{Layers, ModelSettings, RunSettings, Settings};
use crate::inpaint::weights::PROCEDURAL;

/// RAFT compares features at an eighth of the size, and at an eighth of these.
const LEAST_SIDE: usize = 64;
const SIDE_MULTIPLE: usize = 8;
/// The published training does not shorten gradients: this is out of their reach.
const CLIP_NORM: f64 = 1e4;

/// What every run on videos has beside the settings of every run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ClipSettings {
    pub data: Option<PathBuf>,
    pub num_videos: usize,
    pub height: usize,
    pub width: usize,
    pub num_local: usize,
    pub raft_iter: usize,
    pub weights: PathBuf,
    pub init_weights: Option<PathBuf>,
}

/// What a run of flow completion has beside the settings of every run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct FlowCompletionSettings {
    #[serde(flatten)]
    pub clips: ClipSettings,
}

/// What a run of the generator has beside the settings of every run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct ProPainterSettings {
    #[serde(flatten)]
    pub clips: ClipSettings,
    #[serde(flatten)]
    pub generator: GeneratorSettings,
}

/// What a generator is given beside neighbouring frames, and how deep it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct GeneratorSettings {
    pub num_reference: usize,
    pub depth: usize,
}

impl ClipSettings {
    /// The settings of a run for which nothing but `given` is given.
    fn defaults(given: &Dict) -> Self {
        Self {
            data: None,
            num_videos: 10,
            height: 64,
            width: 64,
            num_local: 5,
            // Made-up flow gets no better.
            raft_iter: match given.get("weights").and_then(Value::as_str) {
                None | Some(PROCEDURAL) => 4,
                Some(_) => 20,
            },
            weights: PROCEDURAL.into(),
            init_weights: None,
        }
    }

    fn validate(&self, layers: &Layers) -> Result<()> {
        for (key, side) in [("height", self.height), ("width", self.width)] {
            let fits = side >= LEAST_SIDE && side.is_multiple_of(SIDE_MULTIPLE);
            layers.require(fits, key, "be a multiple of 8 and at least 64", &side)?;
        }
        let (frames, iterations) = (self.num_local, self.raft_iter);
        layers.require(frames > 1, "num_local", "be at least 2", &frames)?;
        layers.require(iterations > 0, "raft_iter", "be at least 1", &iterations)?;
        let videos = self.num_videos;
        layers.require(videos > 1, "num_videos", "be at least 2", &videos)
    }
}

impl ModelSettings for FlowCompletionSettings {
    const MODEL: &'static str = "flow-completion";
    const KEPT_ON_RESUME: &'static [&'static str] = &[
        "data",
        "num_videos",
        "height",
        "width",
        "num_local",
        "raft_iter",
        "weights",
    ];

    fn defaults(given: &Dict) -> Settings<Self> {
        let run = RunSettings {
            steps: Some(100),
            batch_size: 1,
            lr: 5e-5,
            clip_norm: CLIP_NORM,
            ..RunSettings::default()
        };
        let clips = ClipSettings::defaults(given);
        Settings {
            model: Self { clips },
            run,
        }
    }

    fn pick(all: &Figment) -> Result<Self, Box<figment::Error>> {
        Ok(Self {
            clips: all.extract()?,
        })
    }

    fn validate(&self, layers: &Layers) -> Result<()> {
        self.clips.validate(layers)
    }
}

impl ModelSettings for ProPainterSettings {
    const MODEL: &'static str = "propainter";
    const KEPT_ON_RESUME: &'static [&'static str] = &[
        "data",
        "num_videos",
        "height",
        "width",
        "num_local",
        "raft_iter",
        "weights",
        "num_reference",
        "depth",
    ];

    fn defaults(given: &Dict) -> Settings<Self> {
        let run = RunSettings {
            steps: Some(60),
            batch_size: 1,
            lr: 1e-4,
            clip_norm: CLIP_NORM,
            ..RunSettings::default()
        };
        let model = Self {
            clips: ClipSettings::defaults(given),
            generator: GeneratorSettings {
                num_reference: 2,
                depth: 8,
            },
        };
        Settings { model, run }
    }

    fn pick(all: &Figment) -> Result<Self, Box<figment::Error>> {
        Ok(Self {
            clips: all.extract()?,
            generator: all.extract()?,
        })
    }

    fn validate(&self, layers: &Layers) -> Result<()> {
        self.clips.validate(layers)?;
        let depth = self.generator.depth;
        layers.require(depth > 0, "depth", "be at least 1", &depth)
    }
}
