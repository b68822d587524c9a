//! Folders of images and of masks with the same names.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use burn::data::dataset::{Dataset, DatasetError};
use image::{DynamicImage, ImageError, ImageFormat, ImageReader};

use crate::natural_order::natural_cmp;

/// Names of files that are taken for images.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// An image and its mask, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageMask {
    /// The name that both files share, without extension.
    pub stem: String,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Red, then green, then blue, each row by row, from 0 to 1: `[3, height, width]`.
    pub image: Vec<f32>,
    /// 1 on the object and 0 elsewhere: `[height, width]`.
    pub mask: Vec<f32>,
}

/// Why images and masks could not be paired or read.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum ImageMaskError {
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
    /// An image has no mask.
    #[error("{image} has no mask: add {stem}.png to {folder}, or remove the image", image = .image.display(), folder = .folder.display())]
    MissingMask {
        /// The image.
        image: PathBuf,
        /// Its name without extension.
        stem: String,
        /// The folder of the masks.
        folder: PathBuf,
    },
    /// A mask has no image.
    #[error("the mask {mask} has no image named {stem} in {folder}: add the image, or remove the mask", mask = .mask.display(), folder = .folder.display())]
    ExtraMask {
        /// The mask.
        mask: PathBuf,
        /// Its name without extension.
        stem: String,
        /// The folder of the images.
        folder: PathBuf,
    },
    /// A file is no image, or is damaged.
    #[error("cannot read the image {path}: replace it with a whole PNG or JPEG", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the decoder found.
        #[source]
        source: ImageError,
    },
    /// An image and its mask have different sizes.
    #[error("{image} is {image_height}×{image_width} pixels (height × width), its mask {mask} is {mask_height}×{mask_width}: scale one to the other", image = .image.display(), mask = .mask.display())]
    SizeDiffers {
        /// The image.
        image: PathBuf,
        /// Height of the image.
        image_height: u32,
        /// Width of the image.
        image_width: u32,
        /// The mask.
        mask: PathBuf,
        /// Height of the mask.
        mask_height: u32,
        /// Width of the mask.
        mask_width: u32,
    },
}

/// Two files that belong together.
#[derive(Debug, Clone)]
struct Pair {
    stem: String,
    image: PathBuf,
    mask: PathBuf,
}

/// Images and masks of two folders, paired by name and decoded when asked for.
///
/// `cats/7.jpg` belongs to `masks/7.png`. Items are in natural order: `frame2` before
/// `frame10`. Only the file names are in memory.
///
/// A mask is 1 where its gray value is above half of its largest one, so masks
/// of 0 and 1 work as masks of 0 and 255 do; in JPEG masks, which are never exact, it is 1
/// from 128 on.
#[derive(Debug, Clone)]
pub struct ImageMaskFolder {
    pairs: Vec<Pair>,
}

impl ImageMaskFolder {
    /// Lists both folders and pairs their PNG and JPEG files; decodes none.
    ///
    /// # Errors
    /// If a folder cannot be listed or holds no image, if an image has no mask
    /// or a mask no image, or if two files share a stem.
    pub fn open(images: impl AsRef<Path>, masks: impl AsRef<Path>) -> Result<Self, ImageMaskError> {
        let (images, masks) = (images.as_ref(), masks.as_ref());
        let mut mask_of = list(masks)?;
        let mut pairs = Vec::new();
        for (stem, image) in list(images)? {
            let Some(mask) = mask_of.remove(&stem) else {
                return Err(ImageMaskError::MissingMask {
                    image,
                    stem,
                    folder: masks.into(),
                });
            };
            pairs.push(Pair { stem, image, mask });
        }
        if let Some((stem, mask)) = mask_of.pop_first() {
            return Err(ImageMaskError::ExtraMask {
                mask,
                stem,
                folder: images.into(),
            });
        }
        pairs.sort_by(|left, right| natural_cmp(&left.stem, &right.stem));
        Ok(Self { pairs })
    }

    /// Reads the headers of all files and checks that each mask has its image's
    /// size, so that a long run does not fail in the middle.
    ///
    /// # Errors
    /// If a header cannot be read, or sizes differ.
    pub fn verify(&self) -> Result<(), ImageMaskError> {
        self.pairs.iter().try_for_each(|pair| {
            pair.check_sizes(dimensions(&pair.image)?, dimensions(&pair.mask)?)
        })
    }

    /// The name that both files of item `index` share, without extension.
    ///
    /// # Panics
    /// If there is no item `index`.
    pub fn stem(&self, index: usize) -> &str {
        &self.pairs[index].stem
    }

