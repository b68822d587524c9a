//! Batches out of items that arrive in any order; pure.

use std::collections::BTreeMap;

use super::{
    LoaderConfig,
    budget::Budget,
    error::LoaderError,
    report::{SkippedItem, Tally},
};

/// What became of an item.
pub(super) enum Outcome<I> {
    Loaded {
        item: I,
        /// Whether it failed at first.
        recovered: bool,
    },
    Skipped(SkippedItem),
    Failed(LoaderError),
}

/// An item that was read, and tried.
pub(super) struct Arrival<I> {
    pub(super) index: u64,
    pub(super) bytes: u64,
    pub(super) total: Option<u64>,
    pub(super) outcome: Outcome<I>,
}

/// Items for the batcher.
pub(super) struct Gathered<I> {
    pub(super) items: Vec<I>,
    pub(super) indices: Vec<u64>,
    pub(super) bytes: u64,
    pub(super) tally: Tally,
}

impl<I> Default for Gathered<I> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            indices: Vec::new(),
            bytes: 0,
            tally: Tally::default(),
        }
    }
}

/// What an arrival led to.
pub(super) enum Step<I> {
    Batch(Gathered<I>),
    Failed(LoaderError),
}

/// Puts items into batches in their order, whatever the order in which they arrive.
pub(super) struct Assembly<I> {
    batch_size: usize,
    drop_last: bool,
    /// Number of the item that comes next into a batch, from 0.
    due: u64,
    early: BTreeMap<u64, Arrival<I>>,
    open: Gathered<I>,
}

impl<I> Assembly<I> {
    pub(super) fn new(config: &LoaderConfig) -> Self {
        Self {
            batch_size: config.batch_size,
            drop_last: config.drop_last,
            due: 0,
            early: BTreeMap::new(),
            open: Gathered::default(),
        }
    }

    /// Items that have their place, skipped ones included.
    pub(super) fn due(&self) -> u64 {
        self.due
    }

    /// Takes in item `number` of those that were read.
    pub(super) fn arrive(&mut self, number: u64, arrival: Arrival<I>) {
        self.early.insert(number, arrival);
    }

    /// Goes on to the next full batch, or failure, with what has arrived.
    pub(super) fn step(&mut self, budget: &mut Budget) -> Option<Step<I>> {
        while let Some(arrival) = self.early.remove(&self.due) {
            self.due += 1;
            let Arrival {
                index,
                bytes,
                total,
                outcome,
            } = arrival;
            let tally = &mut self.open.tally;
            tally.passed += 1;
            tally.total = total;
            match outcome {
                Outcome::Failed(error) => return Some(Step::Failed(error)),
                Outcome::Skipped(skipped) => tally.skip(skipped),
                Outcome::Loaded { item, recovered } => {
                    budget.gather(bytes);
                    tally.items += 1;
                    tally.recovered += u64::from(recovered);
                    self.open.bytes = self.open.bytes.saturating_add(bytes);
                    self.open.indices.push(index);
                    self.open.items.push(item);
                }
            }
            if self.open.items.len() == self.batch_size {
                return Some(Step::Batch(std::mem::take(&mut self.open)));
            }
        }
        None
    }

    /// Ends the epoch, all of which has arrived: the last batch, if there is one, and what
    /// came after it.
    pub(super) fn finish(&mut self) -> (Option<Gathered<I>>, Tally) {
        let mut last = std::mem::take(&mut self.open);
        let is_batch = !last.items.is_empty() && !self.drop_last;
        if is_batch {
            return (Some(last), Tally::default());
        }
        let mut rest = std::mem::take(&mut last.tally);
        // Left out by `drop_last`, not delivered.
        rest.items = 0;
        rest.recovered = 0;
        (None, rest)
    }
}
