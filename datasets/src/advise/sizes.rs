//! How many bytes data takes, before it is loaded. Sums and products saturate at 2^64 - 1 bytes:
//! an estimate is never smaller because it is too large.
//! Pure.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, Mul},
};

use burn::tensor::DType;
use burn_memopt::memory::Bytes;
use serde::{Deserialize, Serialize};

/// What one item of a data set takes where it is stored, and in memory once it is loaded.
///
/// The constructors count the bytes of plain data; compressed files say themselves what they
/// take, see [`with_stored`](Self::with_stored). Items add up, so an image with a question is the
/// sum of an image and a text, and a clip is a frame times the number of frames.
///
/// # Exactness
/// Exact for the data itself. What the containers around it take (a `Vec` is 24 bytes, an
/// allocation some more) is not counted.
///
/// # Example
/// ```
/// use burn::tensor::DType;
/// use burn_memopt::memory::Bytes;
/// use burn_memopt_datasets::advise::ItemBytes;
///
/// // A microscope writes u16, training reads f32.
/// let frame = ItemBytes::image([1, 512, 512], DType::U16, DType::F32);
/// assert_eq!(frame.stored, Bytes::kib(512));
/// assert_eq!(frame.loaded, Bytes::mib(1));
///
/// let window = frame * 3;
/// assert_eq!(window.loaded, Bytes::mib(3));
///
/// let question = ItemBytes::text(48) + ItemBytes::tokens(64, DType::I64, Some(DType::U8));
/// let photo = ItemBytes::image([3, 480, 640], DType::U8, DType::F32).with_stored(Bytes::kib(90));
/// let item = photo + question;
/// assert_eq!(item.stored, Bytes::new(90 * 1024 + 48));
/// assert_eq!(item.loaded, Bytes::new(3 * 480 * 640 * 4 + 48 + 64 * (8 + 1)));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemBytes {
    /// Bytes on the disk.
    pub stored: Bytes,
    /// Bytes in host memory, as the batcher gets it.
    pub loaded: Bytes,
}

impl ItemBytes {
    /// An image, mask or frame that is stored without compression.
    ///
    /// # Shapes
    /// - shape: `[channels, height, width]`
    pub fn image(shape: [u64; 3], stored: DType, loaded: DType) -> Self {
        Self {
            stored: array(&shape, stored),
            loaded: array(&shape, loaded),
        }
    }

    /// A text of `num_bytes` bytes of UTF-8, kept as it is stored.
    pub fn text(num_bytes: u64) -> Self {
        Self {
            stored: Bytes::new(num_bytes),
            loaded: Bytes::new(num_bytes),
        }
    }

    /// The `input_ids` of a text that is padded or cut to `num_tokens` tokens, and its
    /// `attention_mask` if it has one. Both are made on loading and stored nowhere.
    pub fn tokens(num_tokens: u64, input_ids: DType, attention_mask: Option<DType>) -> Self {
        let ids = array(&[num_tokens], input_ids);
        let mask = attention_mask.map_or(Bytes::ZERO, |dtype| array(&[num_tokens], dtype));
        Self {
            stored: Bytes::ZERO,
            loaded: ids + mask,
        }
    }

    /// The same item in a file of `stored` bytes, as PNG, JPEG or deflate make it.
    pub fn with_stored(self, stored: Bytes) -> Self {
        Self { stored, ..self }
    }

    /// The larger of both, on the disk and in memory.
    fn max(self, other: Self) -> Self {
        Self {
            stored: self.stored.max(other.stored),
            loaded: self.loaded.max(other.loaded),
        }
    }
}

/// Bytes of an array without gaps.
fn array(shape: &[u64], dtype: DType) -> Bytes {
    let scalar = Bytes::new(dtype.size() as u64);
    // An empty dimension makes nothing of whatever the others overflow to.
    if shape.contains(&0) {
        Bytes::ZERO
    } else {
        shape.iter().fold(scalar, |bytes, &len| bytes * len)
    }
}

impl Add for ItemBytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            stored: self.stored + other.stored,
            loaded: self.loaded + other.loaded,
        }
    }
}

impl Mul<u64> for ItemBytes {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self {
            stored: self.stored * times,
            loaded: self.loaded * times,
        }
    }
}

impl Sum for ItemBytes {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), Add::add)
    }
}

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
/// use burn_memopt::memory::Bytes;
/// use burn_memopt_datasets::advise::{DatasetBytes, ItemBytes};
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
    pub fn from_items(items: impl IntoIterator<Item = ItemBytes>) -> Self {
        let sample = Sample::new(items);
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
        Sample::new(sample).scaled_to(num_items.into())
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
    fn new(items: impl IntoIterator<Item = ItemBytes>) -> Self {
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
            return Self::new([]).scaled_to(num_items);
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

#[cfg(test)]
mod tests;
