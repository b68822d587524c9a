//! Files and folders that are there as a whole or not at all.
//!
//! Both are written under a name of their own beside the target, brought to the
//! disk, and renamed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// Lets `write` fill a path of the same extension, which then takes the place of `target`.
///
/// # Errors
/// If `write` or the disk fails; what was at `target` stays.
pub fn write_file(target: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let partial = beside(target, "partial");
    let written = (|| {
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        write(&partial)?;
        File::open(&partial)?.sync_all()?;
        Ok(fs::rename(&partial, target)?)
    })();
    if written.is_err() {
        // The error of writing is the one to report.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Lets `write` fill an empty folder, which then takes the place of `target`.
///
/// # Errors
/// If `write` or the disk fails; what was at `target` stays.
pub fn write_folder(target: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let (partial, replaced) = (beside(target, "partial"), beside(target, "replaced"));
    remove_folder(&partial)?;
    remove_folder(&replaced)?;
    let written = (|| {
        fs::create_dir(&partial)?;
        write(&partial)?;
        sync_folder(&partial)?;
        if target.exists() {
            fs::rename(target, &replaced)?;
        }
        Ok(fs::rename(&partial, target)?)
    })();
    if written.is_err() {
        // The error of writing is the one to report.
        if !target.exists() {
            let _ = fs::rename(&replaced, target);
        }
        let _ = remove_folder(&partial);
        return written;
    }
    Ok(remove_folder(&replaced)?)
}

/// A name in the same folder, so that renaming never crosses file systems.
fn beside(target: &Path, purpose: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!("{purpose}-{name}"))
}

/// Brings every file below `folder` to the disk, so that the rename cannot get there first.
fn sync_folder(folder: &Path) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folder(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    Ok(())
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
