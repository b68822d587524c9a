use burn::data::dataset::{Dataset, DatasetError};

use super::LazyDataset;

/// Any burn dataset as a [`LazyDataset`], by a function that tells what its items cost.
///
/// # Example
/// ```
/// use burn::data::dataset::{InMemDataset, transform::PartialDataset};
/// use burn_memopt_datasets::lazy::{LazyDataset, WithItemBytes};
///
/// let names = PartialDataset::new(InMemDataset::new(vec!["name"; 8]), 0, 4);
/// let lazy = WithItemBytes::new(names, |_index| 64);
/// assert_eq!(lazy.item_bytes(3), 64);
/// ```
#[derive(Clone, Debug)]
pub struct WithItemBytes<D, F> {
    dataset: D,
    bytes: F,
}

impl<D, F: Fn(usize) -> u64 + Send + Sync> WithItemBytes<D, F> {
    /// `bytes` of an index are the bytes of host memory that its item takes.
    pub fn new(dataset: D, bytes: F) -> Self {
        Self { dataset, bytes }
    }
}

impl<I, D: Dataset<I>, F: Send + Sync> Dataset<I> for WithItemBytes<D, F> {
    fn get(&self, index: usize) -> Result<I, DatasetError> {
        self.dataset.get(index)
    }

    fn len(&self) -> usize {
        self.dataset.len()
    }
}

impl<I, D: Dataset<I>, F: Fn(usize) -> u64 + Send + Sync> LazyDataset<I> for WithItemBytes<D, F> {
    fn item_bytes(&self, index: usize) -> u64 {
        (self.bytes)(index)
    }
}
