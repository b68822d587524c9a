//! The artifact folder of a run.
//!
//! ```text
//! artifacts/unet-20260102-030405/
//!   config.json        model, version and every setting
//!   checkpoint-200/    what is needed to resume after step 200; the last two are kept
//!   latest             the name of the folder to resume from
//!   metrics.json       what the run was evaluated with, when that is done
//!   progressive.json   the stages of growing images, if there are any
//!   performance.json   what a step took, in several ways
//!   tuning.json        what --auto-tune chose, and why
//!   data/              generated data
//!   memory.csv  memory.png  samples/*.png
//! ```
//!
//! Nothing that is whole is ever opened for writing: folders and files are written
//! under a name of their own and renamed into place, so whatever stops a run, what
//! was saved before stays usable. This file knows no model: saving takes closures.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn_memopt::files;
use serde::Serialize;
use serde_json::Value;

#[cfg(test)]
mod tests;

/// The key of `config.json` that names the model.
pub const MODEL_KEY: &str = "model";
/// The key of `config.json` that names the version that wrote it.
pub const VERSION_KEY: &str = "version";
/// The folder of generated data.
pub const DATA_FOLDER: &str = "data";

const CONFIG_FILE: &str = "config.json";
const LATEST_FILE: &str = "latest";
const SAVED_PREFIX: &str = "checkpoint-";
/// Folders whose files are written one by one.
const FOLDERS: [&str; 2] = ["samples", "weights"];
/// Saved states that are kept.
const NUM_KEPT: usize = 2;

/// The artifact folder of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    root: PathBuf,
    model: String,
}

/// A state a run can resume from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedState {
    /// Optimizer steps done when it was saved.
    pub step: u64,
    /// The folder that holds it.
    pub dir: PathBuf,
}

impl RunDir {
    /// A folder name no run has: `artifacts/<model>-<yyyymmdd-hhmmss>`, in UTC.
    pub fn default_root(model: &str) -> PathBuf {
        let now = time::UtcDateTime::now();
        let name = format!(
            "{model}-{:04}{:02}{:02}-{:02}{:02}{:02}",
            now.year(),
            u8::from(now.month()),
            now.day(),
            now.hour(),
            now.minute(),
            now.second(),
        );
        let candidates = (1..).map(|number| match number {
            1 => Path::new("artifacts").join(&name),
            _ => Path::new("artifacts").join(format!("{name}-{number}")),
        });
        let mut free = candidates.skip_while(|root| root.exists());
        free.next()
            .expect("invariant: there is always a further number")
    }

