//! What can go wrong while batches are made.

use burn::data::dataset::DatasetError;

/// Why a batch could not be made, or a loader not be built or resumed.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum LoaderError {
    /// An epoch would hold no batch.
    #[error(
        "a dataset of {num_items} items gives no batch of {batch_size}: add items, or choose a smaller batch size"
    )]
    NoBatches {
        /// Items in the dataset.
        num_items: usize,
        /// Items in a batch.
        batch_size: usize,
    },
    /// An item could not be read.
    #[error("cannot load item {index} (position {position} of epoch {epoch})")]
    Item {
        /// The item's index in the dataset.
        index: usize,
        /// Its position in the epoch's order.
        position: usize,
        /// The epoch, from 0.
        epoch: u64,
        /// What the dataset found.
        #[source]
        source: DatasetError,
    },
    /// The dataset panicked.
    #[error("loading item {index} (position {position} of epoch {epoch}) panicked: {message}")]
    ItemPanicked {
        /// The item's index in the dataset.
        index: usize,
        /// Its position in the epoch's order.
        position: usize,
        /// The epoch, from 0.
        epoch: u64,
        /// The panic's message.
        message: String,
    },
    /// The batcher panicked.
    #[error("batching the items {indices:?} of epoch {epoch} panicked: {message}")]
    BatchPanicked {
        /// The items' indices in the dataset.
        indices: Vec<usize>,
        /// The epoch, from 0.
        epoch: u64,
        /// The panic's message.
        message: String,
    },
    /// The background thread could not be started.
    #[error("cannot start the loader's thread: set `prefetch` to 0 to do without it")]
    Thread(#[source] std::io::Error),
    /// The background thread ended without its last batch.
    #[error("the loader's thread ended before epoch {epoch} did")]
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
    /// A saved state lies outside an epoch.
    #[error(
        "cannot resume: the saved run was at item {next_item} of an epoch of {epoch_len} items, so the state is damaged; use another one, or start a new run"
    )]
    OutsideEpoch {
        /// The position saved.
        next_item: usize,
        /// Items in an epoch.
        epoch_len: usize,
    },
}
