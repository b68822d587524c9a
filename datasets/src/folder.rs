//! What is in a folder, by the names alone, and the order of names.

use std::{
    cmp::Ordering,
    io,
    path::{Path, PathBuf},
};

/// The kinds of files that data sets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A TIFF stack or image.
    Tiff,
    /// A PNG, JPEG, BMP, GIF or WebP image.
    Image,
    /// A video.
    Video,
    /// JSON Lines, compressed or not.
    Jsonl,
    /// Anything else, and hidden files.
    Other,
}

/// A folder could not be listed.
#[derive(thiserror::Error, Debug)]
#[error("cannot list the folder {path}", path = .path.display())]
pub struct FolderError {
    /// The folder.
    pub path: PathBuf,
    /// Why the system refused.
    #[source]
    pub source: io::Error,
}

impl FileKind {
    /// The kind that a file's name promises.
    ///
    /// # Example
    /// ```
    /// use burn_memopt_datasets::folder::FileKind;
    ///
    /// assert_eq!(FileKind::from_name("movie.ome.TIF".as_ref()), FileKind::Tiff);
    /// assert_eq!(FileKind::from_name(".hidden.png".as_ref()), FileKind::Other);
    /// ```
    pub fn from_name(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_ascii_lowercase();
        let ends_with = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if name.starts_with('.') {
            Self::Other
        } else if ends_with(&[".tif", ".tiff"]) {
            Self::Tiff
        } else if ends_with(&[".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp"]) {
            Self::Image
        } else if ends_with(&VIDEO_ENDINGS) {
            Self::Video
        } else if ends_with(&[".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"]) {
            Self::Jsonl
        } else {
            Self::Other
        }
    }
}

/// Whether a path has the name of a visible image; a TIFF file may be one.
pub(crate) fn is_image(path: &Path) -> bool {
    matches!(FileKind::from_name(path), FileKind::Image | FileKind::Tiff)
}

/// Names of the containers that people keep clips in; ffmpeg reads more.
const VIDEO_ENDINGS: [&str; 11] = [
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv",
];

/// The files of a folder that are named as `kind`, by name.
///
/// # Errors
/// If the folder cannot be listed.
pub fn files_of(kind: FileKind, folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let mut files = entries(folder)?;
    files.retain(|path| FileKind::from_name(path) == kind);
    files.sort();
    Ok(files)
}

/// Says which files of a folder of images are not read, by their names; `None` where there is none.
/// Hidden files and folders are not counted.
///
/// # Errors
/// If the folder cannot be listed.
///
/// # Example
/// ```
/// use burn_memopt_datasets::folder::unread_files;
///
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("a.png"), "")?;
/// std::fs::write(folder.path().join("b.heic"), "")?;
/// let note = unread_files(folder.path())?.unwrap();
/// assert!(note.ends_with("1 file is not read: b.heic"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unread_files(folder: &Path) -> Result<Option<String>, FolderError> {
    /// More names than these are only counted.
    const MAX_NAMES: usize = 5;
    let mut names: Vec<_> = entries(folder)?
        .into_iter()
        .filter(|path| !is_image(path) && !path.is_dir())
        .map(|path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    let named = names
        .iter()
        .take(MAX_NAMES)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    let folder = folder.display();
    Ok(match names.len() {
        0 => None,
        1 => Some(format!("{folder}: 1 file is not read: {named}")),
        len if len <= MAX_NAMES => Some(format!("{folder}: {len} files are not read: {named}")),
        len => Some(format!("{folder}: {len} files are not read: {named}, …")),
    })
}

/// The paths in a folder, in no order.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let list = || -> io::Result<_> {
        let entries = folder.read_dir()?;
        entries.map(|entry| Ok(entry?.path())).collect()
    };
    list().map_err(|source| FolderError {
        path: folder.into(),
        source,
    })
}

/// Compares two names in the order in which people count: `frame2` before `frame10`. Runs of
/// digits are numbers.
///
/// The crate `natord` differs: it skips spaces and reads digits after a zero as a fraction, so
/// `a02` comes before `a1`.
///
/// Names that differ only in leading zeros are ordered as text, so that the order
/// is total.
pub(crate) fn natural_cmp(left: &str, right: &str) -> Ordering {
    let (mut a, mut b) = (left, right);
    loop {
        let (Some(x), Some(y)) = (a.chars().next(), b.chars().next()) else {
            return a.len().cmp(&b.len()).then_with(|| left.cmp(right));
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (number, rest) = split_number(a);
            let (other, other_rest) = split_number(b);
            // Without leading zeros the longer number is the larger one.
            let order = number.len().cmp(&other.len()).then(number.cmp(other));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (rest, other_rest);
        } else if x == y {
            (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
        } else {
            return x.cmp(&y);
        }
    }
}

/// The leading digits without leading zeros, and what follows them.
fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (text[..end].trim_start_matches('0'), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_are_known_by_their_names_in_any_case() {
        for (name, kind) in [
            ("a.TIF", FileKind::Tiff),
            ("a.ome.tiff", FileKind::Tiff),
            ("a.JPEG", FileKind::Image),
            ("a.jfif", FileKind::Image),
            ("a.WebP", FileKind::Image),
            ("a.bmp", FileKind::Image),
            ("a.gif", FileKind::Image),
            ("a.mp4", FileKind::Video),
            ("a.jsonl.gz", FileKind::Jsonl),
            ("a.gz", FileKind::Other),
            (".a.png", FileKind::Other),
            ("tif", FileKind::Other),
        ] {
            assert_eq!(FileKind::from_name(Path::new(name)), kind, "{name}");
        }
    }

    #[test]
    fn numbers_count_and_text_spells() {
        let mut names = ["b1", "a10", "a2", "a", "a02b", "A3", "a2b"];
        names.sort_by(|left, right| natural_cmp(left, right));
        assert_eq!(names, ["A3", "a", "a2", "a02b", "a2b", "a10", "b1"]);
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[a0-2é]{0,6}", b in "[a0-2é]{0,6}", c in "[a0-2é]{0,6}") {
            prop_assert_eq!(natural_cmp(&a, &b), natural_cmp(&b, &a).reverse());
            prop_assert_eq!(natural_cmp(&a, &b) == Ordering::Equal, a == b);
            if natural_cmp(&a, &b).is_lt() && natural_cmp(&b, &c).is_lt() {
                prop_assert!(natural_cmp(&a, &c).is_lt());
            }
        }
    }
}
