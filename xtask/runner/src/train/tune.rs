//! `--auto-tune`: micro-batches, checkpointing and loading, chosen from the machine and from what earlier
//! runs took. What a run learns stays: the items of a step and their order do not change.

mod choose;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use burn_memopt::memory::{Bytes, free_on};
use burn_memopt::precision::Precision;
use serde::{Deserialize, Serialize};
use xtask::cli::values::{Words, words};

use choose::{Chooser, summary};

use super::comparison::StepCost;
use super::job::Job;
use super::plan::{Estimate, Plan};
use super::saved::{CutPlan, from_json};
use super::session::Session;
use crate::report::note;
use crate::run_dir::RunDir;
use crate::settings::{ModelSettings, RunSettings, Settings, UsageError};

/// The file of a run that says what its steps took.
const RECORD_FILE: &str = "performance.json";
/// The file of a run that says what was chosen, and why.
const TUNING_FILE: &str = "tuning.json";
/// Settings that change what a step takes, and nothing of what is learned.
const TUNED: [&str; 5] = [
    "batch_size",
    "accumulation_steps",
    "grad_checkpoint",
    "workers",
    "prefetch",
];
/// Settings that have nothing to do with what a step takes.
const UNRELATED: [&str; 14] = [
    "holdout",
    "steps",
    "epochs",
    "lr",
    "clip_norm",
    "seed",
    "auto_micro_batch",
    "loss_scale",
    "memory_tracking",
    "memory_log_file",
    "save_every",
    "log_every",
    "device",
    "precision",
];

/// Where a step was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    cores: usize,
    device: String,
    precision: String,
}

impl Machine {
    /// This one.
    pub fn new(device: &str, precision: &str) -> Self {
        Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            device: device.into(),
            precision: precision.into(),
        }
    }
}

/// A way to make the steps of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Way {
    batch_size: usize,
    accumulation_steps: usize,
    grad_checkpoint: String,
    workers: Option<usize>,
    prefetch: String,
}

impl Way {
    fn of(run: &RunSettings) -> Self {
        Self {
            batch_size: run.batch_size,
            accumulation_steps: run.accumulation_steps,
            grad_checkpoint: run.grad_checkpoint.clone(),
            workers: run.workers,
            prefetch: run.prefetch.clone(),
        }
    }

    fn apply(self, run: &mut RunSettings) {
        run.batch_size = self.batch_size;
        run.accumulation_steps = self.accumulation_steps;
        run.grad_checkpoint = self.grad_checkpoint;
        run.workers = self.workers;
        run.prefetch = self.prefetch;
    }

    /// The settings by name.
    fn words(&self) -> Words {
        words(self)
    }
}

/// What a step takes in one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    #[serde(flatten)]
    way: Way,
    peak_bytes: u64,
    seconds_per_step: f64,
}

impl Cost {
    /// What a step of `run` took.
    pub fn new(run: &RunSettings, cost: StepCost) -> Self {
        Self {
            way: Way::of(run),
            peak_bytes: cost.peak_bytes,
            seconds_per_step: cost.seconds_per_step,
        }
    }
}

/// What the steps of a run took, in its own way and in others that were compared with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    machine: Machine,
    /// What a step does, by setting.
    work: Words,
    costs: Vec<Cost>,
}

impl Record {
    /// The record of a run with `settings`.
    pub fn new<M: ModelSettings>(
        machine: Machine,
        settings: &Settings<M>,
        costs: Vec<Cost>,
    ) -> Self {
        Self {
            machine,
            work: work(settings),
            costs,
        }
    }

    /// Writes it next to the other artifacts of the run.
    pub fn write(&self, run: &RunDir) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot write what steps took")?;
        run.replace_file(RECORD_FILE, |path| Ok(fs::write(path, text + "\n")?))
    }

    /// The records of the runs in `folder`, by path. Those that cannot be read are named and left out.
    fn all_in(folder: &Path) -> BTreeMap<PathBuf, Self> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path().join(RECORD_FILE));
        let read = |path: PathBuf| {
            let text = fs::read_to_string(&path).ok()?;
            match from_json(&text) {
                Ok(record) => Some((path, record)),
                Err(error) => {
                    note(format_args!("{} is left out: {error}", path.display()));
                    None
                }
            }
        };
        paths.filter_map(read).collect()
    }
}

/// What a step of a run does: its model, its data and its items.
fn work<M: ModelSettings>(settings: &Settings<M>) -> Words {
    let mut work = words(settings);
    work.retain(|name, _| !TUNED.contains(&name.as_str()) && !UNRELATED.contains(&name.as_str()));
    let items = settings.run.batch_size * settings.run.accumulation_steps;
    work.insert("items".into(), items.to_string());
    work.insert("model".into(), M::MODEL.into());
    work
}

