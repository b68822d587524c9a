use burn::data::dataset::{Dataset, DatasetError};

use super::LazyDataset;

/// See [`LazyDatasetExt::zip`](super::LazyDatasetExt::zip).
#[derive(Clone, Debug)]
pub struct Zip<A, B> {
    first: A,
    second: B,
}

impl<A, B> Zip<A, B> {
    pub(super) fn new(first: A, second: B) -> Self {
        Self { first, second }
    }
}

impl<I, J, A: LazyDataset<I>, B: LazyDataset<J>> Dataset<(I, J)> for Zip<A, B> {
    fn get(&self, index: usize) -> Result<(I, J), DatasetError> {
        Ok((self.first.get(index)?, self.second.get(index)?))
    }

    fn len(&self) -> usize {
        self.first.len().min(self.second.len())
    }
}

impl<I, J, A: LazyDataset<I>, B: LazyDataset<J>> LazyDataset<(I, J)> for Zip<A, B> {
    fn item_bytes(&self, index: usize) -> u64 {
        self.first.item_bytes(index) + self.second.item_bytes(index)
    }
}
