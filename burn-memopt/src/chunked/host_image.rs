use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};

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
        let mut window = Vec::with_capacity(channels * rows.len() * columns.len());
        let planes = self.pixels.chunks(height * width);
        for plane in planes.skip(image * channels).take(channels) {
            for line in plane.chunks(width).skip(rows.start).take(rows.len()) {
                window.extend_from_slice(&line[columns.clone()]);
            }
        }
        let data = TensorData::new(window, [1, channels, rows.len(), columns.len()]);
        Ok(Tensor::from_data(data, (&self.device, DType::F32)))
    }
}
