//! An epoch on its way from the source to the consumer.
//!
//! Everything that is to be done is a [`Job`]: to read what comes next, to load an item, to
//! batch items. Whoever has time does one: the workers, and the consumer where there are
//! none, or where its batch is gathered and no worker has begun with it. Only what
//! to do next is decided under the lock; reading, loading and batching run outside.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use burn::data::dataset::DatasetError;

use super::{
    OnError, Plan,
    error::{Failure, LoaderError, message},
    source::{Feed, Ticket, epoch_seed},
    state::{Arrival, Gathered, Job, Outcome, ReadyBatch, State},
    track::{Position, SkippedItem, Tally},
};
use crate::{lock, shuffle::mix};

/// What the consumer gets next.
pub(super) enum Next<O> {
    Batch(O, Tally),
    Failed(LoaderError),
    /// The epoch is over; the items after its last batch.
    End(Tally),
}

/// One epoch, or the rest of it.
pub(super) struct Run<I, O> {
    plan: Arc<Plan<I, O>>,
    epoch: u64,
    /// Items of the epoch's order that came before this run.
    first: u64,
    state: Mutex<State<I, O>>,
    /// Somebody may find a job.
    work: Condvar,
    /// The consumer may find a batch, or something to do.
    ready: Condvar,
}

impl<I, O> Run<I, O> {
    pub(super) fn new(plan: Arc<Plan<I, O>>, position: &Position) -> Self {
        let config = &plan.config;
        let state = State::new(plan.source.feed(position, config), config);
        Self {
            epoch: position.epoch,
            first: position.passed,
            state: Mutex::new(state),
            work: Condvar::new(),
            ready: Condvar::new(),
            plan,
        }
    }

    /// Does what there is to do; returns when there will be nothing more.
    pub(super) fn serve(&self) {
        let _serving = Serving::begin(self);
        let staged = self.plan.config.staged;
        let mut state = lock(&self.state);
        while !state.is_over() {
            let Some(job) = state.job(staged) else {
                state = wait(&self.work, state);
                continue;
            };
            // One wakes the next, as long as there is something to do.
            if state.has_job(staged) {
                self.work.notify_one();
            }
            drop(state);
            self.perform(job);
            state = lock(&self.state);
        }
        // The others see it too.
        self.work.notify_all();
    }

    /// Waits for the next batch, and makes it where no worker does.
    pub(super) fn next(&self) -> Next<O> {
        let mut state = lock(&self.state);
        loop {
            let due = state.taken;
            if let Some(ready) = state.ready.remove(&due) {
                state.taken += 1;
                let mut tally = ready.tally;
                tally.bytes_peak = state.budget.peak();
                state.budget.hand_over(ready.bytes, tally.items as usize);
                self.work.notify_one();
                let batch = ready.batch;
                return batch.map_or_else(Next::Failed, |batch| Next::Batch(batch, tally));
            }
            let is_due = state.batched == due;
            if is_due
                && state.gathered.is_empty()
                && let Some(end) = state.end.take()
            {
                // Asked again, it is still the end.
                state.end = Some(Ok(Tally::default()));
                return end.map_or_else(Next::Failed, Next::End);
            }
            let job = if is_due { state.batching() } else { None };
            let job = job.or_else(|| match state.serving {
                0 => state.job(0),
                _ => None,
            });
            state = match job {
                Some(job) => {
                    drop(state);
                    self.perform(job);
                    // A worker that came meanwhile has found nothing to do yet.
                    self.work.notify_one();
                    lock(&self.state)
                }
                None if state.is_broken || state.serving == 0 => {
                    return Next::Failed(LoaderError::ThreadLost { epoch: self.epoch });
                }
                None => wait(&self.ready, state),
            };
        }
    }

    /// Ends the run, and waits for the workers to leave it: each finishes what it is
    /// doing, one item or batch at most.
    pub(super) fn stop(&self) {
        let mut state = lock(&self.state);
        state.is_stopped = true;
        let reading = (state.feed.take(), state.waiting.take());
        let loaded = (
            std::mem::take(&mut state.early),
            std::mem::take(&mut state.open),
            std::mem::take(&mut state.gathered),
        );
        let batches = std::mem::take(&mut state.ready);
        self.work.notify_all();
        while state.serving > 0 {
            state = wait(&self.ready, state);
        }
        drop(state);
        // What a user's type does when it is dropped must not happen under the lock.
        drop((reading, loaded, batches));
    }

    fn perform(&self, job: Job<I>) {
        let guard = Lost(self);
        match job {
            Job::Read(feed) => self.read(feed),
            Job::Load(number, ticket) => self.load(number, ticket),
            Job::Batch(number, gathered) => self.batch(number, gathered),
        }
        std::mem::forget(guard);
        self.ready.notify_one();
    }

