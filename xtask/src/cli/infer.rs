//! Flags of `infer`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::numbers::{amount, at_least_one, share, share_to_use};
use crate::choices::{BlendChoice, ChunkSizeChoice, PrecisionChoice};
use crate::device::DeviceChoice;

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
///
/// Serialized they are flat, as settings files are.
#[derive(Clone, Debug, Args, Serialize)]
pub struct InferFlags {
    /// Artifact folder of `train unet` or `train watermark`; its last save is used.
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    #[serde(skip)]
    pub model: PathBuf,
    /// Image (PNG, JPEG), TIFF stack, or a folder of them.
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    #[serde(skip)]
    pub input: PathBuf,
    /// Where results go: a folder for a folder; else a file that ends in .tif (f32, one page for
    /// each of the input) or, for one image, .png (16 bits; 65535 is a probability of 1, or one
    /// emitter in a pixel).
    #[arg(long, value_name = "PATH", help_heading = "Files")]
    #[serde(skip)]
    pub output: PathBuf,

    /// Height and width of a window in pixels, or auto: as large as memory, or --budget, allows. The
    /// default is auto.
    #[arg(long, value_name = "N|auto", help_heading = "Windows")]
    pub chunk_size: Option<ChunkSizeChoice>,
    /// Share of a window that its neighbour covers too, from 0 to below 1. The default is 0.25.
    #[arg(long, value_name = "SHARE", help_heading = "Windows", value_parser = share)]
    #[arg(allow_negative_numbers = true)]
    pub overlap: Option<f64>,
    /// How overlapping windows are put together. The default is gaussian.
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Windows")]
    pub blend: Option<BlendChoice>,
    /// Give what the model gives on the whole image, by tiles with a margin as wide as a pixel
    /// reaches; refused for models that cannot be cut so. The default is false.
    #[arg(long, value_name = "BOOL", help_heading = "Windows")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(conflicts_with_all = ["overlap", "blend", "batch_size", "auto_batch_size"])]
    pub exact: Option<bool>,

    /// Memory that may be taken at most, as in 2GiB: the window is chosen so that the peak stays
    /// below. The default is --memory-threshold of what is free.
    #[arg(long, value_name = "SIZE", help_heading = "Memory", value_parser = amount)]
    pub budget: Option<String>,
    /// Share of the free memory that may be used, above 0 and at most 1. The default is 0.8.
    #[arg(long, value_name = "SHARE", help_heading = "Memory", value_parser = share_to_use)]
    #[arg(allow_negative_numbers = true)]
    pub memory_threshold: Option<f64>,
    /// Precision that the model computes in. The default is f32.
    #[arg(long, value_enum, value_name = "TYPE", help_heading = "Memory")]
    pub precision: Option<PrecisionChoice>,
    /// Windows that run at once. The default is 1.
    #[arg(long, value_name = "N", help_heading = "Memory", value_parser = at_least_one)]
    #[arg(conflicts_with_all = ["auto_batch_size", "min_batch_size", "max_batch_size"])]
    pub batch_size: Option<u64>,
    /// Run as many windows at once as memory allows: fewer when it runs out, more when all is well.
    /// The default is false.
    #[arg(long, value_name = "BOOL", help_heading = "Memory")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub auto_batch_size: Option<bool>,
    /// Fewest windows at once with --auto-batch-size. The default is 1.
    #[arg(long, value_name = "N", help_heading = "Memory", value_parser = at_least_one)]
    pub min_batch_size: Option<u64>,
    /// Most windows at once with --auto-batch-size. The default is 64.
    #[arg(long, value_name = "N", help_heading = "Memory", value_parser = at_least_one)]
    pub max_batch_size: Option<u64>,

    /// Device: auto, flex, wgpu, vulkan, cuda or cuda:N. The default is auto: what the
    /// variable BURN_MEMOPT_DEVICE names, else flex, the CPU.
    #[arg(long, value_name = "DEVICE", help_heading = "Run")]
    pub device: Option<DeviceChoice>,
    /// File of settings: TOML, YAML or JSON by its extension. A key is a flag's name with
    /// underscores; flags win over the file.
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print one JSON object a line on stdout instead of the table.
    #[arg(long, help_heading = "Run")]
    #[serde(skip)]
    pub json: bool,
    /// Further cargo features to compile, as in autotune,cuda-cpp.
    #[arg(long, value_name = "LIST", help_heading = "Run", value_delimiter = ',')]
    #[serde(skip)]
    pub features: Vec<String>,
}
