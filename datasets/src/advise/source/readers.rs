//! What stacks, frames, clips, images and videos take.

use std::{path::Path, sync::Arc};

use burn::{data::dataset::Dataset, tensor::DType};
use burn_memopt::memory::Bytes;

use super::{
    Companions, DataSource, SourceError, SourceKind, contents::Contents, file_bytes, sampled,
    spread,
};
use crate::{
    advise::{Access, DatasetBytes, ItemBytes},
    counting::CountDataset,
    folder::{FileKind, files_of},
    lazy::LazyDataset,
    masks::ImageMaskFolder,
    tiff::{FrameSource, TiffSequence, open_frames},
    video::{ClipConfig, ClipFolder, FrameError, FrameFolder, VideoFile},
};

/// What an item of frames is, alone or with the table that is given: words for people, its bytes when
/// it is loaded, and notes. A table that does not belong to the frames is named.
fn items(
    frames: &Arc<dyn FrameSource>,
    companions: Companions<'_>,
) -> Result<(&'static str, u64, Vec<String>), SourceError> {
    let mut notes = frames.notes().to_vec();
    let Some(table) = companions.targets else {
        return Ok(("", frames.frame_bytes(), notes));
    };
    let counted = CountDataset::with_table(frames.clone(), table, companions.pixel_size)?;
    notes.extend_from_slice(counted.notes());
    Ok((", each with a density map", counted.item_bytes(0), notes))
}

/// A stack, alone or with the table of its emitters.
pub(super) fn stack(path: &Path, companions: Companions<'_>) -> Result<DataSource, SourceError> {
    let stack = open_frames(path)?;
    let (first, access) = first_frame(&stack)?;
    let num_frames = stack.num_frames() as u64;
    let (with_table, loaded, notes) = items(&stack, companions)?;
    let about = format!("{num_frames} frames of {first}{with_table}");
    let kind = match companions.targets {
        None => SourceKind::TiffStack,
        Some(_) => SourceKind::CountedStack,
    };
    let stored = file_bytes(path)?;
    let item = ItemBytes {
        stored: Bytes::new(stored.get() / num_frames),
        loaded: Bytes::new(loaded),
    };
    Ok(DataSource {
        kind,
        about,
        access,
        bytes: DatasetBytes::uniform(num_frames, item).with_stored(stored),
        items_seen: num_frames,
        notes,
    })
}

/// The TIFF files of a folder, one after the other as one stack. Of many files without a table some
/// are opened.
pub(super) fn stack_folder(
    folder: &Path,
    companions: Companions<'_>,
) -> Result<DataSource, SourceError> {
    let files = files_of(FileKind::Tiff, folder)?;
    let seen: Vec<_> = match companions.targets {
        None => spread(files.len())
            .map(|index| files[index].clone())
            .collect(),
        Some(_) => files.clone(),
    };
    let stored = seen.iter().map(|file| file_bytes(file));
    let stored: Bytes = stored.sum::<Result<_, _>>()?;
    let stack: Arc<dyn FrameSource> = Arc::new(if seen.len() == files.len() {
        TiffSequence::open(folder)?
    } else {
        TiffSequence::from_files(seen.clone())?
    });
    let (first, access) = first_frame(&stack)?;
    let frames_seen = stack.num_frames() as u64;
    let scaled_to_all = |amount: u64| {
        let all = u128::from(amount) * files.len() as u128 / seen.len() as u128;
        u64::try_from(all).unwrap_or(u64::MAX)
    };
    let num_frames = scaled_to_all(frames_seen);
    let (with_table, loaded, mut notes) = items(&stack, companions)?;
    let item = ItemBytes {
        stored: Bytes::new(stored.get() / frames_seen),
        loaded: Bytes::new(loaded),
    };
    if seen.len() < files.len() {
        notes.push(format!(
            "{} of {} files were opened: the number of frames is an estimate",
            seen.len(),
            files.len()
        ));
    }
    Ok(DataSource {
        kind: SourceKind::TiffSequence,
        about: format!(
            "{} files, {num_frames} frames of {first}{with_table}",
            files.len()
        ),
        access,
        bytes: DatasetBytes::uniform(num_frames, item)
            .with_stored(Bytes::new(scaled_to_all(stored.get()))),
        items_seen: frames_seen,
        notes,
    })
}

/// What the frames are, for people, and how they are reached.
fn first_frame(stack: &impl FrameSource) -> Result<(String, Access), SourceError> {
    let page = stack.page(0)?;
    let (height, width) = (page.height(), page.width());
    let sample = format!("{:?}", page.sample_type()).to_lowercase();
    let (how, access) = if page.is_mapped() {
        ("mapped", Access::Mapped)
    } else {
        ("decoded one at a time", Access::Decoded)
    };
    Ok((format!("{height}×{width} pixels, {sample}, {how}"), access))
}

