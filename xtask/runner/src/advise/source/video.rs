//! Video files, through the `ffmpeg` program.

use std::path::Path;

use anyhow::Result;
use burn::tensor::DType;
use burn_memopt::memory::Bytes;
use burn_memopt::memory::advise::Access;
use burn_memopt::memory::estimate::{DatasetBytes, ItemBytes};
use burn_memopt_datasets::video::VideoFile;

use super::{Source, SourceKind, file_bytes};

/// A video, of which nothing is decoded.
pub(super) fn open(path: &Path) -> Result<Source> {
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
    Ok(Source {
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
