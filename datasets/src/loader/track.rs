//! Where the consumer of a loader is, and what it got on the way there.

use std::fmt;

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
    /// The position from which a loader that is at the `beginning` of this epoch resumes.
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

/// Where the consumer is and what it got, shared by all copies of a loader.
pub(super) struct Track {
    pub(super) position: Position,
    pub(super) report: LoaderReport,
    /// Items of an epoch, once one was seen to its end.
    pub(super) total: Option<u64>,
    /// Number of the iterator that moves the position: the one made last, and none after
    /// the position was set.
    pub(super) mover: u64,
}

impl Track {
    pub(super) fn new(position: Position) -> Self {
        Self {
            position,
            report: LoaderReport::default(),
            total: None,
            mover: 0,
        }
    }

    /// Sets the position; iterators that exist do not move it any more.
    pub(super) fn set(&mut self, position: Position) {
        self.position = position;
        self.mover += 1;
    }
}

/// Skipped items that a report names.
const NAMED: usize = 16;

/// What became of a loader's items since it was made: what the consumer got, and what was
/// left out on the way to it.
///
/// A resumed run counts from its resumption on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoaderReport {
    /// Batches that were taken.
    pub batches: u64,
    /// Items in them.
    pub items: u64,
    /// Items that were left out because they failed.
    pub skipped: u64,
    /// Items that were loaded after failing at first.
    pub recovered: u64,
    /// The first items that were left out, at most 16.
    pub first_skipped: Vec<SkippedItem>,
    /// The most bytes in flight, by what the dataset says its items cost.
    pub bytes_peak: u64,
}

/// An item that was left out because it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedItem {
    /// Its index or record number.
    pub index: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Why it failed, causes included.
    pub reason: String,
}

/// What became of the items of a batch, and of those skipped before it was full.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Items of the epoch's order.
    pub(super) passed: u64,
    /// Items of the whole epoch, once that is known.
    pub(super) total: Option<u64>,
    /// Items delivered.
    pub(super) items: u64,
    pub(super) recovered: u64,
    pub(super) skipped: u64,
    /// The most bytes in flight in its run so far.
    pub(super) bytes_peak: u64,
    pub(super) first_skipped: Vec<SkippedItem>,
}

impl Tally {
    pub(super) fn skip(&mut self, item: SkippedItem) {
        self.skipped += 1;
        if self.first_skipped.len() < NAMED {
            self.first_skipped.push(item);
        }
    }
}

impl LoaderReport {
    pub(super) fn add(&mut self, tally: Tally) {
        self.batches += u64::from(tally.items > 0);
        self.items += tally.items;
        self.recovered += tally.recovered;
        self.skipped += tally.skipped;
        self.bytes_peak = self.bytes_peak.max(tally.bytes_peak);
        let room = NAMED - self.first_skipped.len();
        self.first_skipped
            .extend(tally.first_skipped.into_iter().take(room));
    }
}

impl fmt::Display for LoaderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            batches,
            items,
            skipped,
            recovered,
            ..
        } = self;
        write!(f, "{items} items in {batches} batches, {skipped} skipped")?;
        if *recovered > 0 {
            write!(f, ", {recovered} loaded after a retry")?;
        }
        for item in &self.first_skipped {
            let SkippedItem {
                index,
                epoch,
                reason,
            } = item;
            write!(f, "\n  item {index} of epoch {epoch}: {reason}")?;
        }
        let unnamed = skipped - self.first_skipped.len() as u64;
        if unnamed > 0 {
            write!(f, "\n  and {unnamed} more")?;
        }
        Ok(())
    }
}
