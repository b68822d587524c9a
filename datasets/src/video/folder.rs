//! A video as a folder of pictures, read and written.

use std::{
    fs,
    io::{BufWriter, IntoInnerError},
    path::{Path, PathBuf},
};

use burn::data::dataset::{Dataset, DatasetError};
use burn_memopt::files::PartFile;
use image::{
    ExtendedColorType, ImageEncoder, ImageResult,
    codecs::{jpeg::JpegEncoder, png::PngEncoder},
};

use super::{VideoFrame, error::FrameError, frame_bytes};
use crate::{check_index, image_file, lazy::LazyDataset, masks::HoleMask};

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
    /// Lists the image files of a folder and reads the header of the first.
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

    /// Reads the headers of all files and checks that they have one size and none is cut off, so that
    /// a long run does not fail in the middle.
    ///
    /// # Errors
    /// If a header cannot be read, or a frame has another size than the first.
    pub fn verify(&self) -> Result<(), FrameError> {
        (0..self.files.len()).try_for_each(|index| {
            let (height, width) = image_file::check(&self.files[index])?;
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

    /// The files, in natural order.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.files
    }

    /// Decodes frame `index`.
    ///
    /// # Errors
    /// If the file cannot be read, or has another size than the first.
    ///
    /// # Panics
    /// If there is no frame `index`.
    pub fn frame(&self, index: usize) -> Result<VideoFrame, FrameError> {
        check_index("frame", index, self.files.len());
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
        check_index("frame", index, self.files.len());
        frame_bytes(self.height, self.width)
    }
}

/// How frames are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFormat {
    /// Without loss.
    Png,
    /// Smaller, with loss.
    Jpeg {
        /// From 1, the smallest files, to 100, the best.
        quality: u8,
    },
}

impl FrameFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg { .. } => "jpg",
        }
    }
}

/// Writes frames into a folder, one file a frame.
///
/// Each file is named after the frame's number (`00007.png`) and gets that name only when
/// it is whole: a run that was stopped leaves whole frames behind, and another can continue
/// after them. Frames can come in any order, from any number of threads.
///
/// # Example
/// See [`FrameFolder`](super::FrameFolder).
#[derive(Debug, Clone)]
pub struct FrameFolderWriter {
    folder: PathBuf,
    format: FrameFormat,
}

impl FrameFolderWriter {
    /// Writes into `folder`, which is created where it is not there.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(folder: impl AsRef<Path>, format: FrameFormat) -> Result<Self, FrameError> {
        let folder = folder.as_ref().to_path_buf();
        match fs::create_dir_all(&folder) {
            Ok(()) => Ok(Self { folder, format }),
            Err(source) => Err(FrameError::CreateFolder {
                path: folder,
                source,
            }),
        }
    }

    /// The file of frame `index`, written or not.
    pub fn path(&self, index: usize) -> PathBuf {
        let extension = self.format.extension();
        self.folder.join(format!("{index:05}.{extension}"))
    }

    /// Writes a frame, over an earlier one of its number.
    ///
    /// # Errors
    /// If the file cannot be written.
    ///
    /// # Panics
    /// If the frame has no pixels, or not as many as its size says.
    pub fn write(&self, frame: &VideoFrame) -> Result<(), FrameError> {
        frame.check();
        let path = self.path(frame.index);
        self.encode(
            &path,
            &frame.pixels,
            (frame.height, frame.width),
            ExtendedColorType::Rgb8,
        )
    }

    /// Writes the mask of frame `index`, gray: 255 where pixels are missing and 0 where they
    /// are known.
    ///
    /// # Errors
    /// If the file cannot be written.
    ///
    /// # Panics
    /// If the mask has no pixels.
    pub fn write_mask(&self, index: usize, mask: &HoleMask) -> Result<(), FrameError> {
        let gray: Vec<u8> = mask.values().iter().map(|&hole| hole * 255).collect();
        self.encode(
            &self.path(index),
            &gray,
            (mask.height(), mask.width()),
            ExtendedColorType::L8,
        )
    }

    fn encode(
        &self,
        path: &Path,
        pixels: &[u8],
        (height, width): (usize, usize),
        color: ExtendedColorType,
    ) -> Result<(), FrameError> {
        let side = |what: &str, size: usize| match u32::try_from(size) {
            Ok(size) if size > 0 => size,
            _ => panic!("frame {what} must lie between 1 and 2³² − 1, got {size}"),
        };
        let (height, width) = (side("height", height), side("width", width));
        let write = || -> ImageResult<()> {
            let mut output = BufWriter::new(PartFile::create(path)?);
            match self.format {
                FrameFormat::Png => {
                    PngEncoder::new(&mut output).write_image(pixels, width, height, color)?;
                }
                FrameFormat::Jpeg { quality } => {
                    let encoder = JpegEncoder::new_with_quality(&mut output, quality);
                    encoder.write_image(pixels, width, height, color)?;
                }
            }
            let file = output.into_inner().map_err(IntoInnerError::into_error)?;
            Ok(file.finish()?)
        };
        write().map_err(|source| FrameError::Write {
            path: path.into(),
            source,
        })
    }
}
