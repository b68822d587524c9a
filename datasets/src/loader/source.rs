//! Where a loader's items come from, in one form for both kinds of dataset: first read in
//! order, by one thread at a time, then loaded by any.

use std::{
    collections::{HashMap, HashSet},
    marker::PhantomData,
    ops::Range,
    sync::Arc,
};

use burn::data::dataset::DatasetError;

use super::{LoaderConfig, OnError, track::Position};
use crate::{
    lazy::LazyDataset,
    shuffle::{ShuffleBuffer, epoch_order, mix},
    stream::{Records, StreamError, StreamingDataset},
};

/// A dataset of either kind.
pub(super) trait Source<I>: Send + Sync {
    /// Items of an epoch, where that is known.
    fn len(&self) -> Option<u64>;

    /// The beginning of an epoch.
    fn begin(&self, epoch: u64, config: &LoaderConfig) -> Position;

    /// What is read from `position` to the end of its epoch.
    fn feed(&self, position: &Position, config: &LoaderConfig) -> Box<dyn Feed<I>>;

    /// The items from `start` to before `end`.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn Source<I>>;
}

/// What is read one after the other, in the order of an epoch.
pub(super) trait Feed<I>: Send {
    /// The next item, not yet loaded.
    fn next(&mut self) -> Result<Option<Ticket<I>>, DatasetError>;

    /// The item that is being read, if [`next`](Self::next) fails or panics.
    fn reading(&self) -> u64;
}

/// An item that is to be loaded.
pub(super) struct Ticket<I> {
    /// Its index or record number.
    pub(super) index: u64,
    /// Bytes that it takes once it is loaded.
    pub(super) bytes: u64,
    /// Items of the whole epoch, once that is known.
    pub(super) total: Option<u64>,
    /// Loads it; again, if it is called again.
    pub(super) load: Box<dyn FnMut() -> Result<I, DatasetError> + Send>,
}

/// The seed of an epoch, for its items' seeds and its order.
pub(super) fn epoch_seed(config: &LoaderConfig, epoch: u64) -> u64 {
    mix(config.shuffle.unwrap_or(0), epoch)
}

/// A dataset whose items are asked for by index, or a part of it.
pub(super) struct ByIndex<I, D> {
    dataset: Arc<D>,
    part: Option<Range<usize>>,
    item: PhantomData<fn() -> I>,
}

impl<I, D: LazyDataset<I>> ByIndex<I, D> {
    pub(super) fn new(dataset: D) -> Self {
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

/// A dataset that is read from front to back, or the records of a range.
pub(super) struct AsStream<I, S> {
    stream: Arc<S>,
    range: Range<u64>,
    item: PhantomData<fn() -> I>,
}

impl<I, S: StreamingDataset<I>> AsStream<I, S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream: Arc::new(stream),
            range: 0..u64::MAX,
            item: PhantomData,
        }
    }
}

impl<I: Send + 'static, S: StreamingDataset<I> + 'static> Source<I> for AsStream<I, S> {
    fn len(&self) -> Option<u64> {
        let known = self.stream.num_records()?;
        Some(known.min(self.range.end).saturating_sub(self.range.start))
    }

    fn begin(&self, epoch: u64, config: &LoaderConfig) -> Position {
        let size = config.shuffle.map_or(1, |_| config.shuffle_buffer);
        let seed = epoch_seed(config, epoch);
        Position {
            epoch,
            passed: 0,
            buffer: Some(ShuffleBuffer::new(seed, size, self.range.start)),
        }
    }

    fn feed(&self, position: &Position, config: &LoaderConfig) -> Box<dyn Feed<I>> {
        let buffer = position.buffer.clone();
        let buffer = buffer.or_else(|| self.begin(position.epoch, config).buffer);
        let buffer = buffer.expect("invariant: a stream begins with a buffer");
        Box::new(RecordFeed {
            stream: self.stream.clone(),
            records: None,
            at: buffer.first_needed(),
            end: self.range.end,
            has_ended: false,
            held: HashMap::new(),
            buffer,
            item: PhantomData,
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn Source<I>> {
        let number = |offset: usize| self.range.start.saturating_add(offset as u64);
        Arc::new(Self {
            stream: self.stream.clone(),
            range: number(start)..number(end).min(self.range.end),
            item: PhantomData,
        })
    }
}

type Read<R> = Result<R, DatasetError>;

/// The records of an epoch in the order in which they leave the shuffle buffer.
struct RecordFeed<I, S: StreamingDataset<I>> {
    stream: Arc<S>,
    records: Option<Records<S::Record>>,
    /// The record that `records` gives next.
    at: u64,
    /// The record before which the stream is taken to end.
    end: u64,
    has_ended: bool,
    buffer: ShuffleBuffer,
    /// The records whose numbers the buffer holds.
    held: HashMap<u64, Read<S::Record>>,
    item: PhantomData<fn() -> I>,
}

impl<I, S: StreamingDataset<I>> RecordFeed<I, S> {
    /// Reads what the buffer holds already, as the run that stopped did.
    fn open(&mut self) -> Result<(), DatasetError> {
        self.records = Some(self.stream.records(self.at)?);
        let missing: HashSet<u64> = self.buffer.held().iter().copied().collect();
        while self.at < self.buffer.next() {
            let number = self.at;
            match self.read() {
                Some(record) if missing.contains(&number) => {
                    self.held.insert(number, record);
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Option<Read<S::Record>> {
        let in_range = self.at < self.end && !self.has_ended;
        let record = match &mut self.records {
            Some(records) if in_range => records.next(),
            _ => None,
        };
        match record {
            Some(_) => self.at += 1,
            None => self.has_ended = true,
        }
        record
    }
}

impl<I: Send + 'static, S: StreamingDataset<I> + 'static> Feed<I> for RecordFeed<I, S> {
    fn next(&mut self) -> Result<Option<Ticket<I>>, DatasetError> {
        if self.records.is_none() {
            self.open()?;
        }
        while let Some(number) = self.buffer.wants()
            && let Some(record) = self.read()
        {
            self.held.insert(number, record);
            self.buffer.read();
        }
        let Some(number) = self.buffer.draw() else {
            return Ok(None);
        };
        let lost = || Err(DatasetError::new(StreamError::Shortened { record: number }));
        let record = self.held.remove(&number).unwrap_or_else(lost);
        let total = self.buffer.next() - self.buffer.start();
        Ok(Some(Ticket {
            index: number,
            bytes: match &record {
                Ok(record) => self.stream.item_bytes(record),
                Err(_) => 0,
            },
            total: self.has_ended.then_some(total),
            load: load(self.stream.clone(), number, record),
        }))
    }

    fn reading(&self) -> u64 {
        self.at
    }
}

/// Loads a record; from the second time on, reads it again from the stream.
fn load<I: 'static, S: StreamingDataset<I> + 'static>(
    stream: Arc<S>,
    number: u64,
    record: Read<S::Record>,
) -> Box<dyn FnMut() -> Result<I, DatasetError> + Send> {
    let mut read = Some(record);
    Box::new(move || {
        let record = match read.take() {
            Some(record) => record?,
            None => match stream.records(number)?.next() {
                Some(record) => record?,
                None => return Err(DatasetError::new(StreamError::Shortened { record: number })),
            },
        };
        stream.load(record)
    })
}
