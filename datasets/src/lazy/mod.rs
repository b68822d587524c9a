//! Datasets of which only what is asked for is in memory, and what can be made of them.

mod adapters;

use std::{ops::Range, sync::Arc};

use burn::data::dataset::{Dataset, DatasetError, InMemDataset};

pub use adapters::{Edge, Map, Select, Slice, Streamed, Windows, Zip};

use crate::cache::Cached;

/// A burn dataset that opens nothing until an item is asked for, and says
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

/// Any burn dataset as a [`LazyDataset`], by a function that says what its items cost.
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

/// Datasets made of a dataset, each as lazy as it: nothing is loaded before an item is
/// asked for, unless said otherwise.
///
/// # Example
/// ```
/// use burn::data::dataset::{Dataset, InMemDataset};
/// use burn_memopt_datasets::lazy::{Edge, LazyDatasetExt};
///
/// let frames = InMemDataset::new((0..10u32).collect())
///     .filter_indices(|index| index % 2 == 0)
///     .map(|frame| frame * 100)
///     .windows(1, 1, Edge::Repeat);
/// assert_eq!(frames.len(), 5);
/// assert_eq!(frames.get(0)?, [0, 0, 200]);
/// assert_eq!(frames.get(3)?, [400, 600, 800]);
/// # Ok::<(), burn::data::dataset::DatasetError>(())
/// ```
pub trait LazyDatasetExt<I>: LazyDataset<I> + Sized {
    /// Applies `map` to every item that is loaded.
    ///
    /// An item is said to cost what it costs unmapped; where the two differ much, put
    /// [`WithItemBytes`] around it.
    fn map<O, F>(self, map: F) -> Map<Self, I, F>
    where
        F: Fn(I) -> O + Send + Sync,
    {
        Map::new(self, map)
    }

    /// Keeps the items that `keep` accepts, in their order.
    ///
    /// Loads every item once, here and now, one at a time; from then on costs 8 bytes for
    /// each item that is kept.
    ///
    /// # Errors
    /// If an item cannot be loaded.
    fn filter(self, keep: impl FnMut(&I) -> bool) -> Result<Select<Self>, DatasetError> {
        Select::find(self, keep)
    }

    /// Keeps the items whose index `keep` accepts; loads none, and costs 8 bytes for each
    /// that is kept.
    fn filter_indices(self, mut keep: impl FnMut(usize) -> bool) -> Select<Self> {
        let indices = (0..self.len()).filter(|&index| keep(index)).collect();
        Select::new(self, indices)
    }

    /// The items at `indices`, in that order; an index may come any number of times.
    ///
    /// # Panics
    /// If an index is out of range.
    fn select(self, indices: Vec<usize>) -> Select<Self> {
        Select::new(self, indices)
    }

    /// The items whose index is in `range`.
    ///
    /// # Panics
    /// If the range ends behind the last item.
    fn slice(self, range: Range<usize>) -> Slice<Self> {
        Slice::new(self, range)
    }

    /// Pairs items of the same index; as long as the shorter of the two.
    fn zip<J, E: LazyDataset<J>>(self, other: E) -> Zip<Self, E> {
        Zip::new(self, other)
    }

    /// Item `k` with its `before` predecessors and `after` successors, in order.
    ///
    /// Every window loads all its items. Put [`cached`](Self::cached) before it where
    /// they are expensive, with room for one window at least.
    fn windows(self, before: usize, after: usize, edge: Edge) -> Windows<Self> {
        Windows::new(self, before, after, edge)
    }

    /// Keeps up to `bytes` of the items that were used last.
    fn cached(self, bytes: u64) -> Cached<I, Self>
    where
        I: Clone + Send,
    {
        Cached::new(self, bytes)
    }

    /// The same items as a stream, whose records are their indices.
    fn into_stream(self) -> Streamed<Self> {
        Streamed::new(self)
    }
}

impl<I, D: LazyDataset<I>> LazyDatasetExt<I> for D {}

#[cfg(test)]
mod tests;
