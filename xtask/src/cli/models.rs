//! The settings that belong to one model of `train` that makes no images of images.
//!
//! Each is a flag, a key of a settings file and a field of a run's `config.json`, declared once.

use std::path::PathBuf;

use clap::builder::ArgPredicate;
use clap::{Args, Command};
use serde::Serialize;

use super::paths;
use super::tiling::{TilingSettings, adapt_to_tiles};
use super::train::ModelSettings;
use super::values::{above_zero, at_least, depth, share_to_use};

/// The `--weights` that are no folder.
pub const PROCEDURAL: &str = "procedural";
/// The published training of videos does not shorten gradients: this is out of their reach.
const CLIP_NORM_OF_VIDEOS: &str = "10000";

/// Settings of `train decode`.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct DecodeSettings {
    /// TIFF stack, or folder of TIFF files, to train on. The default is a small generated stack of emitters.
    #[arg(long, value_name = "TIFF", help_heading = "Data", requires = "targets")]
    #[serde(with = "paths::optional")]
    pub data: Option<PathBuf>,
    /// Table of emitter positions in the stack, CSV. Photons, background and z are learned where
    /// it has them.
    #[arg(long, value_name = "CSV", help_heading = "Data", requires = "data")]
    #[serde(with = "paths::optional")]
    pub targets: Option<PathBuf>,
    /// Side of a pixel in nanometres, for a table of emitter positions in nanometres.
    #[arg(long, value_name = "NM", help_heading = "Data", requires = "targets")]
    #[arg(value_parser = above_zero)]
    pub pixel_size: Option<f64>,
    /// The network.
    #[command(flatten)]
    #[serde(flatten)]
    pub network: DecodeNetworkSettings,
    /// Tiles.
    #[command(flatten)]
    #[serde(flatten)]
    pub tiling: TilingSettings,
    /// Weights to start from: a PyTorch or safetensors state dict. The default is random weights.
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    #[serde(with = "paths::optional")]
    pub weights: Option<PathBuf>,
    /// Least probability of an emitter that is found.
    #[arg(long, value_name = "PROB", help_heading = "Evaluation", value_parser = share_to_use)]
    #[arg(default_value_t = 0.3)]
    pub threshold: f64,
    /// Largest distance in pixels of a found emitter from a true one.
    #[arg(long, value_name = "PIXELS", help_heading = "Evaluation", value_parser = above_zero)]
    #[arg(default_value = "2.0")]
    pub radius: f64,
}

/// The shape of DECODE's network.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct DecodeNetworkSettings {
    /// Channels after the first convolution; doubled at each level.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least(1_usize))]
    #[arg(default_value_t = 12)]
    pub base_channels: usize,
    /// Times the image is halved, 1 to 8, in both U-Nets.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = depth, default_value_t = 1)]
    pub depth: usize,
    /// Most groups of the group normalisation, 0 for none, as DECODE has.
    #[arg(long, value_name = "N", help_heading = "Model", default_value_t = 4)]
    pub norm_groups: usize,
}

impl ModelSettings for DecodeSettings {
    const MODEL: &'static str = "decode";
    const KEPT_ON_RESUME: &'static [&'static str] = &[
        "data",
        "targets",
        "pixel_size",
        "base_channels",
        "depth",
        "norm_groups",
    ];

    fn adapt(flags: Command) -> Command {
        adapt_to_tiles(flags)
            .mut_arg("lr", |flag| flag.default_value("0.008"))
            .mut_arg("clip_norm", |flag| flag.default_value("0.03"))
            .mut_arg("use_chunking", |flag| {
                flag.help(
                    "Train on tiles of every frame, a few at a time, with the gradient of the whole frame: what \
                     the network keeps does not grow with the frame. For --norm-groups 0",
                )
            })
            .mut_arg("approximate_chunks", |flag| {
                flag.help(
                    "With --use-chunking, allow --norm-groups, which sees a tile only: the gradient is not that \
                     of the whole frame then",
                )
            })
    }
}

