use std::marker::PhantomData;

use burn::data::dataset::DatasetError;

use super::{Records, StreamingDataset};

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
