//! Which files of a folder are finished: `infer.jsonl` among the results.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::identity::{FileIdentity, Identity};
use super::target::Target;
use crate::run_dir::write_file;

/// The file of the record: what the results are of, then one line for each.
const RECORD: &str = "infer.jsonl";

/// The finished files of a folder of results.
pub struct Finished {
    path: PathBuf,
    file: File,
    inputs: BTreeMap<String, FileIdentity>,
    is_other: bool,
}

#[derive(Serialize, Deserialize)]
struct Line {
    result: String,
    input: FileIdentity,
}

impl Finished {
    /// Reads the record in `folder`, or begins one. Results of another model or of other settings do
    /// not count.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(folder: &Path, identity: &Identity) -> Result<Self> {
        let path = folder.join(RECORD);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let first = lines.next().map(serde_json::from_str::<Identity>);
        let is_same = matches!(&first, Some(Ok(first)) if first == identity);
        // A line that a killed process did not finish says nothing.
        let whole = lines.filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let kept = whole.filter(|_| is_same);
        let inputs = kept.map(|line| (line.result, line.input));
        let begin = || -> Result<File> {
            if !is_same {
                let line = serde_json::to_string(identity)? + "\n";
                write_file(&path, |path| Ok(fs::write(path, line)?))?;
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
    pub fn holds(&self, target: &Target) -> bool {
        let known = self.inputs.get(&name(target));
        let now = FileIdentity::of(&target.input).ok();
        known.is_some() && known == now.as_ref() && target.output.is_file()
    }

    /// Notes that a file is finished.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub fn add(&mut self, target: &Target) -> Result<()> {
        let line = Line {
            result: name(target),
            input: FileIdentity::of(&target.input)?,
        };
        writeln!(self.file, "{}", serde_json::to_string(&line)?)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn name(target: &Target) -> String {
    let name = target.output.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
