//! Image files: found in folders, measured by their headers, decoded whole.
//!
//! PNG, JPEG, BMP, GIF, WebP and TIFF are read. Photographs are turned as their EXIF orientation says,
//! as every viewer does.

mod whole;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, metadata::Orientation,
};
use unicode_normalization::UnicodeNormalization;

use crate::folder::{FolderError, entries, is_image, natural_cmp};

/// Bytes that one byte of a file can decode to.
///
/// Deflate reaches 1,032 to one, and a palette of two colours makes 24 bits of one. In
/// JPEG a block of 64 values takes one bit at the least, which is less.
const MAX_EXPANSION: u64 = 1_032 * 24;
/// Memory that a decoder may take for a file of any length.
const LEAST_MEMORY: u64 = 16 << 20;
/// Bytes of pixels that a WebP file of any length may hold: one colour takes no byte for each pixel.
const MAX_WEBP: u64 = 64 << 20;

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
    /// A folder contains no image.
    #[error("the folder {path} contains no image: PNG, JPEG, BMP, GIF, WebP and TIFF are read", path = .path.display())]
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
    #[error("cannot read the image {path}: replace it with a whole PNG, JPEG, BMP, GIF, WebP or TIFF", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the decoder found.
        #[source]
        source: ImageError,
    },
    /// A picture has no pixels.
    #[error("the image {path} has no pixels: replace it with a whole one", path = .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A file has several pictures, such as the pages of a TIFF stack or an animation.
    #[error("{path} has more than one picture, of which only the first would be used: save each as a file of its own", path = .path.display())]
    Several {
        /// The file.
        path: PathBuf,
    },
    /// The values of a mask are no numbers of classes.
    #[error("the mask {path} does not say which class a pixel is, as {why}: save masks as PNG or TIFF with the number of the class in each pixel, or with a palette", path = .path.display())]
    NoClasses {
        /// The mask.
        path: PathBuf,
        /// What is against it.
        why: &'static str,
    },
    /// The masks of a folder have other values than classes are asked for.
    #[error("the masks in {path} have {values}; these are not the numbers of {num_classes} classes, 0 to {last}: ask for as many classes as there are values, or leave the classes out to take every value but 0 as object", path = .path.display(), last = .num_classes - 1)]
    OtherClasses {
        /// The folder.
        path: PathBuf,
        /// Classes asked for.
        num_classes: usize,
        /// The values, as text.
        values: String,
    },
    /// A JPEG, PNG or TIFF file ends before its picture does.
    #[error("the image {path} ends before its picture does: replace it with a whole one", path = .path.display())]
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
    let paths = entries(folder)
        .map_err(|FolderError { path, source }| ImageFileError::Folder { path, source })?;
    let mut files = BTreeMap::new();
    for path in paths.into_iter().filter(|path| is_image(path)) {
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

/// A file's name without extension. Accents are composed (`ü` is one character): some systems write
/// the same name in two parts.
pub(crate) fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().nfc().collect()
}

/// Height and width in pixels as a viewer shows them, from the file's header.
pub(crate) fn size(path: &Path) -> Result<(usize, usize), ImageFileError> {
    let failed = |source| unreadable(path, source);
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|source| failed(source.into()))?;
    let claims_fit = || -> io::Result<bool> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(whole::tiff_claims_fit(&mut BufReader::new(file), len))
    };
    if reader.format() == Some(ImageFormat::Tiff)
        && !claims_fit().map_err(|source| failed(source.into()))?
    {
        return Err(ImageFileError::Truncated { path: path.into() });
    }
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().map_err(failed)?;
    let (height, width) = (height as usize, width as usize);
    Ok(if swaps_sides(orientation) {
        (width, height)
    } else {
        (height, width)
    })
}

/// Whether width becomes height.
pub(crate) fn swaps_sides(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// [`size`], of a file that is not cut off. Decodes no pixel.
pub(crate) fn check(path: &Path) -> Result<(usize, usize), ImageFileError> {
    let size = size(path)?;
    let is_whole = || -> io::Result<bool> {
        let mut file = BufReader::new(File::open(path)?);
        let len = file.get_ref().metadata()?.len();
        match io::BufRead::fill_buf(&mut file)? {
            [0xff, 0xd8, ..] => Ok(whole::jpeg_len(&fs::read(path)?).is_some()),
            [0x89, b'P', ..] => whole::png_is_whole(&mut file, len),
            _ => Ok(true),
        }
    };
    match is_whole().map_err(|source| unreadable(path, source.into()))? {
        true => Ok(size),
        false => Err(ImageFileError::Truncated { path: path.into() }),
    }
}

/// Decodes a whole image file, turned as its EXIF orientation says. Bytes behind a JPEG picture,
/// such as the movie of a phone, are not read.
///
/// # Errors
/// If the file is missing, is no image, is damaged, or has several pictures.
pub fn decode(path: &Path) -> Result<(DynamicImage, ImageFormat), ImageFileError> {
    let bytes = fs::read(path).map_err(|source| unreadable(path, source.into()))?;
    decode_bytes(path, &bytes)
}

/// [`decode`] of a file that has been read.
pub(crate) fn decode_bytes(
    path: &Path,
    mut bytes: &[u8],
) -> Result<(DynamicImage, ImageFormat), ImageFileError> {
    let failed = |source| unreadable(path, source);
    let format = image::guess_format(bytes).map_err(failed)?;
    if format == ImageFormat::Jpeg {
        // The decoder fills what is missing of a picture with gray, and says nothing.
        let len = whole::jpeg_len(bytes);
        let len = len.ok_or_else(|| ImageFileError::Truncated { path: path.into() })?;
        bytes = &bytes[..len];
    }
    let len = bytes.len() as u64;
    // Before a decoder takes memory for what a directory claims.
    if format == ImageFormat::Tiff && !whole::tiff_claims_fit(&mut io::Cursor::new(bytes), len) {
        return Err(ImageFileError::Truncated { path: path.into() });
    }
    let least = if format == ImageFormat::WebP {
        MAX_WEBP
    } else {
        0
    };
    let allowed = len.saturating_mul(MAX_EXPANSION).max(least);
    // Of a decoder's own memory, which parts of a picture that are larger than the picture claim.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(allowed.saturating_mul(2).max(LEAST_MEMORY));
    let mut reader = ImageReader::with_format(io::Cursor::new(bytes), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let claimed = decoder.total_bytes();
    if claimed == 0 {
        return Err(ImageFileError::Empty { path: path.into() });
    }
    if claimed > allowed {
        return Err(ImageFileError::Claim {
            path: path.into(),
            claimed,
            len,
            allowed,
        });
    }
    if whole::has_more(bytes, format, limits).map_err(failed)? {
        return Err(ImageFileError::Several { path: path.into() });
    }
    let orientation = decoder.orientation().map_err(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok((image, format))
}

pub(crate) fn unreadable(path: &Path, source: ImageError) -> ImageFileError {
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
