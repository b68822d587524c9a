use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file whole or not at all: into a temporary file beside it, which then takes its name.
///
/// Interrupted or failing half-way, it leaves an earlier file of that name as it was.
pub(super) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = beside(path)?;
    let written = write_and_rename(&temporary, path, write);
    if written.is_err() {
        // Nothing to add to the error that is about to be reported.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_and_rename(
    temporary: &Path,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(temporary)?);
    write(&mut out)?;
    // Synchronised before the rename: after a power cut the name must not lead to an empty file.
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()?;
    fs::rename(temporary, path)
}

/// A hidden name in the same folder, since a rename across file systems would copy.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_failing_write_leaves_the_earlier_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.csv");
        write_whole(&path, |out| out.write_all(b"first")).unwrap();

        let error = write_whole(&path, |out| {
            out.write_all(b"half of the sec")?;
            Err(io::Error::other("interrupted"))
        });

        assert_eq!(error.unwrap_err().to_string(), "interrupted");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names_in(folder.path()), ["memory.csv"]);
    }

    #[test]
    fn a_second_write_replaces_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.csv");
        write_whole(&path, |out| out.write_all(b"a long first text")).unwrap();
        write_whole(&path, |out| out.write_all(b"second")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names_in(folder.path()), ["memory.csv"]);
    }

    #[test]
    fn a_path_without_a_file_name_is_refused() {
        let error = write_whole(Path::new("/"), |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
