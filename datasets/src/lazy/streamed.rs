use burn::data::dataset::DatasetError;

use super::LazyDataset;
use crate::stream::{Records, StreamingDataset};

/// See [`LazyDatasetExt::into_stream`](super::LazyDatasetExt::into_stream).
#[derive(Clone, Debug)]
pub struct Streamed<D> {
    dataset: D,
}

impl<D> Streamed<D> {
    pub(super) fn new(dataset: D) -> Self {
        Self { dataset }
    }
}

impl<I, D: LazyDataset<I>> StreamingDataset<I> for Streamed<D> {
    type Record = usize;

    fn records(&self, start: u64) -> Result<Records<usize>, DatasetError> {
        let len = self.dataset.len();
        let start = usize::try_from(start).unwrap_or(len);
        Ok(Box::new((start..len).map(Ok)))
    }

    fn load(&self, index: usize) -> Result<I, DatasetError> {
        self.dataset.get(index)
    }

    fn item_bytes(&self, index: &usize) -> u64 {
        self.dataset.item_bytes(*index)
    }

    fn num_records(&self) -> Option<u64> {
        Some(self.dataset.len() as u64)
    }
}
