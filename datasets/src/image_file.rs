//! PNG and JPEG files: found in folders, measured by their headers, decoded whole.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};

use crate::folder::natural_cmp;

/// Names of files that are taken for images.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Bytes that one byte of a file can decode to.
///
/// Deflate reaches 1,032 to one, and a palette of two colours makes 24 bits of one. In
/// JPEG a block of 64 values takes one bit at the least, which is less.
const MAX_EXPANSION: u64 = 1_032 * 24;

/// Why an image, or the images of a folder, could not be read.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum ImageFileError {
    /// A folder is missing or may not be read.
    #[error("cannot list the folder {path}: check that it exists and may be read", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// A folder holds no image.
    #[error("the folder {path} holds no PNG or JPEG file", path = .path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Two files of a folder have the same stem.
    #[error("{first} and {second} have the same name without extension: rename or remove one", first = .first.display(), second = .second.display())]
    SameStem {
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A file is missing, is no image, or is damaged.
    #[error("cannot read the image {path}: replace it with a whole PNG or JPEG", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the decoder found.
        #[source]
        source: ImageError,
    },
    /// A JPEG file ends before its picture does.
    #[error("the JPEG file {path} ends before its picture does: replace it with a whole one", path = .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
    },
    /// A file claims more pixels than its length can hold.
    #[error("the image {path} claims {claimed} bytes of pixels, but a file of {len} bytes holds at most {allowed}: replace it with a whole one", path = .path.display())]
    Claim {
        /// The file.
        path: PathBuf,
        /// Bytes of pixels that its header claims.
        claimed: u64,
        /// Bytes that the file is long.
        len: u64,
        /// Bytes of pixels that so long a file can hold.
        allowed: u64,
    },
}

/// The images of a folder in natural order, at least one.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, ImageFileError> {
    let failed = |source| ImageFileError::Folder {
        path: folder.into(),
        source,
    };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !is_image(&path) {
            continue;
        }
        if let Some(first) = files.insert(stem(&path), path.clone()) {
            return Err(ImageFileError::SameStem {
                first,
                second: path,
            });
        }
    }
    if files.is_empty() {
        return Err(ImageFileError::EmptyFolder {
            path: folder.into(),
        });
    }
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_by(|(left, _), (right, _)| natural_cmp(left, right));
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// Whether a path has the name of a visible image.
pub(crate) fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    let is_known = extension.is_some_and(|extension| {
        let mut known = EXTENSIONS.iter();
        known.any(|name| extension.eq_ignore_ascii_case(name))
    });
    is_known && !stem(path).starts_with('.')
}

/// A file's name without extension.
pub(crate) fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// Height and width in pixels, from the file's header.
pub(crate) fn size(path: &Path) -> Result<(usize, usize), ImageFileError> {
    let size = ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(ImageError::IoError)
        .and_then(ImageReader::into_dimensions);
    let (width, height) = size.map_err(|source| unreadable(path, source))?;
    Ok((height as usize, width as usize))
}

/// Decodes a whole PNG or JPEG file. Pixels are as they are stored: a camera's note that the picture
/// is to be turned is not followed.
///
/// # Errors
/// If the file is missing, is no such image, or is damaged.
pub fn decode(path: &Path) -> Result<(DynamicImage, ImageFormat), ImageFileError> {
    let failed = |source| unreadable(path, source);
    let bytes = fs::read(path).map_err(|source| failed(source.into()))?;
    let format = image::guess_format(&bytes).map_err(failed)?;
    // The decoder fills what is missing of a JPEG picture with gray, and says nothing.
    if format == ImageFormat::Jpeg && !is_whole_jpeg(&bytes) {
        return Err(ImageFileError::Truncated { path: path.into() });
    }
    let decoder = ImageReader::with_format(io::Cursor::new(&bytes), format)
        .into_decoder()
        .map_err(failed)?;
    let (claimed, len) = (decoder.total_bytes(), bytes.len() as u64);
    let allowed = len.saturating_mul(MAX_EXPANSION);
    if claimed > allowed {
        return Err(ImageFileError::Claim {
            path: path.into(),
            claimed,
            len,
            allowed,
        });
    }
    let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    Ok((image, format))
}

/// Whether the last scan of a JPEG file is followed by the end-of-image marker.
///
/// Inside a scan the byte that begins a marker is always followed by a zero, so the end
/// cannot be mistaken. A thumbnail has its own end, but comes before the last scan.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xff, marker]);
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: u8 = 0xd9;
    match (last(START_OF_SCAN), last(END_OF_IMAGE)) {
        (Some(scan), Some(end)) => end > scan,
        _ => false,
    }
}

fn unreadable(path: &Path, source: ImageError) -> ImageFileError {
    ImageFileError::Unreadable {
        path: path.into(),
        source,
    }
}

/// A colour value of a decoded image: `f32` from 0 to 1, or `u8` from 0 to 255, which takes
/// a quarter of the memory.
pub trait Pixel: Copy + Send + Sync + 'static + sealed::Rgb {}

impl Pixel for f32 {}
impl Pixel for u8 {}

mod sealed {
    use image::DynamicImage;

    /// How values come out of the decoder.
    pub trait Rgb: Sized {
        /// `[height, width, 3]`.
        fn rgb(image: &DynamicImage) -> Vec<Self>;
    }

    impl Rgb for f32 {
        fn rgb(image: &DynamicImage) -> Vec<f32> {
            image.to_rgb32f().into_raw()
        }
    }

    impl Rgb for u8 {
        fn rgb(image: &DynamicImage) -> Vec<u8> {
            image.to_rgb8().into_raw()
        }
    }
}

/// `[height, width, 3]` -> `[3, height, width]`.
pub(crate) fn planes<P: Pixel>(image: &DynamicImage) -> Vec<P> {
    let pixels = P::rgb(image);
    (0..3)
        .flat_map(|channel| pixels.iter().skip(channel).step_by(3))
        .copied()
        .collect()
}