    /// Begins a new run in `root`, which must be empty or missing, and saves its settings.
    ///
    /// # Errors
    /// If the folder holds anything, or cannot be written.
    pub fn create(root: &Path, model: &str, settings: &impl Serialize) -> Result<Self> {
        if root.join(CONFIG_FILE).exists() {
            bail!(
                "{0} already holds a run; continue it with --resume {0}, or choose another --artifact-dir",
                root.display()
            );
        }
        // A run that was killed before it wrote its settings is no run.
        files::remove_leftovers(root.join(CONFIG_FILE))
            .with_context(|| format!("cannot use the folder {}", root.display()))?;
        if root
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some())
        {
            bail!(
                "{} is not empty; choose another --artifact-dir",
                root.display()
            );
        }
        fs::create_dir_all(root)
            .with_context(|| format!("cannot create the artifact folder {}", root.display()))?;
        let run = Self {
            root: root.into(),
            model: model.into(),
        };
        run.write_config(settings)?;
        Ok(run)
    }

    /// The model whose run is in `root`.
    ///
    /// # Errors
    /// If there is no run, or its settings do not name their model.
    pub fn model_in(root: &Path) -> Result<String> {
        let path = root.join(CONFIG_FILE);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "{} is no artifact folder of train: cannot read {CONFIG_FILE}",
                root.display()
            )
        })?;
        let config: Value = serde_json::from_str(&text)
            .with_context(|| format!("cannot use the settings in {}", path.display()))?;
        let model = config[MODEL_KEY].as_str().map(Into::into);
        model.with_context(|| format!("{} does not name its {MODEL_KEY}", path.display()))
    }

    /// Opens the folder of a run to continue it, and reads its settings.
    ///
    /// # Errors
    /// If there is no run, it is one of another model, or it was written by a
    /// version whose artifacts differ.
    pub fn open(root: &Path, model: &str) -> Result<(Self, Value)> {
        let path = root.join(CONFIG_FILE);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "{} holds no run to resume: cannot read {CONFIG_FILE}",
                root.display()
            )
        })?;
        let mut config: serde_json::Map<String, Value> = serde_json::from_str(&text)
            .with_context(|| format!("cannot use the settings in {}", path.display()))?;
        let mut take = |key: &str| match config.remove(key) {
            Some(Value::String(text)) => Ok(text),
            _ => bail!("{} does not name its {key}", path.display()),
        };
        let (written_model, written_version) = (take(MODEL_KEY)?, take(VERSION_KEY)?);
        if written_model != model {
            bail!(
                "{} holds a run of the model {written_model}, got the model {model}",
                root.display()
            );
        }
        if artifact_version(&written_version) != artifact_version(env!("CARGO_PKG_VERSION")) {
            bail!(
                "{} was written by version {written_version}, this is {}; resume it with a version that matches",
                root.display(),
                env!("CARGO_PKG_VERSION"),
            );
        }
        let run = Self {
            root: root.into(),
            model: model.into(),
        };
        Ok((run, config.into()))
    }

    /// The file of the settings.
    pub fn config_file(&self) -> PathBuf {
        self.root.join(CONFIG_FILE)
    }

    /// Saves the settings of the run, with its model and version.
    ///
    /// # Errors
    /// If the file cannot be written; an earlier one stays.
    pub fn write_config(&self, settings: &impl Serialize) -> Result<()> {
        let mut config =
            serde_json::to_value(settings).context("cannot turn the settings into JSON")?;
        config[MODEL_KEY] = self.model.as_str().into();
        config[VERSION_KEY] = env!("CARGO_PKG_VERSION").into();
        let text =
            serde_json::to_string_pretty(&config).context("cannot turn the settings into JSON")?;
        self.replace_file(CONFIG_FILE, |path| Ok(fs::write(path, text + "\n")?))
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Saves the state after `step`: `write` fills the empty folder it is given.
    ///
    /// Of the states saved before, only the newest is kept as well.
    ///
    /// # Errors
    /// If `write` fails or the disk does; then the states saved before are as they were.
    pub fn save(&self, step: u64, write: impl FnOnce(&Path) -> Result<()>) -> Result<SavedState> {
        let name = format!("{SAVED_PREFIX}{step}");
        let dir = self.root.join(&name);
        files::write_folder(&dir, write).with_context(|| {
            format!(
                "cannot save step {step} in {}; what was saved before is whole",
                self.root.display()
            )
        })?;
        self.replace_file(LATEST_FILE, |path| Ok(fs::write(path, name + "\n")?))?;
        self.remove_older_than(step)?;
        Ok(SavedState { step, dir })
    }

    /// Removes what a killed run was writing, and puts back what it was replacing. No other run may
    /// write to the folder now.
    ///
    /// # Errors
    /// If something cannot be removed or renamed.
    pub fn clean_up(&self) -> Result<()> {
        let clean_up = || -> Result<()> {
            files::recover_folders_in(&self.root, |name| {
                name == DATA_FOLDER || step_of(name).is_some()
            })?;
            files::remove_leftovers_in(&self.root)?;
            for folder in FOLDERS {
                files::remove_leftovers_in(self.root.join(folder))?;
            }
            // An older state may be removed by half.
            match self.latest()? {
                Some(state) => self.remove_older_than(state.step),
                None => Ok(()),
            }
        };
        clean_up().with_context(|| format!("cannot clean up {}", self.root.display()))
    }

    /// The state to resume from, if any was saved.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn latest(&self) -> Result<Option<SavedState>> {
        let states = self.states()?;
        let named = fs::read_to_string(self.root.join(LATEST_FILE)).unwrap_or_default();
        let is_named = |state: &&SavedState| state.dir == self.root.join(named.trim());
        // Without a usable pointer the newest state is right: states are only ever whole.
        Ok(states.iter().find(is_named).or(states.last()).cloned())
    }

    /// The latest state, or an error that says there is none.
    ///
    /// # Errors
    /// If no state was saved or the folder cannot be listed.
    pub fn latest_or_error(&self) -> Result<SavedState> {
        self.latest()?.with_context(|| {
            let root = self.root.display();
            format!("the run in {root} saved no state yet; continue it with train --resume first")
        })
    }

    /// Writes one file of the run: `write` is given a path of the same extension to
    /// fill, which then takes the place of `name`.
    ///
    /// # Errors
    /// If `write` fails or the disk does; an earlier file stays.
    pub fn replace_file(&self, name: &str, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let target = self.root.join(name);
        let written = (|| {
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder)?;
            }
            files::write_with_path(&target, write)
        })();
        written.with_context(|| format!("cannot write {}", target.display()))
    }

    /// Every state, oldest first.
    fn states(&self) -> Result<Vec<SavedState>> {
        let context = || format!("cannot list {}", self.root.display());
        let mut states = Vec::new();
        for entry in self.root.read_dir().with_context(context)? {
            let dir = entry.with_context(context)?.path();
            let name = dir.file_name().unwrap_or_default().to_string_lossy();
            if let Some(step) = step_of(&name) {
                states.push(SavedState { step, dir });
            }
        }
        states.sort_by_key(|state| state.step);
        Ok(states)
    }

    /// Keeps the state of `step` and the newest before it.
    fn remove_older_than(&self, step: u64) -> Result<()> {
        let mut older = self.states()?;
        older.retain(|state| state.step < step);
        let num_kept = (NUM_KEPT - 1).min(older.len());
        older.truncate(older.len() - num_kept);
        for state in older {
            fs::remove_dir_all(&state.dir)
                .with_context(|| format!("cannot remove {}", state.dir.display()))?;
        }
        Ok(())
    }
}

/// The step of the saved state whose folder has this name.
fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix(SAVED_PREFIX)?.parse().ok()
}

/// The part of a version that artifacts depend on: `0.1` of `0.1.7`, `1` of `1.2.3`.
fn artifact_version(version: &str) -> Vec<&str> {
    let num_parts = if version.starts_with("0.") { 2 } else { 1 };
    version.split('.').take(num_parts).collect()
}
