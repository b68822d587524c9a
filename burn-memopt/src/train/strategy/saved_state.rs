use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::lr_scheduler::LrSchedulerRecord;
use burn::train::checkpoint::{Checkpointer, CheckpointerError, FileCheckpointer};

use crate::files;
use crate::train::TrainState;

/// Epochs whose state is kept for a checkpointer: burn saves in a thread of its
/// own, which may be one epoch behind.
const KEPT_EPOCHS: usize = 2;

/// What a strategy and its checkpointers exchange.
#[derive(Debug, Default)]
struct Exchange {
    /// The states at the end of the last epochs.
    ended: BTreeMap<usize, TrainState>,
    /// The state of the epoch from which the run is resumed.
    restored: Option<(usize, TrainState)>,
    has_checkpointer: bool,
}

/// What a strategy shares with its checkpointers.
#[derive(Debug, Clone, Default)]
pub(super) struct SavedState(Arc<Mutex<Exchange>>);

impl SavedState {
    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn checkpointer(&self, directory: &Path) -> StateCheckpointer {
        self.exchange().has_checkpointer = true;
        StateCheckpointer {
            scheduler: FileCheckpointer::new(directory, "scheduler"),
            directory: directory.to_path_buf(),
            state: self.clone(),
        }
    }

    pub(super) fn has_checkpointer(&self) -> bool {
        self.exchange().has_checkpointer
    }

    /// Leaves the state at the end of `epoch` to the checkpointer.
    pub(super) fn end_epoch(&self, epoch: usize, state: TrainState) {
        let mut exchange = self.exchange();
        exchange.ended.insert(epoch, state);
        while exchange.ended.len() > KEPT_EPOCHS {
            exchange.ended.pop_first();
        }
    }

    /// Takes the state that was read for a run that is resumed after `epoch`.
    pub(super) fn take_restored(&self, epoch: usize) -> Option<TrainState> {
        let restored = self.exchange().restored.take();
        restored
            .filter(|(of, _)| *of == epoch)
            .map(|(_, state)| state)
    }
}

/// Saves the record of a learning-rate schedule as burn's own checkpointer does
/// (`scheduler-N.bpk`), and next to it the state of the trainer, with the
/// loss scale, as `step-N.json`.
///
/// burn-train has no checkpointer for a strategy's own state. This one wraps that of the scheduler,
/// so that the state is saved, deleted and restored at exactly the epochs the model is. Made by
/// [`MicroBatchStrategy::checkpointer`](super::MicroBatchStrategy::checkpointer).
pub struct StateCheckpointer {
    scheduler: FileCheckpointer,
    directory: PathBuf,
    state: SavedState,
}

impl StateCheckpointer {
    fn path(&self, epoch: usize) -> PathBuf {
        self.directory.join(format!("step-{epoch}.json"))
    }

    fn write(&self, path: &Path, state: &TrainState) -> Result<(), String> {
        let json = serde_json::to_vec_pretty(state).map_err(|error| error.to_string())?;
        files::write(path, |out| out.write_all(&json)).map_err(|error| error.to_string())
    }

    fn read(&self, path: &Path) -> Result<TrainState, String> {
        let json = fs::read(path).map_err(|error| error.to_string())?;
        serde_json::from_slice(&json).map_err(|error| error.to_string())
    }
}

impl Checkpointer<LrSchedulerRecord> for StateCheckpointer {
    fn save(&self, epoch: usize, record: LrSchedulerRecord) -> Result<(), CheckpointerError> {
        let state = self.state.exchange().ended.get(&epoch).cloned();
        let path = self.path(epoch);
        let written = match state {
            Some(state) => self.write(&path, &state),
            None => Err("its strategy does not run this training".to_string()),
        };
        written.map_err(|reason| unknown("written to", &path, &reason))?;
        self.scheduler.save(epoch, record)
    }

    fn delete(&self, epoch: usize) -> Result<(), CheckpointerError> {
        Checkpointer::<LrSchedulerRecord>::delete(&self.scheduler, epoch)?;
        match fs::remove_file(self.path(epoch)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(CheckpointerError::IOError(error))
            }
            _ => Ok(()),
        }
    }

    fn restore(&self, epoch: usize) -> Result<LrSchedulerRecord, CheckpointerError> {
        let path = self.path(epoch);
        let state = self
            .read(&path)
            .map_err(|reason| unknown("read from", &path, &reason))?;
        self.state.exchange().restored = Some((epoch, state));
        self.scheduler.restore(epoch)
    }
}

fn unknown(verb: &str, path: &Path, reason: &str) -> CheckpointerError {
    let path = path.display();
    CheckpointerError::Unknown(format!(
        "the state of the training step cannot be {verb} `{path}`: {reason}"
    ))
}
