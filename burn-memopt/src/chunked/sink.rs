use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::buffer::zeros;
use super::{Accumulator, BoxError};

/// Takes the rows of a result from top to bottom, each once, as soon as no window touches them
/// any more: a file that is written row by row, or a tensor.
pub trait RowSink {
    /// Begins a result of `[num_images, channels, height, width]`. Returns how many rows are there
    /// already, of a run that was interrupted; those are not computed again.
    ///
    /// # Errors
    /// If it cannot take such a result.
    fn begin(&mut self, dims: [usize; 4]) -> Result<usize, BoxError>;

    /// Takes finished rows, a few at a time.
    ///
    /// # Shapes
    /// - pixels: `[num_images, channels, rows, width]`
    ///
    /// # Errors
    /// If they cannot be kept.
    fn write(&mut self, rows: Range<usize>, pixels: &[f32]) -> Result<(), BoxError>;

    /// Returns the memory that finished rows stay in, a slice of `rows` × width for each plane, to be
    /// filled instead of [written](Self::write). The default has none.
    fn lend(&mut self, rows: Range<usize>) -> Option<Vec<&mut [f32]>> {
        let _ = rows;
        None
    }

    /// Takes finished rows that are on a device, of a run with
    /// [`Accumulator::Device`]. The default reads and [writes](Self::write) them.
    ///
    /// # Shapes
    /// - pixels: `[num_images, channels, rows, width]`
    ///
    /// # Errors
    /// If they cannot be read or kept.
    fn write_tensor(&mut self, rows: Range<usize>, pixels: Tensor<4>) -> Result<(), BoxError> {
        let data = pixels.cast(DType::F32).try_into_data()?;
        self.write(rows, data.as_slice().expect("invariant: cast to f32"))
    }
}

/// Keeps a whole result as a tensor, in host memory or on a device.
///
/// # Example
/// ```
/// use std::ops::ControlFlow;
///
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::chunked::{SlidingWindow, TensorSink};
///
/// let device = Device::flex();
/// let image = Tensor::<4>::ones([1, 1, 20, 20], &device);
/// let mut sink = TensorSink::new();
/// let go_on = |_| ControlFlow::Continue(());
/// SlidingWindow::new([8, 8])
///     .stream(&image, [&mut sink], go_on, |windows| Ok([windows.pixels + 1.0]))?;
/// assert_eq!(sink.into_tensor(&device).dims(), [1, 1, 20, 20]);
/// # Ok::<(), burn_memopt::chunked::ChunkedError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TensorSink {
    dims: [usize; 4],
    pixels: Pixels,
}

#[derive(Debug, Clone)]
enum Pixels {
    Host(Vec<f32>),
    /// `None` until a result begins.
    Device(Device, Option<Box<Tensor<4>>>),
}

impl TensorSink {
    /// Keeps the result in host memory.
    pub fn new() -> Self {
        Self {
            dims: [0; 4],
            pixels: Pixels::Host(Vec::new()),
        }
    }

    /// Keeps the result on a device.
    pub fn on_device(device: &Device) -> Self {
        Self {
            dims: [0; 4],
            pixels: Pixels::Device(device.clone(), None),
        }
    }

    /// Keeps a result for `device` where the rows of a run come from.
    pub(super) fn for_accumulator(accumulator: &Accumulator, device: &Device) -> Self {
        match accumulator {
            Accumulator::Device => Self::on_device(device),
            Accumulator::Host | Accumulator::File(_) => Self::new(),
        }
    }

    /// The result, `[num_images, channels, height, width]`, on `device`.
    pub fn into_tensor(self, device: &Device) -> Tensor<4> {
        match self.pixels {
            Pixels::Host(pixels) => Tensor::from_data(TensorData::new(pixels, self.dims), device),
            Pixels::Device(_, Some(pixels)) => pixels.to_device(device),
            Pixels::Device(_, None) => Tensor::zeros(self.dims, device),
        }
    }
}

impl Default for TensorSink {
    fn default() -> Self {
        Self::new()
    }
}

impl RowSink for TensorSink {
    fn begin(&mut self, dims: [usize; 4]) -> Result<usize, BoxError> {
        self.dims = dims;
        match &mut self.pixels {
            Pixels::Host(pixels) => *pixels = zeros(dims.iter().product()),
            Pixels::Device(device, pixels) => {
                let zeros = Tensor::zeros(dims, (&*device, DType::F32));
                *pixels = Some(Box::new(zeros));
            }
        }
        Ok(0)
    }

    fn write(&mut self, rows: Range<usize>, pixels: &[f32]) -> Result<(), BoxError> {
        let [num_images, channels, _, width] = self.dims;
        match &mut self.pixels {
            Pixels::Host(_) => {
                let planes = self.lend(rows.clone()).unwrap_or_default();
                for (plane, pixels) in planes.into_iter().zip(pixels.chunks(rows.len() * width)) {
                    plane.copy_from_slice(pixels);
                }
                Ok(())
            }
            Pixels::Device(device, _) => {
                let data =
                    TensorData::new(pixels.to_vec(), [num_images, channels, rows.len(), width]);
                let pixels = Tensor::from_data(data, (&*device, DType::F32));
                self.write_tensor(rows, pixels)
            }
        }
    }

    fn lend(&mut self, rows: Range<usize>) -> Option<Vec<&mut [f32]>> {
        let [_, _, height, width] = self.dims;
        match &mut self.pixels {
            Pixels::Host(result) => {
                let planes = result.chunks_mut(height * width);
                let rows = rows.start * width..rows.end * width;
                Some(planes.map(|plane| &mut plane[rows.clone()]).collect())
            }
            Pixels::Device(..) => None,
        }
    }

    fn write_tensor(&mut self, rows: Range<usize>, pixels: Tensor<4>) -> Result<(), BoxError> {
        let [num_images, channels, _, width] = self.dims;
        match &mut self.pixels {
            Pixels::Host(_) => {
                let data = pixels.cast(DType::F32).try_into_data()?;
                self.write(rows, data.as_slice().expect("invariant: cast to f32"))
            }
            Pixels::Device(device, result) => {
                let place = [0..num_images, 0..channels, rows, 0..width];
                let pixels = pixels.to_device(device);
                *result = result
                    .take()
                    .map(|result| Box::new(result.slice_assign(place, pixels)));
                Ok(())
            }
        }
    }
}
