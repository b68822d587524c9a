//! What a run saves so that it can be resumed.
//!
//! ```text
//! plan.json         where the network is cut, if that took a plan
//! tiles.json        which tiles it trains on, and why, if it does
//! checkpoint-200/
//!   model.bpk       parameters and running statistics, burn's record
//!   optimizer.bpk   the optimizer's record; of several, optimizer-NAME.bpk each
//!   state.json      step, loss scaler, place in the data, losses
//! ```
//! Random numbers need no file: each step seeds them by the run's seed and its number.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn_memopt::grad_checkpoint::Plan;
use burn_memopt::train::{MicroBatchTrainers, TrainState};
use burn_memopt_datasets::loader::LoaderState;
use figment::Figment;
use figment::providers::{Format, Yaml};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::job::{Job, Trainer};
use super::optimizer;
use super::quantize::config_in;
use super::session::{Losses, Session};
use super::tile_plan::{TileChoice, TileRequest};
use crate::run_dir::RunDir;
use crate::settings::UsageError;

/// The file of a saved state that holds the network.
pub const MODEL_FILE: &str = "model.bpk";
/// The file of a saved state that says how far the run is.
pub const STATE_FILE: &str = "state.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    step: u64,
    train: TrainState,
    /// Of the optimizers after the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    further: Vec<TrainState>,
    loader: LoaderState,
    losses: Losses,
}

/// Writes the state of a run into the empty folder `dir`.
pub fn save<J: Job>(dir: &Path, network: &J::Network, session: &Session<J>) -> Result<()> {
    // The snapshot for validation has all updates of running statistics in it.
    network
        .valid()
        .save_file(dir.join(MODEL_FILE))
        .context("cannot write the model")?;
    let steps = session.train.trainers();
    for (train, name) in steps.iter().zip(J::Trainer::NAMES) {
        let optimizer = train.optimizer();
        optimizer
            .save(dir.join(optimizer_file(name)))
            .context("cannot write the optimizer's state")?;
    }
    let mut states = steps.into_iter().map(|train| train.state().clone());
    let state = State {
        step: session.step,
        train: states.next().context("a run has an optimizer")?,
        further: states.collect(),
        loader: session.feed.loader.state(),
        losses: session.losses.clone(),
    };
    let text = serde_json::to_string_pretty(&state).context("cannot write the state as JSON")?;
    fs::write(dir.join(STATE_FILE), text + "\n").context("cannot write the state")
}

/// The file of an optimizer, by the name of its network.
fn optimizer_file(name: &str) -> String {
    match name {
        "" => "optimizer.bpk".into(),
        name => format!("optimizer-{name}.bpk"),
    }
}

/// Brings `network` and `session` to the state saved in `dir`.
///
/// # Errors
/// [`UsageError`] if its weights are packed. If a file is damaged or of another network.
pub fn load<J: Job>(
    dir: &Path,
    job: &J,
    data: &J::Data,
    network: J::Network,
    session: &mut Session<J>,
) -> Result<J::Network> {
    if config_in(dir)?.is_some() {
        bail!(UsageError(format!(
            "the weights in {} are packed and cannot be trained; resume the run that was quantized",
            dir.display()
        )));
    }
    let context = |file: &str| {
        let path = dir.join(file).display().to_string();
        move || format!("cannot go on from {path}; start a new run, or resume another one")
    };
    let state = read_state(dir).with_context(context(STATE_FILE))?;
    let network = network
        .try_load_file(dir.join(MODEL_FILE))
        .with_context(context(MODEL_FILE))?;
    let states = std::iter::once(state.train).chain(state.further);
    let steps = session.train.trainers_mut().into_iter();
    for ((train, name), state) in steps.zip(J::Trainer::NAMES).zip(states) {
        let (optimizer, settings) = (session.optimizer.clone(), session.optimizer_settings);
        let optimizer = optimizer::load(optimizer, settings, &dir.join(optimizer_file(name)))?;
        train.set_optimizer(optimizer);
        train.load_state(state)?;
    }
    session.losses = state.losses;
    session.step = state.step;
    session.resume(job, data, &state.loader)?;
    Ok(network)
}

/// Loads what an evaluation needs: the network, packed or not, and how far it was trained. What makes steps is left out, so
/// that a run of another precision or optimizer is evaluated on any device.
pub fn load_to_evaluate<J: Job>(
    dir: &Path,
    network: J::Network,
    session: &mut Session<J>,
) -> Result<J::Network> {
    let config = config_in(dir)?;
    let advice = match config {
        Some(_) => "cannot use the packed weights",
        None => "cannot evaluate what was saved",
    };
    let file = dir.join(MODEL_FILE);
    let read = || -> Result<(State, J::Network)> {
        let state = read_state(dir)?;
        let network = match &config {
            Some(config) => config.load(network, file)?,
            None => network.try_load_file(file)?,
        };
        Ok((state, network))
    };
    let context = || {
        format!(
            "{advice} in {}; train or quantize the run again",
            dir.display()
        )
    };
    let (state, network) = read().with_context(context)?;
    session.losses = state.losses;
    session.step = state.step;
    Ok(network)
}

