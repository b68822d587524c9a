//! The flags of models that learn from videos.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::numbers::at_least_one;

/// Flags of `train flow-completion`, and of every model that learns from videos.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct ClipFlags {
    /// Folder of videos, each a folder of frames: JPEGImages/480p of DAVIS, or a part of YouTube-VOS.
    /// The default is a few generated videos.
    #[arg(
        long,
        value_name = "DIR",
        help_heading = "Data",
        conflicts_with = "num_videos"
    )]
    pub data: Option<PathBuf>,
    /// Videos to generate, those for evaluation included. The default is 10.
    #[arg(long, value_name = "N", help_heading = "Data", value_parser = at_least_one)]
    pub num_videos: Option<u64>,
    /// Height that frames are scaled to, in pixels: a multiple of 8, at least 64. The default is 64.
    #[arg(long, value_name = "PIXELS", help_heading = "Data", value_parser = at_least_one)]
    pub height: Option<u64>,
    /// Width that frames are scaled to, in pixels: a multiple of 8, at least 64. The default is 64.
    #[arg(long, value_name = "PIXELS", help_heading = "Data", value_parser = at_least_one)]
    pub width: Option<u64>,
    /// Neighbouring frames of a clip, at least 2; the published training has 10. The default is 5.
    #[arg(long, value_name = "N", help_heading = "Data", value_parser = at_least_one)]
    pub num_local: Option<u64>,
    /// Corrections of the optical flow between frames. The default is 20, and 4 where its weights are
    /// made up.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least_one)]
    pub raft_iter: Option<u64>,
    /// Folder of the weights of what is used but not trained: raft-things, and to train propainter
    /// also recurrent_flow_completion, each .pth or .safetensors, as a run leaves it in its folder
    /// `weights`; or `procedural`: generated videos know their flow, for others weights are made up,
    /// which teach nothing. The default is procedural.
    #[arg(long, value_name = "DIR", help_heading = "Model")]
    pub weights: Option<PathBuf>,
    /// Weights to start from: a PyTorch or safetensors state dict. The default is random weights.
    #[arg(long, value_name = "FILE", help_heading = "Model")]
    pub init_weights: Option<PathBuf>,
}

/// Flags of `train propainter`.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct ProPainterFlags {
    /// Videos and flows.
    #[command(flatten)]
    #[serde(flatten)]
    pub clips: ClipFlags,
    /// Frames from elsewhere in the video; the published training has 6. The default is 2.
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub num_reference: Option<u64>,
    /// Blocks of the transformer. The default is 8; weights of another depth are for further training
    /// alone.
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = at_least_one)]
    pub depth: Option<u64>,
}
