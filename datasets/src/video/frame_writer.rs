//! Frames and masks as files of a folder.

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use image::{
    ExtendedColorType, ImageEncoder, ImageResult,
    codecs::{jpeg::JpegEncoder, png::PngEncoder},
};

use super::{VideoFrame, error::FrameError};
use crate::{masks::HoleMask, part_file};

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
/// it is whole: a run that was stopped leaves whole frames behind, and another can go on
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
            let file = part_file::create(path)?;
            let mut output = BufWriter::new(file.as_file());
            match self.format {
                FrameFormat::Png => {
                    PngEncoder::new(&mut output).write_image(pixels, width, height, color)?;
                }
                FrameFormat::Jpeg { quality } => {
                    let encoder = JpegEncoder::new_with_quality(&mut output, quality);
                    encoder.write_image(pixels, width, height, color)?;
                }
            }
            output.flush()?;
            drop(output);
            Ok(part_file::finish(file, path)?)
        };
        write().map_err(|source| FrameError::Write {
            path: path.into(),
            source,
        })
    }
}
