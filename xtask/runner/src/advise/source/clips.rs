//! Folders of frame folders, one a video.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::data::dataset::Dataset;
use burn_memopt::memory::Bytes;
use burn_memopt::memory::advise::Access;
use burn_memopt::memory::estimate::{DatasetBytes, ItemBytes};
use burn_memopt_datasets::lazy::LazyDataset;
use burn_memopt_datasets::video::{ClipConfig, ClipFolder, FrameFolder};

use super::pictures::stored_in;
use super::{Source, SourceKind, spread};
use crate::advise::folder::{Contents, FileKind, files_of};

/// Clips of the default length, of frames as large as the first.
///
/// Clips overlap, so all of them together take what their frames do.
pub(super) fn open(root: &Path) -> Result<Source> {
    let videos = list(root)?;
    let first = videos.first().context("a folder of videos must hold one")?;
    let first = FrameFolder::open(first).with_context(|| {
        let shown = root.display();
        format!("{shown} holds folders and no data of its own, so each should be a video of PNG or JPEG frames")
    })?;
    let (height, width) = (first.height(), first.width());
    let config = ClipConfig::new(height, width);
    let clip_len = (config.num_local + config.num_reference) as u64;
    let clips = ClipFolder::open(root, config)?;

    let num_frames: u64 = videos
        .iter()
        .map(|video| Ok(files_of(FileKind::Image, video)?.len() as u64))
        .sum::<Result<_>>()?;
    let seen: Vec<_> = spread(videos.len()).map(|index| &videos[index]).collect();
    let stored: Bytes = seen
        .iter()
        .map(|video| stored_in(video))
        .sum::<Result<_>>()?;
    let stored = Bytes::new(stored.get() / seen.len() as u64) * videos.len() as u64;
    let frame = ItemBytes {
        stored: Bytes::new(stored.get() / num_frames),
        loaded: Bytes::new(first.item_bytes(0)),
    };
    let clip = ItemBytes {
        loaded: Bytes::new(clips.item_bytes(0)),
        ..frame * clip_len
    };
    let bytes = DatasetBytes::uniform(clips.len() as u64, clip)
        .with_stored(stored)
        .with_loaded(frame.loaded * num_frames);
    Ok(Source {
        kind: SourceKind::Clips,
        about: format!(
            "{} videos, {num_frames} frames of {height}×{width} pixels, as the first",
            videos.len()
        ),
        access: Access::Decoded,
        bytes,
        items_seen: 1,
        notes: vec![format!(
            "an item is a clip of {clip_len} frames; clips overlap, so keep frames and not clips"
        )],
    })
}

/// The folders of videos where `ClipFolder` looks for them, by name.
fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let inside = root.join("JPEGImages");
    let root = if inside.is_dir() { &inside } else { root };
    let mut names = Contents::of(root)?.folders;
    names.sort();
    Ok(names.iter().map(|name| root.join(name)).collect())
}
