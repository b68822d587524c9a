use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::{NpyError, header};
use crate::chunked::float_file::FloatFile;
use crate::chunked::{BoxError, RowSink};

/// Writes a result into a file of NumPy, row by row, and goes on where an interrupted run stopped.
///
/// `numpy.load(path, mmap_mode="r")` opens the finished file: f32 in C order, `[num_images, channels,
/// height, width]`. Until [`finish`](Self::finish) it has the ending `.part` and, behind the pixels, the
/// number of rows that are there. A run that is ended, by a signal too, loses no row that it wrote; one
/// that ends with the machine may.
///
/// The part tells its shape but not how it came about: remove it before a run with another model or
/// other windows.
///
/// # Example
/// ```
/// use std::ops::ControlFlow;
///
/// use burn::tensor::Device;
/// use burn_memopt::chunked::{Accumulator, NpySink, NpySource, RowSink, SlidingWindow};
///
/// # let folder = tempfile::tempdir()?;
/// # let (image, result) = (folder.path().join("image.npy"), folder.path().join("result.npy"));
/// let mut sink = NpySink::new(&image);
/// sink.begin([1, 1, 40, 30])?;
/// sink.write(0..40, &[1.0; 40 * 30])?;
/// sink.finish()?;
///
/// let source = NpySource::open(&image, &Device::flex())?;
/// let mut sink = NpySink::new(&result);
/// SlidingWindow::new([16, 16])
///     .with_accumulator(Accumulator::File(std::env::temp_dir()))
///     .stream(&source, [&mut sink], |_| ControlFlow::Continue(()), |windows| Ok([windows.pixels]))?;
/// sink.finish()?;
/// assert_eq!(std::fs::read(image)?, std::fs::read(result)?);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Debug)]
pub struct NpySink {
    path: PathBuf,
    part: PathBuf,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    file: FloatFile,
    dims: [usize; 4],
    rows: usize,
    /// Bytes of the header and of the pixels, behind which the number of rows stands.
    len: u64,
}

impl NpySink {
    /// A result that will have this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut part = path.clone().into_os_string();
        part.push(".part");
        Self {
            path,
            part: part.into(),
            begun: None,
        }
    }

    /// The file of an unfinished run.
    pub fn part(&self) -> &Path {
        &self.part
    }

    /// Gives the file its name, over an earlier one.
    ///
    /// # Errors
    /// If rows are missing, or the file cannot be written or renamed; what is there stays.
    pub fn finish(mut self) -> Result<(), NpyError> {
        let (rows, height) = match &self.begun {
            Some(begun) => (begun.rows, begun.dims[2]),
            None => (0, 1),
        };
        let complete = self.begun.take().filter(|_| rows == height);
        let Some(Begun { mut file, len, .. }) = complete else {
            return Err(NpyError::Unfinished {
                path: self.part,
                rows,
                height,
            });
        };
        let whole = file.file().set_len(len);
        whole
            .and_then(|()| file.file().sync_all())
            .and_then(|()| fs::rename(&self.part, &self.path))
            .map_err(NpyError::io(&self.part, "finish"))
    }

    /// Opens the part of an interrupted run, or starts one.
    fn open(&self, dims: [usize; 4]) -> Result<Begun, NpyError> {
        let failed = || NpyError::io(&self.part, "write");
        let header = header::format(dims);
        let pixels =
            header::num_bytes(dims).and_then(|bytes| bytes.checked_add(header.len() as u64));
        let len = pixels.ok_or_else(|| failed()(io::ErrorKind::FileTooLarge.into()))?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.part)
            .map_err(failed())?;
        let found = file.metadata().map_err(failed())?.len();
        let rows = match found {
            // Ended before it had its length: no row was written yet.
            found if found <= header.len() as u64 => None,
            _ => Some(rows_of(&mut file, &header, len, found).map_err(failed())?),
        };
        let rows = match rows {
            Some(Some(rows)) if rows <= dims[2] as u64 => rows as usize,
            Some(_) => {
                return Err(NpyError::OtherResult {
                    path: self.part.clone(),
                    dims,
                });
            }
            None => {
                start(&mut file, &header, len).map_err(failed())?;
                0
            }
        };
        Ok(Begun {
            file: FloatFile::new(file, header.len() as u64),
            dims,
            rows,
            len,
        })
    }
}

/// Gives a file its header, and then its length with no rows.
fn start(file: &mut File, header: &[u8], len: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(header)?;
    file.set_len(len + size_of::<u64>() as u64)
}

/// The number of rows in a part; `None` if it is not of this result.
fn rows_of(file: &mut File, header: &[u8], len: u64, found: u64) -> io::Result<Option<u64>> {
    let mut rows = [0; size_of::<u64>()];
    if found != len + rows.len() as u64 {
        return Ok(None);
    }
    let mut there = vec![0; header.len()];
    file.read_exact(&mut there)?;
    file.seek(SeekFrom::Start(len))?;
    file.read_exact(&mut rows)?;
    Ok((there == header).then_some(u64::from_le_bytes(rows)))
}

impl Begun {
    fn write(&mut self, rows: Range<usize>, pixels: &[f32]) -> io::Result<()> {
        let [_, _, height, width] = self.dims;
        for (plane, pixels) in pixels.chunks(rows.len() * width).enumerate() {
            self.file
                .write((plane * height + rows.start) * width, pixels)?;
        }
        let file = self.file.file();
        file.seek(SeekFrom::Start(self.len))?;
        file.write_all(&(rows.end as u64).to_le_bytes())?;
        self.rows = rows.end;
        Ok(())
    }
}

impl RowSink for NpySink {
    fn begin(&mut self, dims: [usize; 4]) -> Result<usize, BoxError> {
        let begun = self.open(dims)?;
        let rows = begun.rows;
        self.begun = Some(begun);
        Ok(rows)
    }

    fn write(&mut self, rows: Range<usize>, pixels: &[f32]) -> Result<(), BoxError> {
        let begun = self
            .begun
            .as_mut()
            .ok_or("rows came before the run began")?;
        begun
            .write(rows, pixels)
            .map_err(NpyError::io(&self.part, "write"))?;
        Ok(())
    }
}
