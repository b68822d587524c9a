//! Video: folders of frames, and files through the `ffmpeg` program.
//!
//! A frame is in memory only while someone holds it. A folder of frames is read at
//! any place ([`FrameFolder`], a lazy dataset); a video file from front to back
//! ([`VideoFile`], a streaming dataset), since that alone is exact for every format;
//! [`VideoSource`] is either. [`VideoFile::extract`] makes a folder of a file.
//!
//! `ffmpeg` and `ffprobe` are needed for video files alone, and only when one is opened.

mod clip;
mod color;
mod damage;
mod error;
mod file;
mod folder;
mod frames;
mod info;
mod log;
mod mp4;
mod program;
mod raw_matroska;
mod resampling;
mod scan;
mod source;
mod times;
mod tracks;
mod writer;
mod writer_config;

pub use clip::{Clip, ClipConfig, ClipFolder, ClipFrames};
pub use color::Color;
pub use damage::{CutOff, Damage, MissingFrames};
pub use error::{FrameError, VideoError};
pub use file::VideoFile;
pub use folder::{FrameFolder, FrameFolderWriter, FrameFormat};
pub use frames::VideoFrames;
pub use info::{FieldOrder, VideoInfo};
pub use program::{Ffmpeg, ProgramFailure};
pub use resampling::Resampling;
pub use scan::VideoScan;
pub use source::{VideoRecord, VideoSource};
pub use times::{FrameRate, FrameTimes};
pub use tracks::{Container, Track, TrackKind, TrackSource};
pub use writer::VideoWriter;
pub use writer_config::VideoWriterConfig;

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

impl VideoFrame {
    /// The frame at another size.
    ///
    /// Where it gets smaller, every pixel is a mean over all that it covers. Every value is within 1 of
    /// the one that Pillow computes.
    ///
    /// # Panics
    /// If a side is zero, or the frame does not hold the pixels that its sides say.
    #[must_use]
    pub fn resized(&self, height: usize, width: usize, resampling: Resampling) -> Self {
        assert!(
            height > 0 && width > 0,
            "frame must have pixels, got {height}×{width}"
        );
        self.check();
        let from = [self.height, self.width];
        if from == [height, width] {
            return self.clone();
        }
        Self {
            index: self.index,
            height,
            width,
            pixels: resampling::resize(&self.pixels, from, [height, width], resampling),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(height: usize, width: usize, pixels: Vec<u8>) -> VideoFrame {
        VideoFrame {
            index: 3,
            height,
            width,
            pixels,
        }
    }

    #[test]
    fn a_plain_frame_stays_plain_at_any_size() {
        let grey = frame(5, 7, vec![90; 5 * 7 * 3]);
        for resampling in [Resampling::Bicubic, Resampling::Bilinear] {
            let resized = grey.resized(8, 3, resampling);
            assert_eq!(resized, frame(8, 3, vec![90; 8 * 3 * 3]));
        }
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let frame = frame(1, 2, vec![1, 2, 3, 4, 5, 6]);
        assert_eq!(frame.resized(1, 2, Resampling::Bicubic), frame);
    }

    #[test]
    #[should_panic(expected = "frame must have pixels, got 0×2")]
    fn an_empty_frame_is_refused() {
        let _ = frame(1, 1, vec![0; 3]).resized(0, 2, Resampling::Bilinear);
    }
}
