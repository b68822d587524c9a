//! An epoch on its way from the source to the consumer.
//!
//! Everything that is to be done is a [`Job`]: to read what comes next, to load an item, to
//! batch items. Whoever has time does one: the workers, and the consumer where there are
//! none, or where its batch is gathered and no worker has begun with it. Only what
//! to do next is decided under the lock; reading, loading and batching run outside.

mod failure;
mod state;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use burn::{data::dataset::DatasetError, prelude::*};

use super::{
    OnError, Plan,
    assembly::{Arrival, Assembly, Gathered, Outcome},
    error::LoaderError,
    position::Position,
    report::{SkippedItem, Tally},
    source::{Feed, Ticket, epoch_seed},
    workers::Serve,
};
use crate::shuffle::mix;
use failure::{Failure, message};
use state::{Job, Made, State};

/// What the consumer gets next.
pub(super) enum Next<O> {
    Batch(O, Tally),
    Failed(LoaderError),
    /// The epoch is over; the items after its last batch.
    End(Tally),
}

/// The consumer's side of a run, whatever its items are.
pub(super) trait Drive<O>: Serve {
    /// Waits for the next batch, and makes it where no worker does.
    fn next(&self) -> Next<O>;

    /// Ends the run, and waits for the workers to leave it: each finishes what it is
    /// doing, one item or batch at most.
    fn stop(&self);
}

/// One epoch, or the rest of it.
pub(super) struct Run<I, O> {
    plan: Arc<Plan<I, O>>,
    device: Device,
    epoch: u64,
    /// Items of the epoch's order that came before this run.
    first: u64,
    state: Mutex<State<I, O>>,
    /// Somebody may find a job.
    work: Condvar,
    /// The consumer may find a batch, or something to do.
    ready: Condvar,
}

impl<I: Send + 'static, O: Send + 'static> Run<I, O> {
    pub(super) fn new(plan: Arc<Plan<I, O>>, device: Device, position: &Position) -> Self {
        let config = &plan.config;
        let state = State::new(plan.source.feed(position, config), config);
        Self {
            device,
            epoch: position.epoch,
            first: position.passed,
            state: Mutex::new(state),
            work: Condvar::new(),
            ready: Condvar::new(),
            plan,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
                let mut state = self.lock();
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
        let mut state = self.lock();
        match failure {
            None => state.has_ended = true,
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
                state.assembly.arrive(number, arrival);
            }
        }
        state.assemble();
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
        let mut state = self.lock();
        if !matches!(arrival.outcome, Outcome::Loaded { .. }) {
            state.budget.give_up(bytes);
        }
        if state.is_open() {
            state.assembly.arrive(number, arrival);
            state.assemble();
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
        let seed = epoch_seed(&self.plan.config, self.epoch);
        let seeds: Vec<u64> = indices.iter().map(|&index| mix(seed, index)).collect();
        let batcher = &self.plan.batcher;
        let batch = catch_unwind(AssertUnwindSafe(|| {
            batcher.batch(items, &seeds, &self.device)
        }));
        let batch = batch.map_err(|panic| LoaderError::BatchPanicked {
            indices,
            epoch: self.epoch,
            message: message(panic.as_ref()),
        });
        let made = Made {
            batch,
            bytes,
            tally,
        };
        let mut state = self.lock();
        state.making -= 1;
        if state.is_stopped {
            drop(state);
            return drop(made);
        }
        state.made.insert(number, made);
    }
}

impl<I: Send + 'static, O: Send + 'static> Serve for Run<I, O> {
    fn serve(&self) {
        let _serving = Serving::begin(self);
        let staged = self.plan.config.staged;
        let mut state = self.lock();
        while !state.is_over() {
            let Some(job) = state.job(staged) else {
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            // One wakes the next, as long as there is something to do.
            if state.has_job(staged) {
                self.work.notify_one();
            }
            drop(state);
            self.perform(job);
            state = self.lock();
        }
        // The others see it too.
        self.work.notify_all();
    }
}

impl<I: Send + 'static, O: Send + 'static> Drive<O> for Run<I, O> {
    fn next(&self) -> Next<O> {
        let mut state = self.lock();
        loop {
            let due = state.taken;
            if let Some(made) = state.made.remove(&due) {
                state.taken += 1;
                let Made {
                    batch,
                    bytes,
                    mut tally,
                } = made;
                tally.bytes_peak = state.budget.peak();
                state.budget.hand_over(bytes, tally.items as usize);
                self.work.notify_one();
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
            let job = match is_due {
                true => state.batching(),
                false => None,
            };
            let job = job.or_else(|| match state.serving {
                0 => state.job(0),
                _ => None,
            });
            state = match job {
                Some(job) => {
                    drop(state);
                    self.perform(job);
                    // A worker that came meanwhile found nothing to do as yet.
                    self.work.notify_one();
                    self.lock()
                }
                None if state.is_broken || state.serving == 0 => {
                    return Next::Failed(LoaderError::ThreadLost { epoch: self.epoch });
                }
                None => self
                    .ready
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn stop(&self) {
        let mut state = self.lock();
        state.is_stopped = true;
        let feed = state.feed.take();
        let waiting = state.waiting.take();
        let gathered = std::mem::take(&mut state.gathered);
        let made = std::mem::take(&mut state.made);
        let assembly = std::mem::replace(&mut state.assembly, Assembly::new(&self.plan.config));
        self.work.notify_all();
        while state.serving > 0 {
            state = self
                .ready
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        // What a user's type does when it is dropped is no matter for the lock.
        drop((feed, waiting, gathered, made, assembly));
    }
}

/// Counts a thread as long as it serves a run.
struct Serving<'a, I: Send + 'static, O: Send + 'static>(&'a Run<I, O>);

impl<'a, I: Send + 'static, O: Send + 'static> Serving<'a, I, O> {
    fn begin(run: &'a Run<I, O>) -> Self {
        run.lock().serving += 1;
        Self(run)
    }
}

impl<I: Send + 'static, O: Send + 'static> Drop for Serving<'_, I, O> {
    fn drop(&mut self) {
        self.0.lock().serving -= 1;
        self.0.ready.notify_all();
    }
}

/// Tells the consumer, when a job unwinds, that its result will not come.
struct Lost<'a, I: Send + 'static, O: Send + 'static>(&'a Run<I, O>);

impl<I: Send + 'static, O: Send + 'static> Drop for Lost<'_, I, O> {
    fn drop(&mut self) {
        self.0.lock().is_broken = true;
        self.0.work.notify_all();
        self.0.ready.notify_all();
    }
}
