//! Files that get their name only when they are whole.

use std::{io, path::Path};

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
