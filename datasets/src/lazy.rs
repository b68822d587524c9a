//! Datasets of which only what is asked for is in memory.

use std::sync::Arc;

use burn::data::dataset::{Dataset, InMemDataset};

/// A burn dataset that opens nothing until an item is asked for, and tells
/// beforehand what that item costs.
///
/// The cost is what lets a loader bound its prefetch, and a cache its content, in bytes
/// instead of items.
pub trait LazyDataset<I>: Dataset<I> {
    /// Bytes of host memory that item `index` takes once it is loaded.
    ///
    /// Cheap: from the index, or from a header at most; nothing is decoded. Where the
    /// size is not known before decoding, it is the best estimate from what is.
    ///
    /// # Panics
    /// If `index` is out of range, as `get`.
    fn item_bytes(&self, index: usize) -> u64;
}

impl<I, D: LazyDataset<I>> LazyDataset<I> for Arc<D> {
    fn item_bytes(&self, index: usize) -> u64 {
        self.as_ref().item_bytes(index)
    }
}

impl<I, D: LazyDataset<I>> LazyDataset<I> for Box<D> {
    fn item_bytes(&self, index: usize) -> u64 {
        self.as_ref().item_bytes(index)
    }
}

/// Items in memory cost what another copy of them takes, without what they point to.
impl<I: Clone + Send + Sync> LazyDataset<I> for InMemDataset<I> {
    fn item_bytes(&self, _index: usize) -> u64 {
        size_of::<I>() as u64
    }
}
