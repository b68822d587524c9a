//! A stack whose frames are read one at a time.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    decode::PageDecoder,
    directory::TiffFile,
    error::TiffStackError,
    frame::FrameSource,
    layout::{Layout, Location, Opening},
    mmap::Mapping,
    page::{Decoded, Page, PageBytes, SampleType},
};
use crate::shared_file::SharedFile;

/// A multi-page gray TIFF of which only the page index is in memory.
///
/// Reads classic TIFF and BigTIFF in both byte orders; stacks of ImageJ, `tifffile` and MetaMorph
/// that have one directory for all images; strips and tiles, uncompressed, LZW, deflate, zstd,
/// PackBits and JPEG; integers of 8, 16, 32 or 64 bits, packed unsigned ones of up to 16 bits, and
/// floats of 16, 32 or 64 bits. Values are those stored: indices of a palette, and white-is-zero
/// without inversion. Reduced copies and transparency masks are no frames. Reaching any frame
/// takes the same time. Threads share one stack without waiting for each other.
///
/// Where pages are uncompressed and at regular distances, as ImageJ, `tifffile` and
/// [`TiffStackWriter`](super::TiffStackWriter) write them, opening reads five directories and
/// compares the others with them through the memory map. Of all other stacks every directory is
/// read once, some hundred bytes a page. [`open_checked`] always does.
///
/// Where the end of a file is damaged, the pages before it are the stack, and
/// [`notes`](Self::notes) says so.
///
/// [`page`](FrameSource::page) gives samples as they are stored, without a copy where the file allows
/// it; [`frame`](FrameSource::frame) gives `f32`. A process that reads pages of a memory map keeps at most
/// about 8 MiB and one page of them, however many it reads.
///
/// A damaged file cannot make the reader allocate what it only claims: pixels that have to be
/// decoded may be 2 GiB a page, and no more than their stored bytes can hold. The size
/// inside a JPEG stream is bounded by the decoder alone, to 16,384 pixels a side.
///
/// [`open_checked`]: Self::open_checked
///
/// # Exactness
/// Integers above 2²⁴ and 64-bit floats are rounded to the nearest `f32`.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("movie.tif");
/// use burn_memopt_datasets::tiff::{FrameSource, TiffStack, TiffStackWriter};
///
/// let mut writer = TiffStackWriter::create(&path, 1, 2)?;
/// writer.write_frame(&[7u16, 8])?;
/// writer.write_frame(&[9u16, 10])?;
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
    source: SharedFile,
    layout: Arc<Layout>,
    map: Option<Arc<Mapping>>,
    decoder: PageDecoder,
}

