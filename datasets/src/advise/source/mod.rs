//! What a path holds, found out by its content, and what that takes.

mod contents;
mod readers;
mod text;

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use burn_memopt::memory::Bytes;
use serde::Serialize;

use super::{Access, DatasetBytes, ItemBytes};
use crate::{
    counting::CountError,
    folder::{FileKind, FolderError},
    jsonl::{JsonlError, VqaError},
    masks::ImageMaskError,
    tiff::TiffStackError,
    video::{FrameError, VideoError},
};
use contents::Contents;

/// Bytes of a file that are looked at to know its kind.
const START_LEN: u64 = 512;
/// Items whose headers are read at the most.
const MAX_SEEN: usize = 64;

/// What can be read, for messages about anything else.
const READABLE: &str = "what is read: TIFF stacks and folders of them (.tif, .tiff); folders of PNG or JPEG \
    frames, and folders of such folders; folders of images with --masks; videos (.mp4 and others, \
    through ffmpeg); JSON Lines, also with images (.jsonl, .jsonl.gz)";

/// The data sets that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SourceKind {
    /// A [`TiffStack`](crate::tiff::TiffStack).
    TiffStack,
    /// A [`CountDataset`](crate::counting::CountDataset).
    CountedStack,
    /// A [`TiffSequence`](crate::tiff::TiffSequence).
    TiffSequence,
    /// A [`FrameFolder`](crate::video::FrameFolder).
    Frames,
    /// A [`ClipFolder`](crate::video::ClipFolder).
    Clips,
    /// An [`ImageMaskFolder`](crate::masks::ImageMaskFolder).
    ImageMask,
    /// A [`VideoFile`](crate::video::VideoFile).
    Video,
    /// A [`JsonlDataset`](crate::jsonl::JsonlDataset) or [`JsonlStream`](crate::jsonl::JsonlStream).
    Jsonl,
    /// A [`VqaDataset`](crate::jsonl::VqaDataset) or [`VqaStream`](crate::jsonl::VqaStream).
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

/// Files that belong to a data set and are not found by its path.
#[derive(Clone, Copy, Debug, Default)]
pub struct Companions<'a> {
    /// The table of emitters of a TIFF stack.
    pub targets: Option<&'a Path>,
    /// The side of a pixel in nanometres, for a table in nanometres.
    pub pixel_size: Option<f64>,
    /// The masks of a folder of images, or one for all.
    pub masks: Option<&'a Path>,
    /// The folder that the images of JSON Lines start from.
    pub images: Option<&'a Path>,
}

