//! Where the consumer of a loader is.

use serde::{Deserialize, Serialize};

use super::{LoaderConfig, error::LoaderError};
use crate::shuffle::ShuffleBuffer;

/// The form of [`LoaderState`] that is written.
const VERSION: u32 = 1;

/// What a run has to save to take up its batches exactly where it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderState {
    /// The form of the state; 1 where nothing is said.
    #[serde(default = "first_version")]
    pub version: u32,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Items of the epoch's order that are done with: taken, or skipped because they failed.
    pub next_item: u64,
    /// Items in the dataset; `None` for a stream that does not know.
    pub num_items: Option<u64>,
    /// Items in a batch.
    pub batch_size: usize,
    /// Whether an epoch leaves out the last items that do not fill a batch.
    pub drop_last: bool,
    /// Seed of the shuffle, if there is one.
    pub seed: Option<u64>,
    /// The shuffle buffer of a stream; `None` for a dataset that is read by index.
    #[serde(default)]
    pub buffer: Option<BufferState>,
}

/// What a stream's shuffle buffer held: record numbers, from which a resumed run reads the
/// records again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BufferState {
    /// Room for records; 1 without a shuffle.
    pub size: usize,
    /// The record read first in an epoch.
    pub start: u64,
    /// The record to be read next.
    pub next: u64,
    /// The records that were read and have not left yet.
    pub held: Vec<u64>,
}

fn first_version() -> u32 {
    1
}

/// The next item to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: u64,
    /// Items of the epoch's order that are done with.
    pub(super) passed: u64,
    /// As it was after those; for streams only.
    pub(super) buffer: Option<ShuffleBuffer>,
}

impl Position {
    /// Goes on by `count` items of an epoch that turned out to have `total`.
    pub(super) fn advance(&mut self, count: u64, total: Option<u64>) {
        self.passed += count;
        if let Some(buffer) = &mut self.buffer {
            let end = total.map(|total| buffer.start() + total);
            buffer.advance(count, end);
        }
    }

    pub(super) fn state(&self, num_items: Option<u64>, config: &LoaderConfig) -> LoaderState {
        let buffer = self.buffer.as_ref().map(|buffer| BufferState {
            size: buffer.size(),
            start: buffer.start(),
            next: buffer.next(),
            held: buffer.held().to_vec(),
        });
        LoaderState {
            version: VERSION,
            epoch: self.epoch,
            next_item: self.passed,
            num_items,
            batch_size: config.batch_size,
            drop_last: config.drop_last,
            seed: config.shuffle,
            buffer,
        }
    }
}

impl LoaderState {
    /// The position of a loader that is to go on from here, and is at the `beginning` of
    /// this epoch as yet.
    pub(super) fn position(
        &self,
        beginning: Position,
        num_items: Option<u64>,
        config: &LoaderConfig,
    ) -> Result<Position, LoaderError> {
        self.check_matches(&beginning.state(num_items, config))?;
        let next_item = self.next_item;
        // A stream finds its end, and then the next epoch, when it is read.
        let is_outside = |total| match self.buffer {
            None => config.is_over(next_item, total),
            Some(_) => next_item > total,
        };
        if let Some(total) = num_items.filter(|&total| is_outside(total)) {
            return Err(LoaderError::OutsideEpoch {
                next_item,
                epoch_len: total,
            });
        }
        let restored = |saved: &BufferState, fresh: &ShuffleBuffer| {
            let BufferState { next, held, .. } = saved.clone();
            fresh
                .restored(next, held)
                .filter(|buffer| buffer.drawn() == next_item)
                .ok_or(LoaderError::DamagedBuffer { next_item })
        };
        let buffers = self.buffer.as_ref().zip(beginning.buffer.as_ref());
        Ok(Position {
            epoch: self.epoch,
            passed: next_item,
            buffer: buffers
                .map(|(saved, fresh)| restored(saved, fresh))
                .transpose()?,
        })
    }

    /// Checks that batches of a loader with the settings of `current` continue this one's.
    fn check_matches(&self, current: &Self) -> Result<(), LoaderError> {
        if self.version > VERSION {
            return Err(LoaderError::NewerState {
                saved: self.version,
                known: VERSION,
            });
        }
        let differing = self.settings().into_iter().zip(current.settings());
        for ((what, saved), (_, current)) in differing {
            if saved != current {
                return Err(LoaderError::OtherLoader {
                    what,
                    saved,
                    current,
                });
            }
        }
        Ok(())
    }

    fn settings(&self) -> [(&'static str, String); 7] {
        let known = |number: Option<u64>, unknown: &str| {
            number.map_or(unknown.to_owned(), |number| number.to_string())
        };
        let buffer = |number: fn(&BufferState) -> u64| self.buffer.as_ref().map(number);
        let kind = match self.buffer {
            Some(_) => "front to back",
            None => "by index",
        };
        [
            ("a dataset read", kind.to_owned()),
            ("a dataset of length", known(self.num_items, "unknown")),
            ("batch size", self.batch_size.to_string()),
            ("drop_last", self.drop_last.to_string()),
            ("shuffle seed", known(self.seed, "none")),
            (
                "a shuffle buffer of size",
                known(buffer(|buffer| buffer.size as u64), "none"),
            ),
            ("first record", known(buffer(|buffer| buffer.start), "none")),
        ]
    }
}
