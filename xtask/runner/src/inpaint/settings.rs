//! What decides how the frames of one video come out. It is written next to them, and an interrupted
//! run resumes only with the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn_memopt::budget::Choice;
use burn_memopt::files;
use burn_memopt::memory::Bytes;
use burn_memopt::precision::Precision;
use burn_memopt_datasets::masks::MaskSource;
use burn_memopt_datasets::video::{VideoError, VideoSource};
use burn_memopt_models::propainter::inpaint::{InpaintConfig, Setting, WORKING_MEMORY, Workload};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xtask::cli::paths;

use super::Run;
use super::footage::check_not_empty;
use super::geometry::Geometry;
use super::job::Job;
use super::output::Output;
use crate::choices::{InpaintMode, InpaintPreset};
use crate::cli::InpaintArgs;
use crate::report::{note, note_unread};
use crate::settings::UsageError;
use crate::settings::{is_same, start_here, start_in};

/// File of the settings in the folder of an unfinished run.
const FILE: &str = "settings.json";
/// Settings that are paths.
const PATHS: [&str; 3] = ["video", "mask", "weights"];

/// The settings of one video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InpaintSettings {
    /// The video.
    #[serde(with = "paths")]
    pub video: PathBuf,
    /// Its masks, unless frames are extended.
    #[serde(with = "paths::optional")]
    pub mask: Option<PathBuf>,
    /// What is filled.
    pub mode: InpaintMode,
    /// Frames of the video.
    pub num_frames: usize,
    /// Whether damaged places of the video are skipped.
    pub skip_damaged: bool,
    /// Sizes of its frames.
    pub geometry: Geometry,
    /// Pixels by which holes are grown.
    pub mask_dilation: usize,
    /// The weights.
    #[serde(with = "paths")]
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

/// Names of the settings that are paths.
fn paths() -> BTreeSet<String> {
    PATHS.map(String::from).into()
}

fn read(part: &Path) -> Result<Map<String, Value>> {
    let path = part.join(FILE);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut settings = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; remove {}", path.display(), part.display()))?;
    start_here(&path, &mut settings, &paths())?;
    Ok(settings)
}

impl InpaintSettings {
    /// The settings of the run in a folder, if there is one.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn saved(part: &Path) -> Result<Option<Self>> {
        if part.join(FILE).exists() {
            Ok(serde_json::from_value(read(part)?.into()).ok())
        } else {
            Ok(None)
        }
    }

    /// Writes the settings into the folder of a new run, or compares them with those of the run in it.
    ///
    /// # Errors
    /// [`UsageError`] if they differ, and names what does; another error if the file cannot be read
    /// or written.
    pub fn save(&self, part: &Path) -> Result<()> {
        let path = part.join(FILE);
        let mine = serde_json::to_value(self).context("cannot turn the settings into JSON")?;
        let mut mine = mine.as_object().cloned().unwrap_or_default();
        if !path.exists() {
            start_in(part, &mut mine, &paths())?;
            let text = serde_json::to_string_pretty(&mine)?;
            return files::write(&path, |out| out.write_all(text.as_bytes()))
                .with_context(|| format!("cannot write {}", path.display()));
        }
        let theirs = read(part)?;
        for (key, mine) in &mine {
            let saved = theirs.get(key).unwrap_or(&Value::Null);
            let is_same_file = || match (saved, mine) {
                (Value::String(saved), Value::String(mine)) => {
                    PATHS.contains(&key.as_str())
                        && is_same(&paths::from_text(saved), &paths::from_text(mine))
                }
                _ => false,
            };
            if saved != mine && !is_same_file() {
                bail!(UsageError(format!(
                    "a resumed run keeps its {}: it is {saved}, got {mine}; give what was given \
                     before, or remove {} to start over",
                    key.replace('_', " "),
                    part.display(),
                )));
            }
        }
        Ok(())
    }
}