fn read_state(dir: &Path) -> Result<State> {
    from_json(&fs::read_to_string(dir.join(STATE_FILE))?)
}

/// Reads JSON, with all digits of its numbers: serde_json may miss the last bit. JSON is YAML.
pub fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    Ok(Figment::from(Yaml::string(text)).extract()?)
}

/// The file of a run that says where its network is cut.
const PLAN_FILE: &str = "plan.json";
/// The file of a run that says which tiles it trains on.
const TILES_FILE: &str = "tiles.json";

/// Where the network of a run is cut, if that took a plan, and its tiles, if it trains on some.
#[derive(Debug, Default)]
pub struct CutPlan {
    cut: Option<SavedPlan>,
    tiles: Option<TileChoice>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedPlan {
    /// The policy as it was given.
    grad_checkpoint: String,
    /// Shape of a micro-batch of inputs.
    input: Vec<usize>,
    plan: Plan,
}

impl CutPlan {
    /// The plan that a run was saved with.
    pub fn open(run: &RunDir) -> Result<Self> {
        Ok(Self {
            cut: read(run, PLAN_FILE)?,
            tiles: read(run, TILES_FILE)?,
        })
    }

    /// The tiles, if they were chosen for such a request.
    pub fn tiles(&self, request: &TileRequest) -> Option<&TileChoice> {
        self.tiles.as_ref().filter(|tiles| tiles.is_for(request))
    }

    /// The tiles that were chosen, whatever for.
    pub fn chosen_tiles(&self) -> Option<&TileChoice> {
        self.tiles.as_ref()
    }

    /// Keeps the tiles that were chosen.
    pub fn set_tiles(&mut self, tiles: TileChoice) {
        self.tiles = Some(tiles);
    }

    /// The plan for a policy and an input: the saved one if it was made for both, else a new one.
    pub fn get_or_make(
        &mut self,
        policy: &str,
        input: &[usize],
        make: impl FnOnce() -> Result<Plan>,
    ) -> Result<Plan> {
        if let Some(saved) = &self.cut
            && saved.grad_checkpoint == policy
            && saved.input == input
        {
            return Ok(saved.plan.clone());
        }
        let plan = make()?;
        self.cut = Some(SavedPlan {
            grad_checkpoint: policy.to_owned(),
            input: input.to_vec(),
            plan: plan.clone(),
        });
        Ok(plan)
    }

    /// Saves the plans with the run, if there are any.
    pub fn save(&self, run: &RunDir) -> Result<()> {
        write(run, PLAN_FILE, self.cut.as_ref())?;
        write(run, TILES_FILE, self.tiles.as_ref())
    }
}

fn read<T: DeserializeOwned>(run: &RunDir, file: &str) -> Result<Option<T>> {
    let path = run.root().join(file);
    if !path.exists() {
        return Ok(None);
    }
    let context = || {
        let path = path.display();
        format!("cannot use the plan in {path}; remove the file and the run plans again")
    };
    let text = fs::read_to_string(&path).with_context(context)?;
    from_json(&text).map(Some).with_context(context)
}

fn write<T: Serialize>(run: &RunDir, file: &str, plan: Option<&T>) -> Result<()> {
    let Some(plan) = plan else {
        return Ok(());
    };
    let text = serde_json::to_string_pretty(plan).context("cannot write the plan as JSON")?;
    run.replace_file(file, |path| Ok(fs::write(path, text + "\n")?))
}

#[cfg(test)]
mod tests {
    use burn_memopt::grad_checkpoint::Span;
    use burn_memopt::memory::Bytes;

    use super::*;

    fn nested(peak: u64) -> Plan {
        let inner = vec![Span::recomputed(0..2), Span::plain(2..3)];
        Plan {
            spans: vec![Span::recomputed(0..3).with_inner(inner), Span::plain(3..4)],
            predicted_peak: Bytes::new(peak),
            recomputed: 1.25,
        }
    }

    #[test]
    fn a_run_goes_on_with_its_plan_and_plans_again_for_another_input() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), "unet", &serde_json::json!({}));
        let run = run.unwrap();
        let mut first = CutPlan::open(&run).unwrap();
        first.save(&run).unwrap();
        let input = [2, 1, 32, 32];
        let made = first
            .get_or_make("least", &input, || Ok(nested(1)))
            .unwrap();
        first.save(&run).unwrap();

        let mut resumed = CutPlan::open(&run).unwrap();
        let unused = || panic!("the saved plan is used");
        assert_eq!(resumed.get_or_make("least", &input, unused).unwrap(), made);
        let other = resumed.get_or_make("least", &[4, 1, 32, 32], || Ok(nested(2)));
        assert_eq!(other.unwrap(), nested(2));
        let other = resumed.get_or_make("budget=1GiB", &[4, 1, 32, 32], || Ok(nested(3)));
        assert_eq!(other.unwrap(), nested(3));
    }

    #[test]
    fn a_broken_plan_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), "unet", &serde_json::json!({}));
        let run = run.unwrap();
        fs::write(run.root().join(PLAN_FILE), "{").unwrap();
        let error = CutPlan::open(&run).unwrap_err();
        assert!(format!("{error:#}").contains("plan.json"), "{error:#}");
    }
}
