//! Flags of `monitor`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::numbers::above_zero;
use crate::device::DeviceChoice;

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
    /// File to append a row to at every look, CSV. It is begun with a header, amounts are in bytes,
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