/// Settings of every model that learns from videos.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct ClipSettings {
    /// Folder of videos, each a folder of frames: JPEGImages/480p of DAVIS, or a part of YouTube-VOS.
    /// The default is a few generated videos.
    #[arg(
        long,
        value_name = "DIR",
        help_heading = "Data",
        conflicts_with = "num_videos"
    )]
    #[serde(with = "paths::optional")]
    pub data: Option<PathBuf>,
    /// Videos to generate, those for evaluation included.
    #[arg(long, value_name = "N", help_heading = "Data", value_parser = at_least(2_usize))]
    #[arg(default_value_t = 10)]
    pub num_videos: usize,
    /// Height that frames are scaled to, in pixels: a multiple of 8, at least 64.
    #[arg(long, value_name = "PIXELS", help_heading = "Data", value_parser = side_of_video)]
    #[arg(default_value_t = 64)]
    pub height: usize,
    /// Width that frames are scaled to, in pixels: a multiple of 8, at least 64.
    #[arg(long, value_name = "PIXELS", help_heading = "Data", value_parser = side_of_video)]
    #[arg(default_value_t = 64)]
    pub width: usize,
    /// Neighbouring frames of a clip, at least 2; the published training has 10.
    #[arg(long, value_name = "N", help_heading = "Data", value_parser = at_least(2_usize))]
    #[arg(default_value_t = 5)]
    pub num_local: usize,
    /// Corrections of the optical flow between frames. The default is 20, and 4 where its weights are
    /// made up.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least(1_usize))]
    // Made-up flow gets no better.
    #[arg(default_value = "4")]
    #[arg(default_value_ifs([
        ("weights", ArgPredicate::Equals(PROCEDURAL.into()), Some("4")),
        ("weights", ArgPredicate::IsPresent, Some("20")),
    ]))]
    pub raft_iter: usize,
    /// Folder of the weights of what is used but not trained: raft-things, and to train propainter
    /// also recurrent_flow_completion, each .pth or .safetensors, as a run leaves it in its folder
    /// `weights`; or `procedural`: generated videos know their flow, for others weights are made up,
    /// which teach nothing.
    #[arg(long, value_name = "DIR", help_heading = "Model", default_value = PROCEDURAL)]
    #[serde(with = "paths")]
    pub weights: PathBuf,
    /// Weights to start from: a PyTorch or safetensors state dict. The default is random weights.
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    #[serde(with = "paths::optional")]
    pub init_weights: Option<PathBuf>,
}

/// Settings of `train flow-completion`.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct FlowCompletionSettings {
    /// Videos and flows.
    #[command(flatten)]
    #[serde(flatten)]
    pub clips: ClipSettings,
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

    /// Losses are shares of what the masks of a batch hide.
    fn adds_up(&self) -> bool {
        false
    }

    fn adapt(flags: Command) -> Command {
        let falls = "300000, 400000, 500000 and 600000 to a fifth";
        adapt_to_videos(flags, "100", falls, "0.00005")
    }
}

/// Settings of `train propainter`.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct ProPainterSettings {
    /// Videos and flows.
    #[command(flatten)]
    #[serde(flatten)]
    pub clips: ClipSettings,
    /// The generator.
    #[command(flatten)]
    #[serde(flatten)]
    pub generator: GeneratorSettings,
}

/// What a generator sees besides neighbouring frames, and how deep it is.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct GeneratorSettings {
    /// Frames from elsewhere in the video; the published training has 6.
    #[arg(long, value_name = "N", help_heading = "Data", default_value_t = 2)]
    pub num_reference: usize,
    /// Blocks of the transformer. The default is 8; weights of another depth are for further training
    /// alone.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least(1_usize))]
    #[arg(default_value_t = 8)]
    pub depth: usize,
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

    /// Losses are shares of what the masks of a batch hide.
    fn adds_up(&self) -> bool {
        false
    }

    fn adapt(flags: Command) -> Command {
        adapt_to_videos(flags, "60", "400000 to a tenth", "0.0001")
    }
}

/// The defaults of models that learn from videos; `falls` are the steps after which the published
/// training lowers the learning rate.
fn adapt_to_videos(flags: Command, steps: &'static str, falls: &str, lr: &'static str) -> Command {
    let help = format!("Learning rate; it falls after step {falls}");
    flags
        .mut_arg("optimizer", |flag| flag.default_value("adam"))
        .mut_arg("steps", |flag| flag.default_value(steps))
        .mut_arg("batch_size", |flag| flag.default_value("1"))
        .mut_arg("lr", |flag| flag.default_value(lr).help(help))
        .mut_arg("clip_norm", |flag| {
            flag.default_value(CLIP_NORM_OF_VIDEOS).help(
                "Largest norm of the averaged gradients; longer ones are shortened. The default is \
                 10000, which shortens none",
            )
        })
}

/// Reads a side of a video: RAFT compares features at an eighth of the size, and at an eighth of
/// these.
fn side_of_video(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(side) if side >= 64 && usize::is_multiple_of(side, 8) => Ok(side),
        _ => Err("must be a multiple of 8 and at least 64".into()),
    }
}
