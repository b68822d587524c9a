//! What `infer` writes down so that an interrupted run resumes: the state of `map.tif.part` in
//! `map.tif.part.json`, and the finished files of a folder in `infer.jsonl` among the results.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn_memopt::chunked::Accumulator;
use burn_memopt::files::{self, FileStamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use xtask::cli::paths;

use super::input::Input;
use super::model::Trained;
use super::target::Target;
use crate::choices::ChunkSizeChoice;
use crate::settings::InferSettings;

/// The record of finished files: what the results are of, then one line for each.
const FINISHED_FILES: &str = "infer.jsonl";

/// A file at one state of its content, as far as that can be seen without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    #[serde(with = "paths")]
    path: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u128,
}

impl FileState {
    /// The file as it is now.
    ///
    /// # Errors
    /// If its metadata cannot be read.
    pub fn new(path: &Path) -> Result<Self> {
        let read = || -> std::io::Result<Self> {
            let stamp = FileStamp::read(path)?;
            Ok(Self {
                path: path.canonicalize()?,
                bytes: stamp.len,
                modified: stamp.modified.as_nanos(),
            })
        };
        read().with_context(|| format!("cannot read {}", path.display()))
    }
}

/// The model and the settings that change results by more than rounding: only if they are the same,
/// results are resumed.
pub fn run_identity(settings: &InferSettings, model: &Trained) -> Value {
    let is_auto = settings.chunk_size == ChunkSizeChoice::Auto;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": model.identity,
        "chunk_size": settings.chunk_size,
        "overlap": settings.overlap,
        "blend": settings.blend,
        "exact": settings.exact,
        // Both change the chunk size where that is automatic.
        "budget": settings.budget.as_ref().filter(|_| is_auto),
        "memory_threshold": is_auto.then_some(settings.memory_threshold),
        "precision": model.precision().to_string(),
        "quantize": settings.quantize,
    })
}

/// The run and the file that a result is made of.
///
/// # Errors
/// If the file's metadata cannot be read.
pub fn result_identity(run: &Value, input: &Input) -> Result<Value> {
    Ok(json!({
        "run": run,
        "input": FileState::new(input.path())?,
        "num_pages": input.num_pages(),
        "size": input.size(),
    }))
}

/// How far an unfinished result is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartState {
    /// What it is made of.
    #[serde(rename = "making")]
    pub identity: Value,
    /// Height and width of the windows; of exact tiles, what they keep.
    pub window: [usize; 2],
    /// Rows of all pages that are done and on the disk.
    pub rows_done: u64,
}

impl PartState {
    /// The file that holds the rows of an unfinished `result`.
    pub fn part_of(result: &Path) -> PathBuf {
        with_ending(result, "part")
    }

    /// The state of `result`, if it was begun.
    pub fn find(result: &Path) -> Option<Self> {
        // What cannot be read, because the machine was switched off in between, counts as nothing.
        let text = fs::read_to_string(state_file(result)).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub fn save(&self, result: &Path) -> Result<()> {
        let path = state_file(result);
        let text = serde_json::to_string_pretty(self).context("cannot turn the state into JSON")?;
        files::write(&path, |out| writeln!(out, "{text}"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether the result has its name already, and the run was killed before it removed this state:
    /// all of its rows were done, their file is gone, and the result is no older than the state.
    pub fn is_finished(&self, result: &Path, num_rows: u64) -> bool {
        let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
        let written = modified(result);
        self.rows_done == num_rows
            && !Self::part_of(result).exists()
            && written.is_some()
            && written >= modified(&state_file(result))
    }

    /// Removes the temporary files that a killed run left for `result`.
    ///
    /// # Errors
    /// If one cannot be removed.
    pub fn clean_up(result: &Path) -> Result<()> {
        let sums = result.with_file_name(Accumulator::FILE_NAME);
        [result, &state_file(result), &sums]
            .into_iter()
            .try_for_each(files::remove_leftovers)
            .with_context(|| format!("cannot clean up next to {}", result.display()))
    }

    /// Removes the state of a result that is finished.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn remove(result: &Path) -> Result<()> {
        let path = state_file(result);
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }
}

fn state_file(result: &Path) -> PathBuf {
    with_ending(result, "part.json")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// The finished files of a folder of results.
pub struct FinishedFiles {
    path: PathBuf,
    file: File,
    inputs: BTreeMap<String, FileState>,
    is_other: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    result: String,
    input: FileState,
}

impl FinishedFiles {
    /// Reads the record in `folder`, or begins one. Results of another run do not count.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(folder: &Path, run: &Value) -> Result<Self> {
        let path = folder.join(FINISHED_FILES);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let first = lines.next();
        let is_same = first
            .and_then(|first| serde_json::from_str::<Value>(first).ok())
            .as_ref()
            == Some(run);
        // A line that a killed process did not finish says nothing.
        let whole = lines.filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let kept = whole.filter(|_| is_same);
        let inputs = kept.map(|line| (line.result, line.input));
        let begin = || -> Result<File> {
            if !is_same {
                files::write(&path, |out| writeln!(out, "{run}"))?;
            }
            let mut file = OpenOptions::new().append(true).open(&path)?;
            if is_same && !text.ends_with('\n') {
                writeln!(file)?;
            }
            Ok(file)
        };
        let file = begin().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path,
            file,
            inputs: inputs.collect(),
            is_other: first.is_some() && !is_same,
        })
    }

    /// Whether there were results of another model or of other settings.
    pub fn was_of_another_run(&self) -> bool {
        self.is_other
    }

    /// Whether the result of a file is there, and the file as it was.
    pub fn contains(&self, target: &Target) -> bool {
        let known = self.inputs.get(&result_name(target));
        let now = FileState::new(&target.input).ok();
        known.is_some() && known == now.as_ref() && target.output.is_file()
    }

    /// Notes that a file is finished.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub fn add(&mut self, target: &Target) -> Result<()> {
        let line = Line {
            result: result_name(target),
            input: FileState::new(&target.input)?,
        };
        writeln!(self.file, "{}", serde_json::to_string(&line)?)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn result_name(target: &Target) -> String {
    let name = target.output.file_name().unwrap_or_default();
    paths::to_text(name.as_ref())
}
