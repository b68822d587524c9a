//! What a path holds, found out by its content, and what that takes.

mod clips;
mod pictures;
mod stack;
mod text;
mod video;

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use burn_memopt::memory::Bytes;
use burn_memopt::memory::advise::Access;
use burn_memopt::memory::estimate::{DatasetBytes, ItemBytes};
use serde::Serialize;

use super::folder::{Contents, FileKind};
use crate::cli::AdviseArgs;
use crate::settings::UsageError;

/// Bytes of a file that are looked at to know its kind.
const START_LEN: u64 = 512;
/// Items whose headers are read at the most.
const MAX_SEEN: usize = 64;

/// What can be read, for whoever gave something else.
const READABLE: &str = "what is read: TIFF stacks and folders of them (.tif, .tiff); folders of PNG or JPEG \
    frames, and folders of such folders; folders of images with --masks; videos (.mp4 and others, \
    through ffmpeg); JSON Lines, also with images (.jsonl, .jsonl.gz)";

/// The data sets that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SourceKind {
    TiffStack,
    CountedStack,
    TiffSequence,
    Frames,
    Clips,
    ImageMask,
    Video,
    Jsonl,
    Vqa,
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TiffStack => "TIFF stack",
            Self::CountedStack => "TIFF stack with emitter positions",
            Self::TiffSequence => "folder of TIFF files",
            Self::Frames => "folder of frames",
            Self::Clips => "folder of frame folders",
            Self::ImageMask => "images with masks",
            Self::Video => "video",
            Self::Jsonl => "JSON Lines",
            Self::Vqa => "questions about images",
        })
    }
}

/// A data set, as far as names, headers and index tell.
#[derive(Debug, Serialize)]
pub(super) struct Source {
    pub(super) kind: SourceKind,
    /// What it consists of, for people.
    pub(super) about: String,
    pub(super) access: Access,
    pub(super) bytes: DatasetBytes,
    /// Items of which a header was read, or that are known to be like one of them.
    pub(super) items_seen: u64,
    /// What else is worth knowing.
    pub(super) notes: Vec<String>,
}

impl Source {
    /// Finds out what `--data` is and opens it.
    pub(super) fn open(args: &AdviseArgs) -> Result<Self> {
        let path = &args.data;
        let metadata = fs::metadata(path).with_context(|| {
            format!(
                "cannot look at {}; check that it exists and may be read",
                path.display()
            )
        })?;
        match metadata.is_dir() {
            true => open_folder(path, args),
            false if metadata.is_file() => open_file(path, args),
            false => bail!("{} is neither a file nor a folder", path.display()),
        }
    }
}

fn open_folder(path: &Path, args: &AdviseArgs) -> Result<Source> {
    let shown = path.display();
    refuse(&args.targets, "--targets", "a TIFF stack", path)?;
    if let Some(masks) = &args.masks {
        return pictures::with_masks(path, masks);
    }
    let contents = Contents::of(path)?;
    if let Some(file) = contents.only_file() {
        return open_file(file, args);
    }
    refuse(&args.images, "--images", "JSON Lines", path)?;
    if let Some((images, masks)) = contents.images_and_masks() {
        return pictures::with_masks(&path.join(images), &path.join(masks));
    }
    match contents.kinds() {
        [true, false, false, false] => stack::open_folder(path),
        [false, true, false, false] => pictures::frames(path),
        [false, false, false, false] if !contents.folders.is_empty() => clips::open(path),
        [false, false, false, false] if contents.is_empty() => {
            bail!("the folder {shown} is empty; {READABLE}")
        }
        [false, false, false, false] => {
            bail!("{shown} holds {contents}, nothing that is read; {READABLE}")
        }
        _ => bail!("{shown} holds {contents}: several data sets; give the path of one of them"),
    }
}

