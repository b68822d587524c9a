//! The flags that belong to one model of `train`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::numbers::{above_zero, at_least_one};
use crate::choices::{LossChoice, NormChoice, UpsamplingChoice};

/// Flags of `train unet`.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct UNetFlags {
    /// TIFF stack to train on. The default is a small generated stack of emitters.
    #[arg(long, value_name = "TIFF", help_heading = "Data", requires = "targets")]
    #[arg(conflicts_with_all = ["images", "masks"])]
    pub data: Option<PathBuf>,
    /// Table of emitter positions in the stack, CSV.
    #[arg(long, value_name = "CSV", help_heading = "Data", requires = "data")]
    pub targets: Option<PathBuf>,
    /// Folder of images to train on.
    #[arg(long, value_name = "DIR", help_heading = "Data", requires = "masks")]
    pub images: Option<PathBuf>,
    /// Folder of masks, one for each image, of the same name and size.
    #[arg(long, value_name = "DIR", help_heading = "Data", requires = "images")]
    pub masks: Option<PathBuf>,
    /// Loss. The default is count for stacks and bce-dice for images with masks.
    #[arg(long, value_enum, value_name = "LOSS", help_heading = "Training")]
    pub loss: Option<LossChoice>,
    /// The network.
    #[command(flatten)]
    #[serde(flatten)]
    pub network: UNetNetworkFlags,
}

/// Flags of `train decode`.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct DecodeFlags {
    /// TIFF stack to train on. The default is a small generated stack of emitters.
    #[arg(long, value_name = "TIFF", help_heading = "Data", requires = "targets")]
    pub data: Option<PathBuf>,
    /// Table of emitter positions in the stack, CSV. Photons, background and z are learned where
    /// it has them.
    #[arg(long, value_name = "CSV", help_heading = "Data", requires = "data")]
    pub targets: Option<PathBuf>,
    /// Channels after the first convolution; doubled at each level. The default is 12.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least_one)]
    pub base_channels: Option<u64>,
    /// Times the image is halved, 1 to 8, in both U-Nets. The default is 1.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = clap::value_parser!(u64).range(1..=8))]
    pub depth: Option<u64>,
    /// Most groups of the group normalisation, 0 for none, as DECODE has. The default is 4.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub norm_groups: Option<u64>,
    /// Weights to start from: a PyTorch or safetensors state dict. The default is random weights.
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub weights: Option<PathBuf>,
    /// Least probability of an emitter that is found. The default is 0.3.
    #[arg(long, value_name = "PROB", help_heading = "Evaluation", value_parser = above_zero)]
    pub threshold: Option<f64>,
    /// Largest distance in pixels of a found emitter from a true one. The default is 2.0.
    #[arg(long, value_name = "PIXELS", help_heading = "Evaluation", value_parser = above_zero)]
    pub radius: Option<f64>,
}

/// Flags of `train watermark`.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct WatermarkFlags {
    /// Folder of images with watermarks, with --masks; alone: of photographs that watermarks are
    /// drawn on. Without it, backgrounds are generated.
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub images: Option<PathBuf>,
    /// Folder of masks of the watermarks, one for each image, of the same name and size.
    #[arg(long, value_name = "DIR", help_heading = "Data", requires = "images")]
    #[arg(conflicts_with_all = ["num_images", "image_size"])]
    pub masks: Option<PathBuf>,
    /// Images to generate, those for evaluation included. The default is 400.
    #[arg(long, value_name = "N", help_heading = "Data", value_parser = at_least_one)]
    pub num_images: Option<u64>,
    /// Height and width of a generated image in pixels, at least 16. The default is 64.
    #[arg(long, value_name = "PIXELS", help_heading = "Data", value_parser = at_least_one)]
    pub image_size: Option<u64>,
    /// The network.
    #[command(flatten)]
    #[serde(flatten)]
    pub network: UNetNetworkFlags,
}

/// Flags of every UNet.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct UNetNetworkFlags {
    /// Channels after the first convolution; doubled at each level. The default is 16.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least_one)]
    pub base_channels: Option<u64>,
    /// Times the image is halved, 1 to 8. The default is 3.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = clap::value_parser!(u64).range(1..=8))]
    pub depth: Option<u64>,
    /// Normalisation. The default is group: few images a batch give poor batch statistics.
    #[arg(long, value_enum, value_name = "NORM", help_heading = "Model")]
    pub norm: Option<NormChoice>,
    /// Upsampling in the decoder. The default is bilinear.
    #[arg(long, value_enum, value_name = "HOW", help_heading = "Model")]
    pub upsampling: Option<UpsamplingChoice>,
    /// Weights to start from: a PyTorch or safetensors state dict. The default is random weights.
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub weights: Option<PathBuf>,
}