/// One video to complete: what it is read from, and how.
pub struct VideoTask {
    pub video: VideoSource,
    pub masks: Option<MaskSource>,
    pub settings: InpaintSettings,
    /// What a budget has chosen of the settings.
    pub choice: Option<Choice<Workload, Setting>>,
}

impl VideoTask {
    /// Checks a video and its masks, and settles how it is completed.
    ///
    /// # Errors
    /// If one cannot be read, or they do not fit; or if no settings keep the budget.
    pub(super) fn new(run: &Run, job: &Job) -> Result<Self> {
        let args = run.args;
        let video = open_video(&job.video, args)?;
        if let VideoSource::Folder(folder) = &video {
            folder.verify()?;
            note_unread(&job.video)?;
        }
        let num_frames = video.count_frames().map_err(|error| match error {
            VideoError::Damaged { .. } => {
                anyhow::anyhow!("{error}, or complete what can be read with --skip-damaged")
            }
            error => error.into(),
        })?;
        if num_frames == 0 {
            bail!("{} holds no frame", job.video.display());
        }
        let size = [video.height(), video.width()];
        let geometry = Geometry::new(args, size)?;
        let mask = job.find_masks()?;
        let masks = match &mask {
            None => None,
            Some(path) => {
                note_unread(path)?;
                let masks = MaskSource::open(path)?;
                masks.check(num_frames, size[0], size[1])?;
                if let Some(rule) = masks.rule()? {
                    note(format_args!("{}: {rule}", path.display()));
                }
                check_not_empty(&masks, num_frames as usize)
                    .with_context(|| path.display().to_string())?;
                Some(masks)
            }
        };
        let default = InpaintConfig::default();
        let settings = InpaintSettings {
            video: job.video.clone(),
            mask,
            mode: args.mode,
            num_frames: num_frames as usize,
            skip_damaged: args.skip_damaged,
            geometry,
            mask_dilation: args.mask_dilation.unwrap_or(4) as usize,
            weights: args.weights.clone(),
            precision: run.precision,
            working_memory: WORKING_MEMORY[0],
            config: config(args, &default),
        };
        let (settings, choice) = run.within_budget(job, settings)?;
        Ok(Self {
            video,
            masks,
            settings,
            choice,
        })
    }
}

/// Opens a video as flags ask.
///
/// # Errors
/// If it cannot be read.
pub fn open_video(path: &Path, args: &InpaintArgs) -> Result<VideoSource, VideoError> {
    Ok(match VideoSource::open(path)? {
        VideoSource::File(file) if args.skip_damaged => VideoSource::File(file.skip_damaged()),
        video => video,
    })
}

impl Run<'_> {
    /// The settings with what flags do not give chosen by the budget; a resumed run keeps what
    /// was chosen when it began.
    fn within_budget(
        &self,
        job: &Job,
        settings: InpaintSettings,
    ) -> Result<(InpaintSettings, Option<Choice<Workload, Setting>>)> {
        let args = self.args;
        let kept = if args.resume {
            InpaintSettings::saved(&Output::part_of(job))?
        } else {
            None
        };
        let Some(budget) = self.budget else {
            return Ok((settings, None));
        };
        let ladder = settings.geometry.ladder(args);
        if let Some(kept) = kept {
            let known = ladder.contains(&kept.geometry);
            let settings = InpaintSettings {
                geometry: if known {
                    kept.geometry
                } else {
                    settings.geometry
                },
                working_memory: kept.working_memory,
                config: config(args, &kept.config),
                ..settings
            };
            return Ok((settings, None));
        }
        let precision = Some(self.precision);
        let choice = budget.choose(args, &ladder, settings.num_frames, precision)?;
        let worked = choice.settings.size;
        let chosen = ladder.into_iter().find(|size| size.worked == worked);
        let settings = InpaintSettings {
            geometry: chosen.unwrap_or(settings.geometry),
            working_memory: choice.settings.working,
            config: choice.settings.config.clone(),
            ..settings
        };
        Ok((settings, Some(choice)))
    }
}
