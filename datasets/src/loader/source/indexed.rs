use std::{marker::PhantomData, ops::Range, sync::Arc};

use burn::data::dataset::DatasetError;

use super::{Feed, Source, Ticket};
use crate::{
    lazy::LazyDataset,
    loader::{LoaderConfig, OnError, position::Position},
    shuffle::epoch_order,
};

/// A dataset whose items are asked for by index, or a part of it.
pub(in crate::loader) struct ByIndex<I, D> {
    dataset: Arc<D>,
    part: Option<Range<usize>>,
    item: PhantomData<fn() -> I>,
}

impl<I, D: LazyDataset<I>> ByIndex<I, D> {
    pub(in crate::loader) fn new(dataset: D) -> Self {
        Self {
            dataset: Arc::new(dataset),
            part: None,
            item: PhantomData,
        }
    }

    fn range(&self) -> Range<usize> {
        self.part.clone().unwrap_or(0..self.dataset.len())
    }
}

impl<I: Send + 'static, D: LazyDataset<I> + 'static> Source<I> for ByIndex<I, D> {
    fn len(&self) -> Option<u64> {
        Some(self.range().len() as u64)
    }

    fn begin(&self, epoch: u64, _config: &LoaderConfig) -> Position {
        Position {
            epoch,
            passed: 0,
            buffer: None,
        }
    }

    fn feed(&self, position: &Position, config: &LoaderConfig) -> Box<dyn Feed<I>> {
        let range = self.range();
        let total = range.len() as u64;
        // Items that no batch can hold are not loaded; where some may be skipped, any may
        // be needed.
        let end = match config.on_error {
            OnError::Fail => config.delivered(total),
            OnError::Skip => total,
        };
        let (shuffle, epoch, len) = (config.shuffle, position.epoch, range.len());
        Box::new(IndexFeed {
            dataset: self.dataset.clone(),
            first: range.start,
            order: shuffle.map(|seed| epoch_order(Some(seed), epoch, len)),
            total,
            next: position.passed,
            end,
            reading: range.start,
            item: PhantomData,
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn Source<I>> {
        let range = self.range();
        assert!(
            start <= end && end <= range.len(),
            "a slice must lie in the dataset's 0..{}, got {start}..{end}",
            range.len()
        );
        Arc::new(Self {
            dataset: self.dataset.clone(),
            part: Some(range.start + start..range.start + end),
            item: PhantomData,
        })
    }
}

/// The indices of an epoch in their order.
struct IndexFeed<I, D> {
    dataset: Arc<D>,
    first: usize,
    /// The shuffled order; `None` is that of the dataset.
    order: Option<Vec<usize>>,
    total: u64,
    next: u64,
    end: u64,
    reading: usize,
    item: PhantomData<fn() -> I>,
}

impl<I: Send + 'static, D: LazyDataset<I> + 'static> Feed<I> for IndexFeed<I, D> {
    fn next(&mut self) -> Result<Option<Ticket<I>>, DatasetError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let position = self.next as usize;
        let index = self
            .order
            .as_ref()
            .map_or(position, |order| order[position]);
        let index = self.first + index;
        self.reading = index;
        let dataset = self.dataset.clone();
        let ticket = Ticket {
            index: index as u64,
            bytes: dataset.item_bytes(index),
            total: Some(self.total),
            load: Box::new(move || dataset.get(index)),
        };
        self.next += 1;
        Ok(Some(ticket))
    }

    fn reading(&self) -> u64 {
        self.reading as u64
    }
}
