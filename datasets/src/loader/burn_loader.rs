//! The loader as burn's `DataLoader`, so that it goes into burn-train.

use std::sync::Arc;

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::{Dataset, DatasetError, transform::PartialDataset},
    },
    prelude::*,
};

use super::{Batches, Loader, Source};

/// [`Batches`] with burn's error type.
struct BurnBatches<O>(Batches<O>);

impl<O> Iterator for BurnBatches<O> {
    type Item = Result<O, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|batch| batch.map_err(DatasetError::new))
    }
}

impl<O> DataLoaderIterator<O> for BurnBatches<O> {
    fn progress(&self) -> Progress {
        let unit = Some("items".to_string());
        Progress::new(self.0.items_taken(), self.0.items_total(), unit)
    }
}

impl<I, O> DataLoader<O> for Loader<I, O>
where
    I: Send + Sync + Clone + 'static,
    O: Send + 'static,
{
    /// Goes on from the loader's position to the end of the epoch.
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<O> + 'a> {
        Box::new(BurnBatches(self.batches()))
    }

    fn num_items(&self) -> usize {
        self.source.epoch_len()
    }

    /// A loader for another device that moves the same position: the state of
    /// this one is the state of both.
    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<O>> {
        Arc::new(Self {
            source: self.source.clone(),
            device: device.clone(),
            position: self.position.clone(),
        })
    }

    /// A loader of some of the items, with a position of its own that starts at
    /// the beginning of the present epoch.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<O>> {
        let part: PartialDataset<Arc<dyn Dataset<I>>, I> =
            PartialDataset::new(self.source.dataset.clone(), start, end);
        let part = Self {
            source: Arc::new(Source {
                dataset: Arc::new(part),
                batcher: self.source.batcher.clone(),
                config: self.source.config,
            }),
            device: self.device.clone(),
            position: Arc::default(),
        };
        Arc::new(part)
    }
}
