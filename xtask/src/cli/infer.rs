//! Flags of `infer` and `evaluate`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};
use serde::Serialize;

use super::values::{Given, Words, amount, at_least, share, share_to_use};
use super::{Target, paths};
use crate::choices::{BlendChoice, ChunkSizeChoice, PrecisionChoice, SchemeChoice};
use crate::device::{DeviceChoice, DeviceList};

/// Arguments of `infer`.
#[derive(Debug, Args)]
pub struct InferArgs {
    /// The model.
    #[command(subcommand)]
    pub model: InferModel,
}

/// The models that can be run on files.
#[derive(Debug, Subcommand)]
pub enum InferModel {
    /// A UNet of `train unet` or `train watermark`: densities or masks of images.
    #[command(
        after_help = "What is interrupted, by Ctrl-C or otherwise, goes on where it was when the \
        same command is given again."
    )]
    Unet(Box<InferFlags>),
}

/// Flags of `infer unet`.
#[derive(Clone, Debug, Args)]
pub struct InferFlags {
    /// Artifact folder of `train unet` or `train watermark`; its last save is used.
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    pub model: PathBuf,
    /// Image (PNG, JPEG), TIFF stack, or a folder of them.
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    pub input: PathBuf,
    /// Where results go: a folder for a folder; else a file that ends in .tif (f32, one page for
    /// each of the input) or, for one image, .png (16 bits; 65535 is a probability of 1, or one
    /// emitter in a pixel).
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    pub output: PathBuf,
    /// Write over files at --output that infer did not write itself.
    #[arg(long, help_heading = "Files")]
    pub overwrite: bool,
    /// The settings.
    #[command(flatten)]
    pub settings: Given<InferSettings>,
    /// File of settings: TOML, YAML or JSON by its extension. A key is a flag's name with
    /// underscores; flags win over the file.
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub config: Option<PathBuf>,
    /// Print one JSON object a line on stdout instead of the table.
    #[arg(long, help_heading = "Run")]
    pub json: bool,
    /// Further cargo features to compile, as in autotune,cuda-cpp.
    #[arg(long, value_name = "LIST", help_heading = "Run", value_delimiter = ',')]
    pub features: Vec<String>,
}

impl InferFlags {
    /// Which device computes, by the flags or a file that they name.
    pub fn target(&self) -> Target<'_> {
        Target {
            device: self.settings.device(),
            config: self.config.as_deref().map(Into::into),
            features: &self.features,
        }
    }
}

