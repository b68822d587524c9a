use std::{
    collections::{HashMap, HashSet},
    marker::PhantomData,
    ops::Range,
    sync::Arc,
};

use burn::data::dataset::DatasetError;

use super::{Feed, Source, Ticket, epoch_seed};
use crate::{
    loader::{LoaderConfig, position::Position},
    shuffle::ShuffleBuffer,
    stream::{Records, StreamError, StreamingDataset},
};

/// A dataset that is read from front to back, or the records of a range.
pub(in crate::loader) struct AsStream<I, S> {
    stream: Arc<S>,
    range: Range<u64>,
    item: PhantomData<fn() -> I>,
}

impl<I, S: StreamingDataset<I>> AsStream<I, S> {
    pub(in crate::loader) fn new(stream: S) -> Self {
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
