//! Writes a stack page by page, so that it never has to fit into memory.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use ::tiff::{
    TiffError,
    encoder::{TiffEncoder, TiffKindBig, TiffKindStandard, colortype::Gray16},
};
use tempfile::NamedTempFile;

use super::error::TiffStackError;

/// Streams `u16` frames into a multi-page TIFF.
///
/// The pages go to a temporary file beside the target, which [`finish`]
/// moves into place: a half-written stack never carries the final name, and an
/// earlier file stays whole until then.
///
/// [`finish`]: TiffStackWriter::finish
///
/// # Example
/// See [`TiffStack`](super::TiffStack).
pub struct TiffStackWriter {
    path: PathBuf,
    height: u32,
    width: u32,
    num_frames: usize,
    file: NamedTempFile,
    encoder: Encoder,
}

enum Encoder {
    Classic(TiffEncoder<File, TiffKindStandard>),
    Big(TiffEncoder<File, TiffKindBig>),
}

impl TiffStackWriter {
    /// Starts a classic TIFF of up to 4 GiB, which every program reads.
    ///
    /// # Errors
    /// If no file can be created in the folder of `path`.
    ///
    /// # Panics
    /// If `height` or `width` is zero or above 2³² − 1.
    pub fn create(
        path: impl AsRef<Path>,
        height: usize,
        width: usize,
    ) -> Result<Self, TiffStackError> {
        Self::start(path.as_ref(), height, width, |file| {
            TiffEncoder::new(file).map(Encoder::Classic)
        })
    }

    /// Starts a BigTIFF, for stacks of any size.
    ///
    /// # Errors
    /// If no file can be created in the folder of `path`.
    ///
    /// # Panics
    /// If `height` or `width` is zero or above 2³² − 1.
    pub fn create_big(
        path: impl AsRef<Path>,
        height: usize,
        width: usize,
    ) -> Result<Self, TiffStackError> {
        Self::start(path.as_ref(), height, width, |file| {
            TiffEncoder::new_big(file).map(Encoder::Big)
        })
    }

    fn start(
        path: &Path,
        height: usize,
        width: usize,
        encoder: impl FnOnce(File) -> Result<Encoder, TiffError>,
    ) -> Result<Self, TiffStackError> {
        let side = |what: &str, size: usize| match u32::try_from(size) {
            Ok(size) if size > 0 => size,
            _ => panic!("frame {what} must lie between 1 and 2³² − 1, got {size}"),
        };
        let (height, width) = (side("height", height), side("width", width));
        let create = |source| TiffStackError::Create {
            path: path.into(),
            source,
        };
        let file = new_file_beside(path).map_err(create)?;
        let handle = file.as_file().try_clone().map_err(create)?;
        let encoder = encoder(handle).map_err(|source| TiffStackError::Write {
            path: path.into(),
            page: 0,
            source,
        })?;
        Ok(Self {
            path: path.into(),
            height,
            width,
            num_frames: 0,
            file,
            encoder,
        })
    }

    /// Appends a frame of `height * width` pixels, row by row.
    ///
    /// # Errors
    /// If the disk is full or a classic TIFF grows over 4 GiB.
    ///
    /// # Panics
    /// If `pixels` has another length than `height * width`.
    pub fn write_frame_u16(&mut self, pixels: &[u16]) -> Result<(), TiffStackError> {
        let (height, width) = (self.height, self.width);
        let expected = height as usize * width as usize;
        let got = pixels.len();
        assert!(
            got == expected,
            "frame must have {height}×{width} = {expected} pixels, got {got}"
        );
        let written = match &mut self.encoder {
            Encoder::Classic(encoder) => encoder.write_image::<Gray16>(width, height, pixels),
            Encoder::Big(encoder) => encoder.write_image::<Gray16>(width, height, pixels),
        };
        written.map_err(|source| TiffStackError::Write {
            path: self.path.clone(),
            page: self.num_frames,
            source,
        })?;
        self.num_frames += 1;
        Ok(())
    }

    /// Writes everything to disk and gives the stack its name.
    ///
    /// # Errors
    /// If no frame was written, or the file cannot be moved into place.
    pub fn finish(self) -> Result<(), TiffStackError> {
        if self.num_frames == 0 {
            return Err(TiffStackError::NoPages { path: self.path });
        }
        let path = self.path;
        let moved = self
            .file
            .as_file()
            .sync_all()
            .and_then(|()| self.file.persist(&path).map_err(|error| error.error));
        match moved {
            Ok(_) => Ok(()),
            Err(source) => Err(TiffStackError::Create { path, source }),
        }
    }
}

/// A temporary file on the same disk as `path`, with an ordinary file's rights.
fn new_file_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".stack-").suffix(".tif.part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}
