//! Files in the folders of a command that are not read.

use std::path::Path;

use anyhow::Result;
use burn_memopt_datasets::folder::unread_files;

/// Says which files of `folder` are not read, if it is a folder and has some.
///
/// # Errors
/// If it cannot be listed.
pub fn note_unread(folder: &Path) -> Result<()> {
    if folder.is_dir()
        && let Some(note) = unread_files(folder)?
    {
        eprintln!("note: {note}");
    }
    Ok(())
}
