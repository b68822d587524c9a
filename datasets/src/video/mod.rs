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
mod program;
mod raw_matroska;
mod resampling;
mod scan;
mod times;
mod tracks;
mod writer;
mod writer_config;

use std::path::Path;

use burn::data::dataset::{Dataset, DatasetError};
use image::DynamicImage;

use crate::stream::{Records, StreamingDataset};

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
pub use times::{FrameRate, FrameTimes};
pub use tracks::{Container, Track, TrackKind, TrackSource};
pub use writer::VideoWriter;
pub use writer_config::VideoWriterConfig;

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

/// A video in a folder of frames or in a file, read from front to back.
#[derive(Debug, Clone)]
pub enum VideoSource {
    /// A folder of PNG or JPEG frames.
    Folder(FrameFolder),
    /// A file that `ffmpeg` decodes.
    File(VideoFile),
}

/// A frame of a [`VideoSource`] that is still to be loaded, or is already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoRecord {
    /// The number of a frame in a folder.
    Index(usize),
    /// A frame of a file.
    Frame(VideoFrame),
}

impl VideoSource {
    /// Opens a folder as frames and anything else as a video file.
    ///
    /// # Errors
    /// If it cannot be read; for a file, also if `ffprobe` cannot be started.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, VideoError> {
        let path = path.as_ref();
        match path.is_dir() {
            true => Ok(Self::Folder(FrameFolder::open(path)?)),
            false => Ok(Self::File(VideoFile::open(path)?)),
        }
    }

    /// Height of a frame in pixels.
    pub fn height(&self) -> usize {
        match self {
            Self::Folder(folder) => folder.height(),
            Self::File(file) => file.info().height,
        }
    }

    /// Width of a frame in pixels.
    pub fn width(&self) -> usize {
        match self {
            Self::Folder(folder) => folder.width(),
            Self::File(file) => file.info().width,
        }
    }

    /// Counts the frames: at once in a folder; of a file all are decoded, as in
    /// [`VideoFile::count_frames`].
    ///
    /// # Errors
    /// If the file cannot be read any more.
    pub fn count_frames(&self) -> Result<u64, VideoError> {
        match self {
            Self::Folder(folder) => Ok(folder.len() as u64),
            Self::File(file) => file.count_frames(),
        }
    }
}

impl StreamingDataset<VideoFrame> for VideoSource {
    type Record = VideoRecord;

    fn records(&self, start: u64) -> Result<Records<VideoRecord>, DatasetError> {
        match self {
            Self::Folder(folder) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                let indices = start..folder.len();
                Ok(Box::new(indices.map(|index| Ok(VideoRecord::Index(index)))))
            }
            Self::File(file) => {
                let frames = file.records(start)?;
                Ok(Box::new(frames.map(|frame| frame.map(VideoRecord::Frame))))
            }
        }
    }

    fn load(&self, record: VideoRecord) -> Result<VideoFrame, DatasetError> {
        match (self, record) {
            (_, VideoRecord::Frame(frame)) => Ok(frame),
            (Self::Folder(folder), VideoRecord::Index(index)) => folder.get(index),
            (Self::File(_), VideoRecord::Index(index)) => {
                panic!("record must be of this source, got number {index} of a folder")
            }
        }
    }

    fn item_bytes(&self, _record: &VideoRecord) -> u64 {
        frame_bytes(self.height(), self.width())
    }

    fn num_records(&self) -> Option<u64> {
        match self {
            Self::Folder(folder) => Some(folder.len() as u64),
            Self::File(file) => file.num_records(),
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
