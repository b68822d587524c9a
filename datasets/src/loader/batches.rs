use super::{
    Loader,
    error::LoaderError,
    run::{Next, Run},
    track::{Position, Tally},
};
use std::sync::Arc;

/// The batches from a loader's position to the end of its epoch.
///
/// Dropping it early loses nothing: batches that were not taken come again. It waits for the
/// workers to finish the items that they are loading.
pub struct Batches<I, O> {
    loader: Loader<I, O>,
    run: Arc<Run<I, O>>,
    /// Which of the loader's iterators this is.
    number: u64,
    /// Where the run began.
    start: Position,
    passed: u64,
    total: Option<u64>,
    has_batch: bool,
    is_over: bool,
}

impl<I: Send + 'static, O: Send + 'static> Batches<I, O> {
    pub(super) fn start(loader: Loader<I, O>) -> Self {
        let num_items = loader.plan.source.len();
        let mut track = loader.track();
        let start = track.position.clone();
        track.set(start.clone());
        let (number, total) = (track.mover, num_items.or(track.total));
        drop(track);
        Self {
            run: loader.run(&start),
            loader,
            number,
            passed: start.passed,
            total,
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
        self.total
            .map(|total| self.loader.plan.config.delivered(total))
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
    /// [`state`](super::Loader::state) between groups, so that a resumed run groups in the same way;
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
    pub fn next_group(&mut self, micro_batches: usize) -> Option<Group<'_, I, O>> {
        assert!(micro_batches > 0, "micro_batches must be at least 1, got 0");
        let first = self.next()?;
        Some(Group {
            batches: self,
            first: Some(first),
            left: micro_batches - 1,
        })
    }

    /// Moves the loader, if nobody else has moved it since.
    fn pass(&mut self, tally: Tally) {
        let total = tally.total;
        self.passed += tally.passed;
        self.total = total.or(self.total);
        let config = &self.loader.plan.config;
        let is_last = total.is_some_and(|total| config.is_over(self.passed, total));
        self.is_over |= is_last;
        let mut track = self.loader.track();
        track.total = total.or(track.total);
        if track.mover == self.number {
            track.position.advance(tally.passed, total);
            if is_last {
                track.position = self.loader.plan.beginning(self.start.epoch + 1);
            }
        }
        track.report.add(tally);
    }

    /// The source has no more items: continues with the next epoch where there was no batch
    /// because the run began behind the last one.
    fn end(&mut self, rest: Tally) -> Result<(), LoaderError> {
        let skipped = rest.skipped;
        self.pass(rest);
        self.run.stop();
        let epoch = self.start.epoch;
        let next = self.loader.plan.beginning(epoch + 1);
        let mut track = self.loader.track();
        track.total = Some(self.passed);
        if track.mover == self.number {
            track.position = next.clone();
        }
        drop(track);
        self.total = Some(self.passed);
        self.is_over = self.has_batch || self.start.passed == 0;
        if !self.is_over {
            self.run = self.loader.run(&next);
            self.passed = 0;
            self.start = next;
        } else if !self.has_batch {
            return Err(LoaderError::EmptyEpoch { epoch, skipped });
        }
        Ok(())
    }
}

impl<I: Send + 'static, O: Send + 'static> Iterator for Batches<I, O> {
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

impl<I, O> Drop for Batches<I, O> {
    fn drop(&mut self) {
        self.run.stop();
    }
}

/// The batches for one optimizer step: see [`Batches::next_group`].
pub struct Group<'a, I, O> {
    batches: &'a mut Batches<I, O>,
    first: Option<Result<O, LoaderError>>,
    left: usize,
}

impl<I: Send + 'static, O: Send + 'static> Iterator for Group<'_, I, O> {
    type Item = Result<O, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        self.left = self.left.checked_sub(1)?;
        self.batches.next()
    }
}
