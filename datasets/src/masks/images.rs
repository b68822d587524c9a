//! Folders of images, and their masks: of the same names, or one for all.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use burn::data::dataset::{Dataset, DatasetError};

use super::values::{MaskRule, MaskValues};
use crate::{
    image_file::{self, ImageFileError, planes},
    lazy::LazyDataset,
};

/// Why images and masks could not be paired or read.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum ImageMaskError {
    /// A folder cannot be listed, or a file cannot be read.
    #[error(transparent)]
    File(#[from] ImageFileError),
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
    /// Two masks belong to one image.
    #[error("{first} and {second} are masks of the same image: rename or remove one", first = .first.display(), second = .second.display())]
    TwoMasks {
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// An image and its mask have different sizes.
    #[error("{image} is {image_height}×{image_width} pixels (height × width), its mask {mask} is {mask_height}×{mask_width}: scale one to the other", image = .image.display(), mask = .mask.display())]
    SizeDiffers {
        /// The image.
        image: PathBuf,
        /// Height of the image.
        image_height: usize,
        /// Width of the image.
        image_width: usize,
        /// The mask.
        mask: PathBuf,
        /// Height of the mask.
        mask_height: usize,
        /// Width of the mask.
        mask_width: usize,
    },
}

/// An image and its mask, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageMask {
    /// The image's name without extension.
    pub stem: String,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Red, then green, then blue, each row by row, from 0 to 1: `[3, height, width]`.
    pub image: Vec<f32>,
    /// 1 on the object and 0 elsewhere, or with several classes the number of each pixel's class, from
    /// 0, and -1 where it has none: `[height, width]`.
    pub mask: Vec<f32>,
}

/// Images of a folder with their masks, paired by name and decoded when asked for.
///
/// `cats/7.jpg` belongs to `masks/7.png`; or one mask belongs to all images. Items are in
/// natural order: `frame2` before `frame10`. Only the file names are in memory.
///
/// What is object is decided over all masks together, when the first is decoded. Two values are a
/// mask, whatever they are, and so are two values with noise; more are classes or instances,
/// of which every value but zero is object. A palette of colours counts by its indices. Where
/// the colour is the same everywhere, the alpha channel is the mask. In JPEG masks, which are never
/// exact, the object is from 128 on.
///
/// [`with_classes`](Self::with_classes) keeps classes apart.
#[derive(Debug, Clone)]
pub struct ImageMaskFolder {
    pairs: Vec<Pair>,
    num_classes: Option<usize>,
    /// What is object, once all masks have been looked at.
    rule: OnceLock<MaskRule>,
}

impl ImageMaskFolder {
    /// Lists the image files of the folder `images` and gives each its mask;
    /// decodes none.
    ///
    /// If `masks` is a folder, each image has the mask of its name; if it is a file, that is
    /// the mask of all images. `7_mask.png` also belongs to `7.jpg`, and so does any other suffix that
    /// the masks have in common.
    ///
    /// # Errors
    /// If a folder cannot be listed or holds no image, if an image has no mask
    /// or a mask no image, or if two files share a stem.
    pub fn open(images: impl AsRef<Path>, masks: impl AsRef<Path>) -> Result<Self, ImageMaskError> {
        let (images, masks) = (images.as_ref(), masks.as_ref());
        let pairs = match masks.is_file() {
            true => with_one_mask(images, masks)?,
            false => by_stem(images, masks)?,
        };
        Ok(Self {
            pairs,
            num_classes: None,
            rule: OnceLock::new(),
        })
    }

    /// Takes the values of masks as classes, background included, where they are object and
    /// background by default.
    ///
    /// Values below `num_classes` are the numbers of classes, and 255 may mark pixels of no class;
    /// otherwise there must be as many values as classes, which are numbered in their order. A
    /// palette counts by its indices.
    ///
    /// # Panics
    /// If there are fewer than 2 classes.
    pub fn with_classes(mut self, num_classes: usize) -> Self {
        assert!(
            num_classes >= 2,
            "masks must have at least 2 classes, background included, got {num_classes}"
        );
        self.num_classes = Some(num_classes);
        self.rule = OnceLock::new();
        self
    }

    /// Reads the headers of all files, and checks that none is cut off and that each mask has its
    /// image's size, so that a long run does not fail in the middle. Returns height and width of each
    /// item.
    ///
    /// # Errors
    /// If a header cannot be read, a file is cut off, or sizes differ.
    pub fn verify(&self) -> Result<Vec<(usize, usize)>, ImageMaskError> {
        let size = |pair: &Pair| {
            let size = image_file::check(&pair.image)?;
            pair.check_sizes(size, MaskValues::check(&pair.mask)?)?;
            Ok(size)
        };
        self.pairs.iter().map(size).collect()
    }

    /// Decodes all masks, unless that was done before, and says what their values mean.
    ///
    /// # Errors
    /// If a mask cannot be read, or has no classes where these are asked for.
    pub fn mask_rule(&self) -> Result<&MaskRule, ImageMaskError> {
        if let Some(rule) = self.rule.get() {
            return Ok(rule);
        }
        let mut masks: Vec<_> = self.pairs.iter().map(|pair| pair.mask.clone()).collect();
        // One mask may belong to all images.
        masks.dedup();
        let rule = MaskRule::measure(&masks, self.num_classes)?;
        Ok(self.rule.get_or_init(|| rule))
    }