/// A data set, as far as names, headers and index show.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("movie.tif");
/// use burn_memopt::memory::Bytes;
/// use burn_memopt_datasets::{
///     advise::{Advisor, Companions, DataSource, Loading},
///     tiff::TiffStackWriter,
/// };
///
/// let mut writer = TiffStackWriter::create(&path, 8, 8)?;
/// writer.write_frame(&[7u16; 64])?;
/// writer.finish()?;
///
/// let movie = DataSource::open(&path, Companions::default())?;
/// let advisor = Advisor::new().with_free_memory(Bytes::gib(1)).with_cores(4);
/// let advice = advisor.advise(&movie.bytes, movie.access)?;
/// assert_eq!(advice.loading.value, Loading::Preload);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct DataSource {
    /// What it is.
    pub kind: SourceKind,
    /// What it consists of, for people.
    pub about: String,
    /// How its items are reached.
    pub access: Access,
    /// What it takes.
    pub bytes: DatasetBytes,
    /// Items of which a header was read, or that are known to be like one of them.
    pub items_seen: u64,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// Why it could not be found out what a path holds.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum SourceError {
    /// A file or folder is missing.
    #[error("cannot look at {path}; check that it exists and may be read", path = .path.display())]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {path}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// There is no data set of a known kind, or more than one.
    #[error("{0}")]
    NoDataset(String),
    /// A companion was given that does not belong to the data set.
    #[error("`{companion}` {why}; leave it out")]
    Companion {
        /// The field of [`Companions`].
        companion: &'static str,
        /// What it belongs to, and what the data set is not.
        why: String,
    },
    /// A folder of folders does not hold videos.
    #[error("{path} holds folders and no data of its own, so each should be a video of PNG or JPEG frames", path = .path.display())]
    NotVideos {
        /// The folder.
        path: PathBuf,
        /// What is wrong with the first.
        #[source]
        source: FrameError,
    },
    /// A folder cannot be listed.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A TIFF stack cannot be read.
    #[error(transparent)]
    Stack(#[from] TiffStackError),
    /// A table does not belong to its stack.
    #[error(transparent)]
    Count(#[from] CountError),
    /// Frames cannot be read.
    #[error(transparent)]
    Frames(#[from] FrameError),
    /// Images and masks cannot be read.
    #[error(transparent)]
    ImageMask(#[from] ImageMaskError),
    /// A video cannot be read.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// JSON Lines cannot be read.
    #[error(transparent)]
    Jsonl(#[from] JsonlError),
    /// Questions cannot be read.
    #[error(transparent)]
    Vqa(#[from] VqaError),
}

impl DataSource {
    /// Finds out what is at `path` and opens it; reads headers and, of JSON Lines, the front.
    ///
    /// # Errors
    /// If nothing is there, it is damaged or of no known kind, or a companion does not belong to it.
    pub fn open(path: impl AsRef<Path>, companions: Companions<'_>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let metadata = fs::metadata(path).map_err(|source| SourceError::Missing {
            path: path.into(),
            source,
        })?;
        if metadata.is_dir() {
            open_folder(path, companions)
        } else if metadata.is_file() {
            open_file(path, companions)
        } else {
            Err(SourceError::NoDataset(format!(
                "{} is neither a file nor a folder",
                path.display()
            )))
        }
    }
}

fn open_folder(path: &Path, companions: Companions<'_>) -> Result<DataSource, SourceError> {
    let shown = path.display();
    if let Some(masks) = companions.masks {
        return readers::images_with_masks(path, masks);
    }
    let contents = Contents::read(path)?;
    if let Some(file) = contents.only_file() {
        return open_file(file, companions);
    }
    refuse(companions.images, "images", "JSON Lines", path)?;
    if contents.kinds() == [true, false, false, false] {
        return readers::stack_folder(path, companions);
    }
    refuse(companions.targets, "targets", "TIFF stacks", path)?;
    if let Some((images, masks)) = contents.images_and_masks() {
        return readers::images_with_masks(&path.join(images), &path.join(masks));
    }
    Err(SourceError::NoDataset(match contents.kinds() {
        [false, true, false, false] => return readers::frames(path),
        [false, false, false, false] if !contents.folders.is_empty() => {
            return readers::clips(path);
        }
        [false, false, false, false] if contents.is_empty() => {
            format!("the folder {shown} is empty; {READABLE}")
        }
        [false, false, false, false] => {
            format!("{shown} holds {contents}, nothing that is read; {READABLE}")
        }
        _ => format!("{shown} holds {contents}: several data sets; give the path of one of them"),
    }))
}

fn open_file(path: &Path, companions: Companions<'_>) -> Result<DataSource, SourceError> {
    let shown = path.display();
    refuse(companions.masks, "masks", "a folder of images", path)?;
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START_LEN).read_to_end(&mut start));
    read.map_err(|source| SourceError::Unreadable {
        path: path.into(),
        source,
    })?;
    if start.is_empty() {
        let message = format!("the file {shown} is empty; {READABLE}");
        return Err(SourceError::NoDataset(message));
    }
    let named = FileKind::from_name(path);
    // A file that is named so is opened so: its reader says best what is wrong with it.
    if named == FileKind::Jsonl || is_text(&start) {
        refuse(companions.targets, "targets", "a TIFF stack", path)?;
        return text::open(path, is_gzip(&start), companions.images);
    }
    refuse(companions.images, "images", "JSON Lines", path)?;
    if named == FileKind::Tiff || is_tiff(&start) {
        return readers::stack(path, companions);
    }
    refuse(companions.targets, "targets", "a TIFF stack", path)?;
    if first_character(&start) == Some(b'[') {
        return Err(JsonlError::JsonArray { path: path.into() }.into());
    }
    Err(SourceError::NoDataset(match named {
        FileKind::Video => return readers::video(path),
        FileKind::Image => format!("{shown} is a single image; give the folder that it is in"),
        _ => format!("cannot tell what {shown} is; {READABLE}"),
    }))
}

/// Whether a file begins as JSON Lines do, compressed or not.
fn is_text(start: &[u8]) -> bool {
    is_gzip(start) || first_character(start) == Some(b'{')
}

/// The first character that is no space, after a byte-order mark if there is one.
fn first_character(start: &[u8]) -> Option<u8> {
    let without_mark = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    without_mark.trim_ascii_start().first().copied()
}

fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b])
}

fn is_tiff(start: &[u8]) -> bool {
    let magics = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];
    magics.iter().any(|magic| start.starts_with(*magic))
}

/// Refuses a companion that does not belong to this kind of data.
fn refuse(
    given: Option<&Path>,
    companion: &'static str,
    belongs_to: &str,
    path: &Path,
) -> Result<(), SourceError> {
    match given {
        None => Ok(()),
        Some(_) => Err(SourceError::Companion {
            companion,
            why: format!("belongs to {belongs_to}, which {} is not", path.display()),
        }),
    }
}

/// Length of a file in bytes.
fn file_bytes(path: &Path) -> Result<Bytes, SourceError> {
    let metadata = fs::metadata(path).map_err(|source| SourceError::Missing {
        path: path.into(),
        source,
    })?;
    Ok(Bytes::new(metadata.len()))
}

/// Up to [`MAX_SEEN`] items of `len`, evenly spread.
fn spread(len: usize) -> impl Iterator<Item = usize> {
    let seen = len.min(MAX_SEEN);
    // Two factors of at most 64 and a length: no overflow below 2^57 items.
    (0..seen).map(move |number| number * len / seen)
}

/// The data set that a sample of its items represents, and how many were looked at.
fn sampled(
    len: usize,
    item: impl Fn(usize) -> Result<ItemBytes, SourceError>,
) -> Result<(DatasetBytes, u64), SourceError> {
    let seen: Vec<_> = spread(len).map(item).collect::<Result<_, _>>()?;
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
