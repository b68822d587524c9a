use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

use super::band::NUM_AT_ONCE;
use super::{BoxError, ImageSource};

/// Images in host memory, of which only windows go to a device.
///
/// Windows are copied line by line: faster than to slice a tensor of the host's.
///
/// # Example
/// ```
/// use burn::tensor::Device;
/// use burn_memopt::chunked::{HostImage, ImageSource};
///
/// let pixels: Vec<f32> = (0..12).map(|pixel| pixel as f32).collect();
/// let image = HostImage::new(pixels, [1, 1, 3, 4], &Device::flex());
/// let window = image.read(0, 1..3, 2..4)?;
/// assert_eq!(window.into_data().as_slice::<f32>()?, [6.0, 7.0, 10.0, 11.0]);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Debug, Clone)]
pub struct HostImage {
    pixels: Vec<f32>,
    dims: [usize; 4],
    device: Device,
}

impl HostImage {
    /// Images whose windows go to `device`.
    ///
    /// # Shapes
    /// - pixels: `dims`, which are `[num_images, channels, height, width]`
    ///
    /// # Panics
    /// If there are more or fewer pixels.
    pub fn new(pixels: Vec<f32>, dims: [usize; 4], device: &Device) -> Self {
        assert_eq!(
            pixels.len(),
            dims.iter().product::<usize>(),
            "an image must have as many pixels as {dims:?} says"
        );
        Self {
            pixels,
            dims,
            device: device.clone(),
        }
    }
}

impl ImageSource for HostImage {
    fn dims(&self) -> [usize; 4] {
        self.dims
    }

    fn read(
        &self,
        image: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor<4>, BoxError> {
        let [_, channels, height, width] = self.dims;
        let lines = (0..channels * rows.len()).into_par_iter().map(|line| {
            let (channel, row) = (line / rows.len(), rows.start + line % rows.len());
            let area = height * width;
            let plane = &self.pixels[(image * channels + channel) * area..][..area];
            &plane[row * width..][..width][columns.clone()]
        });
        let window = joined(lines, columns.len());
        let data = TensorData::new(window, [1, channels, rows.len(), columns.len()]);
        Ok(Tensor::from_data(data, (&self.device, DType::F32)))
    }
}

/// Copies lines of `width` numbers each, one behind the other; threads share it.
fn joined<'a>(lines: impl IndexedParallelIterator<Item = &'a [f32]>, width: usize) -> Vec<f32> {
    let len = lines.len() * width;
    if len == 0 {
        return Vec::new();
    }
    let mut joined = Vec::with_capacity(len);
    let places = joined.spare_capacity_mut()[..len].par_chunks_exact_mut(width);
    let places = places.with_min_len(NUM_AT_ONCE.div_ceil(width));
    places.zip(lines).for_each(|(place, line)| {
        place.write_copy_of_slice(line);
    });
    // SAFETY: the chunks are the first `len` places, and each was written.
    unsafe { joined.set_len(len) };
    joined
}