fn open_file(path: &Path, args: &AdviseArgs) -> Result<Source> {
    let shown = path.display();
    refuse(&args.masks, "--masks", "a folder of images", path)?;
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
    file.take(START_LEN)
        .read_to_end(&mut start)
        .with_context(|| format!("cannot read {shown}"))?;
    if start.is_empty() {
        bail!("the file {shown} is empty; {READABLE}");
    }
    let named = FileKind::of_name(path);
    // A file that is named so is opened so: its reader says best what is wrong with it.
    if named == FileKind::Jsonl || is_text(&start) {
        refuse(&args.targets, "--targets", "a TIFF stack", path)?;
        return text::open(path, &start, args.images.as_deref());
    }
    refuse(&args.images, "--images", "JSON Lines", path)?;
    if named == FileKind::Tiff || is_tiff(&start) {
        return stack::open(path, args.targets.as_deref());
    }
    refuse(&args.targets, "--targets", "a TIFF stack", path)?;
    match named {
        FileKind::Video => video::open(path),
        FileKind::Image => bail!("{shown} is a single image; give the folder that it lies in"),
        _ => bail!("cannot tell what {shown} is; {READABLE}"),
    }
}

/// Whether a file begins as JSON Lines do, compressed or not.
fn is_text(start: &[u8]) -> bool {
    let without_mark = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    is_gzip(start) || without_mark.trim_ascii_start().starts_with(b"{")
}

fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b])
}

fn is_tiff(start: &[u8]) -> bool {
    let magics = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];
    magics.iter().any(|magic| start.starts_with(*magic))
}

/// Refuses a flag that does not belong to this kind of data.
fn refuse(
    flag: &Option<impl Sized>,
    name: &str,
    belongs_to: &str,
    path: &Path,
) -> Result<(), UsageError> {
    match flag {
        None => Ok(()),
        Some(_) => Err(UsageError(format!(
            "{name} belongs to {belongs_to}, which {} is not; leave it out",
            path.display()
        ))),
    }
}

/// Length of a file in bytes.
fn file_bytes(path: &Path) -> Result<Bytes> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()));
    Ok(Bytes::new(metadata?.len()))
}

/// Up to [`MAX_SEEN`] items of `len`, evenly spread.
fn spread(len: usize) -> impl Iterator<Item = usize> {
    let seen = len.min(MAX_SEEN);
    // Two factors of at most 64 and a length: no overflow below 2^57 items.
    (0..seen).map(move |number| number * len / seen)
}

/// The data set that a sample of its items stands for, and how many were looked at.
fn sampled(len: usize, item: impl Fn(usize) -> Result<ItemBytes>) -> Result<(DatasetBytes, u64)> {
    let seen: Vec<_> = spread(len).map(item).collect::<Result<_>>()?;
    let num_seen = seen.len() as u64;
    Ok((DatasetBytes::sampled(len as u64, seen), num_seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_evenly_and_never_repeats() {
        assert_eq!(spread(0).count(), 0);
        assert_eq!(spread(3).collect::<Vec<_>>(), [0, 1, 2]);
        let wide: Vec<_> = spread(6400).collect();
        assert_eq!(wide.len(), MAX_SEEN);
        assert!(wide.windows(2).all(|pair| pair[1] - pair[0] == 100));
    }

    #[test]
    fn json_lines_are_known_behind_blanks_marks_and_compression() {
        for start in [
            &b"{}"[..],
            b" \r\n {",
            b"\xef\xbb\xbf{\"a\": 1}",
            b"\x1f\x8b\x08",
        ] {
            assert!(is_text(start), "{start:?}");
        }
        assert!(!is_text(b"frame,x,y") && !is_text(b"[1, 2]") && !is_text(b"  "));
    }

    #[test]
    fn both_byte_orders_and_sizes_of_tiff_are_known_by_their_first_bytes() {
        for start in [&b"II*\0...."[..], b"MM\0*....", b"II+\0....", b"MM\0+...."] {
            assert!(is_tiff(start));
        }
        assert!(!is_tiff(b"II") && !is_tiff(b"\x89PNG"));
    }
}