    /// Height and width in pixels of item `index`, from the header of its image.
    ///
    /// # Errors
    /// If the header cannot be read.
    ///
    /// # Panics
    /// If there is no item `index`.
    pub fn size(&self, index: usize) -> Result<(usize, usize), ImageMaskError> {
        let (width, height) = dimensions(&self.pairs[index].image)?;
        Ok((height as usize, width as usize))
    }

    /// Decodes item `index`.
    ///
    /// # Errors
    /// If a file cannot be read, or the mask has another size than the image.
    ///
    /// # Panics
    /// If there is no item `index`.
    pub fn item(&self, index: usize) -> Result<ImageMask, ImageMaskError> {
        let len = self.pairs.len();
        assert!(index < len, "item must be below {len}, got {index}");
        let pair = &self.pairs[index];
        let (image, _) = decode(&pair.image)?;
        let (mask, format) = decode(&pair.mask)?;
        let size = |image: &DynamicImage| (image.width(), image.height());
        pair.check_sizes(size(&image), size(&mask))?;
        Ok(ImageMask {
            stem: pair.stem.clone(),
            height: image.height() as usize,
            width: image.width() as usize,
            image: planes(&image),
            mask: binary(&mask, format),
        })
    }
}

impl Dataset<ImageMask> for ImageMaskFolder {
    fn get(&self, index: usize) -> Result<ImageMask, DatasetError> {
        self.item(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.pairs.len()
    }
}

impl Pair {
    /// Compares sizes given as (width, height), as the decoder does.
    fn check_sizes(&self, image: (u32, u32), mask: (u32, u32)) -> Result<(), ImageMaskError> {
        if image == mask {
            return Ok(());
        }
        Err(ImageMaskError::SizeDiffers {
            image: self.image.clone(),
            image_height: image.1,
            image_width: image.0,
            mask: self.mask.clone(),
            mask_height: mask.1,
            mask_width: mask.0,
        })
    }
}

/// The images of a folder by stem.
fn list(folder: &Path) -> Result<BTreeMap<String, PathBuf>, ImageMaskError> {
    let failed = |source| ImageMaskError::Folder {
        path: folder.into(),
        source,
    };
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(stem) = image_stem(&path) else {
            continue;
        };
        if let Some(first) = files.insert(stem, path.clone()) {
            return Err(ImageMaskError::SameStem {
                first,
                second: path,
            });
        }
    }
    if files.is_empty() {
        return Err(ImageMaskError::EmptyFolder {
            path: folder.into(),
        });
    }
    Ok(files)
}

/// The stem of a visible file with an image's extension.
fn image_stem(path: &Path) -> Option<String> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let stem = path.file_stem()?.to_string_lossy();
    let is_image = EXTENSIONS.contains(&extension.as_str()) && !stem.starts_with('.');
    is_image.then(|| stem.into_owned())
}

fn reader(path: &Path) -> Result<ImageReader<io::BufReader<fs::File>>, ImageMaskError> {
    ImageReader::open(path)
        .and_then(ImageReader::with_guessed_format)
        .map_err(|source| unreadable(path, source.into()))
}

/// Width and height from a file's header.
fn dimensions(path: &Path) -> Result<(u32, u32), ImageMaskError> {
    let size = reader(path)?.into_dimensions();
    size.map_err(|source| unreadable(path, source))
}

fn decode(path: &Path) -> Result<(DynamicImage, Option<ImageFormat>), ImageMaskError> {
    let reader = reader(path)?;
    let format = reader.format();
    let image = reader.decode();
    let image = image.map_err(|source| unreadable(path, source))?;
    Ok((image, format))
}

fn unreadable(path: &Path, source: ImageError) -> ImageMaskError {
    ImageMaskError::Unreadable {
        path: path.into(),
        source,
    }
}

/// `[height, width, 3]` bytes -> `[3, height, width]` from 0 to 1.
fn planes(image: &DynamicImage) -> Vec<f32> {
    let pixels = image.to_rgb32f().into_raw();
    (0..3)
        .flat_map(|channel| pixels.iter().skip(channel).step_by(3))
        .copied()
        .collect()
}

fn binary(mask: &DynamicImage, format: Option<ImageFormat>) -> Vec<f32> {
    let gray = mask.to_luma8().into_raw();
    let half = match format {
        Some(ImageFormat::Jpeg) => 127,
        _ => gray.iter().max().map_or(0, |largest| largest / 2),
    };
    gray.iter()
        .map(|&value| if value > half { 1.0 } else { 0.0 })
        .collect()
}
