use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{NpyError, header};
use crate::chunked::float_file::FloatFile;
use crate::chunked::{BoxError, ImageSource};

/// Images in a file of NumPy, of which only the windows that are asked for are read.
///
/// The file holds f32 in C order, as `numpy.save` writes them: `[height, width]`, `[channels, height,
/// width]` or `[num_images, channels, height, width]`.
///
/// # Example
/// See [`NpySink`](super::NpySink).
#[derive(Debug)]
pub struct NpySource {
    path: PathBuf,
    dims: [usize; 4],
    // Positions are sought before they are read.
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
        let (dims, first) = read_header(&mut file, &path)?;
        Ok(Self {
            dims,
            file: Mutex::new(FloatFile::new(file, first)),
            device: device.clone(),
            path,
        })
    }

    fn fill(&self, place: [Range<usize>; 3], pixels: &mut [f32]) -> io::Result<()> {
        let [image, rows, columns] = place;
        let [_, channels, height, width] = self.dims;
        let planes = image.start * channels..image.end * channels;
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
        self.fill([image..image + 1, rows, columns], &mut pixels)
            .map_err(NpyError::io(&self.path, "read"))?;
        let data = TensorData::new(pixels, dims);
        Ok(Tensor::from_data(data, (&self.device, DType::F32)))
    }
}

/// The shape, and the byte that pixels start at; all of them are in the file.
fn read_header(file: &mut File, path: &Path) -> Result<([usize; 4], u64), NpyError> {
    let failed = |found: String| NpyError::Format {
        path: path.to_owned(),
        found,
    };
    let len = file
        .seek(SeekFrom::End(0))
        .map_err(NpyError::io(path, "read"))?;
    let mut start = [0; 12];
    if len < start.len() as u64 {
        return Err(failed(format!("it has {len} bytes")));
    }
    let mut fill = |at: u64, bytes: &mut [u8]| {
        file.seek(SeekFrom::Start(at))
            .and_then(|_| file.read_exact(bytes))
            .map_err(NpyError::io(path, "read"))
    };
    fill(0, &mut start)?;
    let text = header::text_range(&start).ok_or_else(|| failed("it starts otherwise".into()))?;
    let first = text.end as u64;
    if first > len {
        return Err(failed(format!("its header ends at byte {first} of {len}")));
    }
    let mut bytes = vec![0; text.len()];
    fill(text.start as u64, &mut bytes)?;
    let dims = header::dims(&String::from_utf8_lossy(&bytes)).map_err(failed)?;
    match header::num_bytes(dims) {
        Some(bytes) if bytes <= len - first => Ok((dims, first)),
        _ => Err(failed(format!(
            "its {} bytes of pixels do not hold {dims:?}",
            len - first
        ))),
    }
}
