//! Flags of the commands that measure, advise and convert.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::DeviceFlags;
use super::values::{above_zero, amount, at_least};
use crate::choices::NetworkChoice;
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
