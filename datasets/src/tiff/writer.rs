//! Writes a stack page by page, so that it never has to fit into memory.

use std::{
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{
    error::TiffStackError,
    format::Format,
    sample::{Sample, SampleType},
};
use crate::part_file::{self, PartFile};

mod kept;

/// Where pixels start: behind the longest header there is.
const FIRST_PIXEL: u64 = 16;
/// Pixels that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

const SHORT: u64 = 3;
const LONG: u64 = 4;
const LONG8: u64 = 16;

/// Streams pages of one size and sample type into a TIFF stack.
///
/// Pages are written frame by frame, or a page in rows as they come. All pixels lie one behind the
/// other, uncompressed, and the directories behind them: so they can be
/// memory-mapped as one array, by [`TiffStack`](super::TiffStack) and by other programs. The
/// file becomes a BigTIFF if it does not fit into the 4 GiB of a classic one, which is known, and
/// decided, at the end.
///
/// The pages go to a temporary file beside the target, which [`finish`]
/// moves into place: a half-written stack never carries the final name, and an
/// earlier file stays whole until then. [`go_on`] keeps the unfinished file under a name of its own, so
/// that a process that is ended loses no page.
///
/// [`finish`]: TiffStackWriter::finish
/// [`go_on`]: TiffStackWriter::go_on
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("density.tif");
/// use burn_memopt_datasets::tiff::{TiffStack, TiffStackWriter};
///
/// let mut writer = TiffStackWriter::create(&path, 3, 2)?;
/// writer.write_rows(&[0.5f32, 1.5])?;
/// writer.write_rows(&[2.5f32, 3.5, 4.5, 5.5])?;
/// writer.finish()?;
/// assert_eq!(TiffStack::open(&path)?.frame(0)?.pixels[1..3], [1.5, 2.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TiffStackWriter {
    path: PathBuf,
    height: usize,
    width: usize,
    sample: Option<SampleType>,
    num_rows: u64,
    file: BufWriter<PartFile>,
    /// The longest file that is still written as a classic TIFF.
    classic_len: u64,
}

impl TiffStackWriter {
    /// Starts a stack of pages of `height` × `width` pixels. The first row decides of what type.
    ///
    /// # Errors
    /// If no file can be created in the folder of `path`.
    ///
    /// # Panics
    /// If `height` or `width` is zero or above 2³² − 1.
    pub fn create(
        path: impl AsRef<Path>,
        height: usize,
        width: usize,
    ) -> Result<Self, TiffStackError> {
        check_size(height, width);
        let path = path.as_ref();
        let create = || {
            let file = PartFile::Temporary(part_file::create(path)?);
            let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
            // The header is written last: until then, this is no TIFF file.
            file.write_all(&[0; FIRST_PIXEL as usize])?;
            Ok(file)
        };
        let file = create().map_err(|source| TiffStackError::Create {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            path: path.into(),
            height,
            width,
            sample: None,
            num_rows: 0,
            file,
            classic_len: u64::from(u32::MAX),
        })
    }

    /// Appends a frame of `height * width` pixels, row by row.
    ///
    /// # Errors
    /// If the disk is full.
    ///
    /// # Panics
    /// If `pixels` has another length than `height * width` or another type than those before,
    /// or a page written in rows is not complete.
    pub fn write_frame<T: Sample>(&mut self, pixels: &[T]) -> Result<(), TiffStackError> {
        let (height, width) = (self.height, self.width);
        let (expected, got) = (height * width, pixels.len());
        assert!(
            got == expected,
            "frame must have {height}×{width} = {expected} pixels, got {got}"
        );
        let rows = self.rows_of_page();
        assert!(
            rows == 0,
            "frame must start a page, got {rows} rows of one before it"
        );
        self.write_rows(pixels)
    }

    /// Appends a frame of `u16` pixels, as [`write_frame`](Self::write_frame).
    ///
    /// # Errors
    /// If the disk is full.
    ///
    /// # Panics
    /// As [`write_frame`](Self::write_frame).
    pub fn write_frame_u16(&mut self, pixels: &[u16]) -> Result<(), TiffStackError> {
        self.write_frame(pixels)
    }

    /// Appends rows, any number of whole ones; every `height` rows are a page.
    ///
    /// # Errors
    /// If the disk is full.
    ///
    /// # Panics
    /// If the rows are not whole, or of another type than those before.
    pub fn write_rows<T: Sample>(&mut self, pixels: &[T]) -> Result<(), TiffStackError> {
        let (width, got) = (self.width, pixels.len());
        assert!(
            got.is_multiple_of(width),
            "rows must have a multiple of {width} pixels, got {got}"
        );
        let sample = *self.sample.get_or_insert(T::TYPE);
        assert!(
            sample == T::TYPE,
            "pixels must be {sample:?} as those before, got {:?}",
            T::TYPE
        );
        let page = self.num_frames();
        let written = self.file.write_all(bytemuck::cast_slice(pixels));
        written.map_err(|source| TiffStackError::Write {
            path: self.path.clone(),
            page,
            source,
        })?;
        self.num_rows += (got / width) as u64;
        Ok(())
    }

