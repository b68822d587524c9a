use std::iter::Sum;
use std::ops::{Add, Mul};

use burn::tensor::DType;
use serde::{Deserialize, Serialize};

use crate::memory::Bytes;

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
/// use burn_memopt::memory::{Bytes, estimate::ItemBytes};
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
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            stored: self.stored.max(other.stored),
            loaded: self.loaded.max(other.loaded),
        }
    }
}

/// Bytes of an array that lies densely in memory.
fn array(shape: &[u64], dtype: DType) -> Bytes {
    let scalar = Bytes::new(dtype.size() as u64);
    // An empty dimension makes nothing of whatever the others overflow to.
    match shape.contains(&0) {
        true => Bytes::ZERO,
        false => shape.iter().fold(scalar, |bytes, &len| bytes * len),
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
