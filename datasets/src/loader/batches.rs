use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::prelude::*;

use super::{
    LoaderConfig, Plan,
    error::LoaderError,
    group::Group,
    position::Position,
    report::Tally,
    run::{Drive, Next, Run},
    track::Track,
    workers::{Serve, Workers},
};

/// The batches from a loader's position to the end of its epoch.
///
/// Dropping it early is no loss: batches that were not taken come again. It waits for the
/// workers to finish the items that they are loading.
pub struct Batches<O> {
    epochs: Arc<dyn Epochs<O>>,
    config: LoaderConfig,
    run: Arc<dyn Drive<O>>,
    track: Arc<Mutex<Track>>,
    /// Which of the loader's iterators this is.
    number: u64,
    /// Where the run began.
    start: Position,
    passed: u64,
    total: Option<u64>,
    has_batch: bool,
    is_over: bool,
}

/// What epochs are made of, whatever the items are.
pub(super) trait Epochs<O>: Send + Sync {
    /// Begins a run from `position` to the end of its epoch.
    fn run(&self, position: &Position) -> Arc<dyn Drive<O>>;

    /// Where an epoch begins.
    fn beginning(&self, epoch: u64) -> Position;
}

/// A [`Plan`] on a device, with those who carry it out.
pub(super) struct Works<I, O> {
    pub(super) plan: Arc<Plan<I, O>>,
    pub(super) device: Device,
    pub(super) workers: Arc<Workers>,
}

impl<I: Send + 'static, O: Send + 'static> Epochs<O> for Works<I, O> {
    fn run(&self, position: &Position) -> Arc<dyn Drive<O>> {
        let run = Arc::new(Run::new(self.plan.clone(), self.device.clone(), position));
        let served: Arc<dyn Serve> = run.clone();
        self.workers.serve(&served);
        run
    }

    fn beginning(&self, epoch: u64) -> Position {
        self.plan.source.begin(epoch, &self.plan.config)
    }
}

impl<O> Batches<O> {
    pub(super) fn start(
        epochs: Arc<dyn Epochs<O>>,
        config: LoaderConfig,
        num_items: Option<u64>,
        track: &Arc<Mutex<Track>>,
    ) -> Self {
        let mut state = track.lock().unwrap_or_else(PoisonError::into_inner);
        let start = state.position.clone();
        state.set(start.clone());
        Self {
            run: epochs.run(&start),
            epochs,
            config,
            track: track.clone(),
            number: state.mover,
            passed: start.passed,
            total: num_items.or(state.total),
            start,
            has_batch: false,
            is_over: false,
        }
    }

    /// Items of the epoch's order that are done with, those of an interrupted run and
    /// skipped ones included.
    pub fn items_taken(&self) -> u64 {
        self.passed
    }

    /// Items of the whole epoch; `None` while a stream of unknown length has not been read
    /// to its end once.
    pub fn items_total(&self) -> Option<u64> {
        self.total.map(|total| self.config.delivered(total))
    }

    /// Whether the last batch of the epoch was taken and known to be that.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The epoch, from 0.
    pub fn epoch(&self) -> u64 {
        self.start.epoch
    }

    /// The next batches for one optimizer step: `micro_batches` of them, or what is left of
    /// the epoch; `None` after its end.
    ///
    /// A group is never empty, and never reaches into the next epoch. Save the
    /// [`state`](super::Loader::state) between groups, so that a resumed run groups alike;
    /// micro-batches that are not taken from a group are in the next one.
    ///
    /// # Panics
    /// If `micro_batches` is zero.
    ///
    /// # Example
    /// ```
    /// use burn::{data::{dataloader::batcher::Batcher, dataset::InMemDataset}, prelude::*};
    /// use burn_memopt_datasets::loader::{Loader, LoaderConfig};
    ///
    /// struct Collect;
    /// impl Batcher<u8, Vec<u8>> for Collect {
    ///     fn batch(&self, items: Vec<u8>, _device: &Device) -> Vec<u8> { items }
    /// }
    /// let numbers = InMemDataset::new((0..5).collect());
    /// let loader = Loader::new(numbers, Collect, LoaderConfig::new(1), &Device::flex())?;
    /// let mut batches = loader.batches();
    /// let mut groups = Vec::new();
    /// while let Some(group) = batches.next_group(2) {
    ///     groups.push(group.count()); // forward, backward and accumulate each, then step
    /// }
    /// assert_eq!(groups, [2, 2, 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_group(&mut self, micro_batches: usize) -> Option<Group<'_, O>> {
        assert!(micro_batches > 0, "micro_batches must be at least 1, got 0");
        let first = self.next()?;
        Some(Group::new(self, first, micro_batches - 1))
    }

    fn track(&self) -> MutexGuard<'_, Track> {
        self.track.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the loader, if it has not been moved by anyone else since.
    fn pass(&mut self, tally: Tally) {
        self.passed += tally.passed;
        let total = tally.total;
        self.total = total.or(self.total);
        let is_last = total.is_some_and(|total| self.config.is_over(self.passed, total));
        let mut track = self.track();
        track.total = total.or(track.total);
        if track.mover == self.number {
            track.position.advance(tally.passed, total);
            if is_last {
                track.position = self.epochs.beginning(self.start.epoch + 1);
            }
        }
        track.report.add(tally);
        drop(track);
        self.is_over |= is_last;
    }

    /// The source has no more items: goes on to the next epoch where there was no batch
    /// because the run began behind the last one.
    fn end(&mut self, rest: Tally) -> Result<(), LoaderError> {
        let skipped = rest.skipped;
        self.pass(rest);
        self.run.stop();
        let epoch = self.start.epoch;
        let next = self.epochs.beginning(epoch + 1);
        let mut track = self.track();
        track.total = Some(self.passed);
        if track.mover == self.number {
            track.position = next.clone();
        }
        drop(track);
        self.total = Some(self.passed);
        self.is_over = self.has_batch || self.start.passed == 0;
        if !self.is_over {
            self.run = self.epochs.run(&next);
            self.passed = 0;
            self.start = next;
        } else if !self.has_batch {
            return Err(LoaderError::EmptyEpoch { epoch, skipped });
        }
        Ok(())
    }
}

impl<O> Iterator for Batches<O> {
    type Item = Result<O, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            match self.run.next() {
                Next::Batch(batch, tally) => {
                    self.has_batch = true;
                    self.pass(tally);
                    if self.is_over {
                        self.run.stop();
                    }
                    return Some(Ok(batch));
                }
                Next::Failed(error) => {
                    self.is_over = true;
                    self.run.stop();
                    return Some(Err(error));
                }
                Next::End(rest) => {
                    if let Err(error) = self.end(rest) {
                        return Some(Err(error));
                    }
                }
            }
        }
        None
    }
}

impl<O> Drop for Batches<O> {
    fn drop(&mut self) {
        self.run.stop();
    }
}
