//! Flags of the commands that measure, plan, advise and convert.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::DeviceFlags;
use super::images::UNetNetworkSettings;
use super::models::DecodeNetworkSettings;
use super::optimizer::OptimizerSettings;
use super::values::{Given, above_zero, amount, at_least};
use crate::choices::{NetworkChoice, PrecisionChoice};
use crate::device::DeviceChoice;

/// Flags of `advise`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Reads headers, index and file names, and no more than 64 items of a data set; \
    nothing is written."
)]
pub struct AdviseArgs {
    /// What to load: a TIFF stack or a folder of them, a folder of PNG or JPEG frames or of such
    /// folders, a video file, JSON Lines (.jsonl, .jsonl.gz) with or without images. What it is
    /// is seen from its content.
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub data: PathBuf,
    /// Masks of the images in --data: a folder with one of each name, or one file for all.
    #[arg(
        long,
        value_name = "PATH",
        help_heading = "Data",
        conflicts_with = "targets"
    )]
    pub masks: Option<PathBuf>,
    /// Table of emitter positions in the stack of --data, CSV.
    #[arg(long, value_name = "CSV", help_heading = "Data")]
    pub targets: Option<PathBuf>,
    /// Side of a pixel in nanometres, for a table of emitter positions in nanometres.
    #[arg(long, value_name = "NM", help_heading = "Data", requires = "targets")]
    #[arg(value_parser = above_zero)]
    pub pixel_size: Option<f64>,
    /// Folder that the paths of images in JSON Lines start from. The default is the folder of
    /// the file.
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    #[arg(conflicts_with_all = ["masks", "targets"])]
    pub images: Option<PathBuf>,

    /// Items in one batch. The default is a power of two of at most 32 that fits.
    #[arg(long, value_name = "N", help_heading = "Machine", value_parser = at_least(1_u64))]
    pub batch_size: Option<u64>,
    /// Host memory to plan for, as in 6GiB, 512MiB or 1000000 (bytes). The default is what is
    /// free now.
    #[arg(long, value_name = "SIZE", help_heading = "Machine", value_parser = amount)]
    pub memory: Option<String>,
    /// Device that will train: auto, flex, wgpu, vulkan, cuda or cuda:N. The default is auto:
    /// what the variable BURN_MEMOPT_DEVICE names, else flex, the CPU.
    #[arg(long, value_name = "DEVICE", help_heading = "Machine")]
    pub device: Option<DeviceChoice>,

    /// Print one JSON object on stdout instead of the table; amounts are in bytes.
    #[arg(long)]
    pub json: bool,
    /// Further cargo features to compile, as in cuda-cpp.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub features: Vec<String>,
}

/// Flags of `bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Cases to measure, by name, separated by commas. The default is all.
    #[arg(long, value_name = "CASE,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Where it runs.
    #[command(flatten)]
    pub target: DeviceFlags,
    /// File for the measurements, a JSON array.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Run criterion's benchmarks first: many samples of small cases, memory and time, with
    /// reports in target/criterion. On the CPU.
    #[arg(long)]
    pub criterion: bool,
}

/// Flags of `monitor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "What a system or a device does not report is shown as \"unknown\".")]
pub struct MonitorArgs {
    /// Show it again and again until Ctrl-C. The default is once.
    #[arg(long)]
    pub watch: bool,
    /// Seconds between two looks with --watch. The default is 1.
    #[arg(long, value_name = "SECONDS", requires = "watch", value_parser = interval)]
    pub interval: Option<Duration>,
    /// File to append a row to at every look, CSV. It starts with a header, amounts are in bytes,
    /// an empty field is unknown.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Process to watch, by its id. The default is the monitor itself. What another process uses
    /// of a device is unknown.
    #[arg(long, value_name = "ID")]
    pub pid: Option<u32>,
    /// Devices to show: auto, flex, wgpu, vulkan, cuda, all of that kind, or one as in cuda:N. The
    /// default is auto: what the variable BURN_MEMOPT_DEVICE names, else flex, the CPU, which
    /// has no memory apart from the host's.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Print one JSON object a look on stdout instead of the table; amounts are in bytes.
    #[arg(long)]
    pub json: bool,
    /// Further cargo features to compile, as in cuda-cpp.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub features: Vec<String>,
}

/// Reads seconds that a clock can count.
fn interval(text: &str) -> Result<Duration, String> {
    let day = 24.0 * 60.0 * 60.0;
    match above_zero(text)? {
        seconds if seconds <= day => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("must be at most 86400, a day".into()),
    }
}

/// Arguments of `weights`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The networks are those of ProPainter: raft-things, recurrent_flow_completion and \
    ProPainter. A file is read as the network that its name begins with, else as the one it fits."
)]
pub struct WeightsArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: WeightsVerb,
}

/// What is done with weights.
#[derive(Clone, Debug, Subcommand)]
pub enum WeightsVerb {
    /// Check that every tensor of a network is in each file, in its shape, and no other.
    Verify(VerifyFlags),
    /// Write weights as safetensors, and compare every value with what was read.
    Convert(ConvertFlags),
}

