//! The loader as burn's `DataLoader`, so that it goes into burn-train.

use std::sync::{Arc, Mutex};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::DatasetError,
    },
    prelude::*,
};

use super::{Batches, Loader, Plan, Track, Workers, batches::Works};

/// [`Batches`] with burn's error type.
struct BurnBatches<O>(Batches<O>);

impl<O> Iterator for BurnBatches<O> {
    type Item = Result<O, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|batch| batch.map_err(DatasetError::new))
    }
}

impl<O> DataLoaderIterator<O> for BurnBatches<O> {
    /// In items of the epoch's order, skipped ones included.
    ///
    /// As long as the length of a stream is unknown, the total is one item more than was
    /// taken: the progress is complete when, and not before, the stream has ended.
    fn progress(&self) -> Progress {
        let taken = self.0.items_taken();
        let total = match self.0.items_total() {
            Some(total) => total,
            None => taken + 1,
        };
        let taken = match self.0.is_over() {
            true => total,
            false => taken.min(total),
        };
        Progress::new(taken as usize, total as usize, Some("items".to_string()))
    }
}

impl<I: Send + 'static, O: Send + 'static> DataLoader<O> for Loader<I, O> {
    /// Goes on from the loader's position to the end of the epoch.
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<O> + 'a> {
        Box::new(BurnBatches(self.batches()))
    }

    /// Items that an epoch delivers if none is skipped: the number is asked for before it is
    /// known which ones fail. For a stream of unknown length, those of the last epoch; 0 before
    /// one was read to its end, since burn has no word for "unknown".
    fn num_items(&self) -> usize {
        let delivered = self.total().map(|total| self.config().delivered(total));
        delivered.unwrap_or(0) as usize
    }

    /// A loader for another device that moves the same position, with the same workers:
    /// the state of this one is the state of both.
    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<O>> {
        let works = Works {
            plan: self.works.plan.clone(),
            device: device.clone(),
            workers: self.works.workers.clone(),
        };
        Arc::new(Self {
            works: Arc::new(works),
            track: self.track.clone(),
        })
    }

    /// A loader of some of the items, or of a stream's records, with workers and a position of
    /// its own that starts at the beginning of the present epoch.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<O>> {
        let Plan {
            source,
            batcher,
            config,
        } = self.works.plan.as_ref();
        let plan = Plan {
            source: source.slice(start, end),
            batcher: batcher.clone(),
            config: *config,
        };
        let epoch = self.lock().position.epoch;
        let beginning = plan.source.begin(epoch, config);
        let works = Works {
            plan: Arc::new(plan),
            device: self.works.device.clone(),
            workers: Arc::new(Workers::new(config.workers)),
        };
        Arc::new(Self {
            works: Arc::new(works),
            track: Arc::new(Mutex::new(Track::new(beginning))),
        })
    }
}
