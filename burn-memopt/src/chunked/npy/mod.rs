//! Images and results as files of NumPy, read and written by position.
//!
//! Written here, and not with a crate for the format: windows are read from the middle of a file, and a
//! result is written in rows of several planes that an interrupted run resumes. What a crate could do is
//! the header, and the library brings no crate for that.

mod header;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::buffer::FloatFile;
use super::{BoxError, ImageSource, RowSink};
use crate::files::move_into_place;

/// Why a file of NumPy could not be read or written.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum NpyError {
    /// The file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file is no array of f32 in C order, or shorter than it says.
    #[error(
        "{} must be a .npy file of f32 in C order with 2 to 4 axes: {found}",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// An interrupted run left a part of another result.
    #[error(
        "{} is a part of another result than {dims:?}: remove it to start anew",
        path.display()
    )]
    OtherResult {
        /// The file of the interrupted run.
        path: PathBuf,
        /// `[num_images, channels, height, width]` of this result.
        dims: [usize; 4],
    },
    /// A result was to be finished before all of its rows were there.
    #[error("{} has {rows} of {height} rows: run again to complete it", path.display())]
    Unfinished {
        /// The file of the run.
        path: PathBuf,
        /// Rows that are there.
        rows: usize,
        /// Rows in all.
        height: usize,
    },
}

impl NpyError {
    fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }
}

/// Images in a file of NumPy, of which only the windows that are asked for are read.
///
/// The file holds f32 in C order, as `numpy.save` writes them: `[height, width]`, `[channels, height,
/// width]` or `[num_images, channels, height, width]`.
///
/// # Example
/// See [`NpySink`].
#[derive(Debug)]
pub struct NpySource {
    path: PathBuf,
    dims: [usize; 4],
    // A read sets the position first.
    file: Mutex<FloatFile>,
    device: Device,
}

impl NpySource {
    /// Opens a file whose windows go to `device`.
    ///
    /// # Errors
    /// If it cannot be read, holds something else, or is shorter than its header says.
    pub fn open(path: impl Into<PathBuf>, device: &Device) -> Result<Self, NpyError> {
        let path = path.into();
        let mut file = File::open(&path).map_err(NpyError::io(&path, "open"))?;
        let header = header::read(&mut file).map_err(NpyError::io(&path, "read"))?;
        let (dims, first) = header.map_err(|found| NpyError::Format {
            path: path.clone(),
            found,
        })?;
        Ok(Self {
            dims,
            file: Mutex::new(FloatFile::new(file, first)),
            device: device.clone(),
            path,
        })
    }

    fn fill(
        &self,
        image: usize,
        [rows, columns]: [Range<usize>; 2],
        pixels: &mut [f32],
    ) -> io::Result<()> {
        let [_, channels, height, width] = self.dims;
        let planes = image * channels..(image + 1) * channels;
        let lines = planes.flat_map(|plane| rows.clone().map(move |row| plane * height + row));
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        for (line, pixels) in lines.zip(pixels.chunks_mut(columns.len())) {
            file.read(line * width + columns.start, pixels)?;
        }
        Ok(())
    }
}

impl ImageSource for NpySource {
    fn dims(&self) -> [usize; 4] {
        self.dims
    }

    fn read(
        &self,
        image: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor<4>, BoxError> {
        let dims = [1, self.dims[1], rows.len(), columns.len()];
        let mut pixels = vec![0.0; dims.iter().product()];
        self.fill(image, [rows, columns], &mut pixels)
            .map_err(NpyError::io(&self.path, "read"))?;
        let data = TensorData::new(pixels, dims);
        Ok(Tensor::from_data(data, (&self.device, DType::F32)))
    }
}

/// Writes a result into a file of NumPy, row by row, and resumes an interrupted run.
///
/// `numpy.load(path, mmap_mode="r")` opens the finished file: f32 in C order, `[num_images, channels,
/// height, width]`. Until [`finish`](Self::finish) it has the ending `.part` and, after the pixels, the
/// number of rows that are there. A run that is ended, also by a signal, loses no row that it wrote; one
/// that ends with the machine may.
///
/// The part has its shape but not the model and the windows it was made with: remove it before a run with
/// others.
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
    result: Option<Part>,
}

#[derive(Debug)]
struct Part {
    file: FloatFile,
    dims: [usize; 4],
    /// Rows that are there.
    rows: usize,
    /// Bytes of the header and of the pixels, after which the number of rows is.
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
            result: None,
        }
    }

    /// The file of an unfinished run.
    pub fn part(&self) -> &Path {
        &self.part
    }

    /// Gives the file its name, and replaces an earlier one.
    ///
    /// # Errors
    /// If rows are missing, or the file cannot be written or renamed; what is there stays.
    pub fn finish(self) -> Result<(), NpyError> {
        let counts = self.result.as_ref().map(|part| (part.rows, part.dims[2]));
        let (rows, height) = counts.unwrap_or((0, 1));
        let complete = self.result.filter(|_| rows == height);
        let Some(Part { mut file, len, .. }) = complete else {
            return Err(NpyError::Unfinished {
                path: self.part,
                rows,
                height,
            });
        };
        file.file()
            .set_len(len)
            .and_then(|()| move_into_place(&self.part, &self.path))
            .map_err(NpyError::io(&self.part, "finish"))
    }
}

impl RowSink for NpySink {
    fn begin(&mut self, dims: [usize; 4]) -> Result<usize, BoxError> {
        let part = Part::open(&self.part, dims).map_err(NpyError::io(&self.part, "write"))?;
        let part = part.ok_or_else(|| NpyError::OtherResult {
            path: self.part.clone(),
            dims,
        })?;
        Ok(self.result.insert(part).rows)
    }

    fn write(&mut self, rows: Range<usize>, pixels: &[f32]) -> Result<(), BoxError> {
        let part = self.result.as_mut();
        part.ok_or("rows came before the run began")?
            .write(rows, pixels)
            .map_err(NpyError::io(&self.part, "write"))?;
        Ok(())
    }
}

impl Part {
    /// Opens the part of an interrupted run, or starts one. `None` if it is of another result.
    fn open(path: &Path, dims: [usize; 4]) -> io::Result<Option<Self>> {
        let header = header::format(dims);
        let len = header::num_bytes(dims).and_then(|bytes| bytes.checked_add(header.len() as u64));
        let len = len.ok_or(io::ErrorKind::FileTooLarge)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut rows = [0; size_of::<u64>()];
        let whole = len + rows.len() as u64;
        let found = file.metadata()?.len();
        if found <= header.len() as u64 {
            // New, or ended before it had its length: no row was written yet.
            file.write_all(&header)?;
            file.set_len(whole)?;
        } else if found == whole {
            let mut there = vec![0; header.len()];
            file.read_exact(&mut there)?;
            file.seek(SeekFrom::Start(len))?;
            file.read_exact(&mut rows)?;
            if there != header {
                return Ok(None);
            }
        } else {
            return Ok(None);
        }
        let rows = u64::from_le_bytes(rows);
        Ok((rows <= dims[2] as u64).then(|| Self {
            file: FloatFile::new(file, header.len() as u64),
            dims,
            rows: rows as usize,
            len,
        }))
    }

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
