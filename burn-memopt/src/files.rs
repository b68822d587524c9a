//! Files and folders that are saved whole or not at all, and a stamp that shows a change.
//!
//! | to save | use |
//! |---|---|
//! | what is written in one go | [`write()`] |
//! | what another library writes to a path | [`write_with_path`], [`write_folder`] |
//! | what is written piece by piece | [`PartFile::create`] |
//! | the same, continued by a later process | [`PartFile::resume`] |
//!
//! All of them write under a temporary name in the folder of the target, sync it to the disk, rename
//! it and sync the folder. A process that is killed, a full disk or a power cut leaves either the
//! earlier file or the new one, never a part of it. After an error the temporary file is removed;
//! that of a killed process is removed by [`remove_leftovers`], and a folder by [`recover_folders_in`].

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use leftovers::recover_folder;
pub use leftovers::{recover_folders_in, remove_leftovers, remove_leftovers_in};

mod leftovers;
#[cfg(test)]
mod tests;

/// What the name of a temporary file begins with; the id of its process, a number and the name of
/// the target follow.
const PART_PREFIX: &str = ".part-";
/// What the name of a folder begins with that is being filled.
const PARTIAL_PREFIX: &str = "partial-";
/// What the name of a folder begins with that a new one is taking the place of.
const REPLACED_PREFIX: &str = "replaced-";

/// Writes a file whole or not at all.
///
/// # Errors
/// If `write` or the disk fails; an earlier file is left as it was.
///
/// # Example
/// ```
/// use burn_memopt::files;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("losses.csv");
/// files::write(&path, |out| writeln!(out, "step,loss"))?;
/// assert_eq!(std::fs::read_to_string(&path)?, "step,loss\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn write(
    target: impl AsRef<Path>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::new(PartFile::create(target)?);
    write(&mut out)?;
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .finish()
}

/// Like [`write()`], for code that opens a path itself: `write` is given a new path with the extension
/// of `target`.
///
/// # Errors
/// If `write` or the disk fails; an earlier file is left as it was.
pub fn write_with_path<E: From<io::Error>>(
    target: impl AsRef<Path>,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let part = PartFile::create(target)?;
    write(part.path())?;
    Ok(part.finish()?)
}

/// Like [`write_with_path`], for a folder: `write` is given an empty folder to fill, which then takes
/// the place of `target`.
///
/// One process at a time may write a target. What an earlier one left unfinished is removed. A folder
/// that is replaced takes two renames: a process that is killed between them leaves the earlier
/// one as `replaced-NAME` and nothing at `target`, until [`recover_folders_in`] puts it back.
///
/// # Errors
/// If `write` or the disk fails; an earlier folder is left as it was.
pub fn write_folder<E: From<io::Error>>(
    target: impl AsRef<Path>,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let target = target.as_ref();
    let part = sibling(target, PARTIAL_PREFIX)?;
    let replaced = sibling(target, REPLACED_PREFIX)?;
    recover_folder(target)?;
    let written = (|| {
        fs::create_dir(&part)?;
        write(&part)?;
        // A folder that is not empty cannot be renamed over.
        if target.exists() {
            fs::rename(target, &replaced)?;
        }
        Ok(move_into_place(&part, target)?)
    })();
    if written.is_err() {
        // The error of writing is the one to report.
        if !target.exists() {
            let _ = fs::rename(&replaced, target);
        }
        let _ = remove_folder(&part);
        return written;
    }
    Ok(remove_folder(&replaced)?)
}

/// Syncs a file, or a folder with everything in it, and renames it to `target` on the same disk, over
/// an earlier file.
///
/// # Errors
/// If the disk fails, or a folder that is not empty is at `target`.
pub fn move_into_place(part: impl AsRef<Path>, target: impl AsRef<Path>) -> io::Result<()> {
    let (part, target) = (part.as_ref(), target.as_ref());
    // Before the rename: after a power cut the name must not lead to an empty file.
    sync(part)?;
    fs::rename(part, target)?;
    sync_folder(folder_of(target))
}

