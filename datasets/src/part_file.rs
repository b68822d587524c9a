//! Files that get their name only when they are whole.

use std::{
    fs::{self, File},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// A new file on the same disk as `path`, with an ordinary file's rights, that is
/// removed unless [`finish`] gives it its name.
pub(crate) fn create(path: &Path) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".unfinished-").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Moves a whole file to `path`, over an earlier one.
pub(crate) fn finish(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// An unfinished file that is removed when it is dropped, or kept to be gone on with.
#[derive(Debug)]
pub(crate) enum PartFile {
    /// Made by [`create`].
    Temporary(NamedTempFile),
    /// One of a name that the caller knows.
    Kept(File, PathBuf),
}

impl PartFile {
    pub(crate) fn as_file(&self) -> &File {
        match self {
            Self::Temporary(file) => file.as_file(),
            Self::Kept(file, _) => file,
        }
    }

    /// Moves the file, now whole, to `path`, over an earlier one.
    pub(crate) fn finish(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Temporary(file) => finish(file, path),
            Self::Kept(_, name) => fs::rename(name, path),
        }
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.as_file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.as_file().flush()
    }
}

impl Seek for PartFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.as_file().seek(to)
    }
}
