//! One page: its samples, in the file's memory map or decoded.

use std::{fmt, ops::Range, sync::Arc};

use burn::tensor::f16;
use sealed::Sealed;

use super::{frame::Frame, mmap::Mapping};

/// One page of a stack, as it is stored.
///
/// A page that is uncompressed and in one piece is a view into the memory map of its file:
/// nothing is copied or allocated, and only the bytes that are looked at are read.
/// Any other page is decoded into memory of its own.
///
/// A page stays valid when its stack is dropped or found grown.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("movie.tif");
/// use burn_memopt_datasets::tiff::{FrameSource, TiffStack, TiffStackWriter};
///
/// let mut writer = TiffStackWriter::create(&path, 2, 2)?;
/// writer.write_frame(&[1u16, 2, 3, 4])?;
/// writer.finish()?;
///
/// let page = TiffStack::open(&path)?.page(0)?;
/// assert!(page.is_mapped());
/// assert_eq!(page.as_slice::<u16>(), Some(&[1, 2, 3, 4][..]));
/// assert_eq!(page.patch(0..2, 1..2), [2.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Page {
    pub(super) index: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) sample: SampleType,
    pub(super) big_endian: bool,
    pub(super) bytes: PageBytes,
}

/// Where a page's bytes are; `height * width` samples of them.
#[derive(Clone)]
pub(super) enum PageBytes {
    Mapped(Arc<Mapping>, Range<usize>),
    Memory(Arc<[u8]>, Range<usize>),
    Decoded(Decoded),
}

/// Bytes at an address that suits every sample type.
#[derive(Clone)]
pub(super) struct Decoded {
    words: Vec<u64>,
    len: usize,
}

impl Decoded {
    pub(super) fn zeroed(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(size_of::<u64>())],
            len,
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}

impl Page {
    /// Position in the stack, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// What the pixels are stored as.
    pub fn sample_type(&self) -> SampleType {
        self.sample
    }

    /// Whether the page is a view into a memory map.
    pub fn is_mapped(&self) -> bool {
        matches!(self.bytes, PageBytes::Mapped(..))
    }

    /// Whether [`bytes`](Self::bytes) holds the most significant byte of a sample first.
    pub fn is_big_endian(&self) -> bool {
        self.big_endian
    }

    /// All samples, row by row, in the byte order that
    /// [`is_big_endian`](Self::is_big_endian) says.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            PageBytes::Mapped(map, range) => map.bytes(range.clone()),
            PageBytes::Memory(bytes, range) => &bytes[range.clone()],
            PageBytes::Decoded(decoded) => &bytemuck::cast_slice(&decoded.words)[..decoded.len],
        }
    }

    /// All samples as numbers, without a copy.
    ///
    /// `None` if they are of another type, in the other byte order than the
    /// machine's, or at an address that does not suit such numbers; decoded pages fail only in
    /// the type. [`to_f32`](Self::to_f32) reads all of them.
    pub fn as_slice<T: Sample>(&self) -> Option<&[T]> {
        let native = self.big_endian == cfg!(target_endian = "big") || self.sample.size() == 1;
        let fits = native && self.sample == T::TYPE;
        fits.then(|| bytemuck::try_cast_slice(self.bytes()).ok())?
    }

    /// All pixels, row by row, each the nearest `f32`.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut pixels = Vec::with_capacity(self.height * self.width);
        self.sample
            .append_f32(self.bytes(), self.big_endian, &mut pixels);
        pixels
    }

    /// The pixels of a rectangle, row by row. Of a mapped page, no other row is read.
    ///
    /// # Panics
    /// If the rectangle reaches over the page.
    pub fn patch(&self, rows: Range<usize>, columns: Range<usize>) -> Vec<f32> {
        let (height, width) = (self.height, self.width);
        assert!(
            rows.start <= rows.end && rows.end <= height,
            "rows of a patch must lie within 0..{height}, got {rows:?}"
        );
        assert!(
            columns.start <= columns.end && columns.end <= width,
            "columns of a patch must lie within 0..{width}, got {columns:?}"
        );
        let (bytes, size) = (self.bytes(), self.sample.size());
        let mut pixels = Vec::with_capacity(rows.len() * columns.len());
        for row in rows {
            let part = (row * width + columns.start) * size..(row * width + columns.end) * size;
            self.sample
                .append_f32(&bytes[part], self.big_endian, &mut pixels);
        }
        pixels
    }

    /// The page as a frame of `f32`.
    pub fn to_frame(&self) -> Frame {
        Frame {
            index: self.index,
            height: self.height,
            width: self.width,
            pixels: self.to_f32(),
        }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("index", &self.index)
            .field("height", &self.height)
            .field("width", &self.width)
            .field("sample", &self.sample)
            .field("mapped", &self.is_mapped())
            .finish_non_exhaustive()
    }
}

