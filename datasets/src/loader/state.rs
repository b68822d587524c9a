//! What is known of a run, under its lock: what is to be done next, what has been done, and
//! how many bytes are in flight.
//! Pure.

use std::collections::{BTreeMap, VecDeque};

use super::{
    LoaderConfig,
    error::LoaderError,
    source::{Feed, Ticket},
    track::{SkippedItem, Tally},
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

/// A batch for the consumer.
pub(super) struct ReadyBatch<O> {
    pub(super) batch: Result<O, LoaderError>,
    pub(super) bytes: u64,
    pub(super) tally: Tally,
}

/// Something to do, outside the lock.
pub(super) enum Job<I> {
    Read(Box<dyn Feed<I>>),
    Load(u64, Ticket<I>),
    Batch(u64, Gathered<I>),
}

/// From the source to the consumer: items are read, admitted, loaded, gathered in their order,
/// whatever the order in which they arrive, and batched.
pub(super) struct State<I, O> {
    /// `None` while somebody reads from it, and after its end.
    pub(super) feed: Option<Box<dyn Feed<I>>>,
    /// Read, but not yet admitted.
    pub(super) waiting: Option<Ticket<I>>,
    /// Items that were admitted.
    pub(super) admitted: u64,
    pub(super) has_ended: bool,
    pub(super) budget: Budget,
    batch_size: usize,
    drop_last: bool,
    /// Number of the item that comes next into a batch, from 0.
    due: u64,
    /// Items that arrived, by number.
    pub(super) early: BTreeMap<u64, Arrival<I>>,
    /// The batch that is not full yet.
    pub(super) open: Gathered<I>,
    /// Full batches, the first of which is number `batched`.
    pub(super) gathered: VecDeque<Gathered<I>>,
    pub(super) batched: u64,
    /// Batches that are being put together.
    pub(super) making: usize,
    pub(super) ready: BTreeMap<u64, ReadyBatch<O>>,
    /// Batches that the consumer took.
    pub(super) taken: u64,
    /// After it no batch is gathered: how the run ends.
    pub(super) end: Option<Result<Tally, LoaderError>>,
    pub(super) is_stopped: bool,
    /// A thread was lost in the middle of a job.
    pub(super) is_broken: bool,
    /// Threads that help.
    pub(super) serving: usize,
}

impl<I, O> State<I, O> {
    pub(super) fn new(feed: Box<dyn Feed<I>>, config: &LoaderConfig) -> Self {
        Self {
            feed: Some(feed),
            waiting: None,
            admitted: 0,
            has_ended: false,
            budget: Budget::new(config.prefetch_bytes, config.batch_size),
            batch_size: config.batch_size,
            drop_last: config.drop_last,
            due: 0,
            early: BTreeMap::new(),
            open: Gathered::default(),
            gathered: VecDeque::new(),
            batched: 0,
            making: 0,
            ready: BTreeMap::new(),
            taken: 0,
            end: None,
            is_stopped: false,
            is_broken: false,
            serving: 0,
        }
    }

    /// The next job; batches only while fewer than `staged` are ready or being put together.
    pub(super) fn job(&mut self, staged: usize) -> Option<Job<I>> {
        if !self.has_job(staged) {
            return None;
        }
        if self.may_batch(staged) {
            return self.batching();
        }
        match self.waiting.take() {
            Some(ticket) => {
                self.budget.admit(ticket.bytes);
                self.admitted += 1;
                Some(Job::Load(self.admitted - 1, ticket))
            }
            None => self.feed.take().map(Job::Read),
        }
    }

    /// Whether [`job`](Self::job) would return one.
    pub(super) fn has_job(&self, staged: usize) -> bool {
        let may_load = || match &self.waiting {
            Some(ticket) => self.budget.admits(ticket.bytes),
            None => self.feed.is_some(),
        };
        self.may_batch(staged) || (self.is_open() && may_load())
    }

    /// The next batching, however many are staged.
    pub(super) fn batching(&mut self) -> Option<Job<I>> {
        let gathered = self.gathered.pop_front()?;
        self.making += 1;
        self.batched += 1;
        Some(Job::Batch(self.batched - 1, gathered))
    }

    fn may_batch(&self, staged: usize) -> bool {
        self.making + self.ready.len() < staged && !self.gathered.is_empty()
    }

    /// Whether items are of use yet.
    pub(super) fn is_open(&self) -> bool {
        !self.is_stopped && self.end.is_none()
    }

    /// Whether no job will ever come.
    pub(super) fn is_over(&self) -> bool {
        self.is_stopped || self.is_broken || (self.end.is_some() && self.gathered.is_empty())
    }

    /// Takes in item `number` of those that were read, and puts what has arrived into batches.
    pub(super) fn arrive(&mut self, number: u64, arrival: Arrival<I>) {
        self.early.insert(number, arrival);
        self.gather();
    }

    /// Puts what has arrived into batches; ends the epoch if that is all of it.
    pub(super) fn gather(&mut self) {
        while self.end.is_none()
            && let Some(arrival) = self.early.remove(&self.due)
        {
            self.due += 1;
            self.place(arrival);
        }
        if self.end.is_none() && self.has_ended && self.due == self.admitted {
            let mut last = std::mem::take(&mut self.open);
            let rest = if last.items.is_empty() || self.drop_last {
                // What `drop_last` leaves out was not delivered.
                last.tally.items = 0;
                last.tally.recovered = 0;
                last.tally
            } else {
                self.gathered.push_back(last);
                Tally::default()
            };
            self.end = Some(Ok(rest));
        }
    }

    /// Puts the item whose turn it is into the open batch.
    fn place(&mut self, arrival: Arrival<I>) {
        let tally = &mut self.open.tally;
        tally.passed += 1;
        tally.total = arrival.total;
        match arrival.outcome {
            Outcome::Failed(error) => self.end = Some(Err(error)),
            Outcome::Skipped(skipped) => tally.skip(skipped),
            Outcome::Loaded { item, recovered } => {
                self.budget.gather(arrival.bytes);
                tally.items += 1;
                tally.recovered += u64::from(recovered);
                self.open.bytes = self.open.bytes.saturating_add(arrival.bytes);
                self.open.indices.push(arrival.index);
                self.open.items.push(item);
            }
        }
        if self.open.items.len() == self.batch_size {
            self.gathered.push_back(std::mem::take(&mut self.open));
        }
    }
}

/// Bytes of the items that were admitted and that the consumer has not got yet.
///
/// Rules:
/// 1. Items that are loading or wait for their turn, the items *ahead*, take at most
///    the bound; or they are one item, which is larger than it.
/// 2. With those *gathered* in batches they take at most the bound; or all of them are fewer
///    items than a batch, which has to be gathered, however large it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Budget {
    bound: u64,
    batch_size: usize,
    ahead: u64,
    ahead_items: usize,
    gathered: u64,
    gathered_items: usize,
    peak: u64,
}

