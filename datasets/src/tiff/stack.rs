//! A stack whose frames are decoded one at a time.

use std::{
    io::BufReader,
    path::{Path, PathBuf},
};

use ::tiff::{
    TiffError,
    decoder::{Decoder, DecodingResult, Limits},
};
use burn::data::dataset::{Dataset, DatasetError};

use super::{
    error::TiffStackError,
    layout::Layout,
    source::{PageReader, SharedFile},
};

/// Decoded bytes of one strip or tile, and compressed ones: 128 MiB at most.
const MAX_CHUNK_BYTES: usize = 128 << 20;

/// One page of a stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Position in the stack, from 0.
    pub index: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Pixel values as stored, row by row: `height * width` of them.
    pub pixels: Vec<f32>,
}

/// A multi-page gray TIFF of which only the page index is in memory.
///
/// Reads classic TIFF and BigTIFF in both byte orders, strips and tiles,
/// uncompressed, LZW, deflate, PackBits and JPEG; unsigned and signed integers
/// of 8, 16 or 32 bits and floats of 32 or 64 bits. Reaching any frame takes the
/// same time. Threads share one stack without waiting for each other.
///
/// A page may claim 2 GiB of pixels, and no more than its stored bytes can hold: a
/// damaged file cannot make the reader allocate what it only claims. The size
/// inside a JPEG stream is bounded by the decoder alone, to 16,384 pixels a side.
///
/// # Exactness
/// Integers above 2²⁴ and 64-bit floats are rounded to the nearest `f32`.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("movie.tif");
/// use burn_memopt_datasets::tiff::{TiffStack, TiffStackWriter};
///
/// let mut writer = TiffStackWriter::create(&path, 1, 2)?;
/// writer.write_frame_u16(&[7, 8])?;
/// writer.write_frame_u16(&[9, 10])?;
/// writer.finish()?;
///
/// let stack = TiffStack::open(&path)?;
/// assert_eq!(stack.num_frames(), 2);
/// assert_eq!(stack.frame(1)?.pixels, [9.0, 10.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TiffStack {
    path: PathBuf,
    file: SharedFile,
    layout: Layout,
}

impl TiffStack {
    /// Opens the stack and reads its page index, but no pixel.
    ///
    /// # Errors
    /// If the file is missing, is no TIFF, has no page, or if a page's directory is
    /// truncated, corrupt, of another size than the first, part of a loop, or
    /// of a kind that is not read: every page is checked here, so that a long run does
    /// not fail in the middle.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TiffStackError> {
        let path = path.as_ref().to_path_buf();
        let file = SharedFile::open(&path).map_err(|source| TiffStackError::Open {
            path: path.clone(),
            source,
        })?;
        let layout = Layout::read(&path, &file)?;
        Ok(Self { path, file, layout })
    }

    /// The file that is read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of frames.
    pub fn num_frames(&self) -> usize {
        self.layout.pages.len()
    }

    /// Height of every frame in pixels.
    pub fn height(&self) -> usize {
        self.layout.height
    }

    /// Width of every frame in pixels.
    pub fn width(&self) -> usize {
        self.layout.width
    }

    /// Decodes frame `index`.
    ///
    /// # Errors
    /// If there is no such frame, or its bytes cannot be read or decoded.
    pub fn frame(&self, index: usize) -> Result<Frame, TiffStackError> {
        let Some(&offset) = self.layout.pages.get(index) else {
            return Err(TiffStackError::FrameOutOfRange {
                path: self.path.clone(),
                index,
                num_frames: self.num_frames(),
            });
        };
        let pixels = self
            .decode(index)
            .map_err(|source| TiffStackError::Decode {
                path: self.path.clone(),
                page: index,
                offset,
                source,
            })?;
        let (height, width) = (self.height(), self.width());
        if pixels.len() != height * width {
            return Err(TiffStackError::Changed {
                path: self.path.clone(),
                page: index,
            });
        }
        Ok(Frame {
            index,
            height,
            width,
            pixels,
        })
    }

    fn decode(&self, index: usize) -> Result<Vec<f32>, TiffError> {
        let mut limits = Limits::default();
        limits.decoding_buffer_size = self.height() * self.width() * size_of::<f64>();
        limits.intermediate_buffer_size = MAX_CHUNK_BYTES.max(limits.decoding_buffer_size);
        let reader = PageReader::new(&self.file, self.layout.header_of(index));
        let mut decoder = Decoder::new(BufReader::new(reader))?.with_limits(limits);
        Ok(to_f32(decoder.read_image()?))
    }
}

/// Converts samples of any type to the nearest `f32`.
fn to_f32(samples: DecodingResult) -> Vec<f32> {
    fn map<T: Copy>(samples: &[T], convert: impl Fn(T) -> f32) -> Vec<f32> {
        samples.iter().map(|&sample| convert(sample)).collect()
    }
    match samples {
        DecodingResult::F32(samples) => samples,
        DecodingResult::U8(samples) => map(&samples, f32::from),
        DecodingResult::U16(samples) => map(&samples, f32::from),
        DecodingResult::U32(samples) => map(&samples, |sample| sample as f32),
        DecodingResult::U64(samples) => map(&samples, |sample| sample as f32),
        DecodingResult::I8(samples) => map(&samples, f32::from),
        DecodingResult::I16(samples) => map(&samples, f32::from),
        DecodingResult::I32(samples) => map(&samples, |sample| sample as f32),
        DecodingResult::I64(samples) => map(&samples, |sample| sample as f32),
        DecodingResult::F16(samples) => map(&samples, f32::from),
        DecodingResult::F64(samples) => map(&samples, |sample| sample as f32),
    }
}

impl Dataset<Frame> for TiffStack {
    fn get(&self, index: usize) -> Result<Frame, DatasetError> {
        let len = self.num_frames();
        assert!(index < len, "frame must be below {len}, got {index}");
        self.frame(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.num_frames()
    }
}
