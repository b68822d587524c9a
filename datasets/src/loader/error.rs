//! What can go wrong while batches are made.

use std::{any::Any, error::Error as _};

use burn::data::dataset::DatasetError;

use crate::with_causes;

/// Why a batch could not be made, or a loader not be built or resumed.
///
/// Items are named by their index in the dataset, or their record number in the stream.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum LoaderError {
    /// An epoch would hold no batch.
    #[error(
        "a dataset of {num_items} items gives no batch of {batch_size}: add items, or choose a smaller batch size"
    )]
    NoBatches {
        /// Items in the dataset.
        num_items: u64,
        /// Items in a batch.
        batch_size: usize,
    },
    /// An epoch held no batch.
    #[error(
        "epoch {epoch} gave no batch, {skipped} items were skipped: the loader's report says why; without any, the stream is empty or shorter than a batch"
    )]
    EmptyEpoch {
        /// The epoch, from 0.
        epoch: u64,
        /// Items that were skipped because they failed.
        skipped: u64,
    },
    /// An item could not be read or loaded.
    #[error("cannot load item {index} (position {position} of epoch {epoch})")]
    Item {
        /// The item.
        index: u64,
        /// Its position in the epoch's order.
        position: u64,
        /// The epoch, from 0.
        epoch: u64,
        /// What the dataset found.
        #[source]
        source: DatasetError,
    },
    /// The dataset panicked.
    #[error("loading item {index} (position {position} of epoch {epoch}) panicked: {message}")]
    ItemPanicked {
        /// The item.
        index: u64,
        /// Its position in the epoch's order.
        position: u64,
        /// The epoch, from 0.
        epoch: u64,
        /// The panic's message.
        message: String,
    },
    /// The batcher panicked.
    #[error("batching the items {indices:?} of epoch {epoch} panicked: {message}")]
    BatchPanicked {
        /// The items.
        indices: Vec<u64>,
        /// The epoch, from 0.
        epoch: u64,
        /// The panic's message.
        message: String,
    },
    /// A thread ended in the middle of its work.
    #[error(
        "a thread of the loader was lost in epoch {epoch}, and with it what it was loading: a value of the dataset panicked while it was dropped"
    )]
    ThreadLost {
        /// The epoch, from 0.
        epoch: u64,
    },
    /// A saved state belongs to another loader.
    #[error(
        "cannot resume: the saved run had {what} {saved}, this loader has {current}; use the saved setting, or start a new run"
    )]
    OtherLoader {
        /// The setting that differs.
        what: &'static str,
        /// Its value in the saved run.
        saved: String,
        /// Its value here.
        current: String,
    },
    /// A saved state was written by a later version.
    #[error(
        "cannot resume: the state has form {saved}, and forms up to {known} are known; use the version that wrote it"
    )]
    NewerState {
        /// The form of the state.
        saved: u32,
        /// The latest form known.
        known: u32,
    },
    /// A saved state is outside an epoch.
    #[error(
        "cannot resume: the saved run was at item {next_item} of an epoch of {epoch_len} items, so the state is damaged; use another one, or start a new run"
    )]
    OutsideEpoch {
        /// The position saved.
        next_item: u64,
        /// Items in an epoch.
        epoch_len: u64,
    },
    /// A saved shuffle buffer cannot have been one.
    #[error(
        "cannot resume: the saved shuffle buffer is not one that a run has after {next_item} items, so the state is damaged; use another one, or start a new run"
    )]
    DamagedBuffer {
        /// The position saved.
        next_item: u64,
    },
}

/// Why an item could not be loaded.
pub(super) enum Failure {
    Error(DatasetError),
    Panic(String),
}

impl Failure {
    /// In words, with causes.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Panic(message) => format!("panicked: {message}"),
            // burn's error says what its source says, so the text begins one below.
            Self::Error(error) => with_causes(error.source().unwrap_or(error)),
        }
    }
}

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
