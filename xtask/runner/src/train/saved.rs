//! Saving what a run needs to go on, and going on from it.
//!
//! ```text
//! checkpoint-200/
//!   model.bpk       parameters and running statistics, burn's record
//!   optimizer.bpk   the optimizer's record; of several, optimizer-NAME.bpk each
//!   state.json      step, loss scaler, place in the data, losses
//! ```
//! Random numbers need no file: each step seeds them by the run's seed and its number.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use burn::module::Module;
use burn_memopt::train::TrainState;
use burn_memopt_datasets::loader::LoaderState;
use serde::{Deserialize, Serialize};

use super::job::Job;
use super::session::{Losses, Session};
use super::trainer::Trainer;

/// The file of a saved state that holds the network.
pub const MODEL_FILE: &str = "model.bpk";
const STATE_FILE: &str = "state.json";

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
///
/// # Errors
/// If a file cannot be written.
pub fn save<J: Job>(dir: &Path, network: &J::Network, session: &Session<J>) -> Result<()> {
    // The snapshot for validation has all updates of running statistics in it.
    network
        .valid()
        .save_file(dir.join(MODEL_FILE))
        .context("cannot write the model")?;
    let steps = session.train.steps();
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
/// If a file cannot be read, or is of another network, precision or data.
pub fn load<J: Job>(
    dir: &Path,
    job: &J,
    data: &J::Data,
    network: J::Network,
    session: &mut Session<J>,
) -> Result<J::Network> {
    let context = |file: &str| {
        let path = dir.join(file).display().to_string();
        move || format!("cannot go on from {path}; start a new run, or resume another one")
    };
    let state = fs::read_to_string(dir.join(STATE_FILE)).with_context(context(STATE_FILE))?;
    let state: State = serde_json::from_str(&state).with_context(context(STATE_FILE))?;
    let network = network
        .try_load_file(dir.join(MODEL_FILE))
        .with_context(context(MODEL_FILE))?;
    let states = std::iter::once(state.train).chain(state.further);
    let steps = session.train.steps_mut().into_iter();
    for ((train, name), state) in steps.zip(J::Trainer::NAMES).zip(states) {
        let file = optimizer_file(name);
        let optimizer = J::optimizer()
            .load(dir.join(&file))
            .with_context(context(&file))?;
        train.set_optimizer(optimizer);
        train.load_state(state)?;
    }
    session.go_on(job, data, &state.loader)?;
    session.losses = state.losses;
    session.step = state.step;
    Ok(network)
}
