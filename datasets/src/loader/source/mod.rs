//! Where a loader's items come from, in one form for both kinds of dataset: first read in
//! order, by one thread at a time, then loaded by any.

mod indexed;
mod streamed;

use std::sync::Arc;

use burn::data::dataset::DatasetError;

use super::{LoaderConfig, position::Position};
use crate::shuffle::mix;

pub(super) use indexed::ByIndex;
pub(super) use streamed::AsStream;

/// A dataset of either kind.
pub(super) trait Source<I>: Send + Sync {
    /// Items of an epoch, where that is known.
    fn len(&self) -> Option<u64>;

    /// The beginning of an epoch.
    fn begin(&self, epoch: u64, config: &LoaderConfig) -> Position;

    /// What is read from `position` to the end of its epoch.
    fn feed(&self, position: &Position, config: &LoaderConfig) -> Box<dyn Feed<I>>;

    /// The items from `start` to before `end`.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn Source<I>>;
}

/// What is read one after the other, in the order of an epoch.
pub(super) trait Feed<I>: Send {
    /// The next item, not yet loaded.
    fn next(&mut self) -> Result<Option<Ticket<I>>, DatasetError>;

    /// The item that is being read, if [`next`](Self::next) fails or panics.
    fn reading(&self) -> u64;
}

/// An item that is to be loaded.
pub(super) struct Ticket<I> {
    /// Its index or record number.
    pub(super) index: u64,
    /// Bytes that it takes once it is loaded.
    pub(super) bytes: u64,
    /// Items of the whole epoch, once that is known.
    pub(super) total: Option<u64>,
    /// Loads it; again, if it is called again.
    pub(super) load: Box<dyn FnMut() -> Result<I, DatasetError> + Send>,
}

/// The seed of an epoch, for its items' seeds and its order.
pub(super) fn epoch_seed(config: &LoaderConfig, epoch: u64) -> u64 {
    mix(config.shuffle.unwrap_or(0), epoch)
}