impl Budget {
    fn new(bound: u64, batch_size: usize) -> Self {
        Self {
            bound,
            batch_size,
            ..Self::default()
        }
    }

    /// Whether another item may be loaded now.
    fn admits(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).is_some_and(|sum| sum <= self.bound);
        let batch_needs_it = self.ahead_items + self.gathered_items < self.batch_size;
        let goes_alone = self.ahead_items == 0;
        fits(self.in_flight()) || (batch_needs_it && (goes_alone || fits(self.ahead)))
    }

    /// An item is going to be loaded.
    fn admit(&mut self, bytes: u64) {
        self.ahead = self.ahead.saturating_add(bytes);
        self.ahead_items += 1;
        self.peak = self.peak.max(self.in_flight());
    }

    /// An item was put into a batch.
    fn gather(&mut self, bytes: u64) {
        self.give_up(bytes);
        self.gathered = self.gathered.saturating_add(bytes);
        self.gathered_items += 1;
    }

    /// An item that was admitted is not there after all.
    pub(super) fn give_up(&mut self, bytes: u64) {
        self.ahead = self.ahead.saturating_sub(bytes);
        self.ahead_items -= 1;
    }

    /// The consumer got a batch.
    pub(super) fn hand_over(&mut self, bytes: u64, items: usize) {
        self.gathered = self.gathered.saturating_sub(bytes);
        self.gathered_items -= items;
    }

    fn in_flight(&self) -> u64 {
        self.ahead.saturating_add(self.gathered)
    }

    /// The most bytes that were in flight.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Rules 1 and 2, and that a loader never gets stuck, for any interleaving of what can
        /// happen.
        #[test]
        fn the_bound_is_kept_and_something_can_always_be_done(
            bound in 0u64..40,
            batch_size in 1usize..5,
            sizes in prop::collection::vec(0u64..25, 1..60),
            choices in prop::collection::vec(any::<u8>(), 300),
        ) {
            let largest = sizes.iter().copied().max().unwrap_or(0);
            let mut budget = Budget::new(bound, batch_size);
            let (mut coming, mut ahead) = (VecDeque::from(sizes), VecDeque::new());
            let (mut open, mut full) = (Vec::new(), VecDeque::new());
            for choice in choices {
                let can_admit = coming.front().is_some_and(|&bytes| budget.admits(bytes));
                let can: Vec<u8> = [can_admit, !ahead.is_empty(), !full.is_empty()]
                    .into_iter().zip(0u8..).filter_map(|(can, what)| can.then_some(what)).collect();
                prop_assert!(!can.is_empty() || coming.is_empty(), "stuck");
                let Some(&what) = can.get(usize::from(choice) % can.len().max(1)) else { break };
                match what {
                    0 => {
                        let bytes = coming.pop_front().unwrap();
                        budget.admit(bytes);
                        ahead.push_back(bytes);
                    }
                    1 if choice > 230 => budget.give_up(ahead.pop_front().unwrap()),
                    1 => {
                        let bytes = ahead.pop_front().unwrap();
                        budget.gather(bytes);
                        open.push(bytes);
                        if open.len() == batch_size {
                            full.push_back(std::mem::take(&mut open));
                        }
                    }
                    _ => {
                        let batch: Vec<u64> = full.pop_front().unwrap();
                        budget.hand_over(batch.iter().sum(), batch.len());
                    }
                }
                let waiting: u64 = ahead.iter().sum();
                prop_assert!(waiting <= bound.max(largest));
                let held: u64 = open.iter().chain(full.iter().flatten()).sum();
                prop_assert_eq!(budget.in_flight(), waiting + held);
                prop_assert!(waiting + held <= bound.max(batch_size as u64 * largest));
            }
        }
    }

    #[test]
    fn an_item_above_the_bound_goes_alone() {
        let mut budget = Budget::new(10, 4);
        assert!(budget.admits(50));
        budget.admit(50);
        assert!(!budget.admits(1) && !budget.admits(0));
        budget.gather(50);
        assert!(budget.admits(1), "its batch has to be completed");
        assert_eq!(budget.peak(), 50);
    }
}
