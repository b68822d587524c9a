//! The settings of `train gan`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Command};
use serde::Serialize;

use super::paths;
use super::stages::StageSettings;
use super::train::{ModelSettings, Variants};
use super::values::{above_zero, at_least, share_to_use};
use crate::choices::RayChunkChoice;

/// The published training does not shorten gradients: this is out of their reach.
const CLIP_NORM: &str = "10000";

/// Settings of `train gan`.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct GanSettings {
    /// Images and their views.
    #[command(flatten)]
    #[serde(flatten)]
    pub views: ViewSettings,
    /// The networks.
    #[command(flatten)]
    #[serde(flatten)]
    pub networks: GanNetworkSettings,
    /// Growing images.
    #[command(flatten)]
    #[serde(flatten)]
    pub stages: StageSettings,
}

/// What a GAN learns from.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct ViewSettings {
    /// Folder of square images of one size. The default is a generated set of four coloured solids.
    #[arg(
        long,
        value_name = "DIR",
        help_heading = "Data",
        conflicts_with = "image_size"
    )]
    #[serde(with = "paths::optional")]
    pub data: Option<PathBuf>,
    /// Table of the images, CSV, with the columns file, class, elevation (0 to 3) and azimuth (degrees).
    #[arg(long, value_name = "CSV", help_heading = "Data", requires = "data")]
    #[arg(conflicts_with = "name_pattern")]
    #[serde(with = "paths::optional")]
    pub table: Option<PathBuf>,
    /// What the names of the images say, where there is no table: CLASS, ELEV and AZIM in any order. The
    /// default is CLASS_ELEV_AZIM.
    #[arg(long, value_name = "PATTERN", help_heading = "Data", requires = "data")]
    pub name_pattern: Option<String>,
    /// The images have no labels: plain GRAF, with cameras all around.
    #[arg(long, value_name = "BOOL", help_heading = "Data", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false)]
    pub unlabelled: bool,
    /// Height and width of a generated image in pixels, at least 32.
    #[arg(long, value_name = "PIXELS", help_heading = "Data", value_parser = at_least(32_usize))]
    #[arg(default_value_t = 32)]
    pub image_size: usize,
    /// Azimuths of the generated images, a divisor of 360: evenly around each solid.
    #[arg(long, value_name = "N", help_heading = "Data", value_parser = divisor_of_360)]
    #[arg(default_value_t = 24)]
    pub num_azimuths: usize,
    /// Width of the camera's field of view in degrees.
    #[arg(long, value_name = "DEGREES", help_heading = "Data", value_parser = above_zero)]
    #[arg(allow_negative_numbers = true, default_value_t = 20.0)]
    pub field_of_view: f64,
    /// Distance of the camera to the centre of what it sees.
    #[arg(long, value_name = "LENGTH", help_heading = "Data", value_parser = above_zero)]
    #[arg(allow_negative_numbers = true, default_value_t = 2.5)]
    pub radius: f64,
}

