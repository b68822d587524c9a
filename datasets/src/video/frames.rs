//! A video as a folder of pictures.

use std::path::{Path, PathBuf};

use burn::data::dataset::{Dataset, DatasetError};

use super::{VideoFrame, error::FrameError, frame_bytes};
use crate::{image_file, lazy::LazyDataset};

/// The frames of a folder, in natural order (`frame2` before `frame10`), decoded when
/// asked for.
///
/// Only the file names are in memory.
///
/// # Example
/// ```
/// use burn_memopt_datasets::video::{FrameFolder, FrameFolderWriter, FrameFormat, VideoFrame};
///
/// let folder = tempfile::tempdir()?;
/// let writer = FrameFolderWriter::create(folder.path(), FrameFormat::Png)?;
/// let frame = VideoFrame { index: 0, height: 1, width: 2, pixels: vec![1, 2, 3, 4, 5, 6] };
/// writer.write(&frame)?;
///
/// let frames = FrameFolder::open(folder.path())?;
/// assert_eq!(frames.frame(0)?, frame);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FrameFolder {
    files: Vec<PathBuf>,
    height: usize,
    width: usize,
}

impl FrameFolder {
    /// Lists the PNG and JPEG files of a folder and reads the header of the first.
    ///
    /// # Errors
    /// If the folder cannot be listed or holds no image, if two files share a name without
    /// extension, or if the first cannot be read.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, FrameError> {
        let files = image_file::list(folder.as_ref())?;
        let (height, width) = image_file::size(&files[0])?;
        Ok(Self {
            files,
            height,
            width,
        })
    }

    /// Reads the headers of all files and checks that they have one size, so that a long
    /// run does not fail in the middle.
    ///
    /// # Errors
    /// If a header cannot be read, or a frame has another size than the first.
    pub fn verify(&self) -> Result<(), FrameError> {
        (0..self.files.len()).try_for_each(|index| {
            let (height, width) = image_file::size(&self.files[index])?;
            self.check_size(index, height, width)
        })
    }

    /// Height of a frame in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width of a frame in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The file of frame `index`.
    ///
    /// # Panics
    /// If there is no frame `index`.
    pub fn path(&self, index: usize) -> &Path {
        &self.files[index]
    }

    /// Decodes frame `index`.
    ///
    /// # Errors
    /// If the file cannot be read, or has another size than the first.
    ///
    /// # Panics
    /// If there is no frame `index`.
    pub fn frame(&self, index: usize) -> Result<VideoFrame, FrameError> {
        let num_frames = self.files.len();
        assert!(
            index < num_frames,
            "frame must be below {num_frames}, got {index}"
        );
        let (image, _) = image_file::decode(&self.files[index])?;
        self.check_size(index, image.height() as usize, image.width() as usize)?;
        Ok(VideoFrame::from_image(index, image))
    }

    fn check_size(&self, index: usize, height: usize, width: usize) -> Result<(), FrameError> {
        if (height, width) == (self.height, self.width) {
            return Ok(());
        }
        Err(FrameError::SizeDiffers {
            path: self.files[index].clone(),
            height,
            width,
            first: self.files[0].clone(),
            first_height: self.height,
            first_width: self.width,
        })
    }
}

impl Dataset<VideoFrame> for FrameFolder {
    fn get(&self, index: usize) -> Result<VideoFrame, DatasetError> {
        self.frame(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.files.len()
    }
}

impl LazyDataset<VideoFrame> for FrameFolder {
    fn item_bytes(&self, index: usize) -> u64 {
        let num_frames = self.files.len();
        assert!(
            index < num_frames,
            "frame must be below {num_frames}, got {index}"
        );
        frame_bytes(self.height, self.width)
    }
}
