//! TIFF stacks, and folders of them.

use std::path::Path;

use anyhow::Result;
use burn_memopt::memory::Bytes;
use burn_memopt::memory::advise::Access;
use burn_memopt::memory::estimate::{DatasetBytes, ItemBytes};
use burn_memopt_datasets::counting::CountDataset;
use burn_memopt_datasets::lazy::LazyDataset;
use burn_memopt_datasets::tiff::{FrameSource, TiffSequence, TiffStack};

use super::{MAX_SEEN, Source, SourceKind, file_bytes, spread};
use crate::advise::folder::{FileKind, files_of};

/// A stack, alone or with the table of its emitters.
pub(super) fn open(path: &Path, targets: Option<&Path>) -> Result<Source> {
    let stack = TiffStack::open(path)?;
    let (first, access) = look_at(&stack)?;
    let num_frames = stack.num_frames() as u64;
    let about = format!("{num_frames} frames of {first}");
    let frame = stack.frame_bytes();
    // Checked by the reader, which names a table that does not belong to the stack.
    let counted = targets
        .map(|table| CountDataset::open(path, table))
        .transpose()?;
    let (kind, about, loaded) = match counted {
        None => (SourceKind::TiffStack, about, frame),
        Some(frames) => {
            let about = format!("{about}, each with a density map");
            (SourceKind::CountedStack, about, frames.item_bytes(0))
        }
    };
    let stored = file_bytes(path)?;
    let item = ItemBytes {
        stored: Bytes::new(stored.get() / num_frames),
        loaded: Bytes::new(loaded),
    };
    Ok(Source {
        kind,
        about,
        access,
        bytes: DatasetBytes::uniform(num_frames, item).with_stored(stored),
        items_seen: num_frames,
        notes: Vec::new(),
    })
}

/// The TIFF files of a folder, one after the other as one stack. Of many files some are opened.
pub(super) fn open_folder(folder: &Path) -> Result<Source> {
    let files = files_of(FileKind::Tiff, folder)?;
    let seen: Vec<_> = spread(files.len())
        .map(|index| files[index].clone())
        .collect();
    let stored: Bytes = seen
        .iter()
        .map(|file| file_bytes(file))
        .sum::<Result<_>>()?;
    let stack = match files.len() <= MAX_SEEN {
        true => TiffSequence::open(folder)?,
        false => TiffSequence::from_files(seen.clone())?,
    };
    let (first, access) = look_at(&stack)?;
    let frames_seen = stack.num_frames() as u64;
    let of_all = |amount: u64| {
        let all = u128::from(amount) * files.len() as u128 / seen.len() as u128;
        u64::try_from(all).unwrap_or(u64::MAX)
    };
    let num_frames = of_all(frames_seen);
    let item = ItemBytes {
        stored: Bytes::new(stored.get() / frames_seen),
        loaded: Bytes::new(stack.frame_bytes()),
    };
    let mut notes = Vec::new();
    if seen.len() < files.len() {
        notes.push(format!(
            "{} of {} files were opened: the number of frames is an estimate",
            seen.len(),
            files.len()
        ));
    }
    Ok(Source {
        kind: SourceKind::TiffSequence,
        about: format!("{} files, {num_frames} frames of {first}", files.len()),
        access,
        bytes: DatasetBytes::uniform(num_frames, item)
            .with_stored(Bytes::new(of_all(stored.get()))),
        items_seen: frames_seen,
        notes,
    })
}

/// What the frames are, for people, and how they are reached.
fn look_at(stack: &impl FrameSource) -> Result<(String, Access)> {
    let page = stack.page(0)?;
    let (height, width) = (page.height(), page.width());
    let sample = format!("{:?}", page.sample_type()).to_lowercase();
    let (how, access) = match page.is_mapped() {
        true => ("mapped", Access::Mapped),
        false => ("decoded one at a time", Access::Decoded),
    };
    Ok((format!("{height}×{width} pixels, {sample}, {how}"), access))
}
