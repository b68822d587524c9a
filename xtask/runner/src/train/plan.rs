//! What a run is going to do and how much memory it needs, before anything is written: what is known
//! exactly, and the rest measured by running a step of it.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_memopt::files;
use burn_memopt::memory::estimate::ModelBytes;
use burn_memopt::memory::{Bytes, MemoryTracker, PeakMeter, PeakMethod, on_host};
use burn_memopt::train::StepOutcome;
use serde::Serialize;
use serde_json::json;
use xtask::cli::values::Words;

use super::job::{Job, Trainer};
use super::optimizer::Kept;
use super::rehearsal::ENOUGH_MICRO_BATCHES;
use super::session::Session;
use super::stages::Schedule;
use super::tile_plan::TileChoice;
use crate::cli::{OptimizerStateChoice, TrainFlags};
use crate::report::print;
use crate::run_dir::{RunDir, SavedState};
use crate::settings::{ModelSettings, RunSettings, Settings, open_run, resolve, to_save};

/// A run that is about to begin or to be resumed. Nothing is written yet.
#[derive(Debug)]
pub struct Plan<M> {
    /// Every setting.
    pub settings: Settings<M>,
    /// The settings that a file or flags give, by name.
    pub given: Words,
    /// The run's artifact folder.
    pub artifact_dir: PathBuf,
    /// The run to continue, and the state to continue from if it has saved one.
    pub resumed: Option<(RunDir, Option<SavedState>)>,
    /// Whether a resumed run keeps all settings of its model.
    pub keeps_model: bool,
}

impl<M: ModelSettings> Plan<M> {
    /// Resolves the settings of a run from `flags` and what they name.
    pub fn new(flags: &TrainFlags<M>) -> Result<Self> {
        let Some(dir) = &flags.options.resume else {
            let (settings, given) = resolve(flags, None)?;
            let artifact_dir = settings.run.artifact_dir.clone();
            let artifact_dir = artifact_dir.unwrap_or_else(|| RunDir::default_root(M::MODEL));
            return Ok(Self {
                settings,
                given,
                artifact_dir,
                resumed: None,
                keeps_model: false,
            });
        };
        let (run, saved) = open_run(dir)?;
        let (settings, given) = resolve(flags, Some(&saved))?;
        if !flags.options.dry_run {
            run.clean_up()?;
            if let Some(table) = &settings.run.memory_log_file {
                files::remove_leftovers(table)?;
            }
        }
        let state = run.latest()?;
        Ok(Self {
            keeps_model: settings.model == saved.model,
            settings,
            given,
            artifact_dir: dir.clone(),
            resumed: Some((run, state)),
        })
    }

    /// Where the run's artifacts are, or are going to be.
    pub fn artifact_dir(&self) -> &Path {
        &self.artifact_dir
    }

    /// The artifact folder: the resumed run's, unchanged, or a new one.
    pub fn run_dir(&self) -> Result<RunDir> {
        match &self.resumed {
            Some((run, _)) => Ok(run.clone()),
            None => {
                let settings = to_save(&self.settings, &self.artifact_dir)?;
                RunDir::create(&self.artifact_dir, M::MODEL, &settings)
            }
        }
    }

    /// Prints every setting and the expected memory on stdout, as a table or as one
    /// JSON object.
    pub fn print(
        &self,
        expected: &Estimate,
        schedule: &Schedule,
        tiles: Option<&TileChoice>,
        as_json: bool,
    ) -> Result<()> {
        let state = self.resumed.as_ref().and_then(|(_, state)| state.as_ref());
        let resumed_step = state.map(|state| state.step);
        if as_json {
            let plan = json!({
                "event": "plan",
                "settings": serde_json::to_value(&self.settings).context("cannot turn the settings into JSON")?,
                "artifact_dir": xtask::cli::paths::to_text(&self.artifact_dir),
                "resumed_step": resumed_step,
                "memory": expected,
                "stages": schedule,
                "tiles": tiles,
            });
            return print(format_args!("{plan}\n"));
        }
        let folder = self.artifact_dir.display();
        print(format_args!(
            "{}{:<20} {folder}\n",
            self.settings, "artifact_dir"
        ))?;
        if let Some(step) = resumed_step {
            print(format_args!("{:<20} {step}\n", "resumed_step"))?;
        }
        print(expected)?;
        if let Some(tiles) = tiles {
            print(tiles)?;
        }
        let stages = schedule.stages().iter();
        stages.enumerate().try_for_each(|(number, stage)| {
            print(format_args!(
                "{:<20} {stage}\n",
                format!("stage_{}", number + 1)
            ))
        })
    }
}

