//! The items that were used last, up to a bound in bytes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::data::dataset::{Dataset, DatasetError};
use lru::LruCache;

use crate::lazy::LazyDataset;

/// A dataset that keeps up to a number of bytes of the items that were used last.
///
/// Any number of threads read at once, and none waits while another one loads; so two that
/// ask for the same item at the same time both load it. An item that costs more than the
/// bound passes through and displaces nothing. What is kept is handed out as a
/// clone: for large items let them be `Arc`s.
///
/// # Exactness
/// Items are those of the dataset, if it gives the same ones every time. The bound is kept by
/// what [`LazyDataset::item_bytes`] says.
///
/// # Example
/// ```
/// use burn::data::dataset::{Dataset, InMemDataset};
/// use burn_memopt_datasets::{cache::Cached, lazy::LazyDataset};
///
/// let cached = Cached::new(InMemDataset::new(vec![1u64, 2, 3]), 16);
/// for index in [0, 0, 1, 2, 0] {
///     cached.get(index)?;
/// }
/// let stats = cached.stats();
/// assert_eq!((stats.hits, stats.misses), (1, 4));
/// assert_eq!((stats.items, stats.bytes), (2, 16));
/// # Ok::<(), burn::data::dataset::DatasetError>(())
/// ```
#[derive(Debug)]
pub struct Cached<I, D> {
    dataset: D,
    bound: u64,
    kept: Mutex<Kept<I>>,
}

/// What a cache holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Items that were there when they were asked for.
    pub hits: u64,
    /// Items that had to be loaded.
    pub misses: u64,
    /// Items in the cache.
    pub items: usize,
    /// Bytes that they take.
    pub bytes: u64,
}

#[derive(Debug)]
struct Kept<I> {
    items: LruCache<usize, (I, u64)>,
    stats: CacheStats,
}

impl<I, D> Cached<I, D> {
    /// Keeps up to `bytes` of the items of `dataset`.
    pub fn new(dataset: D, bytes: u64) -> Self {
        let kept = Kept {
            items: LruCache::unbounded(),
            stats: CacheStats::default(),
        };
        Self {
            dataset,
            bound: bytes,
            kept: Mutex::new(kept),
        }
    }

    /// What the cache holds now, and did since it was made.
    pub fn stats(&self) -> CacheStats {
        self.lock().stats
    }

    /// Forgets all items; hits and misses stay counted.
    pub fn clear(&self) {
        let mut kept = self.lock();
        let items = std::mem::replace(&mut kept.items, LruCache::unbounded());
        kept.stats.items = 0;
        kept.stats.bytes = 0;
        drop(kept);
        drop(items);
    }

    fn lock(&self) -> MutexGuard<'_, Kept<I>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I: Clone> Kept<I> {
    fn find(&mut self, index: usize) -> Option<I> {
        let found = self.items.get(&index).map(|(item, _)| item.clone());
        match found {
            Some(_) => self.stats.hits += 1,
            None => self.stats.misses += 1,
        }
        found
    }

    /// Keeps an item of at most `bound` bytes, and forgets those that were not used for
    /// the longest time.
    fn keep(&mut self, index: usize, item: I, bytes: u64, bound: u64) {
        if let Some((_, bytes)) = self.items.pop(&index) {
            self.stats.bytes -= bytes;
        }
        while self.stats.bytes > bound - bytes {
            let Some((_, (_, bytes))) = self.items.pop_lru() else {
                break;
            };
            self.stats.bytes -= bytes;
        }
        self.items.put(index, (item, bytes));
        self.stats.bytes += bytes;
        self.stats.items = self.items.len();
    }
}

impl<I: Clone + Send, D: LazyDataset<I>> Dataset<I> for Cached<I, D> {
    fn get(&self, index: usize) -> Result<I, DatasetError> {
        let found = self.lock().find(index);
        if let Some(item) = found {
            return Ok(item);
        }
        let item = self.dataset.get(index)?;
        let bytes = self.dataset.item_bytes(index);
        if bytes <= self.bound {
            self.lock().keep(index, item.clone(), bytes, self.bound);
        }
        Ok(item)
    }

    fn len(&self) -> usize {
        self.dataset.len()
    }
}

impl<I: Clone + Send, D: LazyDataset<I>> LazyDataset<I> for Cached<I, D> {
    fn item_bytes(&self, index: usize) -> u64 {
        self.dataset.item_bytes(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lazy::{LazyDatasetExt, WithItemBytes};
    use burn::data::dataset::InMemDataset;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    proptest! {
        #[test]
        fn the_content_stays_in_its_bound_and_items_are_right(
            sizes in prop::collection::vec(0u64..12, 1..20),
            asked in prop::collection::vec(0usize..1000, 1..60),
            bound in 0u64..30,
        ) {
            let items = InMemDataset::new((0..sizes.len()).collect());
            let costs = sizes.clone();
            let cached = WithItemBytes::new(items, move |index| costs[index]).cached(bound);
            for (count, index) in asked.into_iter().enumerate() {
                let index = index % sizes.len();
                prop_assert_eq!(cached.get(index).unwrap(), index);
                let stats = cached.stats();
                prop_assert!(stats.bytes <= bound);
                prop_assert_eq!(stats.hits + stats.misses, count as u64 + 1);
                let kept = cached.lock().items.iter().map(|(&index, _)| sizes[index]).sum::<u64>();
                prop_assert_eq!(stats.bytes, kept);
            }
        }
    }

    #[test]
    fn what_was_used_last_is_not_loaded_again() {
        let loads = AtomicUsize::new(0);
        let items = InMemDataset::new(vec![0u8; 4]);
        let cached = items.map(|item| {
            loads.fetch_add(1, Ordering::SeqCst);
            item
        });
        let cached = cached.cached(2);
        for index in [0, 1, 0, 2, 0, 1] {
            cached.get(index).unwrap();
        }
        // 0, 1 and 2 once, then 1 again: 2 displaced it.
        assert_eq!(loads.load(Ordering::SeqCst), 4);
        assert_eq!((cached.stats().hits, cached.stats().misses), (2, 4));
        cached.clear();
        assert_eq!((cached.stats().items, cached.stats().bytes), (0, 0));
    }

    #[test]
    fn an_item_above_the_bound_displaces_nothing() {
        let items = InMemDataset::new(vec!['a', 'b']);
        let cached = WithItemBytes::new(items, |index| [2, 9][index]).cached(4);
        for index in [0, 1, 1, 0] {
            cached.get(index).unwrap();
        }
        let expected = CacheStats {
            hits: 1,
            misses: 3,
            items: 1,
            bytes: 2,
        };
        assert_eq!(cached.stats(), expected);
    }
}
