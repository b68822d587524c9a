//! Streams made of a stream: see the methods of
//! [`StreamingDatasetExt`](super::StreamingDatasetExt).

use std::{marker::PhantomData, sync::Arc};

use burn::data::dataset::{Dataset, DatasetError};

use super::{Records, StreamError, StreamingDataset};
use crate::lazy::LazyDataset;

/// See [`StreamingDatasetExt::map`](super::StreamingDatasetExt::map).
#[derive(Clone, Debug)]
pub struct Map<S, I, F> {
    stream: S,
    map: F,
    input: PhantomData<fn(I)>,
}

impl<S, I, F> Map<S, I, F> {
    pub(super) fn new(stream: S, map: F) -> Self {
        Self {
            stream,
            map,
            input: PhantomData,
        }
    }
}

impl<I, O, S, F> StreamingDataset<O> for Map<S, I, F>
where
    S: StreamingDataset<I>,
    F: Fn(I) -> O + Send + Sync,
{
    type Record = S::Record;

    fn records(&self, start: u64) -> Result<Records<S::Record>, DatasetError> {
        self.stream.records(start)
    }

    fn load(&self, record: S::Record) -> Result<O, DatasetError> {
        self.stream.load(record).map(&self.map)
    }

    fn item_bytes(&self, record: &S::Record) -> u64 {
        self.stream.item_bytes(record)
    }

    fn num_records(&self) -> Option<u64> {
        self.stream.num_records()
    }
}

/// See [`StreamingDatasetExt::filter`](super::StreamingDatasetExt::filter).
#[derive(Debug)]
pub struct Filter<S, P> {
    stream: S,
    keep: Arc<P>,
}

impl<S, P> Filter<S, P> {
    pub(super) fn new(stream: S, keep: P) -> Self {
        Self {
            stream,
            keep: Arc::new(keep),
        }
    }
}

impl<I, S, P> StreamingDataset<I> for Filter<S, P>
where
    S: StreamingDataset<I>,
    P: Fn(&S::Record) -> bool + Send + Sync + 'static,
{
    type Record = S::Record;

    fn records(&self, start: u64) -> Result<Records<S::Record>, DatasetError> {
        let keep = self.keep.clone();
        let mut left = start;
        let kept = self.stream.records(0)?.filter(move |record| {
            let kept = record.as_ref().map_or(true, |record| keep(record));
            let before = kept && left > 0;
            left -= u64::from(before);
            kept && !before
        });
        Ok(Box::new(kept))
    }

    fn load(&self, record: S::Record) -> Result<I, DatasetError> {
        self.stream.load(record)
    }

    fn item_bytes(&self, record: &S::Record) -> u64 {
        self.stream.item_bytes(record)
    }
}

/// See [`StreamingDatasetExt::shard`](super::StreamingDatasetExt::shard).
#[derive(Clone, Debug)]
pub struct Shard<S> {
    stream: S,
    index: u64,
    count: u64,
}

impl<S> Shard<S> {
    pub(super) fn new(stream: S, index: u64, count: u64) -> Self {
        assert!(
            index < count,
            "index must be below count, got {index} of {count}"
        );
        Self {
            stream,
            index,
            count,
        }
    }

    /// The number in the whole stream of a record of this part.
    ///
    /// # Panics
    /// If it is above `u64::MAX`, where no stream has records.
    pub fn whole_number(&self, record: u64) -> u64 {
        self.checked_number(record)
            .expect("the record must be one of the stream's")
    }

    fn checked_number(&self, record: u64) -> Option<u64> {
        record.checked_mul(self.count)?.checked_add(self.index)
    }
}

impl<I, S: StreamingDataset<I>> StreamingDataset<I> for Shard<S> {
    type Record = S::Record;

    fn records(&self, start: u64) -> Result<Records<S::Record>, DatasetError> {
        let Some(number) = self.checked_number(start) else {
            return Ok(Box::new(std::iter::empty()));
        };
        // From behind the one before on: the stream may end with an error in between.
        let first = number.saturating_sub(self.count - 1);
        let first = if start == 0 { 0 } else { first };
        Ok(Box::new(Every {
            records: self.stream.records(first)?,
            count: self.count,
            others: number - first,
        }))
    }

    fn load(&self, record: S::Record) -> Result<I, DatasetError> {
        self.stream.load(record)
    }

    fn item_bytes(&self, record: &S::Record) -> u64 {
        self.stream.item_bytes(record)
    }

    fn num_records(&self) -> Option<u64> {
        let records = self.stream.num_records()?;
        Some(records.saturating_sub(self.index).div_ceil(self.count))
    }
}

/// One of every `count` records.
struct Every<R> {
    records: Records<R>,
    count: u64,
    /// Records of other parts to read before the next of this one.
    others: u64,
}

impl<R> Iterator for Every<R> {
    type Item = Result<R, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        // A stream may end with an error because it cannot continue. Each part says so, not
        // only the one that the record belongs to; the others would seem complete.
        let mut last_error = None;
        while self.others > 0 {
            match self.records.next() {
                Some(record) => last_error = record.err(),
                None => {
                    self.others = 0;
                    return last_error.map(Err);
                }
            }
            self.others -= 1;
        }
        match self.records.next() {
            Some(record) => {
                self.others = self.count - 1;
                Some(record)
            }
            None => last_error.map(Err),
        }
    }
}

/// See [`StreamingDatasetExt::into_lazy`](super::StreamingDatasetExt::into_lazy).
#[derive(Clone, Debug)]
pub struct Indexed<S> {
    stream: S,
    len: usize,
    item_bytes: u64,
}

impl<S> Indexed<S> {
    pub(super) fn new<I>(stream: S) -> Result<Self, DatasetError>
    where
        S: StreamingDataset<I>,
    {
        let bytes = |record: Result<S::Record, DatasetError>| {
            record.map_or(0, |record| stream.item_bytes(&record))
        };
        let records = stream.records(0)?;
        let (len, item_bytes) = match stream.num_records() {
            Some(len) => {
                let first = records.take(1).map(bytes).max();
                (usize::try_from(len).unwrap_or(usize::MAX), first)
            }
            None => {
                let mut len = 0;
                let largest = records.inspect(|_| len += 1).map(bytes).max();
                (len, largest)
            }
        };
        Ok(Self {
            stream,
            len,
            item_bytes: item_bytes.unwrap_or(0),
        })
    }
}

impl<I, S: StreamingDataset<I>> Dataset<I> for Indexed<S> {
    fn get(&self, index: usize) -> Result<I, DatasetError> {
        let len = self.len;
        assert!(
            index < len,
            "index must be below the length {len}, got {index}"
        );
        let record = index as u64;
        match self.stream.records(record)?.next() {
            Some(record) => self.stream.load(record?),
            None => Err(DatasetError::new(StreamError::Shortened { record })),
        }
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// Every item costs what the largest does, or the first where the stream was not counted:
/// to look at each would be to open the stream once more.
impl<I, S: StreamingDataset<I>> LazyDataset<I> for Indexed<S> {
    fn item_bytes(&self, _index: usize) -> u64 {
        self.item_bytes
    }
}