impl TiffStack {
    /// Opens the stack and finds its pages, but reads no pixel.
    ///
    /// # Errors
    /// If the file is missing, is no TIFF, has no page, or if the first directory is truncated or
    /// corrupt, or any that is read is of another size than the first, part of a loop, or
    /// of a kind that is not read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, TiffStackError> {
        Self::open_file(path.as_ref(), Opening::Quick)
    }

    /// Opens the stack and checks the directory of every page, so that a long run does not fail
    /// in the middle. It takes some microseconds a page.
    ///
    /// # Errors
    /// As [`open`](Self::open), for any page.
    pub fn open_checked(path: impl AsRef<Path>) -> Result<Self, TiffStackError> {
        Self::open_file(path.as_ref(), Opening::Checked)
    }

    /// Opens a stack that another program is still writing. Pages that are not whole yet
    /// are not there; [`refresh`](Self::refresh) finds them once they are.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for a page other than the first that is cut off.
    pub fn open_growing(path: impl AsRef<Path>) -> Result<Self, TiffStackError> {
        Self::open_file(path.as_ref(), Opening::Growing)
    }

    /// Reads a stack that is in memory. Errors call it `<memory>`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Self, TiffStackError> {
        Self::new(
            Path::new("<memory>"),
            SharedFile::memory(bytes.into()),
            Opening::Quick,
        )
    }

    fn open_file(path: &Path, opening: Opening) -> Result<Self, TiffStackError> {
        let source = open_source(path)?;
        Self::new(path, source, opening)
    }

    fn new(path: &Path, source: SharedFile, opening: Opening) -> Result<Self, TiffStackError> {
        let layout = Layout::read(path, &source, opening)?;
        let mut stack = Self::with_layout(path, source, Arc::new(layout));
        if !stack.chain_is_regular() {
            // The chain counts, not the distances: every directory has to be read.
            let layout = Layout::read(path, &stack.source, Opening::Checked)?;
            stack = Self::with_layout(path, stack.source, Arc::new(layout));
        }
        for note in stack.notes() {
            log::warn!("{}: {note}", path.display());
        }
        Ok(stack)
    }

    /// Whether the directories of all pages are where the first ones suggest, as far as that can
    /// be seen through the map.
    fn chain_is_regular(&self) -> bool {
        let memory = self.source.in_memory();
        self.layout.chain_is_regular(|range| {
            let range = range.start as usize..range.end as usize;
            match (&self.map, memory) {
                (Some(map), _) if range.end <= map.len() => {
                    map.hand_out(&range);
                    Some(map.bytes(range))
                }
                (_, memory) => memory?.get(range),
            }
        })
    }

    /// Opens a file again whose pages are known.
    pub(super) fn reopen(path: &Path, layout: Arc<Layout>) -> Result<Self, TiffStackError> {
        let source = open_source(path)?;
        Ok(Self::with_layout(path, source, layout))
    }

    fn with_layout(path: &Path, source: SharedFile, layout: Arc<Layout>) -> Self {
        let map = map(&source, &layout);
        Self {
            path: path.into(),
            source,
            layout,
            map,
            decoder: PageDecoder::default(),
        }
    }

    pub(super) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Finds pages that were appended since the stack was opened or last refreshed, and returns
    /// their number. Only directories behind the last page known are read.
    ///
    /// A last page that the file does not hold completely is not visible yet. One whose bytes are
    /// there, but not yet written, cannot be recognised: see [`FollowConfig`](super::FollowConfig).
    ///
    /// # Errors
    /// If a new page's directory is damaged or cannot be read, which may pass if it was just
    /// being written. The stack continues with the pages that are whole.
    pub fn refresh(&mut self) -> Result<usize, TiffStackError> {
        self.source
            .update_len()
            .map_err(|source| TiffStackError::Open {
                path: self.path.clone(),
                source,
            })?;
        let before = self.num_frames();
        let grown = Arc::make_mut(&mut self.layout).grow(&self.path, &self.source);
        if self.num_frames() > before {
            self.map = map(&self.source, &self.layout);
        }
        grown
    }

    /// Compares the page's directory through the map, where that spares reading it. Returns the
    /// length of the file now, if it was asked for.
    fn recognise(&self, index: usize) -> Option<u64> {
        let map = self.map.as_ref()?;
        let range = self.layout.directory_of_guess(index)?;
        let file_len = self.source.len_now().ok()?;
        if range.end <= file_len.min(map.len() as u64) {
            let bytes = map.bytes(range.start as usize..range.end as usize);
            self.layout.recognise(index, bytes);
        }
        Some(file_len)
    }

    fn contiguous(
        &self,
        index: usize,
        data: u64,
        sample: SampleType,
        file_len: Option<u64>,
    ) -> Result<Page, TiffStackError> {
        let len = self.height() * self.width() * sample.size();
        let read_error = |source| TiffStackError::Read {
            path: self.path.clone(),
            page: index,
            offset: data,
            source,
        };
        // Behind the end of a file that was cut off since, a map has no bytes.
        let end = data + len as u64;
        let file_len = file_len.map_or_else(|| self.source.len_now(), Ok);
        if file_len.map_err(read_error)? < end {
            return Err(self.changed(index));
        }
        let range = data as usize..end as usize;
        let bytes = match (&self.map, self.source.in_memory()) {
            (Some(map), _) if range.end <= map.len() => {
                map.hand_out(&range);
                PageBytes::Mapped(map.clone(), range)
            }
            (_, Some(memory)) => PageBytes::Memory(memory.clone(), range),
            _ => {
                let mut pixels = Decoded::zeroed(len);
                self.source
                    .fill_exactly_at(pixels.bytes_mut(), data)
                    .map_err(read_error)?;
                PageBytes::Decoded(pixels)
            }
        };
        Ok(self.page_of(index, sample, self.layout.format.big_endian, bytes))
    }

    fn page_of(
        &self,
        index: usize,
        sample: SampleType,
        big_endian: bool,
        bytes: PageBytes,
    ) -> Page {
        Page {
            index,
            height: self.layout.height,
            width: self.layout.width,
            sample,
            big_endian,
            bytes,
        }
    }

    fn changed(&self, page: usize) -> TiffStackError {
        TiffStackError::Changed {
            path: self.path.clone(),
            page,
        }
    }
}

impl FrameSource for TiffStack {
    fn path(&self) -> &Path {
        &self.path
    }

    fn notes(&self) -> &[String] {
        &self.layout.notes
    }

    fn num_frames(&self) -> usize {
        self.layout.num_pages()
    }

    fn height(&self) -> usize {
        self.layout.height
    }

    fn width(&self) -> usize {
        self.layout.width
    }

    /// A view into the file if the page is uncompressed and in one piece, else decoded.
    fn page(&self, index: usize) -> Result<Page, TiffStackError> {
        if index >= self.num_frames() {
            return Err(TiffStackError::FrameOutOfRange {
                path: self.path.clone(),
                index,
                num_frames: self.num_frames(),
            });
        }
        let file_len = self.recognise(index);
        match self.layout.locate(&self.path, &self.source, index)? {
            Location::Contiguous { data, sample } => self.contiguous(index, data, sample, file_len),
            Location::Encoded { directory } => {
                let file = TiffFile {
                    path: &self.path,
                    source: &self.source,
                    format: self.layout.format,
                };
                let (header, pixels) = self.decoder.decode(file, index, directory)?;
                if (header.height, header.width) != (self.height(), self.width()) {
                    return Err(self.changed(index));
                }
                let bytes = PageBytes::Decoded(pixels);
                let big_endian = cfg!(target_endian = "big");
                Ok(self.page_of(index, header.sample, big_endian, bytes))
            }
        }
    }
}

fn open_source(path: &Path) -> Result<SharedFile, TiffStackError> {
    SharedFile::open(path).map_err(|source| TiffStackError::Open {
        path: path.into(),
        source,
    })
}

/// A map of the file, if there is something to map and the system can: pages are read else.
fn map(source: &SharedFile, layout: &Layout) -> Option<Arc<Mapping>> {
    let file = source.file().filter(|_| layout.has_contiguous_pages())?;
    Mapping::new(file).ok().map(Arc::new)
}

#[cfg(test)]
mod tests;
