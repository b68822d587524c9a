//! What is known of a result that is not finished: beside `map.tif.part`, in `map.tif.part.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::identity::{FileIdentity, Identity};
use super::input::Input;
use crate::run_dir::write_file;

/// What a result is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Making {
    run: Identity,
    input: FileIdentity,
    num_pages: usize,
    size: [usize; 2],
}

impl Making {
    /// A result of `input`.
    ///
    /// # Errors
    /// If the file cannot be looked at.
    pub fn of(run: &Identity, input: &Input) -> Result<Self> {
        Ok(Self {
            run: run.clone(),
            input: FileIdentity::of(input.path())?,
            num_pages: input.num_pages(),
            size: input.size(),
        })
    }
}

/// An unfinished result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unfinished {
    /// What it is made of.
    pub making: Making,
    /// Height and width of the windows; of exact tiles, what they keep.
    pub window: [usize; 2],
    /// Rows of all pages that are done and on the disk.
    pub rows_done: u64,
}

impl Unfinished {
    /// The file that holds the rows of an unfinished `result`.
    pub fn part_of(result: &Path) -> PathBuf {
        with_ending(result, "part")
    }

    /// What there is of `result`, if anything.
    pub fn find(result: &Path) -> Option<Self> {
        // What cannot be read, because the machine was switched off in between, counts as nothing.
        let text = fs::read_to_string(file_of(result)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Notes it down.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, result: &Path) -> Result<()> {
        let path = file_of(result);
        let text = serde_json::to_string_pretty(self).context("cannot turn the state into JSON")?;
        write_file(&path, |path| Ok(fs::write(path, text + "\n")?))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes what is noted of a result that is finished.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn forget(result: &Path) -> Result<()> {
        let path = file_of(result);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }
}

fn file_of(result: &Path) -> PathBuf {
    with_ending(result, "part.json")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.{ending}"))
}
