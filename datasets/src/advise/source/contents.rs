//! How many files of which kind a folder holds.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::folder::{FileKind, FolderError, entries};

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
    /// The video or JSON Lines file that was seen last.
    file: Option<PathBuf>,
}

impl Contents {
    /// Lists a folder: one pass over the names, no file is opened.
    pub(super) fn read(folder: &Path) -> Result<Self, FolderError> {
        let mut contents = Self::default();
        for path in entries(folder)? {
            contents.count(&path);
        }
        Ok(contents)
    }

    fn count(&mut self, path: &Path) {
        match FileKind::from_name(path) {
            FileKind::Tiff => self.tiffs += 1,
            FileKind::Image => self.images += 1,
            FileKind::Video => {
                self.videos += 1;
                self.file = Some(path.into());
            }
            FileKind::Jsonl => {
                self.jsonl += 1;
                self.file = Some(path.into());
            }
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

    /// Whether there are TIFF files, images, videos and JSON Lines.
    pub(super) fn kinds(&self) -> [bool; 4] {
        [self.tiffs, self.images, self.videos, self.jsonl].map(|count| count > 0)
    }

    /// The one video or JSON Lines file next to which no other file is data. Folders may be: images
    /// are next to the questions about them.
    pub(super) fn only_file(&self) -> Option<&Path> {
        let is_only = self.tiffs + self.images == 0 && self.videos + self.jsonl == 1;
        self.file.as_deref().filter(|_| is_only)
    }

    /// The folders of images and of their masks, where these are named so.
    pub(super) fn images_and_masks(&self) -> Option<(&str, &str)> {
        if self.kinds() != [false; 4] {
            return None;
        }
        let find = |names: &[&str]| {
            let is_named = |folder: &&String| names.contains(&folder.to_ascii_lowercase().as_str());
            self.folders.iter().find(is_named).map(String::as_str)
        };
        Some((find(&["images", "frames"])?, find(&["masks"])?))
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
    fn contents_are_told_as_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let contents = || Contents::read(dir.path()).unwrap();
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
    fn folders_named_so_are_images_with_their_masks() {
        let mut contents = Contents {
            folders: vec!["Masks".into(), "frames".into()],
            ..Contents::default()
        };
        assert_eq!(contents.images_and_masks(), Some(("frames", "Masks")));
        contents.folders.pop();
        assert_eq!(contents.images_and_masks(), None);
    }

    #[test]
    fn a_single_file_of_records_stands_for_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name| std::fs::write(dir.path().join(name), "").unwrap();
        let only = || {
            let contents = Contents::read(dir.path()).unwrap();
            contents
                .only_file()
                .map(|file| file.file_name().unwrap().to_owned())
        };
        write("train.jsonl");
        write("README.txt");
        std::fs::create_dir(dir.path().join("images")).unwrap();
        assert_eq!(only(), Some("train.jsonl".into()));
        write("test.jsonl");
        assert_eq!(only(), None);
    }

    #[test]
    fn a_hidden_file_is_not_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".DS_Store"), "").unwrap();
        assert!(!Contents::read(dir.path()).unwrap().is_empty());
    }
}
