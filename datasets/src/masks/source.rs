//! The masks that come with a video.

use std::path::{Path, PathBuf};

use burn::data::dataset::{Dataset, DatasetError};
use image::ImageFormat;

use super::{HoleMask, error::MaskError};
use crate::{
    image_file,
    stream::{Records, StreamingDataset},
    video::{FrameFolder, VideoFile, VideoFrame},
};

/// The masks of a video: one a frame, or one for all. Read from front to back, a mask in
/// memory only while someone holds it.
///
/// A pixel is missing where the mask is not black. In JPEG files and videos, whose black is
/// never exact, it is missing where a channel is 128 or more.
#[derive(Debug, Clone)]
pub enum MaskSource {
    /// A folder of PNG or JPEG files, in natural order.
    PerFrame {
        /// The folder.
        path: PathBuf,
        /// Its files.
        folder: FrameFolder,
    },
    /// A video file.
    Video(VideoFile),
    /// One PNG or JPEG file for all frames.
    ForAll {
        /// The file.
        path: PathBuf,
        /// The mask, 1 where pixels are missing.
        hole_mask: HoleMask,
    },
}

/// A mask of a [`MaskSource`] that is still to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskRecord {
    /// The number of a mask.
    Index(usize),
    /// A frame of a video of masks.
    Frame(VideoFrame),
}

impl MaskSource {
    /// Opens a folder as one mask a frame, an image as the mask of all frames, and anything
    /// else as a video of masks.
    ///
    /// # Errors
    /// If it cannot be read; for a video, also if `ffprobe` cannot be started.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, MaskError> {
        let path = path.as_ref();
        if path.is_dir() {
            return Ok(Self::PerFrame {
                path: path.into(),
                folder: FrameFolder::open(path)?,
            });
        }
        if !image_file::is_image(path) {
            return Ok(Self::Video(VideoFile::open(path)?));
        }
        Ok(Self::ForAll {
            path: path.into(),
            hole_mask: read(path)?,
        })
    }

    /// Height of a mask in pixels.
    pub fn height(&self) -> usize {
        match self {
            Self::PerFrame { folder, .. } => folder.height(),
            Self::Video(file) => file.info().height,
            Self::ForAll { hole_mask, .. } => hole_mask.height(),
        }
    }

    /// Width of a mask in pixels.
    pub fn width(&self) -> usize {
        match self {
            Self::PerFrame { folder, .. } => folder.width(),
            Self::Video(file) => file.info().width,
            Self::ForAll { hole_mask, .. } => hole_mask.width(),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::PerFrame { path, .. } | Self::ForAll { path, .. } => path,
            Self::Video(file) => file.path(),
        }
    }

    /// Checks that the masks fit a video, so that a long run does not fail in the middle.
    /// Reads the headers of a folder's files; a video of masks is decoded once, to count.
    ///
    /// # Errors
    /// If there is another number of masks than frames, or one has another size; the error
    /// names both.
    pub fn check(&self, num_frames: u64, height: usize, width: usize) -> Result<(), MaskError> {
        let num_masks = match self {
            Self::PerFrame { folder, .. } => folder.len() as u64,
            Self::Video(file) => file.count_frames()?,
            Self::ForAll { .. } => num_frames,
        };
        if num_masks != num_frames {
            return Err(MaskError::CountDiffers {
                path: self.path().into(),
                num_masks,
                num_frames,
            });
        }
        if (self.height(), self.width()) != (height, width) {
            return Err(MaskError::SizeDiffers {
                path: self.path().into(),
                mask_height: self.height(),
                mask_width: self.width(),
                height,
                width,
            });
        }
        match self {
            Self::PerFrame { folder, .. } => Ok(folder.verify()?),
            _ => Ok(()),
        }
    }
}

impl StreamingDataset<HoleMask> for MaskSource {
    type Record = MaskRecord;

    /// One mask for all frames is repeated without end.
    fn records(&self, start: u64) -> Result<Records<MaskRecord>, DatasetError> {
        let first = usize::try_from(start).unwrap_or(usize::MAX);
        match self {
            Self::PerFrame { folder, .. } => {
                let indices = first..folder.len();
                Ok(Box::new(indices.map(|index| Ok(MaskRecord::Index(index)))))
            }
            Self::Video(file) => {
                let frames = file.records(start)?;
                Ok(Box::new(frames.map(|frame| frame.map(MaskRecord::Frame))))
            }
            Self::ForAll { .. } => Ok(Box::new(
                (first..).map(|index| Ok(MaskRecord::Index(index))),
            )),
        }
    }

    fn load(&self, record: MaskRecord) -> Result<HoleMask, DatasetError> {
        match (self, record) {
            (_, MaskRecord::Frame(frame)) => Ok(binary(
                frame.height,
                frame.width,
                &frame.pixels,
                LEAST_IN_LOSSY,
            )),
            (Self::ForAll { hole_mask, .. }, MaskRecord::Index(_)) => Ok(hole_mask.clone()),
            (Self::PerFrame { folder, .. }, MaskRecord::Index(index)) => {
                read(folder.path(index)).map_err(DatasetError::new)
            }
            (Self::Video(_), MaskRecord::Index(index)) => {
                panic!("record must be of this source, got number {index} of a folder")
            }
        }
    }

    fn item_bytes(&self, _record: &MaskRecord) -> u64 {
        let values = (self.height() as u64).saturating_mul(self.width() as u64);
        values.saturating_add(size_of::<HoleMask>() as u64)
    }

    /// `None` for one mask for all frames, and for a video that was not counted.
    fn num_records(&self) -> Option<u64> {
        match self {
            Self::PerFrame { folder, .. } => Some(folder.len() as u64),
            Self::Video(file) => file.num_records(),
            Self::ForAll { .. } => None,
        }
    }
}

/// The least value of a missing pixel where values are not exact.
const LEAST_IN_LOSSY: u8 = 128;

fn read(path: &Path) -> Result<HoleMask, MaskError> {
    let (image, format) = image_file::decode(path)?;
    let least = match format {
        ImageFormat::Jpeg => LEAST_IN_LOSSY,
        _ => 1,
    };
    let (height, width) = (image.height() as usize, image.width() as usize);
    Ok(binary(height, width, &image.into_rgb8(), least))
}

/// `[height, width, 3]` colours -> `[height, width]` of 0 and 1.
fn binary(height: usize, width: usize, pixels: &[u8], least: u8) -> HoleMask {
    let is_hole = |pixel: &[u8]| u8::from(pixel.iter().any(|&value| value >= least));
    let values = pixels.chunks_exact(3).map(is_hole).collect();
    HoleMask::new(height, width, values)
}