/// A setting that was chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Choice {
    setting: &'static str,
    value: String,
    reason: String,
}

/// What was chosen for a run, and from what.
#[derive(Clone, Debug, Serialize)]
pub struct Tuning {
    machine: Machine,
    free_memory: Option<Bytes>,
    /// The records that were used.
    records: BTreeMap<PathBuf, Record>,
    choices: Vec<Choice>,
}

impl Tuning {
    /// Chooses the settings of `settings.run` that are not `given`. `folder` has the earlier runs, `measure` returns the
    /// peak of a step of a run where no record says it.
    ///
    /// # Errors
    /// [`UsageError`] if no way fits into the memory that is free.
    pub fn choose<M: ModelSettings>(
        settings: &mut Settings<M>,
        given: &Words,
        machine: Machine,
        free: Option<Bytes>,
        folder: &Path,
        measure: impl FnMut(&RunSettings) -> Result<Option<Bytes>>,
    ) -> Result<Self> {
        let work = work(settings);
        let mut records = Record::all_in(folder);
        records.retain(|_, record| record.machine == machine && record.work == work);
        let costs = records.values().flat_map(|record| &record.costs);
        let choice = Chooser {
            default: Way::of(&settings.run),
            given,
            keeps_parts: !settings.model.adds_up(),
            recomputes: M::RECOMPUTES,
            free,
            costs: summary(costs),
        };
        let (way, reason) = choice.choose(&settings.run, measure)?;
        let items = way.batch_size * way.accumulation_steps;
        let mut choices = vec![Choice {
            setting: "items of a step",
            value: items.to_string(),
            reason: "kept: another number would learn something else".into(),
        }];
        let values = way.words();
        for setting in TUNED {
            let reason = match (given.contains_key(setting), setting) {
                (true, _) => "given".into(),
                (_, "workers") if way.workers.is_none() => {
                    format!("the loader's default for {} cores", machine.cores)
                }
                (_, "prefetch") => waiting_reason(&way.prefetch, free),
                _ => reason.clone(),
            };
            let value = values.get(setting).map_or("default", String::as_str);
            choices.push(Choice {
                setting,
                value: value.into(),
                reason,
            });
        }
        way.apply(&mut settings.run);
        Ok(Self {
            machine,
            free_memory: free,
            records,
            choices,
        })
    }

    /// Says each choice with its reason.
    pub fn note(&self) {
        for Choice {
            setting,
            value,
            reason,
        } in &self.choices
        {
            note(format_args!("auto-tune: {setting} {value} ({reason})"));
        }
    }

    /// Writes the choices, and what they were made from, next to the other artifacts of `run`.
    pub fn write(&self, run: &RunDir) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("cannot write the choices")?;
        run.replace_file(TUNING_FILE, |path| Ok(fs::write(path, text + "\n")?))
    }
}

/// Chooses the settings that are not given of a run that is planned on `data`, or on data that is going to be generated.
///
/// # Errors
/// [`UsageError`] if no way fits into the memory that is free.
pub fn tune<J: Job>(
    plan: &mut Plan<J::Settings>,
    data: Option<&J::Data>,
    machine: Machine,
    precision: Precision,
    device: &Device,
) -> Result<Tuning> {
    let stages = plan.settings.model.stages();
    if stages.is_some_and(|stages| stages.progressive.is_some()) {
        bail!(UsageError(
            "--auto-tune and --progressive both choose micro-batches; leave one out".into()
        ));
    }
    let folder = plan.artifact_dir().parent().unwrap_or(Path::new("."));
    let folder = folder.to_path_buf();
    let (mut made, base) = (None, plan.settings.clone());
    let measure = |run: &RunSettings| {
        let mut settings = base.clone();
        settings.run = run.clone();
        let job = J::new(settings)?;
        let data = match data {
            Some(data) => data,
            None => {
                if made.is_none() {
                    let folder = tempfile::tempdir();
                    let folder = folder.context("cannot make a folder for generated data")?;
                    made = Some((job.generate(folder.path())?, folder));
                }
                made.as_ref()
                    .map(|(data, _)| data)
                    .context("data was generated")?
            }
        };
        let network = job.network(Some(data), &mut CutPlan::default(), device)?;
        let session = Session::new(&job, data, run, precision, std::slice::from_ref(device))?;
        Ok(Estimate::measure(&job, run, network, session, device)?.peak)
    };
    let free = free_on(device);
    let Plan {
        settings, given, ..
    } = plan;
    Tuning::choose(settings, given, machine, free, &folder, measure)
}

fn waiting_reason(prefetch: &str, free: Option<Bytes>) -> String {
    match free {
        Some(free) => format!("at most a quarter of the {free} that are free, got {prefetch}"),
        None => "the default: free memory is not known".into(),
    }
}
