//! Saving what a run needs to go on, and going on from it.
//!
//! ```text
//! checkpoint-200/
//!   model.bpk       parameters and running statistics, burn's record
//!   optimizer.bpk   the optimizer's record
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
use super::session::{Losses, Session, optimizer};

/// The file of a saved state that holds the network.
pub const MODEL_FILE: &str = "model.bpk";
const OPTIMIZER_FILE: &str = "optimizer.bpk";
const STATE_FILE: &str = "state.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    step: u64,
    train: TrainState,
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
    session
        .train
        .optimizer()
        .save(dir.join(OPTIMIZER_FILE))
        .context("cannot write the optimizer's state")?;
    let state = State {
        step: session.step,
        train: session.train.state().clone(),
        loader: session.feed.loader.state(),
        losses: session.losses.clone(),
    };
    let text = serde_json::to_string_pretty(&state).context("cannot write the state as JSON")?;
    fs::write(dir.join(STATE_FILE), text + "\n").context("cannot write the state")
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
    let optimizer = optimizer()
        .load(dir.join(OPTIMIZER_FILE))
        .with_context(context(OPTIMIZER_FILE))?;
    session.train.set_optimizer(optimizer);
    session.train.load_state(state.train)?;
    session.go_on(job, data, &state.loader)?;
    session.losses = state.losses;
    session.step = state.step;
    Ok(network)
}
