use std::ops::RangeInclusive;

use burn::data::dataset::{Dataset, DatasetError};
use serde::{Deserialize, Serialize};

use super::LazyDataset;

/// What a window holds where it reaches beyond the first or last item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edge {
    /// The first or last item again: `0 0 1`.
    Repeat,
    /// The items on the other side, without the first or last twice: `1 0 1`.
    Reflect,
    /// Nothing: there are windows only where every item has one, so window 0 is the one
    /// that begins with item 0.
    Skip,
}

/// See [`LazyDatasetExt::windows`](super::LazyDatasetExt::windows).
#[derive(Clone, Debug)]
pub struct Windows<D> {
    dataset: D,
    before: usize,
    after: usize,
    edge: Edge,
}

impl<D> Windows<D> {
    pub(super) fn new(dataset: D, before: usize, after: usize, edge: Edge) -> Self {
        Self {
            dataset,
            before,
            after,
            edge,
        }
    }

    /// Indices of the items of a window.
    fn items<I>(&self, index: usize) -> impl Iterator<Item = usize>
    where
        D: LazyDataset<I>,
    {
        let (len, windows) = (self.dataset.len(), self.len());
        assert!(
            index < windows,
            "index must be below the {windows} windows, got {index}"
        );
        let edge = self.edge;
        self.offsets(index)
            .map(move |position| inside(position, len, edge))
    }

    /// Positions of a window's items, those beyond the ends included.
    fn offsets(&self, index: usize) -> RangeInclusive<isize> {
        let (index, before, after) = (index as isize, self.before as isize, self.after as isize);
        match self.edge {
            Edge::Skip => index..=index + before + after,
            Edge::Repeat | Edge::Reflect => index - before..=index + after,
        }
    }
}

/// The item that stands for `position` in a dataset of `len` items.
pub(crate) fn inside(position: isize, len: usize, edge: Edge) -> usize {
    let last = len as isize - 1;
    let inside = match edge {
        Edge::Reflect if last > 0 => {
            let position = position.rem_euclid(2 * last);
            position.min(2 * last - position)
        }
        Edge::Repeat | Edge::Reflect | Edge::Skip => position.clamp(0, last),
    };
    inside as usize
}

impl<I, D: LazyDataset<I>> Dataset<Vec<I>> for Windows<D> {
    fn get(&self, index: usize) -> Result<Vec<I>, DatasetError> {
        self.items(index)
            .map(|item| self.dataset.get(item))
            .collect()
    }

    fn len(&self) -> usize {
        let len = self.dataset.len();
        match self.edge {
            Edge::Skip => len.saturating_sub(self.before + self.after),
            Edge::Repeat | Edge::Reflect => len,
        }
    }
}

impl<I, D: LazyDataset<I>> LazyDataset<Vec<I>> for Windows<D> {
    fn item_bytes(&self, index: usize) -> u64 {
        self.items(index)
            .map(|item| self.dataset.item_bytes(item))
            .sum()
    }
}
