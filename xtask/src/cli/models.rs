//! The settings that belong to one model of `train`.
//!
//! Each is a flag, a key of a settings file and a field of a run's `config.json`, declared once.

use std::path::PathBuf;

use clap::builder::ArgPredicate;
use clap::{Args, Command};
use serde::Serialize;

use super::paths;
use super::train::{ModelSettings, Variants};
use super::values::{above_zero, at_least, depth, share_to_use};
use crate::choices::{LossChoice, NormChoice, UpsamplingChoice};

/// The `--weights` that are no folder.
pub const PROCEDURAL: &str = "procedural";
/// The published training of videos does not shorten gradients: this is out of their reach.
const CLIP_NORM_OF_VIDEOS: &str = "10000";

/// Settings of `train unet`.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct UNetSettings {
    /// What is learned, and from what.
    #[command(flatten)]
    #[serde(flatten)]
    pub data: UNetData,
    /// The network.
    #[command(flatten)]
    #[serde(flatten)]
    pub network: UNetNetworkSettings,
}

/// What a UNet learns, and from what.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct UNetData {
    /// TIFF stack, or folder of TIFF files, to train on. The default is a small generated stack of emitters.
    #[arg(long, value_name = "TIFF", help_heading = "Data", requires = "targets")]
    #[arg(conflicts_with_all = ["images", "masks"])]
    #[serde(with = "paths::optional")]
    pub data: Option<PathBuf>,
    /// Table of emitter positions in the stack, CSV.
    #[arg(long, value_name = "CSV", help_heading = "Data", requires = "data")]
    #[serde(with = "paths::optional")]
    pub targets: Option<PathBuf>,
    /// Side of a pixel in nanometres, for a table of emitter positions in nanometres.
    #[arg(long, value_name = "NM", help_heading = "Data", requires = "targets")]
    #[arg(value_parser = above_zero)]
    pub pixel_size: Option<f64>,
    /// Folder of images to train on.
    #[arg(long, value_name = "DIR", help_heading = "Data", requires = "masks")]
    #[serde(with = "paths::optional")]
    pub images: Option<PathBuf>,
    /// Folder of masks, one for each image, of the same name and size.
    #[arg(long, value_name = "DIR", help_heading = "Data", requires = "images")]
    #[serde(with = "paths::optional")]
    pub masks: Option<PathBuf>,
    /// Classes in the masks, background included, of which 255 may mark pixels of none. By default,
    /// every value but 0 is object.
    #[arg(long, value_name = "N", help_heading = "Data", requires = "masks")]
    #[arg(value_parser = at_least(2_usize))]
    pub classes: Option<usize>,
    /// Loss. The default is count for stacks, bce-dice for images with masks, and cross-entropy for
    /// classes.
    #[arg(long, value_enum, value_name = "LOSS", help_heading = "Training")]
    #[arg(default_value = "count")]
    #[arg(default_value_ifs([
        ("classes", ArgPredicate::IsPresent, Some("cross-entropy")),
        ("images", ArgPredicate::IsPresent, Some("bce-dice")),
    ]))]
    pub loss: LossChoice,
}

impl ModelSettings for UNetSettings {
    const MODEL: &'static str = "unet";
    const VARIANTS: &'static [Variants] =
        &[[&["data", "targets", "pixel_size"], &["images", "masks"]]];
    const KEPT_ON_RESUME: &'static [&'static str] = &[
        "data",
        "targets",
        "pixel_size",
        "images",
        "masks",
        "classes",
        "loss",
        "base_channels",
        "depth",
        "norm",
        "upsampling",
    ];
}

/// The shape of a UNet and where it starts.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct UNetNetworkSettings {
    /// Channels after the first convolution; doubled at each level.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least(1_usize))]
    #[arg(default_value_t = 16)]
    pub base_channels: usize,
    /// Times the image is halved, 1 to 8.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = depth, default_value_t = 3)]
    pub depth: usize,
    /// Normalisation. The default is group: few images a batch give poor batch statistics.
    #[arg(
        long,
        value_enum,
        value_name = "NORM",
        help_heading = "Model",
        default_value_t
    )]
    pub norm: NormChoice,
    /// Upsampling in the decoder.
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        help_heading = "Model",
        default_value_t
    )]
    pub upsampling: UpsamplingChoice,
    /// Weights to start from: a PyTorch or safetensors state dict. The default is random weights.
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    #[serde(with = "paths::optional")]
    pub weights: Option<PathBuf>,
}

/// Settings of `train watermark`.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct WatermarkSettings {
    /// The images.
    #[command(flatten)]
    #[serde(flatten)]
    pub data: WatermarkData,
    /// The network.
    #[command(flatten)]
    #[serde(flatten)]
    pub network: UNetNetworkSettings,
}

/// Where images with watermarks come from.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct WatermarkData {
    /// Folder of images with watermarks, with --masks; alone: of photographs that watermarks are
    /// drawn on. Without it, backgrounds are generated.
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    #[serde(with = "paths::optional")]
    pub images: Option<PathBuf>,
    /// Folder of masks of the watermarks, one for each image, of the same name and size.
    #[arg(long, value_name = "DIR", help_heading = "Data", requires = "images")]
    #[arg(conflicts_with_all = ["num_images", "image_size"])]
    #[serde(with = "paths::optional")]
    pub masks: Option<PathBuf>,
    /// Images to generate, those for evaluation included.
    #[arg(long, value_name = "N", help_heading = "Data", value_parser = at_least(2_usize))]
    #[arg(default_value_t = 400)]
    pub num_images: usize,
    /// Height and width of a generated image in pixels, at least 16.
    #[arg(long, value_name = "PIXELS", help_heading = "Data", value_parser = at_least(16_usize))]
    #[arg(default_value_t = 64)]
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

    fn adapt(flags: Command) -> Command {
        flags
            .mut_arg("base_channels", |flag| flag.default_value("8"))
            .mut_arg("steps", |flag| flag.default_value("500"))
            .mut_arg("batch_size", |flag| flag.default_value("8"))
            .mut_arg("lr", |flag| flag.default_value("0.005"))
    }
}

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
        flags
            .mut_arg("lr", |flag| flag.default_value("0.008"))
            .mut_arg("clip_norm", |flag| flag.default_value("0.03"))
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

    fn adapt(flags: Command) -> Command {
        adapt_to_videos(flags, "60", "400000 to a tenth", "0.0001")
    }
}

/// The defaults of models that learn from videos; `falls` are the steps after which the published
/// training lowers the learning rate.
fn adapt_to_videos(flags: Command, steps: &'static str, falls: &str, lr: &'static str) -> Command {
    let help = format!("Learning rate of Adam; it falls after step {falls}");
    flags
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
