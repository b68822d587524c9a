use burn::data::dataset::{Dataset, DatasetError};

use super::{StreamError, StreamingDataset};
use crate::lazy::LazyDataset;

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