/// Frames of one size.
pub(super) fn frames(folder: &Path) -> Result<DataSource, SourceError> {
    let frames = FrameFolder::open(folder)?;
    let (height, width, num_frames) = (frames.height(), frames.width(), frames.len() as u64);
    let stored = stored_images(folder)?;
    let item = ItemBytes {
        stored: Bytes::new(stored.get() / num_frames),
        loaded: Bytes::new(frames.item_bytes(0)),
    };
    Ok(DataSource {
        kind: SourceKind::Frames,
        about: format!("{num_frames} frames of {height}×{width} pixels, as the first"),
        access: Access::Decoded,
        bytes: DatasetBytes::uniform(num_frames, item).with_stored(stored),
        items_seen: 1,
        notes: Vec::new(),
    })
}

/// Clips of the default length, of frames as large as the first.
///
/// Clips overlap, so all of them together take what their frames do.
pub(super) fn clips(root: &Path) -> Result<DataSource, SourceError> {
    // Where `ClipFolder` looks for videos.
    let inside = root.join("JPEGImages");
    let folder = if inside.is_dir() { &inside } else { root };
    let mut names = Contents::read(folder)?.folders;
    names.sort();
    let videos: Vec<_> = names.iter().map(|name| folder.join(name)).collect();
    let Some(first) = videos.first() else {
        return Err(FrameError::NoVideos { path: root.into() }.into());
    };
    let first = FrameFolder::open(first).map_err(|source| SourceError::NotVideos {
        path: root.into(),
        source,
    })?;
    let (height, width) = (first.height(), first.width());
    let config = ClipConfig::new(height, width);
    let clip_len = (config.num_local + config.num_reference) as u64;
    let clips = ClipFolder::open(root, config)?;

    let mut num_frames = 0;
    for video in &videos {
        num_frames += files_of(FileKind::Image, video)?.len() as u64;
    }
    let seen: Vec<_> = spread(videos.len()).map(|index| &videos[index]).collect();
    let stored = seen.iter().map(|video| stored_images(video));
    let stored: Bytes = stored.sum::<Result<_, _>>()?;
    let stored = Bytes::new(stored.get() / seen.len() as u64) * videos.len() as u64;
    let frame = ItemBytes {
        stored: Bytes::new(stored.get() / num_frames),
        loaded: Bytes::new(first.item_bytes(0)),
    };
    let clip = ItemBytes {
        loaded: Bytes::new(clips.item_bytes(0)),
        ..frame * clip_len
    };
    Ok(DataSource {
        kind: SourceKind::Clips,
        about: format!(
            "{} videos, {num_frames} frames of {height}×{width} pixels, as the first",
            videos.len()
        ),
        access: Access::Decoded,
        bytes: DatasetBytes::uniform(clips.len() as u64, clip)
            .with_stored(stored)
            .with_loaded(frame.loaded * num_frames),
        items_seen: 1,
        notes: vec![format!(
            "an item is a clip of {clip_len} frames; clips overlap, so keep frames and not clips"
        )],
    })
}

/// Images, each with its mask or all with the same.
pub(super) fn images_with_masks(images: &Path, masks: &Path) -> Result<DataSource, SourceError> {
    let pairs = ImageMaskFolder::open(images, masks)?;
    let stored_masks = if masks.is_file() {
        file_bytes(masks)?
    } else {
        stored_images(masks)?
    };
    let stored = stored_images(images)? + stored_masks;
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
    Ok(DataSource {
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
fn stored_images(folder: &Path) -> Result<Bytes, SourceError> {
    let files = files_of(FileKind::Image, folder)?;
    let (bytes, _) = sampled(files.len(), |index| {
        Ok(ItemBytes::default().with_stored(file_bytes(&files[index])?))
    })?;
    Ok(bytes.stored().unwrap_or(Bytes::ZERO))
}

/// A video, of which nothing is decoded.
pub(super) fn video(path: &Path) -> Result<DataSource, SourceError> {
    let video = VideoFile::open(path)?;
    let info = video.info();
    let (height, width) = (info.height as u64, info.width as u64);
    let stored = file_bytes(path)?;
    let declared = info.declared_frames.filter(|&number| number > 0);
    let frame = ItemBytes::image([3, height, width], DType::U8, DType::U8)
        .with_stored(Bytes::new(stored.get() / declared.unwrap_or(1)));
    let (number, note) = match declared {
        Some(number) => (
            number.to_string(),
            "the number of frames is what the file declares; counting decodes it all",
        ),
        None => (
            "an unknown number of".into(),
            "the file does not declare its frames; counting decodes it all",
        ),
    };
    Ok(DataSource {
        kind: SourceKind::Video,
        about: format!("{number} frames of {height}×{width} pixels"),
        access: Access::Streamed {
            record: frame.loaded,
        },
        bytes: DatasetBytes::sampled(declared, [frame]).with_stored(stored),
        items_seen: 1,
        notes: vec![
            note.into(),
            "extracted to a folder of frames, it is read in any order".into(),
        ],
    })
}