/// The memory a run is going to need.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// Parameters and running statistics, f32, exact.
    pub parameters: Bytes,
    /// One gradient for each trained parameter, f32, exact.
    pub gradients: Bytes,
    /// What the optimizer keeps, exact.
    pub optimizer_state: Bytes,
    /// Where it does.
    pub optimizer_state_on: OptimizerStateChoice,
    /// The measured peak of a step without its gradients; `None` if unknown.
    pub activations: Option<Bytes>,
    /// What the program itself keeps, on the host: measured; `None` if unknown.
    pub program: Option<Bytes>,
    /// The most that loaded items take that wait for their step, on the host.
    pub waiting: Bytes,
    /// The measured peak of a step, without items that wait; `None` if unknown.
    #[serde(skip)]
    pub step: Option<Bytes>,
    /// All of it together, as in the run's summary; `None` if unknown.
    pub peak: Option<Bytes>,
    /// How the peak of the step was measured.
    pub method: PeakMethod,
}

impl Estimate {
    /// Measures one optimizer step of `session`, which is used up by it.
    ///
    /// The step is measured when the optimizer has its state. Of many micro-batches two
    /// are run: a third adds nothing.
    pub fn measure<J: Job>(
        job: &J,
        run: &RunSettings,
        network: J::Network,
        mut session: Session<J>,
        device: &Device,
    ) -> Result<Self> {
        let model = ModelBytes::of(&network);
        let (parameters, gradients) = (model.parameters, model.gradients);
        // The record of the run is memory too.
        let tracker = run
            .memory_tracking
            .then(|| MemoryTracker::of_device(device));
        let network = first_step(job, run, network, &mut session)?;
        let meter = PeakMeter::start(device);
        let num_micro_batches = run.accumulation_steps.min(ENOUGH_MICRO_BATCHES);
        run_step(job, run, network, &mut session, num_micro_batches)?;
        let reading = meter.finish();
        drop(tracker);
        let waiting = session.feed.waiting(usize::MAX);
        let step = reading.highest();
        let peak = step.map(|step| {
            if on_host(device) {
                step + waiting
            } else {
                step
            }
        });
        let kept = Kept::of(&model, run.optimizer, device);
        Ok(Self {
            parameters,
            gradients,
            optimizer_state: kept.state,
            optimizer_state_on: run.optimizer.optimizer_state,
            activations: reading.peak.map(|peak| peak - gradients),
            program: reading.baseline.map(|baseline| baseline - kept.resident),
            waiting,
            step,
            peak,
            method: reading.method,
        })
    }
}

/// Makes steps until one is not skipped: in half precision the first ones may overflow. One that has nothing to learn
/// from, as of images without a class, is taken as it is: it would be the same again.
fn first_step<J: Job>(
    job: &J,
    run: &RunSettings,
    mut network: J::Network,
    session: &mut Session<J>,
) -> Result<J::Network> {
    loop {
        let (next, outcome) = run_step(job, run, network, session, 1)?;
        network = next;
        if !matches!(outcome, StepOutcome::Skipped { .. }) {
            return Ok(network);
        }
    }
}

/// One optimizer step of `num_micro_batches`.
fn run_step<J: Job>(
    job: &J,
    run: &RunSettings,
    network: J::Network,
    session: &mut Session<J>,
    num_micro_batches: usize,
) -> Result<(J::Network, StepOutcome)> {
    for _ in 0..num_micro_batches {
        // Whole batches only: the last of an epoch may be smaller.
        session.feed.loader.rewind();
        let batch = session
            .feed
            .loader
            .batches()
            .next()
            .context("there is no batch")??;
        job.micro_batch(&network, &mut session.train, batch);
    }
    let (network, outcome) = session.train.flush(network, run.lr);
    Ok((network, outcome.context("cannot measure a step")?))
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.method {
            PeakMethod::Exact => "measured in one step",
            PeakMethod::Sampled => "sampled in one step, a lower bound",
            PeakMethod::Unknown => "this device does not report its memory",
        };
        let shown =
            |bytes: Option<Bytes>| bytes.map_or("unknown".into(), |bytes| bytes.to_string());
        let place = match self.optimizer_state_on {
            OptimizerStateChoice::Device => "exact",
            OptimizerStateChoice::Host => "exact, on the host",
        };
        let rows = [
            ("parameters", self.parameters.to_string(), "exact"),
            ("gradients", self.gradients.to_string(), "exact"),
            ("optimizer_state", self.optimizer_state.to_string(), place),
            ("activations", shown(self.activations), how),
            ("program", shown(self.program), "measured beside the run"),
            ("waiting", self.waiting.to_string(), "at most"),
            ("expected_peak", shown(self.peak), how),
        ];
        rows.iter()
            .try_for_each(|(name, amount, how)| writeln!(f, "{name:<20} {amount:<12} {how}"))
    }
}
