//! TIFF stacks.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::DType;
use burn_memopt::memory::Bytes;
use burn_memopt::memory::advise::Access;
use burn_memopt::memory::estimate::{DatasetBytes, ItemBytes};
use burn_memopt_datasets::counting::CountDataset;
use burn_memopt_datasets::tiff::TiffStack;

use super::{Source, SourceKind};

/// A stack, alone or with the table of its emitters.
pub(super) fn open(path: &Path, targets: Option<&Path>) -> Result<Source> {
    let stack = TiffStack::open(path)?;
    let (height, width, num_frames) = (stack.height(), stack.width(), stack.num_frames() as u64);
    let frame = ItemBytes::image([1, height as u64, width as u64], DType::F32, DType::F32);
    let about = format!("{num_frames} frames of {height}×{width} pixels");
    let (kind, item, about) = match targets {
        None => (SourceKind::TiffStack, frame, about),
        Some(table) => {
            // Names a table that does not belong to the stack.
            CountDataset::open(path, table)?;
            let about = format!("{about}, each with a density map");
            (SourceKind::CountedStack, frame * 2, about)
        }
    };
    let stored =
        fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    let per_frame = Bytes::new(stored.len() / num_frames.max(1));
    let bytes = DatasetBytes::uniform(num_frames, item.with_stored(per_frame));
    Ok(Source {
        kind,
        about,
        access: Access::Decoded,
        bytes: bytes.with_stored(Bytes::new(stored.len())),
        items_seen: num_frames,
        notes: Vec::new(),
    })
}