/// What a pixel is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SampleType {
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 64 bits.
    I64,
    /// Floating-point, 16 bits.
    F16,
    /// Floating-point, 32 bits.
    F32,
    /// Floating-point, 64 bits.
    F64,
}

impl SampleType {
    /// Bytes of a sample.
    pub fn size(self) -> usize {
        self.tags().1 / 8
    }

    /// The values of the tags SampleFormat and BitsPerSample.
    pub(super) fn tags(self) -> (u16, usize) {
        match self {
            Self::U8 => (1, 8),
            Self::I8 => (2, 8),
            Self::U16 => (1, 16),
            Self::I16 => (2, 16),
            Self::U32 => (1, 32),
            Self::I32 => (2, 32),
            Self::U64 => (1, 64),
            Self::I64 => (2, 64),
            Self::F16 => (3, 16),
            Self::F32 => (3, 32),
            Self::F64 => (3, 64),
        }
    }

    /// The type of these tags, or in words what is not supported.
    pub(super) fn from_tags(format: u64, bits: u64) -> Result<Self, String> {
        Ok(match (format, bits) {
            // Packed samples are unpacked into the next wider type.
            (1, 1..=8) => Self::U8,
            (2, 8) => Self::I8,
            (1, 9..=16) => Self::U16,
            (2, 16) => Self::I16,
            (1, 24 | 32) => Self::U32,
            (2, 32) => Self::I32,
            (1, 64) => Self::U64,
            (2, 64) => Self::I64,
            (3, 16) => Self::F16,
            (3, 32) => Self::F32,
            (3, 64) => Self::F64,
            (1, _) => return Err(format!("has {bits}-bit unsigned samples")),
            (2, _) => return Err(format!("has {bits}-bit signed samples")),
            (3, _) => return Err(format!("has {bits}-bit floating-point samples")),
            _ => return Err(format!("has {bits}-bit undefined or complex samples")),
        })
    }

    /// Appends samples, whole ones, as the nearest `f32`.
    pub(super) fn append_f32(self, bytes: &[u8], big_endian: bool, pixels: &mut Vec<f32>) {
        /// One loop for each type and byte order, so that each is vectorised.
        macro_rules! append {
            ($sample:ty, $convert:expr) => {{
                let convert: fn($sample) -> f32 = $convert;
                let (samples, _) = bytes.as_chunks::<{ size_of::<$sample>() }>();
                match big_endian {
                    true => pixels.extend(
                        samples
                            .iter()
                            .map(|&bytes| convert(<$sample>::from_be_bytes(bytes))),
                    ),
                    false => pixels.extend(
                        samples
                            .iter()
                            .map(|&bytes| convert(<$sample>::from_le_bytes(bytes))),
                    ),
                }
            }};
        }
        match self {
            Self::U8 => append!(u8, f32::from),
            Self::I8 => append!(i8, f32::from),
            Self::U16 => append!(u16, f32::from),
            Self::I16 => append!(i16, f32::from),
            Self::U32 => append!(u32, |sample| sample as f32),
            Self::I32 => append!(i32, |sample| sample as f32),
            Self::U64 => append!(u64, |sample| sample as f32),
            Self::I64 => append!(i64, |sample| sample as f32),
            Self::F16 => append!(f16, f16::to_f32),
            Self::F32 => append!(f32, |sample| sample),
            Self::F64 => append!(f64, |sample| sample as f32),
        }
    }
}

/// A Rust number that pixels can be stored as.
pub trait Sample: Sealed {
    /// Its type in a file.
    const TYPE: SampleType;
}

mod sealed {
    pub trait Sealed: bytemuck::Pod {}
}

macro_rules! sample {
    ($($number:ty => $name:ident),*) => {$(
        impl Sealed for $number {}
        impl Sample for $number {
            const TYPE: SampleType = SampleType::$name;
        }
    )*};
}

sample!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64, f16 => F16, f32 => F32, f64 => F64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders_give_the_same_numbers() {
        let mut pixels = Vec::new();
        SampleType::I16.append_f32(&[0xff, 0xfe, 0x01, 0x00], true, &mut pixels);
        SampleType::I16.append_f32(&[0xfe, 0xff, 0x00, 0x01], false, &mut pixels);
        assert_eq!(pixels, [-2.0, 256.0, -2.0, 256.0]);
    }

    #[test]
    fn a_type_is_what_its_tags_say() {
        for kind in [SampleType::U8, SampleType::I32, SampleType::F64] {
            let (format, bits) = kind.tags();
            let parsed = SampleType::from_tags(u64::from(format), bits as u64);
            assert_eq!(parsed, Ok(kind));
        }
    }
}
