use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

use super::BoxError;

/// Takes the rows of a result from top to bottom, each once, as soon as no window touches them
/// any more: a file that is written row by row, or a tensor.
pub trait RowSink {
    /// Tells what comes: `[num_images, channels, height, width]`. Answers how many rows are there
    /// already, of a run that was interrupted; those are not computed again.
    ///
    /// # Errors
    /// If it cannot take such a result.
    fn begin(&mut self, dims: [usize; 4]) -> Result<usize, BoxError>;

    /// Takes finished rows.
    ///
    /// # Shapes
    /// - pixels: `[num_images, channels, rows, width]`
    ///
    /// # Errors
    /// If they cannot be kept.
    fn write(&mut self, rows: Range<usize>, pixels: &[f32]) -> Result<(), BoxError>;
}

/// Keeps a whole result in host memory.
#[derive(Debug, Clone, Default)]
pub struct TensorSink {
    dims: [usize; 4],
    pixels: Vec<f32>,
}

impl TensorSink {
    /// Starts without a result.
    pub fn new() -> Self {
        Self::default()
    }

    /// The result, `[num_images, channels, height, width]`, on `device`.
    pub fn into_tensor(self, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(self.pixels, self.dims), device)
    }
}

impl RowSink for TensorSink {
    fn begin(&mut self, dims: [usize; 4]) -> Result<usize, BoxError> {
        self.dims = dims;
        self.pixels = vec![0.0; dims.iter().product()];
        Ok(0)
    }

    fn write(&mut self, rows: Range<usize>, pixels: &[f32]) -> Result<(), BoxError> {
        let [_, _, height, width] = self.dims;
        let planes = self.pixels.chunks_mut(height * width);
        for (plane, rows_of_plane) in planes.zip(pixels.chunks(rows.len() * width)) {
            plane[rows.start * width..rows.end * width].copy_from_slice(rows_of_plane);
        }
        Ok(())
    }
}
