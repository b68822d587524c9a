//! Flags of `plan`.

use std::fmt;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::models::UNetNetworkFlags;
use super::numbers::{amount, at_least_one};
use crate::choices::PrecisionChoice;
use crate::device::DeviceChoice;

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
    Decode(Box<PlanFlags<DecodeNetworkFlags>>),
    /// Compare what is estimated with what is measured, for every model: a table in Markdown.
    Estimates(EstimatesFlags),
    /// UNet that counts emitters in frames of one channel.
    Unet(Box<PlanFlags<UNetNetworkFlags>>),
    /// UNet that finds text watermarks in images of three channels.
    Watermark(Box<PlanFlags<UNetNetworkFlags>>),
}

/// The flags of one model and those of every plan.
#[derive(Clone, Debug, Args)]
pub struct PlanFlags<F: Args> {
    /// What this model has.
    #[command(flatten)]
    pub model: F,
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
    #[arg(long, value_name = "N", visible_alias = "batch-size", value_parser = at_least_one)]
    pub batch: u64,
    /// Plan for results instead of training: images at a time and tiles.
    #[arg(long)]
    pub inference: bool,
    /// Plan for this precision alone. The default is f32, and f16 where f32 needs more than the
    /// budget.
    #[arg(long, value_enum, value_name = "TYPE")]
    pub precision: Option<PrecisionChoice>,
    /// Device: auto, flex, wgpu, vulkan, cuda or cuda:N. The default is auto: what the
    /// variable BURN_MEMOPT_DEVICE names, else flex, the CPU.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Print one JSON object on stdout instead of the table; amounts are in bytes.
    #[arg(long)]
    pub json: bool,
    /// Further cargo features to compile, as in cuda-cpp.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub features: Vec<String>,
}

/// Flags of `plan estimates`.
#[derive(Clone, Debug, Args)]
pub struct EstimatesFlags {
    /// Device: auto, flex, wgpu, vulkan, cuda or cuda:N. The default is auto: what the
    /// variable BURN_MEMOPT_DEVICE names, else flex, the CPU.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Print one JSON array on stdout instead of the table; amounts are in bytes.
    #[arg(long)]
    pub json: bool,
    /// Further cargo features to compile, as in cuda-cpp.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub features: Vec<String>,
}

/// The shape of DECODE's network.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct DecodeNetworkFlags {
    /// Channels after the first convolution; doubled at each level. The default is 12.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least_one)]
    pub base_channels: Option<u64>,
    /// Times the image is halved, 1 to 8, in both U-Nets. The default is 1.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = clap::value_parser!(u64).range(1..=8))]
    pub depth: Option<u64>,
    /// Most groups of the group normalisation, 0 for none, as DECODE has. The default is 4.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub norm_groups: Option<u64>,
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
    /// Which device is planned for, and what else to compile.
    pub fn target(&self) -> (Option<DeviceChoice>, &[String]) {
        let of = |flags: &'_ WorkFlags| flags.device;
        match self {
            Self::Decode(flags) => (of(&flags.plan), &flags.plan.features),
            Self::Estimates(flags) => (flags.device, &flags.features),
            Self::Unet(flags) | Self::Watermark(flags) => (of(&flags.plan), &flags.plan.features),
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
