//! Writes a stack page by page, so that it never has to fit into memory.

use std::{
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use burn_memopt::files::PartFile;

use super::{
    directory::Format,
    error::TiffStackError,
    page::{Sample, SampleType},
};

/// Where pixels start: behind the longest header there is.
const FIRST_PIXEL: u64 = 16;
/// Pixels that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;

const ASCII: u64 = 2;
const SHORT: u64 = 3;
const LONG: u64 = 4;
const LONG8: u64 = 16;

/// Streams pages of one size and sample type into a TIFF stack.
///
/// Pages are written frame by frame, or a page in rows as they come. All pixels are stored one behind the
/// other, uncompressed, and the directories behind them: so they can be
/// memory-mapped as one array, by [`TiffStack`](super::TiffStack) and by other programs. The
/// file becomes a BigTIFF if it does not fit into the 4 GiB of a classic one, which is known, and
/// decided, at the end.
///
/// The pages go to a temporary file next to the target, which [`finish`]
/// moves into place: a half-written stack never carries the final name, and an
/// earlier file stays whole until then. [`resume`] keeps the unfinished file under a name of its own, so
/// that a process that is ended loses no page.
///
/// [`finish`]: TiffStackWriter::finish
/// [`resume`]: TiffStackWriter::resume
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("density.tif");
/// use burn_memopt_datasets::tiff::{FrameSource, TiffStack, TiffStackWriter};
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
    /// The program that writes the stack, with a zero behind it; empty if it is not named.
    software: Vec<u8>,
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
        let create = || -> io::Result<_> {
            let mut file = BufWriter::with_capacity(BUFFER_BYTES, PartFile::create(path)?);
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
            software: Vec::new(),
            file,
            classic_len: u64::from(u32::MAX),
        })
    }

    /// Resumes a stack of which `num_rows` rows were written to the file `part`, or begins one
    /// with none. The file stays there if it is not finished; rows behind those that count are cut off.
    ///
    /// What was written is in the file for certain, also after the machine was switched off, once
    /// [`sync`](Self::sync) returned. [`finish`](Self::finish) moves `part` to `path`.
    ///
    /// # Errors
    /// If the file cannot be opened, or holds fewer rows.
    ///
    /// # Panics
    /// If `height` or `width` is zero or above 2³² − 1.
    ///
    /// # Example
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, part) = (folder.path().join("map.tif"), folder.path().join("map.tif.part"));
    /// use burn_memopt_datasets::tiff::{FrameSource, TiffStack, TiffStackWriter};
    ///
    /// let mut writer = TiffStackWriter::resume::<f32>(&path, &part, 2, 2, 0)?;
    /// writer.write_rows(&[0.5f32, 1.5])?;
    /// writer.sync()?;
    /// drop(writer); // as if the process had ended here
    ///
    /// let mut writer = TiffStackWriter::resume::<f32>(&path, &part, 2, 2, 1)?;
    /// writer.write_rows(&[2.5f32, 3.5])?;
    /// writer.finish()?;
    /// assert_eq!(TiffStack::open(&path)?.frame(0)?.pixels, [0.5, 1.5, 2.5, 3.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume<T: Sample>(
        path: impl AsRef<Path>,
        part: impl AsRef<Path>,
        height: usize,
        width: usize,
        num_rows: u64,
    ) -> Result<Self, TiffStackError> {
        check_size(height, width);
        let (path, part) = (path.as_ref(), part.as_ref());
        let failed = |source| TiffStackError::Create {
            path: part.into(),
            source,
        };
        let mut file = PartFile::resume(path, part).map_err(failed)?;
        let row_len = (width * T::TYPE.size()) as u64;
        let pixels = file.file().metadata().map_err(failed)?.len();
        let there = pixels.saturating_sub(FIRST_PIXEL) / row_len;
        if there < num_rows {
            return Err(TiffStackError::RowsMissing {
                path: part.into(),
                there,
                wanted: num_rows,
            });
        }
        let end = FIRST_PIXEL + num_rows * row_len;
        let position = || -> io::Result<_> {
            // Also the header, which `finish` may have written: until it is whole, this is no TIFF file.
            file.write_all(&[0; FIRST_PIXEL as usize])?;
            file.file().set_len(end)?;
            file.seek(SeekFrom::Start(end))?;
            Ok(BufWriter::with_capacity(BUFFER_BYTES, file))
        };
        Ok(Self {
            path: path.into(),
            height,
            width,
            sample: Some(T::TYPE),
            num_rows,
            software: Vec::new(),
            file: position().map_err(failed)?,
            classic_len: u64::from(u32::MAX),
        })
    }

    /// Names the program that writes the stack, in the tag `Software` of every page.
    pub fn with_software(self, name: &str) -> Self {
        Self {
            // Nine bytes at the least, which a tag does not hold itself.
            software: format!("{name:<8}\0").into_bytes(),
            ..self
        }
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

    /// Brings all rows that were written to the disk.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn sync(&mut self) -> Result<(), TiffStackError> {
        let synced = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().file().sync_data());
        synced.map_err(|source| TiffStackError::Write {
            path: self.path.clone(),
            page: self.num_frames(),
            source,
        })
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
            .and_then(PartFile::finish);
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
        let classic_len = self.directory(format, sample, [0; 3]).len() as u64;
        format.big_tiff = start + num_pages * classic_len > self.classic_len;
        let directory_len = self.directory(format, sample, [0; 3]).len() as u64;
        let software = start + num_pages * directory_len;
        for page in 0..num_pages {
            let is_last = page + 1 == num_pages;
            let next = if is_last {
                0
            } else {
                start + (page + 1) * directory_len
            };
            let data = FIRST_PIXEL + page * page_len;
            let directory = self.directory(format, sample, [data, software, next]);
            self.file.write_all(&directory)?;
        }
        self.file.write_all(&self.software)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&format.header(start))
    }

    /// The directory of a page: where its pixels, the name of the software and the next directory
    /// are.
    fn directory(
        &self,
        format: Format,
        sample: SampleType,
        [data, software, next]: [u64; 3],
    ) -> Vec<u8> {
        let (sample_format, bits) = sample.tags();
        let page_len = (self.height * self.width * sample.size()) as u64;
        let offset = if format.big_tiff { LONG8 } else { LONG };
        let one = |tag, kind, value| (tag, kind, 1, value);
        let mut tags = vec![
            one(256, LONG, self.width as u64),
            one(257, LONG, self.height as u64),
            one(258, SHORT, bits as u64),
            one(259, SHORT, 1),
            one(262, SHORT, 1),
            one(273, offset, data),
            one(277, SHORT, 1),
            one(278, LONG, self.height as u64),
            one(279, offset, page_len),
        ];
        if !self.software.is_empty() {
            tags.push((305, ASCII, self.software.len() as u64, software));
        }
        tags.push(one(339, SHORT, u64::from(sample_format)));
        let mut bytes = Vec::new();
        format.push(&mut bytes, tags.len() as u64, format.count_len());
        for (tag, kind, count, value) in tags {
            format.push(&mut bytes, tag, 2);
            format.push(&mut bytes, kind, 2);
            format.push(&mut bytes, count, format.word_len());
            let len = match kind {
                SHORT => 2,
                LONG => 4,
                // A number of eight bytes, or an offset.
                _ => format.word_len(),
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
            "frame {what} must be between 1 and 2³² − 1, got {size}"
        );
    }
}

#[cfg(test)]
mod tests;
