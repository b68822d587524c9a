use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use super::{PART_PREFIX, PARTIAL_PREFIX, REPLACED_PREFIX, folder_of, remove_folder, sibling};

/// Removes the temporary files that killed processes left for the file `target`. Files that a
/// process is writing now stay.
///
/// # Errors
/// If the folder cannot be listed, or a file in it not be removed; a folder that is not there holds
/// none.
///
/// # Example
/// ```
/// use std::fs;
///
/// use burn_memopt::files;
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("frame.png");
/// // As process 7 leaves it if it is killed while it writes.
/// for left in [".part-7-0-frame.png", ".part-7-1-.part-7-0-frame.png"] {
///     let left = folder.path().join(left);
///     fs::write(&left, "half of a fra")?;
///     files::remove_leftovers(&path)?;
///     assert!(!left.exists());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn remove_leftovers(target: impl AsRef<Path>) -> io::Result<()> {
    let target = target.as_ref();
    let Some(name) = target.file_name() else {
        return Ok(());
    };
    remove(folder_of(target), |of| of == name.as_encoded_bytes())
}

/// As [`remove_leftovers`], for every target in a folder that nobody else writes to.
///
/// # Errors
/// As [`remove_leftovers`].
pub fn remove_leftovers_in(folder: impl AsRef<Path>) -> io::Result<()> {
    remove(folder.as_ref(), |_| true)
}

fn remove(folder: &Path, is_meant: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    let entries = match folder.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_temporary = target_of(&name).is_some_and(&is_meant) && entry.file_type()?.is_file();
        if is_temporary && !is_in_use(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The name of the target that a temporary file is named after: `a.png` for `.part-12-3-a.png`, and for
/// `.part-12-4-.part-12-3-a.png`, which a writer leaves that was given a temporary file as its target.
fn target_of(name: &OsStr) -> Option<&[u8]> {
    let mut target = None;
    let mut name = name.as_encoded_bytes();
    while let Some(inner) = without_prefix(name) {
        (target, name) = (Some(inner), inner);
    }
    target
}

fn without_prefix(name: &[u8]) -> Option<&[u8]> {
    let name = name.strip_prefix(PART_PREFIX.as_bytes())?;
    let (_process, name) = split_number(name)?;
    let (_number, name) = split_number(name)?;
    Some(name).filter(|name| !name.is_empty())
}

/// `12-abc` -> `12`, `abc`
fn split_number(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let rest = text[len..].strip_prefix(b"-")?;
    (len > 0).then_some((&text[..len], rest))
}

/// Marks a temporary file as one that this process writes, as long as it is open.
///
/// On Windows a lock would keep others, such as a library that writes to the path, from the file.
pub(super) fn mark_in_use(file: &File) {
    if cfg!(unix) {
        // Where the file system has no locks, one process at a time may write a target.
        let _ = file.try_lock();
    }
}

/// Whether a process writes the file now. Its id would not say so: another process may have it
/// after a restart.
fn is_in_use(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    cfg!(unix) && matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// As [`recover_folders_in`], for one target.
///
/// # Errors
/// If a folder cannot be renamed or removed.
pub(super) fn recover_folder(target: impl AsRef<Path>) -> io::Result<()> {
    let target = target.as_ref();
    let replaced = sibling(target, REPLACED_PREFIX)?;
    if !target.exists() && replaced.is_dir() {
        fs::rename(&replaced, target)?;
    }
    remove_folder(&replaced)?;
    remove_folder(&sibling(target, PARTIAL_PREFIX)?)
}

/// Puts folders back that [`write_folder`](super::write_folder) was about to replace when its process
/// was killed, and removes what it left unfinished: every target in `parent` whose name `is_meant`.
///
/// # Errors
/// If `parent` cannot be listed, or a folder cannot be renamed or removed.
pub fn recover_folders_in(
    parent: impl AsRef<Path>,
    is_meant: impl Fn(&str) -> bool,
) -> io::Result<()> {
    let parent = parent.as_ref();
    for folder in parent.read_dir()? {
        let name = folder?.file_name();
        let name = name.to_string_lossy();
        let mut prefixes = [PARTIAL_PREFIX, REPLACED_PREFIX].into_iter();
        let target = prefixes.find_map(|prefix| name.strip_prefix(prefix));
        if let Some(target) = target.filter(|target| is_meant(target)) {
            recover_folder(parent.join(target))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{PartFile, write_folder};

    #[test]
    fn only_temporary_files_of_the_target_that_nobody_writes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let kept = [
            "a.png",
            ".part-1-2-b.png",
            ".part-1-a.png",
            ".part--2-a.png",
            ".part-x-2-a.png",
            "part-1-2-a.png",
        ];
        for name in kept.iter().chain(&[".part-1-2-a.png", ".part-37-0-a.png"]) {
            fs::write(path(name), "").unwrap();
        }
        fs::create_dir(path(".part-1-3-a.png")).unwrap();
        let writing = PartFile::create(path("a.png")).unwrap();
        remove_leftovers(path("a.png")).unwrap();
        for name in kept.iter().chain(&[".part-1-3-a.png"]) {
            assert!(path(name).exists(), "{name}");
        }
        assert!(!path(".part-1-2-a.png").exists() && !path(".part-37-0-a.png").exists());
        if cfg!(unix) {
            assert!(writing.path().exists());
            writing.finish().unwrap();
        }
        remove_leftovers_in(folder.path()).unwrap();
        assert!(!path(".part-1-2-b.png").exists() && path(".part-1-a.png").exists());
        remove_leftovers(path("nowhere/a.png")).unwrap();
    }

    #[test]
    fn a_folder_between_its_two_renames_is_put_back() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let fill = |name: &str, text: &str| {
            fs::create_dir_all(path(name)).unwrap();
            fs::write(path(name).join("model"), text).unwrap();
        };
        let read = || fs::read_to_string(path("state/model")).unwrap();
        fill("replaced-state", "old");
        fill("partial-state", "half");
        recover_folder(path("state")).unwrap();
        assert_eq!(read(), "old");
        fill("replaced-state", "older");
        recover_folder(path("state")).unwrap();
        assert_eq!(
            (read(), root.path().read_dir().unwrap().count()),
            ("old".into(), 1)
        );

        fs::rename(path("state"), path("replaced-state")).unwrap();
        recover_folders_in(root.path(), |name| name != "state").unwrap();
        assert!(path("replaced-state").exists());
        recover_folders_in(root.path(), |name| name == "state").unwrap();
        assert_eq!(read(), "old");

        // Writing again does not lose what is only there under the other name.
        fs::rename(path("state"), path("replaced-state")).unwrap();
        let failing = |_: &Path| Err(io::Error::other("the disk is full"));
        write_folder(path("state"), failing).unwrap_err();
        assert_eq!(read(), "old");
    }
}