    /// Number of rows that were written, of all pages.
    pub fn num_rows(&self) -> u64 {
        self.num_rows
    }

    /// Number of pages that are complete.
    pub fn num_frames(&self) -> usize {
        (self.num_rows / self.height as u64) as usize
    }

    /// Writes everything to disk and gives the stack its name.
    ///
    /// # Errors
    /// If no frame was written, the last is not complete, or the file cannot be moved into
    /// place.
    pub fn finish(mut self) -> Result<(), TiffStackError> {
        let (rows, page) = (self.rows_of_page(), self.num_frames());
        if rows > 0 {
            return Err(TiffStackError::UnfinishedPage {
                path: self.path,
                page,
                rows,
                height: self.height,
            });
        }
        let Some(sample) = self.sample.filter(|_| page > 0) else {
            return Err(TiffStackError::NoPages { path: self.path });
        };
        let written = self.write_directories(sample);
        let path = self.path;
        let moved = written
            .and_then(|()| self.file.into_inner().map_err(|error| error.into_error()))
            .and_then(|file| {
                file.as_file().sync_all()?;
                file.finish(&path)
            });
        moved.map_err(|source| TiffStackError::Create { path, source })
    }

    fn rows_of_page(&self) -> usize {
        (self.num_rows % self.height as u64) as usize
    }

    /// Writes all directories behind the pixels, and the header.
    fn write_directories(&mut self, sample: SampleType) -> io::Result<()> {
        let page_len = (self.height * self.width * sample.size()) as u64;
        let num_pages = self.num_frames() as u64;
        let end = FIRST_PIXEL + num_pages * page_len;
        // Directories start at even bytes; BigTIFF's at multiples of eight.
        let start = end.next_multiple_of(8);
        self.file.write_all(&[0; 8][..(start - end) as usize])?;
        let mut format = Format {
            big_endian: cfg!(target_endian = "big"),
            big_tiff: false,
        };
        let classic_len = self.directory(format, sample, 0, 0).len() as u64;
        format.big_tiff = start + num_pages * classic_len > self.classic_len;
        let directory_len = self.directory(format, sample, 0, 0).len() as u64;
        for page in 0..num_pages {
            let next = match page + 1 < num_pages {
                true => start + (page + 1) * directory_len,
                false => 0,
            };
            let data = FIRST_PIXEL + page * page_len;
            let directory = self.directory(format, sample, data, next);
            self.file.write_all(&directory)?;
        }
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&format.header(start))
    }

    /// The directory of the page whose pixels start at `data`.
    fn directory(&self, format: Format, sample: SampleType, data: u64, next: u64) -> Vec<u8> {
        let (sample_format, bits) = sample.tags();
        let page_len = (self.height * self.width * sample.size()) as u64;
        let offset = if format.big_tiff { LONG8 } else { LONG };
        let tags: [(u64, u64, u64); 10] = [
            (256, LONG, self.width as u64),
            (257, LONG, self.height as u64),
            (258, SHORT, bits as u64),
            (259, SHORT, 1),
            (262, SHORT, 1),
            (273, offset, data),
            (277, SHORT, 1),
            (278, LONG, self.height as u64),
            (279, offset, page_len),
            (339, SHORT, u64::from(sample_format)),
        ];
        let mut bytes = Vec::new();
        format.push(&mut bytes, tags.len() as u64, format.count_len());
        for (tag, kind, value) in tags {
            format.push(&mut bytes, tag, 2);
            format.push(&mut bytes, kind, 2);
            format.push(&mut bytes, 1, format.word_len());
            let len = match kind {
                SHORT => 2,
                LONG => 4,
                _ => 8,
            };
            format.push(&mut bytes, value, len);
            bytes.resize(bytes.len() + format.word_len() - len, 0);
        }
        format.push(&mut bytes, next, format.word_len());
        bytes
    }
}

fn check_size(height: usize, width: usize) {
    for (what, size) in [("height", height), ("width", width)] {
        assert!(
            size > 0 && u32::try_from(size).is_ok(),
            "frame {what} must lie between 1 and 2³² − 1, got {size}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiff::TiffStack;

    #[test]
    fn a_stack_that_outgrows_a_classic_tiff_becomes_a_bigtiff() {
        let folder = tempfile::tempdir().unwrap();
        for (classic_len, version) in [(16 + 3 * 8 + 3 * 126, 42), (16 + 3 * 8 + 3 * 126 - 1, 43)] {
            let path = folder.path().join("stack.tif");
            let mut writer = TiffStackWriter::create(&path, 2, 2).unwrap();
            writer.classic_len = classic_len;
            for page in 0..3i16 {
                writer.write_frame(&[page, -page, 7, 8]).unwrap();
            }
            writer.finish().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(u16::from_ne_bytes([bytes[2], bytes[3]]), version);
            let stack = TiffStack::open_checked(&path).unwrap();
            assert_eq!(stack.frame(2).unwrap().pixels, [2.0, -2.0, 7.0, 8.0]);
        }
    }
}