/// Settings of `infer unet`.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct InferSettings {
    /// Height and width of a window in pixels, or auto: as large as memory, or --budget, allows.
    #[arg(long, value_name = "N|auto", help_heading = "Windows", default_value_t)]
    pub chunk_size: ChunkSizeChoice,
    /// Share of a window that its neighbour covers too, from 0 to below 1.
    #[arg(long, value_name = "SHARE", help_heading = "Windows", value_parser = share)]
    #[arg(allow_negative_numbers = true, default_value_t = 0.25)]
    pub overlap: f64,
    /// How overlapping windows are put together.
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        help_heading = "Windows",
        default_value_t
    )]
    pub blend: BlendChoice,
    /// Give what the model gives on the whole image, by tiles with a margin as wide as a pixel
    /// reaches; refused for models that cannot be cut so.
    #[arg(long, value_name = "BOOL", help_heading = "Windows", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(conflicts_with_all = ["overlap", "blend", "batch_size", "auto_batch_size"])]
    #[arg(default_value_t = false)]
    pub exact: bool,

    /// Memory that may be taken at most, as in 2GiB: the window is chosen so that the peak stays
    /// below. The default is --memory-threshold of what is free.
    #[arg(long, value_name = "SIZE", help_heading = "Memory", value_parser = amount)]
    pub budget: Option<String>,
    /// Share of the free memory that may be used, above 0 and at most 1.
    #[arg(long, value_name = "SHARE", help_heading = "Memory", value_parser = share_to_use)]
    #[arg(allow_negative_numbers = true, default_value_t = 0.8)]
    pub memory_threshold: f64,
    /// Precision that the model computes in.
    #[arg(
        long,
        value_enum,
        value_name = "TYPE",
        help_heading = "Memory",
        default_value_t
    )]
    pub precision: PrecisionChoice,
    /// Pack the weights in so many bits: less memory of weights, the same time or more, and results
    /// that differ; quantize says by how much. The default is none.
    #[arg(long, value_enum, value_name = "SCHEME", help_heading = "Memory")]
    pub quantize: Option<SchemeChoice>,
    /// Windows that run at once.
    #[arg(long, value_name = "N", help_heading = "Memory", value_parser = at_least(1_usize))]
    #[arg(conflicts_with_all = ["auto_batch_size", "min_batch_size", "max_batch_size"])]
    #[arg(default_value_t = 1)]
    pub batch_size: usize,
    /// Run as many windows at once as memory allows: fewer when it runs out, more when all is well.
    #[arg(long, value_name = "BOOL", help_heading = "Memory", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false)]
    pub auto_batch_size: bool,
    /// Fewest windows at once with --auto-batch-size.
    #[arg(long, value_name = "N", help_heading = "Memory", value_parser = at_least(1_usize))]
    #[arg(default_value_t = 1)]
    pub min_batch_size: usize,
    /// Most windows at once with --auto-batch-size.
    #[arg(long, value_name = "N", help_heading = "Memory", value_parser = at_least(1_usize))]
    #[arg(default_value_t = 64)]
    pub max_batch_size: usize,

    /// Device: auto, flex, wgpu, vulkan, cuda or cuda:N; or several, as in cuda:0,cuda:1, each of which runs
    /// as many windows at once. The default is auto: what the variable BURN_MEMOPT_DEVICE names, else
    /// flex, the CPU.
    #[arg(
        long,
        visible_alias = "devices",
        value_name = "DEVICE",
        help_heading = "Run",
        default_value_t
    )]
    pub device: DeviceList,
}

/// The setting of a run that names what it is measured by, not what it was trained on.
pub const INCEPTION: &str = "inception";

/// Flags of `evaluate`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The last saved state is evaluated as at the end of train: on what the run held \
    out, with the same numbers. metrics.json, pictures and tables in the folder are written anew."
)]
pub struct EvaluateArgs {
    /// Artifact folder of train.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,

    /// Where the data of the run is now: the stack or the folder of videos. The default of this and
    /// the next is what the run has saved.
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Where its table of emitter positions is.
    #[arg(long, value_name = "CSV", help_heading = "Data")]
    pub targets: Option<PathBuf>,
    /// Where its table of views is.
    #[arg(long, value_name = "CSV", help_heading = "Data")]
    pub table: Option<PathBuf>,
    /// Where its images are.
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub images: Option<PathBuf>,
    /// Where its masks are.
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub masks: Option<PathBuf>,
    /// Weights of the Inception network, for FID and KID of a GAN: pt_inception-2015-12-05-6726825d.pth.
    #[arg(long, value_name = "FILE")]
    pub inception: Option<PathBuf>,

    /// Device: auto, flex, wgpu, vulkan, cuda or cuda:N. The default is the device of the run.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Print one JSON object on stdout instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Further cargo features to compile, as in autotune,cuda-cpp.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub features: Vec<String>,
}

impl EvaluateArgs {
    /// Which device evaluates, by the flags or the run.
    pub fn target(&self) -> Target<'_> {
        Target {
            device: self.device.map(Into::into),
            config: Some(self.model.join("config.json").into()),
            features: &self.features,
        }
    }

    /// The settings of the run that are given otherwise.
    pub fn data_words(&self) -> Words {
        let paths = [
            ("data", &self.data),
            ("targets", &self.targets),
            ("table", &self.table),
            ("images", &self.images),
            ("masks", &self.masks),
            (INCEPTION, &self.inception),
        ];
        let given = paths
            .into_iter()
            .filter_map(|(name, path)| Some((name, path.as_ref()?)));
        given
            .map(|(name, path)| (name.into(), paths::to_text(path)))
            .collect()
    }
}
