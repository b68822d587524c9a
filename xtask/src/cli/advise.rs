//! Flags of `advise`.

use std::path::PathBuf;

use clap::Args;

use super::numbers::{amount, at_least_one};
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
    /// Folder that the paths of images in JSON Lines start from. The default is the folder of
    /// the file.
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    #[arg(conflicts_with_all = ["masks", "targets"])]
    pub images: Option<PathBuf>,

    /// Items in one batch. The default is a power of two of at most 32 that fits.
    #[arg(long, value_name = "N", help_heading = "Machine", value_parser = at_least_one)]
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
