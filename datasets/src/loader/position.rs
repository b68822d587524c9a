//! Where the consumer of a loader is.

use serde::{Deserialize, Serialize};

use super::error::LoaderError;

/// What a run has to save to take up its batches exactly where it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderState {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Items of the epoch that were taken.
    pub next_item: usize,
    /// Items in the dataset.
    pub num_items: usize,
    /// Items in a batch.
    pub batch_size: usize,
    /// Whether an epoch leaves out the last items that do not fill a batch.
    pub drop_last: bool,
    /// Seed of the shuffle, if there is one.
    pub seed: Option<u64>,
}

impl LoaderState {
    /// Checks that a loader in the state `current` continues this one.
    pub(super) fn check_matches(
        &self,
        current: &Self,
        epoch_len: usize,
    ) -> Result<(), LoaderError> {
        let settings = |state: &Self| {
            [
                ("a dataset of length", state.num_items.to_string()),
                ("batch size", state.batch_size.to_string()),
                ("drop_last", state.drop_last.to_string()),
                (
                    "shuffle seed",
                    state.seed.map_or("none".into(), |seed| seed.to_string()),
                ),
            ]
        };
        for ((what, saved), (_, current)) in settings(self).into_iter().zip(settings(current)) {
            if saved != current {
                return Err(LoaderError::OtherLoader {
                    what,
                    saved,
                    current,
                });
            }
        }
        let next_item = self.next_item;
        if next_item >= epoch_len || !next_item.is_multiple_of(self.batch_size) {
            return Err(LoaderError::OutsideEpoch {
                next_item,
                epoch_len,
            });
        }
        Ok(())
    }
}

/// The next item to deliver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: u64,
    pub(super) next_item: usize,
}

impl Position {
    /// The position after `end` items of the epoch were taken.
    pub(super) fn after(self, end: usize, epoch_len: usize) -> Self {
        match end < epoch_len {
            true => Self {
                next_item: end,
                ..self
            },
            false => Self {
                epoch: self.epoch + 1,
                next_item: 0,
            },
        }
    }
}
