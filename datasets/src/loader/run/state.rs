use std::collections::{BTreeMap, VecDeque};

use crate::loader::{
    LoaderConfig,
    assembly::{Assembly, Gathered, Step},
    budget::Budget,
    error::LoaderError,
    report::Tally,
    source::{Feed, Ticket},
};

/// What is known of a run, under its lock.
pub(super) struct State<I, O> {
    /// `None` while somebody reads from it, and after its end.
    pub(super) feed: Option<Box<dyn Feed<I>>>,
    /// Read, but not yet admitted.
    pub(super) waiting: Option<Ticket<I>>,
    /// Items that were admitted.
    pub(super) admitted: u64,
    pub(super) has_ended: bool,
    pub(super) budget: Budget,
    pub(super) assembly: Assembly<I>,
    /// Gathered batches, the first of which is number `batched`.
    pub(super) gathered: VecDeque<Gathered<I>>,
    pub(super) batched: u64,
    pub(super) making: usize,
    pub(super) made: BTreeMap<u64, Made<O>>,
    pub(super) taken: u64,
    /// After it no batch is gathered: how the run ends.
    pub(super) end: Option<Result<Tally, LoaderError>>,
    pub(super) is_stopped: bool,
    /// A thread was lost in the middle of a job.
    pub(super) is_broken: bool,
    pub(super) serving: usize,
}

/// A batch for the consumer.
pub(super) struct Made<O> {
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

impl<I, O> State<I, O> {
    pub(super) fn new(feed: Box<dyn Feed<I>>, config: &LoaderConfig) -> Self {
        Self {
            feed: Some(feed),
            waiting: None,
            admitted: 0,
            has_ended: false,
            budget: Budget::new(config.prefetch_bytes, config.batch_size),
            assembly: Assembly::new(config),
            gathered: VecDeque::new(),
            batched: 0,
            making: 0,
            made: BTreeMap::new(),
            taken: 0,
            end: None,
            is_stopped: false,
            is_broken: false,
            serving: 0,
        }
    }

    /// The next job; batches only while fewer than `staged` are made or being made.
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

    /// Whether [`job`](Self::job) would give one.
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
        self.making + self.made.len() < staged && !self.gathered.is_empty()
    }

    /// Whether items are of use yet.
    pub(super) fn is_open(&self) -> bool {
        !self.is_stopped && self.end.is_none()
    }

    /// Whether no job will ever come.
    pub(super) fn is_over(&self) -> bool {
        self.is_stopped || self.is_broken || (self.end.is_some() && self.gathered.is_empty())
    }

    /// Puts what has arrived into batches.
    pub(super) fn assemble(&mut self) {
        while self.end.is_none()
            && let Some(step) = self.assembly.step(&mut self.budget)
        {
            match step {
                Step::Batch(batch) => self.gathered.push_back(batch),
                Step::Failed(error) => self.end = Some(Err(error)),
            }
        }
        if self.end.is_none() && self.has_ended && self.assembly.due() == self.admitted {
            let (last, rest) = self.assembly.finish();
            self.gathered.extend(last);
            self.end = Some(Ok(rest));
        }
    }
}