    /// The name of item `index`, without extension.
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
        Ok(image_file::size(&self.pairs[index].image)?)
    }

    /// Decodes item `index`.
    ///
    /// # Errors
    /// If a file cannot be read, or the mask has another size than the image.
    ///
    /// # Panics
    /// If there is no item `index`.
    pub fn item(&self, index: usize) -> Result<ImageMask, ImageMaskError> {
        crate::check_index("item", index, self.pairs.len());
        let pair = &self.pairs[index];
        let (image, _) = image_file::decode(&pair.image)?;
        let (mask_height, mask_width, mask) = self.mask_rule()?.read(&pair.mask)?;
        let (height, width) = (image.height() as usize, image.width() as usize);
        pair.check_sizes((height, width), (mask_height, mask_width))?;
        Ok(ImageMask {
            stem: pair.stem.clone(),
            height,
            width,
            image: planes(&image),
            mask,
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

impl LazyDataset<ImageMask> for ImageMaskFolder {
    /// From the header of the image; nothing where that cannot be read, and the item
    /// neither.
    fn item_bytes(&self, index: usize) -> u64 {
        let (height, width) = self.size(index).unwrap_or_default();
        let pixels = (height as u64).saturating_mul(width as u64);
        let planes = pixels.saturating_mul(4 * size_of::<f32>() as u64);
        planes.saturating_add(size_of::<ImageMask>() as u64)
    }
}

/// Two files that belong together.
#[derive(Debug, Clone)]
struct Pair {
    stem: String,
    image: PathBuf,
    mask: PathBuf,
}

impl Pair {
    /// Compares sizes given as (height, width).
    fn check_sizes(
        &self,
        image: (usize, usize),
        mask: (usize, usize),
    ) -> Result<(), ImageMaskError> {
        if image == mask {
            return Ok(());
        }
        Err(ImageMaskError::SizeDiffers {
            image: self.image.clone(),
            image_height: image.0,
            image_width: image.1,
            mask: self.mask.clone(),
            mask_height: mask.0,
            mask_width: mask.1,
        })
    }
}

/// Pairs every image with the mask of its name, in natural order.
fn by_stem(images: &Path, masks: &Path) -> Result<Vec<Pair>, ImageMaskError> {
    let listed = image_file::list(images)?;
    let stems: BTreeSet<_> = listed.iter().map(|image| image_file::stem(image)).collect();
    let masks_by_stem: Vec<_> = image_file::list(masks)?
        .into_iter()
        .map(|mask| (image_file::stem(&mask), mask))
        .collect();
    let suffix = suffix(&stems, masks_by_stem.iter().map(|(stem, _)| stem));
    let suffix = suffix.map(str::to_owned);
    let mut mask_of: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (stem, mask) in masks_by_stem {
        let shorter = suffix
            .as_ref()
            .and_then(|suffix| stem.strip_suffix(suffix.as_str()));
        let stem = match shorter {
            Some(shorter) if !stems.contains(&stem) => shorter.to_owned(),
            _ => stem,
        };
        if let Some(first) = mask_of.insert(stem, mask.clone()) {
            let second = mask;
            return Err(ImageMaskError::TwoMasks { first, second });
        }
    }
    let mut pairs = Vec::new();
    for image in listed {
        let stem = image_file::stem(&image);
        let Some(mask) = mask_of.remove(&stem) else {
            return Err(ImageMaskError::MissingMask {
                image,
                stem,
                folder: masks.into(),
            });
        };
        pairs.push(Pair { stem, image, mask });
    }
    match mask_of.pop_first() {
        None => Ok(pairs),
        Some((stem, mask)) => Err(ImageMaskError::ExtraMask {
            mask,
            stem,
            folder: images.into(),
        }),
    }
}

/// What follows the image's name in the names of masks, such as `_mask`: as in the first mask that is
/// not called as an image is.
fn suffix<'a>(
    stems: &BTreeSet<String>,
    masks: impl Iterator<Item = &'a String>,
) -> Option<&'a str> {
    let mut others = masks.filter(|mask| !stems.contains(*mask));
    others.find_map(|mask| {
        // The longest name counts: the mask `a_1_mask` belongs to `a_1`, not to `a`.
        let mut ends = mask.char_indices().rev();
        let (end, _) = ends.find(|(end, _)| stems.contains(&mask[..*end]))?;
        mask[end..]
            .starts_with(['_', '-', '.', ' '])
            .then_some(&mask[end..])
    })
}

/// Pairs every image with the same mask, in natural order.
fn with_one_mask(images: &Path, mask: &Path) -> Result<Vec<Pair>, ImageMaskError> {
    let pairs = image_file::list(images)?.into_iter().map(|image| Pair {
        stem: image_file::stem(&image),
        image,
        mask: mask.into(),
    });
    Ok(pairs.collect())
}
