//! What decides how the frames of one video come out: written beside them, so that an interrupted
//! run goes on with nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn_memopt::memory::Bytes;
use burn_memopt::precision::Precision;
use burn_memopt_models::propainter::inpaint::InpaintConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::geometry::Geometry;
use crate::choices::{InpaintMode, InpaintPreset};
use crate::cli::InpaintArgs;
use crate::run_dir::write_file;
use crate::settings::UsageError;

/// File of the settings in the folder of an unfinished run.
const FILE: &str = "settings.json";

/// The settings of one video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InpaintSettings {
    /// The video.
    pub video: PathBuf,
    /// Its masks, unless frames are extended.
    pub mask: Option<PathBuf>,
    /// What is filled.
    pub mode: InpaintMode,
    /// Frames of the video.
    pub num_frames: usize,
    /// Sizes of its frames.
    pub geometry: Geometry,
    /// Pixels by which holes are grown.
    pub mask_dilation: usize,
    /// The weights.
    pub weights: PathBuf,
    /// What flow completion and the generator compute in.
    pub precision: Precision,
    /// What is computed at a time where work can be divided.
    pub working_memory: Bytes,
    /// Lengths and strides.
    pub config: InpaintConfig,
}

/// What the flags say of lengths and strides; what they do not is that of a preset, or `default`.
pub fn config(args: &InpaintArgs, default: &InpaintConfig) -> InpaintConfig {
    let default = default.clone();
    let [subvideo_length, neighbor_length, ref_stride] = match args.preset {
        Some(InpaintPreset::Gb4) => [20, 3, 30],
        Some(InpaintPreset::Gb6) => [40, 5, 20],
        Some(InpaintPreset::Gb8) => [50, 8, 15],
        Some(InpaintPreset::Gb12) => [80, 10, 10],
        None => [
            default.subvideo_length,
            default.neighbor_length,
            default.ref_stride,
        ],
    };
    let given = |flag: Option<u64>, otherwise| flag.map_or(otherwise, |given| given as usize);
    InpaintConfig {
        raft_iter: given(args.raft_iter, default.raft_iter),
        subvideo_length: given(args.subvideo_length, subvideo_length),
        neighbor_length: given(args.neighbor_length, neighbor_length),
        ref_stride: given(args.ref_stride, ref_stride),
        ..default
    }
}

fn read(part: &Path) -> Result<Value> {
    let path = part.join(FILE);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; remove {}", path.display(), part.display()))
}

impl InpaintSettings {
    /// The settings of the run that lies in a folder, if there is one.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn kept(part: &Path) -> Result<Option<Self>> {
        match part.join(FILE).exists() {
            true => Ok(serde_json::from_value(read(part)?).ok()),
            false => Ok(None),
        }
    }

    /// Writes the settings into the folder of a new run, or compares them with those of the run that
    /// lies there.
    ///
    /// # Errors
    /// [`UsageError`] if they differ, and names what does; another error if the file cannot be read
    /// or written.
    pub fn keep(&self, part: &Path) -> Result<()> {
        let path = part.join(FILE);
        let mine = serde_json::to_value(self).context("cannot turn the settings into JSON")?;
        if !path.exists() {
            let text = serde_json::to_string_pretty(&mine)?;
            return write_file(&path, |partial| Ok(std::fs::write(partial, text)?));
        }
        let theirs = read(part)?;
        let keys = mine.as_object().into_iter().flatten();
        for (key, mine) in keys {
            let saved = theirs.get(key).unwrap_or(&Value::Null);
            if saved != mine {
                bail!(UsageError(format!(
                    "a resumed run keeps its {}: it is {saved}, got {mine}; give what was given \
                     before, or remove {} to begin anew",
                    key.replace('_', " "),
                    part.display(),
                )));
            }
        }
        Ok(())
    }
}