/// The networks of a GAN, and how rays are rendered.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct GanNetworkSettings {
    /// Pixels a side of what the discriminator sees: 32, 64 or 128.
    #[arg(long, value_name = "PIXELS", help_heading = "Model", value_parser = patch_size)]
    #[arg(default_value_t = 32)]
    pub patch_size: usize,
    /// Points of a ray; the published training has 64.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least(2_usize))]
    #[arg(default_value_t = 8)]
    pub samples: usize,
    /// Further points of a ray, where the first ones say that there is something.
    #[arg(long, value_name = "N", help_heading = "Model", default_value_t = 0)]
    pub fine_samples: usize,
    /// Distance of the first point of a ray.
    #[arg(long, value_name = "LENGTH", help_heading = "Model", value_parser = above_zero)]
    #[arg(allow_negative_numbers = true, default_value_t = 2.0)]
    pub near: f64,
    /// Distance of the last one.
    #[arg(long, value_name = "LENGTH", help_heading = "Model", value_parser = above_zero)]
    #[arg(allow_negative_numbers = true, default_value_t = 3.0)]
    pub far: f64,
    /// Layers of the radiance field; the published one has 8.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least(2_usize))]
    #[arg(default_value_t = 4)]
    pub field_depth: usize,
    /// Values between them, an even number; the published one has 256.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least(2_usize))]
    #[arg(default_value_t = 64)]
    pub field_width: usize,
    /// Frequencies that positions are encoded with; the published field has 10, for larger images.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = frequencies)]
    #[arg(default_value_t = 6)]
    pub frequencies: usize,
    /// Channels that those of the discriminator are multiples of; the published one has 64.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least(2_usize))]
    #[arg(default_value_t = 16)]
    pub base_channels: usize,
    /// Leave the consistency-controlling super-resolution out.
    #[arg(long, value_name = "BOOL", help_heading = "Model", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false)]
    pub no_ccsr: bool,
    /// Weights of the radiance field to start from: a PyTorch or safetensors state dict. The default is random
    /// weights.
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    #[serde(with = "paths::optional")]
    pub weights: Option<PathBuf>,
    /// Weight of the R1 penalty, a mean over pixels; GRAF has 10, its conditional variant 80.
    #[arg(long, value_name = "WEIGHT", help_heading = "Training", value_parser = above_zero)]
    #[arg(allow_negative_numbers = true, default_value_t = 30.0)]
    pub reg_param: f64,
    /// Learning rate of the discriminator, as a share of the generator's.
    #[arg(long, value_name = "SHARE", help_heading = "Training", value_parser = above_zero)]
    #[arg(allow_negative_numbers = true, default_value_t = 0.2)]
    pub discriminator_rate: f64,
    /// What stays of the generator's moving average at a step.
    #[arg(long, value_name = "SHARE", help_heading = "Training", value_parser = share_to_use)]
    #[arg(allow_negative_numbers = true, default_value_t = 0.99)]
    pub average_decay: f64,
    /// Weights of the Inception network, for FID and KID at the end: pt_inception-2015-12-05-6726825d.pth.
    #[arg(long, value_name = "FILE", help_heading = "Evaluation")]
    #[serde(with = "paths::optional")]
    pub inception: Option<PathBuf>,
    /// Rays that are rendered, and recomputed in the backward pass, at a time: a number, none for all at
    /// once, or auto for as many as 512 MiB hold.
    #[arg(long, value_name = "N", help_heading = "Memory", default_value_t)]
    pub ray_chunk: RayChunkChoice,
}

impl ModelSettings for GanSettings {
    const MODEL: &'static str = "gan";
    const VARIANTS: &'static [Variants] = &[[&["table"], &["name_pattern"]]];
    const KEPT_ON_RESUME: &'static [&'static str] = &[
        "data",
        "table",
        "name_pattern",
        "unlabelled",
        "image_size",
        "num_azimuths",
        "patch_size",
        "samples",
        "fine_samples",
        "near",
        "far",
        "field_depth",
        "field_width",
        "frequencies",
        "base_channels",
        "no_ccsr",
        "field_of_view",
        "radius",
        "progressive",
        "budget",
    ];
    /// `--ray-chunk` says what is.
    const RECOMPUTES: bool = false;

    fn stages(&self) -> Option<&StageSettings> {
        Some(&self.stages)
    }

    fn adapt(flags: Command) -> Command {
        flags
            .mut_arg("optimizer", |flag| flag.default_value("rmsprop"))
            .mut_arg("steps", |flag| flag.default_value("1000"))
            .mut_arg("batch_size", |flag| flag.default_value("8"))
            .mut_arg("lr", |flag| {
                flag.default_value("0.001")
                    .help("Learning rate of the generator; it halves after steps 80000, 120000 and 150000")
            })
            .mut_arg("clip_norm", |flag| {
                flag.default_value(CLIP_NORM).help(
                    "Largest norm of the averaged gradients; longer ones are shortened. The default is \
                     10000, which shortens none",
                )
            })
            .mut_arg("grad_checkpoint", |flag| {
                flag.help("Only none: what is recomputed of a GAN is set by --ray-chunk")
            })
    }
}

/// Reads the side of a patch that there is a discriminator for.
fn patch_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(side @ (32 | 64 | 128)) => Ok(side),
        _ => Err("must be 32, 64 or 128, as there are discriminators for these".into()),
    }
}

/// Reads a number of frequencies, of which each is twice the one before.
fn frequencies(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(frequencies @ 0..=16) => Ok(frequencies),
        _ => Err("must be a whole number from 0 to 16".into()),
    }
}

/// Reads a number of azimuths that lie whole degrees apart.
fn divisor_of_360(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(azimuths @ 1..=360) if 360_usize.is_multiple_of(azimuths) => Ok(azimuths),
        _ => Err("must be a divisor of 360".into()),
    }
}
