//! Datasets made of a dataset: see the methods of [`LazyDatasetExt`](super::LazyDatasetExt).

use std::{
    marker::PhantomData,
    ops::{Range, RangeInclusive},
};

use burn::data::dataset::{Dataset, DatasetError};
use serde::{Deserialize, Serialize};

use super::LazyDataset;
use crate::{
    check_index,
    stream::{Records, StreamingDataset},
};

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
    pub(crate) fn new(dataset: D, before: usize, after: usize, edge: Edge) -> Self {
        Self {
            dataset,
            before,
            after,
            edge,
        }
    }

    #[cfg(feature = "tiff")]
    pub(crate) fn with_edge(self, edge: Edge) -> Self {
        Self { edge, ..self }
    }

    #[cfg(feature = "tiff")]
    pub(crate) fn dataset(&self) -> &D {
        &self.dataset
    }

    /// The item that a window is around.
    pub(crate) fn centre(&self, index: usize) -> usize {
        match self.edge {
            Edge::Skip => index + self.before,
            Edge::Repeat | Edge::Reflect => index,
        }
    }

    /// Indices of the items of a window.
    pub(crate) fn items<I>(&self, index: usize) -> impl Iterator<Item = usize>
    where
        D: LazyDataset<I>,
    {
        let len = self.dataset.len();
        check_index("window", index, self.len());
        let edge = self.edge;
        self.offsets(index)
            .map(move |position| inside(position, len, edge))
    }

    /// Positions of a window's items, those beyond the ends included.
    fn offsets(&self, index: usize) -> RangeInclusive<isize> {
        let centre = self.centre(index) as isize;
        centre - self.before as isize..=centre + self.after as isize
    }
}

/// The item that is shown at `position` in a dataset of `len` items.
fn inside(position: isize, len: usize, edge: Edge) -> usize {
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