/// Flags of `weights verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyFlags {
    /// Files of weights, .pth, .pt or .safetensors.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// What every verb has.
    #[command(flatten)]
    pub shared: SharedFlags,
}

/// Flags of `weights convert`.
#[derive(Clone, Debug, Args)]
pub struct ConvertFlags {
    /// File of weights, .pth, .pt or .safetensors.
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    /// Where they go, a name that ends in .safetensors. A file that is there is replaced.
    #[arg(long, value_name = "FILE", value_parser = OsStringValueParser::new().try_map(safetensors))]
    pub output: PathBuf,
    /// What every verb has.
    #[command(flatten)]
    pub shared: SharedFlags,
}

/// Flags of every verb.
#[derive(Clone, Debug, Args)]
pub struct SharedFlags {
    /// The network that the weights are of, whatever the file is called.
    #[arg(long, value_enum, value_name = "NAME")]
    pub network: Option<NetworkChoice>,
    /// Show every tensor: name, shape, type, mean and largest absolute value.
    #[arg(long)]
    pub tensors: bool,
    /// Print one JSON object a file on stdout instead; every tensor is in it.
    #[arg(long)]
    pub json: bool,
}

/// Checks that a name is that of a safetensors file.
fn safetensors(path: OsString) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    if path.extension().is_some_and(|it| it == "safetensors") {
        Ok(path)
    } else {
        Err("must end in .safetensors".into())
    }
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// What to plan.
    #[command(subcommand)]
    pub model: PlanModel,
}

/// The models that can be planned, and the table of all.
#[derive(Debug, Subcommand)]
pub enum PlanModel {
    /// DECODE on windows of three frames with at most 16 emitters each.
    Decode(Box<PlanFlags<DecodeNetworkSettings>>),
    /// Compare what is estimated with what is measured, for every model: a table in Markdown.
    Estimates(EstimatesFlags),
    /// UNet that counts emitters in frames of one channel.
    Unet(Box<PlanFlags<UNetNetworkSettings>>),
    /// UNet that finds text watermarks in images of three channels.
    Watermark(Box<PlanFlags<UNetNetworkSettings>>),
}

/// The flags of one model and those of every plan.
#[derive(Clone, Debug, Args)]
pub struct PlanFlags<F: Args> {
    /// What this model has.
    #[command(flatten)]
    pub model: Given<F>,
    /// What every plan has.
    #[command(flatten)]
    pub plan: WorkFlags,
}

/// Flags of every plan.
#[derive(Clone, Debug, Args)]
pub struct WorkFlags {
    /// The most memory that may be live: parameters, optimizer state and the step, as in 2GiB,
    /// 512MiB or 1000000 (bytes).
    #[arg(long, value_name = "SIZE", value_parser = amount)]
    pub budget: String,
    /// Height and width of an image in pixels, as in 256x256.
    #[arg(long, value_name = "HxW")]
    pub size: ImageSize,
    /// Images of an optimizer step, or to compute results for. It stays, whatever is planned.
    #[arg(long, value_name = "N", visible_alias = "batch-size", value_parser = at_least(1_u64))]
    pub batch: u64,
    /// Plan for results instead of training: images at a time and tiles.
    #[arg(long)]
    pub inference: bool,
    /// Plan for this precision alone. The default is f32, and f16 where f32 needs more than the
    /// budget.
    #[arg(long, value_enum, value_name = "TYPE")]
    pub precision: Option<PrecisionChoice>,
    /// The optimizer that trains.
    #[command(flatten)]
    pub optimizer: OptimizerSettings,
    /// Where it runs.
    #[command(flatten)]
    pub target: DeviceFlags,
    /// Print one JSON object on stdout instead of the table; amounts are in bytes.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `plan estimates`.
#[derive(Clone, Debug, Args)]
pub struct EstimatesFlags {
    /// Where it runs.
    #[command(flatten)]
    pub target: DeviceFlags,
    /// Print one JSON array on stdout instead of the table; amounts are in bytes.
    #[arg(long)]
    pub json: bool,
}

/// Height and width in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSize(pub [usize; 2]);

impl FromStr for ImageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sides = text.split_once(['x', '×']).map(|(height, width)| {
            let side = |text: &str| text.trim().parse().ok().filter(|&side: &usize| side > 0);
            Some([side(height)?, side(width)?])
        });
        match sides {
            Some(Some(sides)) => Ok(Self(sides)),
            _ => Err("must be height and width in pixels, as in 256x256".into()),
        }
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.0[0], self.0[1])
    }
}

impl PlanModel {
    /// Which device is planned for.
    pub fn target(&self) -> &DeviceFlags {
        match self {
            Self::Decode(flags) => &flags.plan.target,
            Self::Estimates(flags) => &flags.target,
            Self::Unet(flags) | Self::Watermark(flags) => &flags.plan.target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_two_positive_numbers() {
        for text in ["256x192", "256×192"] {
            assert_eq!(text.parse(), Ok(ImageSize([256, 192])));
        }
        for text in ["", "256", "x256", "0x4", "4x0", "4x-1", "axb"] {
            assert!(text.parse::<ImageSize>().is_err(), "{text:?} was accepted");
        }
    }
}