    fn read(&self, mut feed: Box<dyn Feed<I>>) {
        let read = catch_unwind(AssertUnwindSafe(|| feed.next()));
        let failure = match read {
            Ok(Ok(Some(ticket))) => {
                let mut state = lock(&self.state);
                if state.is_open() {
                    state.waiting = Some(ticket);
                    state.feed = Some(feed);
                    return;
                }
                // Nothing of the user's is dropped under the lock.
                drop(state);
                return drop((ticket, feed));
            }
            Ok(Ok(None)) => None,
            Ok(Err(source)) => Some(Failure::Error(source)),
            Err(panic) => Some(Failure::Panic(message(panic.as_ref()))),
        };
        let index = feed.reading();
        drop(feed);
        let mut state = lock(&self.state);
        match failure {
            None => {
                state.has_ended = true;
                state.gather();
            }
            // What comes after it is not known, so it cannot be skipped.
            Some(failure) => {
                let number = state.admitted;
                let error = self.error(failure, index, number);
                let arrival = Arrival {
                    index,
                    bytes: 0,
                    total: None,
                    outcome: Outcome::Failed(error),
                };
                state.arrive(number, arrival);
            }
        }
    }

    fn load(&self, number: u64, ticket: Ticket<I>) {
        let Ticket {
            index,
            bytes,
            total,
            mut load,
        } = ticket;
        let outcome = self.outcome(number, index, &mut load);
        drop(load);
        let arrival = Arrival {
            index,
            bytes,
            total,
            outcome,
        };
        let mut state = lock(&self.state);
        if !matches!(arrival.outcome, Outcome::Loaded { .. }) {
            state.budget.give_up(bytes);
        }
        if state.is_open() {
            state.arrive(number, arrival);
        } else {
            drop(state);
            drop(arrival);
        }
    }

    /// Loads an item, as often as it may be tried.
    fn outcome(
        &self,
        number: u64,
        index: u64,
        load: &mut dyn FnMut() -> Result<I, DatasetError>,
    ) -> Outcome<I> {
        let config = &self.plan.config;
        let mut retries = 0;
        let failure = loop {
            let failure = match catch_unwind(AssertUnwindSafe(&mut *load)) {
                Ok(Ok(item)) => {
                    let recovered = retries > 0;
                    return Outcome::Loaded { item, recovered };
                }
                Ok(Err(source)) => Failure::Error(source),
                Err(panic) => Failure::Panic(message(panic.as_ref())),
            };
            if retries == config.retries {
                break failure;
            }
            retries += 1;
        };
        match config.on_error {
            OnError::Fail => Outcome::Failed(self.error(failure, index, number)),
            OnError::Skip => Outcome::Skipped(SkippedItem {
                index,
                epoch: self.epoch,
                reason: failure.reason(),
            }),
        }
    }

    fn error(&self, failure: Failure, index: u64, number: u64) -> LoaderError {
        let (position, epoch) = (self.first + number, self.epoch);
        match failure {
            Failure::Error(source) => LoaderError::Item {
                index,
                position,
                epoch,
                source,
            },
            Failure::Panic(message) => LoaderError::ItemPanicked {
                index,
                position,
                epoch,
                message,
            },
        }
    }

    fn batch(&self, number: u64, gathered: Gathered<I>) {
        let Gathered {
            items,
            indices,
            bytes,
            tally,
        } = gathered;
        let plan = &self.plan;
        let seed = epoch_seed(&plan.config, self.epoch);
        let seeds: Vec<u64> = indices.iter().map(|&index| mix(seed, index)).collect();
        let device = &plan.devices[(number % plan.devices.len() as u64) as usize];
        let batch = catch_unwind(AssertUnwindSafe(|| {
            plan.batcher.batch(items, &seeds, device)
        }));
        let batch = batch.map_err(|panic| LoaderError::BatchPanicked {
            indices,
            epoch: self.epoch,
            message: message(panic.as_ref()),
        });
        let ready = ReadyBatch {
            batch,
            bytes,
            tally,
        };
        let mut state = lock(&self.state);
        state.making -= 1;
        if state.is_stopped {
            drop(state);
            return drop(ready);
        }
        state.ready.insert(number, ready);
    }
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition
        .wait(guard)
        .unwrap_or_else(PoisonError::into_inner)
}

/// Counts a thread as long as it serves a run.
struct Serving<'a, I, O>(&'a Run<I, O>);

impl<'a, I, O> Serving<'a, I, O> {
    fn begin(run: &'a Run<I, O>) -> Self {
        lock(&run.state).serving += 1;
        Self(run)
    }
}

impl<I, O> Drop for Serving<'_, I, O> {
    fn drop(&mut self) {
        lock(&self.0.state).serving -= 1;
        self.0.ready.notify_all();
    }
}

/// Tells the consumer, when a job unwinds, that its result will not come.
struct Lost<'a, I, O>(&'a Run<I, O>);

impl<I, O> Drop for Lost<'_, I, O> {
    fn drop(&mut self) {
        lock(&self.0.state).is_broken = true;
        self.0.work.notify_all();
        self.0.ready.notify_all();
    }
}
