//! The settings that a run has saved in its folder.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::cli::values::{Words, paths, words};

use super::{ModelSettings, Settings, UsageError, settings_of};
use crate::paths::{start_here, start_in};
use crate::run_dir::RunDir;

/// The settings as they are saved in the folder `root`, which need not be there yet: so that the run
/// may be resumed from another folder, and moved together with its data.
///
/// # Errors
/// If the working directory is gone.
pub fn to_save<M: ModelSettings>(settings: &Settings<M>, root: &Path) -> Result<Value> {
    let mut saved = serde_json::to_value(settings).context("cannot turn the settings into JSON")?;
    if let Value::Object(saved) = &mut saved {
        start_in(root, saved, &paths::<Settings<M>>())?;
    }
    Ok(saved)
}

/// Opens the folder of a run to continue it, and reads its settings.
///
/// # Errors
/// As [`RunDir::open`]; and if the settings are wrong.
pub fn open_run<M: ModelSettings>(root: &Path) -> Result<(RunDir, Settings<M>)> {
    open_run_with(root, &Words::new())
}

/// As [`open_run`], with other values of some settings that the run has.
///
/// # Errors
/// As [`open_run`]; and [`UsageError`] if the run does not have one of them.
pub fn open_run_with<M: ModelSettings>(
    root: &Path,
    given: &Words,
) -> Result<(RunDir, Settings<M>)> {
    let (run, mut saved) = RunDir::open(root, M::MODEL)?;
    if let Value::Object(saved) = &mut saved {
        start_here(&run.config_file(), saved, &paths::<Settings<M>>())?;
    }
    let mut saved = words(&saved);
    if let Some(name) = given.keys().find(|name| !saved.contains_key(*name)) {
        bail!(UsageError(format!(
            "the run in {} was not trained on what --{name} names; leave it out",
            root.display()
        )));
    }
    saved.extend(given.clone());
    let settings = settings_of(&saved)
        .with_context(|| format!("cannot use the settings in {}", run.config_file().display()))?;
    Ok((run, settings))
}
