//! Flags of `plan`.

use std::fmt;
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::DeviceFlags;
use super::models::{DecodeNetworkSettings, UNetNetworkSettings};
use super::values::{Given, amount, at_least};
use crate::choices::PrecisionChoice;

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
