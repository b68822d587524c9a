//! What results depend on: they may be gone on with only if it is the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::model::Trained;
use crate::choices::{BlendChoice, ChunkSizeChoice};
use crate::settings::InferSettings;

/// A file at one state of its content, as far as that can be told without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    path: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u128,
}

impl FileIdentity {
    /// The file as it is now.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn of(path: &Path) -> Result<Self> {
        let look = || -> std::io::Result<Self> {
            let metadata = fs::metadata(path)?;
            let age = metadata.modified()?.duration_since(UNIX_EPOCH);
            Ok(Self {
                path: path.canonicalize()?,
                bytes: metadata.len(),
                modified: age.unwrap_or_default().as_nanos(),
            })
        };
        look().with_context(|| format!("cannot read {}", path.display()))
    }
}

/// The model and the settings that change results by more than rounding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    version: String,
    model: FileIdentity,
    chunk_size: ChunkSizeChoice,
    overlap: f64,
    blend: BlendChoice,
    exact: bool,
    /// Both change the chunk size where that is automatic.
    budget: Option<String>,
    memory_threshold: Option<f64>,
    precision: String,
}

impl Identity {
    /// That of a run of `model` by `settings`.
    pub fn of(settings: &InferSettings, model: &Trained) -> Self {
        let is_auto = settings.chunk_size == ChunkSizeChoice::Auto;
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            model: model.identity.clone(),
            chunk_size: settings.chunk_size,
            overlap: settings.overlap,
            blend: settings.blend,
            exact: settings.exact,
            budget: settings.budget.clone().filter(|_| is_auto),
            memory_threshold: is_auto.then_some(settings.memory_threshold),
            precision: model.precision().to_string(),
        }
    }
}
