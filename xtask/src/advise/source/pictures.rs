//! Folders of PNG and JPEG files.

use std::path::Path;

use anyhow::Result;
use burn::data::dataset::Dataset;
use burn::tensor::DType;
use burn_memopt::memory::advise::Access;
use burn_memopt::memory::estimate::ItemBytes;
use burn_memopt_datasets::image_mask::ImageMaskFolder;

use super::{Source, SourceKind, sampled};

/// Images and their masks.
pub(super) fn with_masks(images: &Path, masks: &Path) -> Result<Source> {
    let pairs = ImageMaskFolder::open(images, masks)?;
    let (bytes, items_seen) = sampled(pairs.len(), |index| {
        let (height, width) = pairs.size(index)?;
        let shape = [4, height as u64, width as u64];
        Ok(ItemBytes::image(shape, DType::U8, DType::F32))
    })?;
    let (height, width) = pairs.size(0)?;
    Ok(Source {
        kind: SourceKind::ImageMask,
        about: format!(
            "{} images, the first of {height}×{width} pixels",
            pairs.len()
        ),
        access: Access::Decoded,
        bytes,
        items_seen,
        notes: Vec::new(),
    })
}
