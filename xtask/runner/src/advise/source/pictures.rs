//! Folders of PNG and JPEG files.

use std::path::Path;

use anyhow::Result;
use burn::data::dataset::Dataset;
use burn_memopt::memory::Bytes;
use burn_memopt::memory::advise::Access;
use burn_memopt::memory::estimate::{DatasetBytes, ItemBytes};
use burn_memopt_datasets::image_mask::ImageMaskFolder;
use burn_memopt_datasets::lazy::LazyDataset;
use burn_memopt_datasets::video::FrameFolder;

use super::{Source, SourceKind, file_bytes, sampled};
use crate::advise::folder::{FileKind, files_of};

/// Frames of one size.
pub(super) fn frames(folder: &Path) -> Result<Source> {
    let frames = FrameFolder::open(folder)?;
    let (height, width, num_frames) = (frames.height(), frames.width(), frames.len() as u64);
    let stored = stored_in(folder)?;
    let item = ItemBytes {
        stored: Bytes::new(stored.get() / num_frames),
        loaded: Bytes::new(frames.item_bytes(0)),
    };
    Ok(Source {
        kind: SourceKind::Frames,
        about: format!("{num_frames} frames of {height}×{width} pixels, as the first"),
        access: Access::Decoded,
        bytes: DatasetBytes::uniform(num_frames, item).with_stored(stored),
        items_seen: 1,
        notes: Vec::new(),
    })
}

/// Images, each with its mask or all with the same.
pub(super) fn with_masks(images: &Path, masks: &Path) -> Result<Source> {
    let pairs = ImageMaskFolder::open(images, masks)?;
    let stored = stored_in(images)?
        + match masks.is_file() {
            true => file_bytes(masks)?,
            false => stored_in(masks)?,
        };
    let per_item = Bytes::new(stored.get() / pairs.len() as u64);
    let (bytes, items_seen) = sampled(pairs.len(), |index| {
        // Names the file whose header cannot be read.
        pairs.size(index)?;
        Ok(ItemBytes {
            stored: per_item,
            loaded: Bytes::new(pairs.item_bytes(index)),
        })
    })?;
    let (height, width) = pairs.size(0)?;
    Ok(Source {
        kind: SourceKind::ImageMask,
        about: format!(
            "{} images, the first of {height}×{width} pixels",
            pairs.len()
        ),
        access: Access::Decoded,
        bytes: bytes.with_stored(stored),
        items_seen,
        notes: Vec::new(),
    })
}

/// Bytes of a folder's images on the disk, from the lengths of some.
pub(super) fn stored_in(folder: &Path) -> Result<Bytes> {
    let files = files_of(FileKind::Image, folder)?;
    let (bytes, _) = sampled(files.len(), |index| {
        Ok(ItemBytes::default().with_stored(file_bytes(&files[index])?))
    })?;
    Ok(bytes.stored().unwrap_or(Bytes::ZERO))
}
