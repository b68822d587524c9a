//! Folders of images, and their masks: of the same names, or one for all.

mod error;
mod pairs;

use std::path::Path;

use burn::data::dataset::{Dataset, DatasetError};
use image::{DynamicImage, ImageFormat};

pub use error::ImageMaskError;
use pairs::Pair;

use crate::{image_file, lazy::LazyDataset, pixel::planes};

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
    /// 1 on the object and 0 elsewhere: `[height, width]`.
    pub mask: Vec<f32>,
}

/// Images of a folder with their masks, paired by name and decoded when asked for.
///
/// `cats/7.jpg` belongs to `masks/7.png`; or one mask belongs to all images. Items are in
/// natural order: `frame2` before `frame10`. Only the file names are in memory.
///
/// A mask is 1 where its gray value is above half of its largest one, so masks
/// of 0 and 1 work as masks of 0 and 255 do; in JPEG masks, which are never exact, it is 1
/// from 128 on.
#[derive(Debug, Clone)]
pub struct ImageMaskFolder {
    pairs: Vec<Pair>,
}

impl ImageMaskFolder {
    /// Lists the PNG and JPEG files of the folder `images` and gives each its mask;
    /// decodes none.
    ///
    /// If `masks` is a folder, each image has the mask of its name; if it is a file, that is
    /// the mask of all images.
    ///
    /// # Errors
    /// If a folder cannot be listed or holds no image, if an image has no mask
    /// or a mask no image, or if two files share a stem.
    pub fn open(images: impl AsRef<Path>, masks: impl AsRef<Path>) -> Result<Self, ImageMaskError> {
        let (images, masks) = (images.as_ref(), masks.as_ref());
        let pairs = match masks.is_file() {
            true => pairs::with_one_mask(images, masks)?,
            false => pairs::by_stem(images, masks)?,
        };
        Ok(Self { pairs })
    }

    /// Reads the headers of all files and checks that each mask has its image's
    /// size, so that a long run does not fail in the middle.
    ///
    /// # Errors
    /// If a header cannot be read, or sizes differ.
    pub fn verify(&self) -> Result<(), ImageMaskError> {
        self.pairs.iter().try_for_each(|pair| {
            pair.check_sizes(
                image_file::size(&pair.image)?,
                image_file::size(&pair.mask)?,
            )
        })
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
        let len = self.pairs.len();
        assert!(index < len, "item must be below {len}, got {index}");
        let pair = &self.pairs[index];
        let (image, _) = image_file::decode(&pair.image)?;
        let (mask, format) = image_file::decode(&pair.mask)?;
        let size = |image: &DynamicImage| (image.height() as usize, image.width() as usize);
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

fn binary(mask: &DynamicImage, format: ImageFormat) -> Vec<f32> {
    let gray = mask.to_luma8().into_raw();
    let half = match format {
        ImageFormat::Jpeg => 127,
        _ => gray.iter().max().map_or(0, |largest| largest / 2),
    };
    gray.iter()
        .map(|&value| if value > half { 1.0 } else { 0.0 })
        .collect()
}
