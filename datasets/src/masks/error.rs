//! What can be wrong with the masks of a video.

use std::path::PathBuf;

use crate::{
    image_file::ImageFileError,
    video::{FrameError, VideoError},
};

/// Why the masks of a video could not be read.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum MaskError {
    /// The image of a mask cannot be read.
    #[error(transparent)]
    Image(#[from] ImageFileError),
    /// The folder of masks cannot be read, or its masks differ in size.
    #[error(transparent)]
    Folder(#[from] FrameError),
    /// The video of masks cannot be read.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// There are not as many masks as frames.
    #[error("{path} holds {num_masks} masks, but the video has {num_frames} frames: give one mask a frame, or the file of a single mask for all", path = .path.display())]
    CountDiffers {
        /// Where the masks are.
        path: PathBuf,
        /// Masks there.
        num_masks: u64,
        /// Frames of the video.
        num_frames: u64,
    },
    /// Masks and frames have different sizes.
    #[error("the masks of {path} are {mask_height}×{mask_width} pixels (height × width), but the video's frames {height}×{width}: scale one to the other", path = .path.display())]
    SizeDiffers {
        /// Where the masks are.
        path: PathBuf,
        /// Height of a mask.
        mask_height: usize,
        /// Width of a mask.
        mask_width: usize,
        /// Height of a frame.
        height: usize,
        /// Width of a frame.
        width: usize,
    },
}
