//! The masks that come with a video.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use burn::data::dataset::DatasetError;

use super::{
    HoleMask,
    values::{MaskValues, ObjectRule, Palette},
};
use crate::{
    folder::is_image,
    image_file::ImageFileError,
    stream::{Records, StreamingDataset},
    video::{FrameError, FrameFolder, VideoError, VideoFile, VideoRecord, VideoSource},
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
    #[error("{path} holds {num_masks} masks, but the video has {num_frames} frames: give one mask for each frame, or one image file as the mask of all frames", path = .path.display())]
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

/// The masks of a video: one a frame, or one for all. Read from front to back, a mask in
/// memory only while someone holds it.
///
/// Which values are missing pixels is decided over all masks of a folder, as in an
/// [`ImageMaskFolder`](super::ImageMaskFolder). In JPEG files and videos, whose black is
/// never exact, a pixel is missing where a channel is 128 or more.
#[derive(Debug, Clone)]
pub enum MaskSource {
    /// A folder of image files, in natural order, or a video file.
    PerFrame {
        /// The folder or file.
        path: PathBuf,
        /// What is in it.
        masks: VideoSource,
        /// What a folder's masks mark, once they have been looked at.
        rule: OnceLock<ObjectRule>,
    },
    /// One image file for all frames.
    ForAll {
        /// The file.
        path: PathBuf,
        /// The mask, 1 where pixels are missing.
        hole_mask: HoleMask,
        /// What it marks.
        rule: ObjectRule,
    },
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
                masks: VideoSource::Folder(FrameFolder::open(path)?),
                rule: OnceLock::new(),
            });
        }
        if is_image(path) {
            match ObjectRule::measure(&[path.into()]) {
                // An animation is a video of masks.
                Err(ImageFileError::Several { .. }) => {}
                rule => {
                    let rule = rule?;
                    return Ok(Self::ForAll {
                        path: path.into(),
                        hole_mask: read(path, &rule)?,
                        rule,
                    });
                }
            }
        }
        Ok(Self::PerFrame {
            path: path.into(),
            masks: VideoSource::File(VideoFile::open(path)?),
            rule: OnceLock::new(),
        })
    }

    /// Height of a mask in pixels.
    pub fn height(&self) -> usize {
        match self {
            Self::PerFrame { masks, .. } => masks.height(),
            Self::ForAll { hole_mask, .. } => hole_mask.height(),
        }
    }

    /// Width of a mask in pixels.
    pub fn width(&self) -> usize {
        match self {
            Self::PerFrame { masks, .. } => masks.width(),
            Self::ForAll { hole_mask, .. } => hole_mask.width(),
        }
    }

    /// What the masks mark, `None` for a video of masks. Decodes all masks of a folder the first time.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn rule(&self) -> Result<Option<ObjectRule>, MaskError> {
        match self {
            Self::PerFrame {
                masks: VideoSource::Folder(folder),
                rule,
                ..
            } => folder_rule(folder, rule).map(Some),
            Self::PerFrame { .. } => Ok(None),
            Self::ForAll { rule, .. } => Ok(Some(*rule)),
        }
    }

    /// Checks that the masks fit a video, so that a long run does not fail in the middle.
    /// Decodes a folder's masks, to decide what they mark; a video of masks is decoded once, to count.
    ///
    /// # Errors
    /// If there is another number of masks than frames, or one has another size; the error
    /// names both.
    pub fn check(&self, num_frames: u64, height: usize, width: usize) -> Result<(), MaskError> {
        let (path, num_masks) = match self {
            Self::PerFrame { path, masks, .. } => (path, masks.count_frames()?),
            Self::ForAll { path, .. } => (path, num_frames),
        };
        if num_masks != num_frames {
            return Err(MaskError::CountDiffers {
                path: path.clone(),
                num_masks,
                num_frames,
            });
        }
        if (self.height(), self.width()) != (height, width) {
            return Err(MaskError::SizeDiffers {
                path: path.clone(),
                mask_height: self.height(),
                mask_width: self.width(),
                height,
                width,
            });
        }
        if let Self::PerFrame {
            masks: VideoSource::Folder(folder),
            ..
        } = self
        {
            folder.verify()?;
        }
        self.rule().map(drop)
    }
}

/// What the masks of a folder mark. Decodes all of them the first time.
fn folder_rule(folder: &FrameFolder, rule: &OnceLock<ObjectRule>) -> Result<ObjectRule, MaskError> {
    if let Some(rule) = rule.get() {
        return Ok(*rule);
    }
    let measured = ObjectRule::measure(folder.paths())?;
    Ok(*rule.get_or_init(|| measured))
}

impl StreamingDataset<HoleMask> for MaskSource {
    type Record = VideoRecord;

    /// One mask for all frames is repeated without end.
    fn records(&self, start: u64) -> Result<Records<VideoRecord>, DatasetError> {
        match self {
            Self::PerFrame { masks, .. } => masks.records(start),
            Self::ForAll { .. } => {
                let first = usize::try_from(start).unwrap_or(usize::MAX);
                Ok(Box::new(
                    (first..).map(|index| Ok(VideoRecord::Index(index))),
                ))
            }
        }
    }

    fn load(&self, record: VideoRecord) -> Result<HoleMask, DatasetError> {
        match (self, record) {
            (Self::ForAll { hole_mask, .. }, _) => Ok(hole_mask.clone()),
            // Read here, where the stored values decide, not the colours.
            (
                Self::PerFrame {
                    masks: VideoSource::Folder(folder),
                    rule,
                    ..
                },
                VideoRecord::Index(index),
            ) => folder_rule(folder, rule)
                .and_then(|rule| read(folder.path(index), &rule))
                .map_err(DatasetError::new),
            (Self::PerFrame { masks, .. }, record) => {
                let frame = masks.load(record)?;
                let (height, width) = (frame.height, frame.width);
                Ok(binary(height, width, &frame.pixels, LEAST_IN_LOSSY))
            }
        }
    }

    fn item_bytes(&self, _record: &VideoRecord) -> u64 {
        let values = (self.height() as u64).saturating_mul(self.width() as u64);
        values.saturating_add(size_of::<HoleMask>() as u64)
    }

    /// `None` for one mask for all frames, and for a video that was not counted.
    fn num_records(&self) -> Option<u64> {
        match self {
            Self::PerFrame { masks, .. } => masks.num_records(),
            Self::ForAll { .. } => None,
        }
    }
}

/// The least value of a missing pixel where values are not exact.
const LEAST_IN_LOSSY: u8 = 128;

fn read(path: &Path, rule: &ObjectRule) -> Result<HoleMask, MaskError> {
    let mask = MaskValues::read(path, Palette::Object)?;
    let holes = rule.apply_with_edges(&mask);
    Ok(HoleMask::new(mask.height, mask.width, holes))
}

/// `[height, width, 3]` colours -> `[height, width]` of 0 and 1.
fn binary(height: usize, width: usize, pixels: &[u8], least: u8) -> HoleMask {
    let is_hole = |pixel: &[u8]| u8::from(pixel.iter().any(|&value| value >= least));
    let values = pixels.chunks_exact(3).map(is_hole).collect();
    HoleMask::new(height, width, values)
}
