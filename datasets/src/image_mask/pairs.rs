//! Which mask belongs to which image.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::error::ImageMaskError;
use crate::image_file;

/// Two files that belong together.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) stem: String,
    pub(super) image: PathBuf,
    pub(super) mask: PathBuf,
}

impl Pair {
    /// Compares sizes given as (height, width).
    pub(super) fn check_sizes(
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
pub(super) fn by_stem(images: &Path, masks: &Path) -> Result<Vec<Pair>, ImageMaskError> {
    let masks_listed = image_file::list(masks)?.into_iter();
    let mut mask_of: BTreeMap<String, PathBuf> = masks_listed
        .map(|mask| (image_file::stem(&mask), mask))
        .collect();
    let mut pairs = Vec::new();
    for image in image_file::list(images)? {
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

/// Pairs every image with the same mask, in natural order.
pub(super) fn with_one_mask(images: &Path, mask: &Path) -> Result<Vec<Pair>, ImageMaskError> {
    let pairs = image_file::list(images)?.into_iter().map(|image| Pair {
        stem: image_file::stem(&image),
        image,
        mask: mask.into(),
    });
    Ok(pairs.collect())
}
