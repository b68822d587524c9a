//! One page: its samples, in the file's memory map or decoded.

use std::{fmt, ops::Range, sync::Arc};

use super::{
    frame::Frame,
    mmap::Mapping,
    sample::{Sample, SampleType},
};

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
/// use burn_memopt_datasets::tiff::{TiffStack, TiffStackWriter};
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
    /// [`is_big_endian`](Self::is_big_endian) tells.
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
    /// machine's, or at an address where such numbers cannot lie; decoded pages fail only in
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
