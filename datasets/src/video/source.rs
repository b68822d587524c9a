//! A video, wherever it is.

use std::path::Path;

use burn::data::dataset::{Dataset, DatasetError};

use super::{FrameFolder, VideoError, VideoFile, VideoFrame, frame_bytes};
use crate::stream::{Records, StreamingDataset};

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
