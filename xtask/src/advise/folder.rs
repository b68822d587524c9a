//! What lies in a folder, by the names alone.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

/// The kinds of files that data sets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Tiff,
    Image,
    Video,
    Jsonl,
    Other,
}

impl FileKind {
    /// The kind that a file's name promises.
    pub(super) fn of_name(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_ascii_lowercase();
        let ends_with = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        if name.starts_with('.') {
            Self::Other
        } else if ends_with(&[".tif", ".tiff", ".btf", ".tf8"]) {
            Self::Tiff
        } else if ends_with(&[".png", ".jpg", ".jpeg"]) {
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

/// Names of the containers that people keep clips in; ffmpeg reads more.
const VIDEO_ENDINGS: [&str; 11] = [
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv",
];

/// How many files of each kind a folder holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) tiffs: u64,
    pub(super) images: u64,
    pub(super) videos: u64,
    pub(super) jsonl: u64,
    pub(super) others: u64,
    /// Visible folders, by name.
    pub(super) folders: Vec<String>,
}

impl Contents {
    /// Lists a folder: one pass over the names, no file is opened.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let failed = || format!("cannot list the folder {}", folder.display());
        let mut contents = Self::default();
        for entry in folder.read_dir().with_context(failed)? {
            let path = entry.with_context(failed)?.path();
            contents.count(&path);
        }
        Ok(contents)
    }

    fn count(&mut self, path: &Path) {
        match FileKind::of_name(path) {
            FileKind::Tiff => self.tiffs += 1,
            FileKind::Image => self.images += 1,
            FileKind::Video => self.videos += 1,
            FileKind::Jsonl => self.jsonl += 1,
            // Only names that promise nothing cost a look at the entry.
            FileKind::Other if path.is_dir() => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if !name.starts_with('.') {
                    self.folders.push(name.into_owned());
                }
            }
            FileKind::Other => self.others += 1,
        }
    }

    /// Whether there is nothing at all, not even a file of no use.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Contents {
    /// `3 TIFF files, 1 video and 2 folders`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.tiffs, "TIFF file"),
            (self.images, "PNG or JPEG file"),
            (self.videos, "video"),
            (self.jsonl, "JSON Lines file"),
            (self.folders.len() as u64, "folder"),
            (self.others, "other file"),
        ];
        let parts: Vec<_> = counts
            .into_iter()
            .filter(|&(count, _)| count > 0)
            .map(|(count, name)| format!("{count} {name}{}", if count == 1 { "" } else { "s" }))
            .collect();
        match parts.split_last() {
            None => f.write_str("nothing"),
            Some((last, [])) => f.write_str(last),
            Some((last, rest)) => write!(f, "{} and {last}", rest.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names_in_any_case() {
        for (name, kind) in [
            ("a.TIF", FileKind::Tiff),
            ("a.ome.tiff", FileKind::Tiff),
            ("a.JPEG", FileKind::Image),
            ("a.mp4", FileKind::Video),
            ("a.jsonl.gz", FileKind::Jsonl),
            ("a.gz", FileKind::Other),
            (".a.png", FileKind::Other),
            ("tif", FileKind::Other),
        ] {
            assert_eq!(FileKind::of_name(Path::new(name)), kind, "{name}");
        }
    }

    #[test]
    fn contents_are_told_as_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let contents = || Contents::of(dir.path()).unwrap();
        assert!(contents().is_empty());
        for name in ["1.png", "2.jpg", "notes.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("masks")).unwrap();
        let told = contents().to_string();
        assert_eq!(told, "2 PNG or JPEG files, 1 folder and 1 other file");
        assert_eq!(contents().folders, ["masks"]);
    }

    #[test]
    fn a_hidden_file_is_not_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".DS_Store"), "").unwrap();
        assert!(!Contents::of(dir.path()).unwrap().is_empty());
    }
}
