//! What a run is going to do, before anything is written.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::estimate::Estimate;
use crate::cli::ModelFlags;
use crate::run_dir::{RunDir, SavedState};
use crate::settings::{ModelSettings, Settings};

/// A run that is about to begin or to go on. Nothing is written yet.
#[derive(Debug)]
pub struct Plan<M> {
    /// Every setting.
    pub settings: Settings<M>,
    /// The run's artifact folder.
    pub artifact_dir: PathBuf,
    /// The run to continue and the state to continue from.
    pub resumed: Option<(RunDir, SavedState)>,
}

impl<M: ModelSettings> Plan<M> {
    /// Resolves the settings of a run from `flags` and what they name.
    ///
    /// # Errors
    /// If a setting is wrong or the run to resume cannot be.
    pub fn new<F: Args + Serialize>(flags: &ModelFlags<F>) -> Result<Self> {
        let Some(dir) = &flags.run.resume else {
            let settings = Settings::<M>::resolve(flags, None)?;
            let artifact_dir = settings.run.artifact_dir.clone();
            let artifact_dir = artifact_dir.unwrap_or_else(|| RunDir::default_root(M::MODEL));
            return Ok(Self {
                settings,
                artifact_dir,
                resumed: None,
            });
        };
        let (run, saved) = RunDir::open::<Settings<M>>(dir, M::MODEL)?;
        let state = run.latest_or_error()?;
        let settings = Settings::resolve(flags, Some(&saved))?;
        Ok(Self {
            settings,
            artifact_dir: dir.clone(),
            resumed: Some((run, state)),
        })
    }

    /// The artifact folder: the resumed run's, unchanged, or a new one.
    ///
    /// # Errors
    /// If a new folder holds something already or cannot be written.
    pub fn run_dir(&self) -> Result<RunDir> {
        match &self.resumed {
            Some((run, _)) => Ok(run.clone()),
            None => RunDir::create(&self.artifact_dir, M::MODEL, &self.settings),
        }
    }

    /// Prints every setting and the expected memory on stdout, as a table or as one
    /// JSON object.
    ///
    /// # Errors
    /// If the settings cannot be written as JSON.
    pub fn print(&self, expected: &Estimate, as_json: bool) -> Result<()> {
        let resumed_step = self.resumed.as_ref().map(|(_, state)| state.step);
        if as_json {
            let plan = json!({
                "event": "plan",
                "settings": serde_json::to_value(&self.settings).context("cannot turn the settings into JSON")?,
                "artifact_dir": self.artifact_dir,
                "resumed_step": resumed_step,
                "memory": expected,
            });
            println!("{plan}");
            return Ok(());
        }
        print!("{}", self.settings);
        println!("{:<20} {}", "artifact_dir", self.artifact_dir.display());
        if let Some(step) = resumed_step {
            println!("{:<20} {step}", "resumed_step");
        }
        print!("{expected}");
        Ok(())
    }
}
