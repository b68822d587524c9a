use std::marker::PhantomData;

use burn::data::dataset::{Dataset, DatasetError};

use super::LazyDataset;

/// See [`LazyDatasetExt::map`](super::LazyDatasetExt::map).
#[derive(Clone, Debug)]
pub struct Map<D, I, F> {
    dataset: D,
    map: F,
    input: PhantomData<fn(I)>,
}

impl<D, I, F> Map<D, I, F> {
    pub(super) fn new(dataset: D, map: F) -> Self {
        Self {
            dataset,
            map,
            input: PhantomData,
        }
    }
}

impl<I, O, D, F> Dataset<O> for Map<D, I, F>
where
    D: LazyDataset<I>,
    F: Fn(I) -> O + Send + Sync,
{
    fn get(&self, index: usize) -> Result<O, DatasetError> {
        self.dataset.get(index).map(&self.map)
    }

    fn len(&self) -> usize {
        self.dataset.len()
    }
}

impl<I, O, D, F> LazyDataset<O> for Map<D, I, F>
where
    D: LazyDataset<I>,
    F: Fn(I) -> O + Send + Sync,
{
    fn item_bytes(&self, index: usize) -> u64 {
        self.dataset.item_bytes(index)
    }
}
