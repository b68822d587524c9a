//! The settings of `train unet` and `train watermark`, which make an image of an image.

use std::path::PathBuf;

use clap::builder::ArgPredicate;
use clap::{ArgAction, Args, Command};
use serde::Serialize;

use super::paths;
use super::stages::StageSettings;
use super::tiling::{TilingSettings, adapt_to_tiles};
use super::train::{ModelSettings, Variants};
use super::values::{above_zero, at_least, depth};
use crate::choices::{LossChoice, NormChoice, UpsamplingChoice};

/// Settings of `train unet`.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct UNetSettings {
    /// What is learned, and from what.
    #[command(flatten)]
    #[serde(flatten)]
    pub data: UNetData,
    /// The network, and how it is trained on images.
    #[command(flatten)]
    #[serde(flatten)]
    pub image: ImageSettings,
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
        "freeze_norm",
        "upsampling",
        "progressive",
        "budget",
    ];

    fn stages(&self) -> Option<&StageSettings> {
        Some(&self.image.stages)
    }

    fn adds_up(&self) -> bool {
        let has_batch_norm =
            self.image.network.norm == NormChoice::Batch && !self.image.freeze_norm;
        self.data.loss != LossChoice::BceDice && !has_batch_norm
    }

    fn budgeted(&self) -> (&'static str, bool) {
        self.image.budgeted()
    }

    fn adapt(flags: Command) -> Command {
        ImageSettings::adapt(flags)
    }
}

/// A UNet, and how it is trained on images.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct ImageSettings {
    /// The network.
    #[command(flatten)]
    #[serde(flatten)]
    pub network: UNetNetworkSettings,
    /// Tiles.
    #[command(flatten)]
    #[serde(flatten)]
    pub tiling: TilingSettings,
    /// With --norm batch, keep the running statistics as they are, as of --weights, and learn its scales and shifts
    /// alone.
    #[arg(long, value_name = "BOOL", help_heading = "Model", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false)]
    pub freeze_norm: bool,
    /// Growing images.
    #[command(flatten)]
    #[serde(flatten)]
    pub stages: StageSettings,
}

impl ImageSettings {
    /// The flags that `--budget` is for, and whether one of them is given.
    fn budgeted(&self) -> (&'static str, bool) {
        let is_given = self.tiling.use_chunking || self.stages.progressive.is_some();
        ("--progressive or --use-chunking", is_given)
    }

    /// Says what tiles choose, and what `--budget` is for.
    fn adapt(flags: Command) -> Command {
        adapt_to_tiles(flags).mut_arg("budget", |flag| {
            flag.help(
                "The peak memory that a step may take, as in 6GiB. With --progressive, of any stage: \
                 micro-batches as large as fit, and more of them a step. With --use-chunking, tiles as large as fit, \
                 more at once where they are small, and with --grad-checkpoint auto recomputation where that allows \
                 larger tiles and saves time",
            )
        })
    }
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
    /// The network, and how it is trained on images.
    #[command(flatten)]
    #[serde(flatten)]
    pub image: ImageSettings,
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
        "freeze_norm",
        "upsampling",
        "progressive",
        "budget",
    ];

    fn stages(&self) -> Option<&StageSettings> {
        Some(&self.image.stages)
    }

    /// Dice is a quotient of sums over the batch.
    fn adds_up(&self) -> bool {
        false
    }

    fn budgeted(&self) -> (&'static str, bool) {
        self.image.budgeted()
    }

    fn adapt(flags: Command) -> Command {
        ImageSettings::adapt(flags)
            .mut_arg("base_channels", |flag| flag.default_value("8"))
            .mut_arg("steps", |flag| flag.default_value("500"))
            .mut_arg("batch_size", |flag| flag.default_value("8"))
            .mut_arg("lr", |flag| flag.default_value("0.005"))
    }
}
