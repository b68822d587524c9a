//! Datasets that are read from front to back, and what can be made of them.

mod adapters;

use std::sync::Arc;

use burn::data::dataset::DatasetError;

pub use adapters::{Filter, Indexed, Map, Shard};

/// What a stream reads in order, from the record that was asked for on.
pub type Records<R> = Box<dyn Iterator<Item = Result<R, DatasetError>> + Send>;

/// A dataset that is read in its own order, of a length that need not be known.
///
/// Reading is in two parts. [`records`](Self::records) reads what must be read one
/// after the other, and does little with it: a line of text, a file name, the next
/// frame of a video. [`load`](Self::load) makes an item of a record and may take its time: any
/// number of threads load at once, without a change of order.
///
/// Records are numbered from 0, whoever reads them, so a number is a position: a run that
/// stopped continues from numbers, and needs to save no record.
pub trait StreamingDataset<I>: Send + Sync {
    /// What is read in order.
    type Record: Send + 'static;

    /// Reads from record number `start` on; nothing if the stream is shorter.
    ///
    /// A record that is damaged is an error and counts as one, so that those after it
    /// keep their numbers. A stream that cannot continue ends after its error.
    ///
    /// # Errors
    /// If the source cannot be opened.
    fn records(&self, start: u64) -> Result<Records<Self::Record>, DatasetError>;

    /// Makes an item of a record.
    ///
    /// # Errors
    /// If the record does not hold what it should, or what it points to cannot be read.
    fn load(&self, record: Self::Record) -> Result<I, DatasetError>;

    /// Bytes of host memory that the record's item takes once it is loaded, as
    /// [`LazyDataset::item_bytes`](crate::lazy::LazyDataset::item_bytes).
    fn item_bytes(&self, record: &Self::Record) -> u64;

    /// Records of the whole stream, where that is known without reading it. The default
    /// is `None`.
    fn num_records(&self) -> Option<u64> {
        None
    }
}

impl<I, S: StreamingDataset<I>> StreamingDataset<I> for Arc<S> {
    type Record = S::Record;

    fn records(&self, start: u64) -> Result<Records<S::Record>, DatasetError> {
        self.as_ref().records(start)
    }

    fn load(&self, record: S::Record) -> Result<I, DatasetError> {
        self.as_ref().load(record)
    }

    fn item_bytes(&self, record: &S::Record) -> u64 {
        self.as_ref().item_bytes(record)
    }

    fn num_records(&self) -> Option<u64> {
        self.as_ref().num_records()
    }
}

/// Why a stream did not give what it gave before.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamError {
    /// A record that was there is not any more.
    #[error(
        "record {record} was read before, and now the stream ends before it: it was shortened or replaced while in use"
    )]
    Shortened {
        /// The record's number.
        record: u64,
    },
}

/// Datasets made of a stream; each number their records from 0 as every stream does.
///
/// # Example
/// ```
/// use burn::data::dataset::{Dataset, InMemDataset};
/// use burn_memopt_datasets::{lazy::LazyDatasetExt, stream::StreamingDatasetExt};
///
/// let numbers = InMemDataset::new((0..10u32).collect()).into_stream();
/// let shard = numbers.filter(|index| *index > 3).shard(1, 2).map(|number| number * 100);
/// let items = shard.into_lazy()?;
/// assert_eq!(items.len(), 3);
/// assert_eq!(items.iter().collect::<Result<Vec<_>, _>>()?, [500, 700, 900]);
/// # Ok::<(), burn::data::dataset::DatasetError>(())
/// ```
pub trait StreamingDatasetExt<I>: StreamingDataset<I> + Sized {
    /// Applies `map` to every item that is loaded.
    ///
    /// An item is said to cost what it costs unmapped.
    fn map<O, F>(self, map: F) -> Map<Self, I, F>
    where
        F: Fn(I) -> O + Send + Sync,
    {
        Map::new(self, map)
    }

    /// Keeps the records that `keep` accepts, and the damaged ones, whose errors are not to
    /// be lost.
    ///
    /// Their numbers count what is kept. So reading from a number on, as a resumed run
    /// does, reads the records before it too; none of them is loaded.
    fn filter<P>(self, keep: P) -> Filter<Self, P>
    where
        P: Fn(&Self::Record) -> bool + Send + Sync + 'static,
    {
        Filter::new(self, keep)
    }

    /// One of `count` parts of the stream: record `k` of the part is record
    /// `k * count + index` of the whole.
    ///
    /// The parts have no record in common and together have all, whatever the length.
    /// Each reads over the records of the others, and loads its own alone. An error with which
    /// the stream ends is an error of every part.
    ///
    /// # Panics
    /// If `index` is not below `count`.
    fn shard(self, index: u64, count: u64) -> Shard<Self> {
        Shard::new(self, index, count)
    }

    /// The same items by index.
    ///
    /// A stream that does not know its length is counted here and now, in one pass over
    /// its records that loads none. Item `k` is then read by opening the stream at record
    /// `k`: as expensive as that is for the stream, from a file handle to reading all before it.
    ///
    /// # Errors
    /// If the stream cannot be opened. Damaged records are counted, and are errors once
    /// they are asked for.
    fn into_lazy(self) -> Result<Indexed<Self>, DatasetError> {
        Indexed::new(self)
    }
}

impl<I, S: StreamingDataset<I>> StreamingDatasetExt<I> for S {}

#[cfg(test)]
mod tests;
