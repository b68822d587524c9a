use std::fmt;

use serde::{Deserialize, Serialize};

use super::ItemBytes;
use crate::memory::Bytes;

/// What a data set takes: an item on the average, the largest one, and all of them.
///
/// # Exactness
/// As exact as the items it was made of. From a sample, totals are the sample's mean times the
/// number of items, and an item that is larger than the largest of the sample may exist. A mean
/// is rounded up to whole bytes.
///
/// # Example
/// ```
/// use burn::tensor::DType;
/// use burn_memopt::memory::{Bytes, estimate::{DatasetBytes, ItemBytes}};
///
/// let frame = ItemBytes::image([1, 512, 512], DType::U16, DType::F32);
/// let movie = DatasetBytes::uniform(10_000, frame);
/// assert_eq!(movie.loaded(), Some(Bytes::mib(10_000)));
/// assert_eq!(movie.batch(32), Bytes::mib(32));
///
/// // Photos of many sizes, three of a thousand looked at.
/// let photos = [90, 100, 200].map(|side| ItemBytes::image([3, side, side], DType::U8, DType::U8));
/// let photos = DatasetBytes::sampled(1000, photos);
/// assert_eq!(photos.mean_item().loaded, Bytes::new(58_100));
/// assert_eq!(photos.loaded(), Some(Bytes::new(58_100_000)));
/// assert_eq!(photos.batch(2), Bytes::new(2 * 3 * 200 * 200));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetBytes {
    num_items: Option<u64>,
    mean_item: ItemBytes,
    largest_item: ItemBytes,
    stored: Option<Bytes>,
    loaded: Option<Bytes>,
}

impl DatasetBytes {
    /// `num_items` items of one size, as the frames of a stack or a video are.
    pub fn uniform(num_items: u64, item: ItemBytes) -> Self {
        Self::sampled(num_items, [item])
    }

    /// Items of any sizes, each of them looked at.
    pub fn of_items(items: impl IntoIterator<Item = ItemBytes>) -> Self {
        let sample = Sample::of(items);
        sample.scaled_to(Some(sample.len))
    }

    /// `num_items` items of which some were looked at; `None` where the number is unknown, as in a
    /// stream.
    ///
    /// An empty sample says nothing: its items count as empty, and totals are unknown unless
    /// there is no item at all.
    pub fn sampled(
        num_items: impl Into<Option<u64>>,
        sample: impl IntoIterator<Item = ItemBytes>,
    ) -> Self {
        Sample::of(sample).scaled_to(num_items.into())
    }

    /// The same data set, known to take `stored` bytes on the disk.
    pub fn with_stored(self, stored: Bytes) -> Self {
        Self {
            stored: Some(stored),
            ..self
        }
    }

    /// The same data set, known to take `loaded` bytes in memory. That is less than its items
    /// together where these overlap, as windows of neighbouring frames do.
    pub fn with_loaded(self, loaded: Bytes) -> Self {
        Self {
            loaded: Some(loaded.max(self.largest_item.loaded)),
            ..self
        }
    }

    /// Number of items, `None` if it is unknown.
    pub fn num_items(&self) -> Option<u64> {
        self.num_items
    }

    /// What an item takes on the average.
    pub fn mean_item(&self) -> ItemBytes {
        self.mean_item
    }

    /// The most that an item takes, of those looked at.
    pub fn largest_item(&self) -> ItemBytes {
        self.largest_item
    }

    /// Bytes of the whole set on the disk, `None` if unknown.
    pub fn stored(&self) -> Option<Bytes> {
        self.stored
    }

    /// Bytes of the whole set in memory, `None` if unknown.
    pub fn loaded(&self) -> Option<Bytes> {
        self.loaded
    }

    /// Bytes of a loaded batch of `batch_size` of the largest items.
    pub fn batch(&self, batch_size: u64) -> Bytes {
        self.largest_item.loaded * batch_size
    }
}

impl fmt::Display for DatasetBytes {
    /// One line: number of items, mean item, stored and loaded size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |amount: Option<Bytes>| match amount {
            Some(amount) => amount.to_string(),
            None => "unknown".into(),
        };
        match self.num_items {
            Some(1) => write!(f, "1 item")?,
            Some(number) => write!(f, "{number} items")?,
            None => write!(f, "an unknown number of items")?,
        }
        write!(
            f,
            " of {} on average, {} stored, {} loaded",
            self.mean_item.loaded,
            shown(self.stored),
            shown(self.loaded)
        )
    }
}

/// The items that were looked at. Sums are wider than what they add up.
struct Sample {
    len: u64,
    stored: u128,
    loaded: u128,
    largest: ItemBytes,
}

impl Sample {
    fn of(items: impl IntoIterator<Item = ItemBytes>) -> Self {
        let empty = Self {
            len: 0,
            stored: 0,
            loaded: 0,
            largest: ItemBytes::default(),
        };
        items.into_iter().fold(empty, |sample, item| Self {
            len: sample.len + 1,
            stored: sample.stored + u128::from(item.stored.get()),
            loaded: sample.loaded + u128::from(item.loaded.get()),
            largest: sample.largest.max(item),
        })
    }

    fn scaled_to(&self, num_items: Option<u64>) -> DatasetBytes {
        if num_items == Some(0) && self.len > 0 {
            return Self::of([]).scaled_to(num_items);
        }
        // The part of a data set of `num` items: rounded up, so that nothing is promised away.
        let scaled = |sum: u128, num: u64| {
            let sum = sum.saturating_mul(num.into());
            let bytes = sum.div_ceil(u128::from(self.len.max(1)));
            Bytes::new(u64::try_from(bytes).unwrap_or(u64::MAX))
        };
        // However few items there are, the largest is one of them.
        let total = |sum, largest: Bytes| match num_items {
            Some(0) => Some(Bytes::ZERO),
            Some(num) if self.len > 0 => Some(scaled(sum, num).max(largest)),
            _ => None,
        };
        DatasetBytes {
            num_items,
            mean_item: ItemBytes {
                stored: scaled(self.stored, 1),
                loaded: scaled(self.loaded, 1),
            },
            largest_item: self.largest,
            stored: total(self.stored, self.largest.stored),
            loaded: total(self.loaded, self.largest.loaded),
        }
    }
}
