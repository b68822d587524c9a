//! Video: folders of frames, and files through the `ffmpeg` program.
//!
//! A frame is in memory only while someone holds it. A folder of frames is read at
//! any place ([`FrameFolder`], a lazy dataset); a video file from front to back
//! ([`VideoFile`], a streaming dataset), since that alone is exact for every format;
//! [`VideoSource`] is either. [`VideoFile::extract`] makes a folder of a file.
//!
//! `ffmpeg` and `ffprobe` are needed for video files alone, and only when one is opened.

mod clip;
mod clip_frames;
mod error;
mod file;
mod frame_writer;
mod frames;
mod probe;
mod program;
mod resize;
mod source;
mod stream;
mod writer;

pub use clip::{Clip, ClipConfig, ClipFolder};
pub use clip_frames::ClipFrames;
pub use error::{FrameError, VideoError};
pub use file::VideoFile;
pub use frame_writer::{FrameFolderWriter, FrameFormat};
pub use frames::FrameFolder;
pub use probe::{FrameRate, VideoInfo};
pub use program::{Ffmpeg, ProgramFailure};
pub use resize::Resampling;
pub use source::{VideoRecord, VideoSource};
pub use stream::VideoFrames;
pub use writer::VideoWriter;

use image::DynamicImage;

/// A frame of a video, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoFrame {
    /// Its number in the video, from 0.
    pub index: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Red, green and blue of each pixel, row by row, from 0 to 255: `[height, width, 3]`.
    pub pixels: Vec<u8>,
}

impl VideoFrame {
    fn from_image(index: usize, image: DynamicImage) -> Self {
        Self {
            index,
            height: image.height() as usize,
            width: image.width() as usize,
            pixels: image.into_rgb8().into_raw(),
        }
    }

    /// Refuses pixels that are not as many as height and width say.
    fn check(&self) {
        let (height, width, len) = (self.height, self.width, self.pixels.len());
        assert!(
            len == height * width * 3,
            "pixels of a frame must be {height}×{width}×3 bytes, got {len}"
        );
    }
}

/// Bytes of a frame of `height * width` pixels.
fn frame_bytes(height: usize, width: usize) -> u64 {
    let pixels = (height as u64).saturating_mul(width as u64);
    let bytes = pixels.saturating_mul(3);
    bytes.saturating_add(size_of::<VideoFrame>() as u64)
}