/// A file that gets its name only when it is whole.
///
/// # Example
/// ```
/// use std::io::Write;
///
/// use burn_memopt::files::PartFile;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("frame.png");
/// let mut file = PartFile::create(&path)?;
/// file.write_all(b"pixels")?;
/// assert!(!path.exists());
/// file.finish()?;
/// assert_eq!(std::fs::read(&path)?, b"pixels");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct PartFile {
    file: File,
    part: PathBuf,
    target: PathBuf,
    is_temporary: bool,
}

impl PartFile {
    /// A new file with a hidden temporary name in the folder of `target`, open for reading and
    /// writing. It is removed when it is dropped before [`finish`](Self::finish).
    ///
    /// # Errors
    /// If `target` names no file or its folder cannot be written to.
    pub fn create(target: impl AsRef<Path>) -> io::Result<Self> {
        static NUM_CREATED: AtomicU64 = AtomicU64::new(0);
        let target = target.as_ref();
        loop {
            let number = NUM_CREATED.fetch_add(1, Ordering::Relaxed);
            let id = process::id();
            let part = sibling(target, &format!("{PART_PREFIX}{id}-{number}-"))?;
            // Never a file or a link that is there already, such as that of a killed process.
            match open_options().create_new(true).open(&part) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => {
                    let file = opened?;
                    leftovers::mark_in_use(&file);
                    return Ok(Self {
                        file,
                        part,
                        target: target.into(),
                        is_temporary: true,
                    });
                }
            }
        }
    }

    /// The file at `part`, with what an earlier process wrote to it, or a new one. It is left there
    /// when it is dropped before [`finish`](Self::finish).
    ///
    /// # Errors
    /// If the file cannot be opened or created.
    pub fn resume(target: impl Into<PathBuf>, part: impl Into<PathBuf>) -> io::Result<Self> {
        let part = part.into();
        Ok(Self {
            file: open_options().create(true).truncate(false).open(&part)?,
            part,
            target: target.into(),
            is_temporary: false,
        })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path until the file is finished.
    pub fn path(&self) -> &Path {
        &self.part
    }

    /// Gives the file its name, over an earlier one.
    ///
    /// # Errors
    /// If the file cannot be synced or renamed; an earlier file is left as it was.
    pub fn finish(mut self) -> io::Result<()> {
        move_into_place(&self.part, &self.target)?;
        self.is_temporary = false;
        Ok(())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if self.is_temporary {
            // Nothing to add to the error that is being reported.
            let _ = fs::remove_file(&self.part);
        }
    }
}

impl Read for PartFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for PartFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Length and modification time of a file: a file that changed has another stamp, unless it kept its
/// length and was written within the resolution of the file system's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileStamp {
    /// Length in bytes.
    pub len: u64,
    /// Time of the last modification since 1970; zero before.
    pub modified: Duration,
}

impl FileStamp {
    /// The stamp of the file at `path`.
    ///
    /// # Errors
    /// If the file is not there or its system keeps no modification times.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_metadata(&fs::metadata(path)?)
    }

    /// The stamp of a file whose metadata was read already.
    ///
    /// # Errors
    /// If the system keeps no modification times.
    pub fn from_metadata(metadata: &Metadata) -> io::Result<Self> {
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
        Ok(Self {
            len: metadata.len(),
            modified: modified.unwrap_or_default(),
        })
    }
}

fn open_options() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true);
    options
}

/// A name in the same folder, since a rename across disks would copy. The extension stays.
fn sibling(target: &Path, prefix: &str) -> io::Result<PathBuf> {
    let name = target
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut sibling = OsString::from(prefix);
    sibling.push(name);
    Ok(target.with_file_name(sibling))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in path.read_dir()? {
            sync(&entry?.path())?;
        }
        return sync_folder(path);
    }
    // Windows syncs only files that are open for writing.
    File::options().write(true).open(path)?.sync_all()
}

/// Syncs the names in a folder, where a folder can be opened for that.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
