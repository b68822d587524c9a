use std::ops::Range;

use burn::data::dataset::{Dataset, DatasetError};

use super::LazyDataset;

/// See [`LazyDatasetExt::select`](super::LazyDatasetExt::select) and
/// [`LazyDatasetExt::filter`](super::LazyDatasetExt::filter).
#[derive(Clone, Debug)]
pub struct Select<D> {
    dataset: D,
    indices: Vec<usize>,
}

impl<D> Select<D> {
    pub(super) fn new<I>(dataset: D, indices: Vec<usize>) -> Self
    where
        D: LazyDataset<I>,
    {
        let len = dataset.len();
        if let Some(index) = indices.iter().find(|&&index| index >= len) {
            panic!("indices must be below the dataset's length {len}, got {index}");
        }
        Self { dataset, indices }
    }

    pub(super) fn find<I>(
        dataset: D,
        mut keep: impl FnMut(&I) -> bool,
    ) -> Result<Self, DatasetError>
    where
        D: LazyDataset<I>,
    {
        let mut indices = Vec::new();
        for index in 0..dataset.len() {
            if keep(&dataset.get(index)?) {
                indices.push(index);
            }
        }
        Ok(Self { dataset, indices })
    }

    /// Indices of the items in the dataset that they are taken from.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl<I, D: LazyDataset<I>> Dataset<I> for Select<D> {
    fn get(&self, index: usize) -> Result<I, DatasetError> {
        self.dataset.get(self.indices[index])
    }

    fn len(&self) -> usize {
        self.indices.len()
    }
}

impl<I, D: LazyDataset<I>> LazyDataset<I> for Select<D> {
    fn item_bytes(&self, index: usize) -> u64 {
        self.dataset.item_bytes(self.indices[index])
    }
}

/// See [`LazyDatasetExt::slice`](super::LazyDatasetExt::slice).
#[derive(Clone, Debug)]
pub struct Slice<D> {
    dataset: D,
    range: Range<usize>,
}

impl<D> Slice<D> {
    pub(crate) fn new<I>(dataset: D, range: Range<usize>) -> Self
    where
        D: LazyDataset<I>,
    {
        let len = dataset.len();
        assert!(
            range.start <= range.end && range.end <= len,
            "the range must lie in the dataset's 0..{len}, got {range:?}"
        );
        Self { dataset, range }
    }

    fn index(&self, index: usize) -> usize {
        let len = self.range.len();
        assert!(
            index < len,
            "index must be below the length {len}, got {index}"
        );
        self.range.start + index
    }
}

impl<I, D: LazyDataset<I>> Dataset<I> for Slice<D> {
    fn get(&self, index: usize) -> Result<I, DatasetError> {
        self.dataset.get(self.index(index))
    }

    fn len(&self) -> usize {
        self.range.len()
    }
}

impl<I, D: LazyDataset<I>> LazyDataset<I> for Slice<D> {
    fn item_bytes(&self, index: usize) -> u64 {
        self.dataset.item_bytes(self.index(index))
    }
}
