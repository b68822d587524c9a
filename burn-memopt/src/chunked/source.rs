//! Where pixels come from, and what surrounds an image that is smaller than its window.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::BoxError;
use super::grid::Axis;

/// Images of one size, of which any part can be read: a tensor, or a file that is never in memory
/// as a whole.
pub trait ImageSource {
    /// `[num_images, channels, height, width]`.
    fn dims(&self) -> [usize; 4];

    /// The pixels of a rectangle of one image.
    ///
    /// # Shapes
    /// - output: `[1, channels, rows, columns]`, on the device that the model runs on, unless the run
    ///   has a device of its own
    ///
    /// # Errors
    /// If they cannot be read.
    fn read(
        &self,
        image: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor<4>, BoxError>;
}

impl ImageSource for Tensor<4> {
    fn dims(&self) -> [usize; 4] {
        Tensor::dims(self)
    }

    fn read(
        &self,
        image: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor<4>, BoxError> {
        let channels = 0..Tensor::dims(self)[1];
        Ok(self
            .clone()
            .slice([image..image + 1, channels, rows, columns]))
    }
}

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
        let dims = [1, channels, rows.len(), columns.len()];
        let mut window = Vec::with_capacity(dims.iter().product());
        for plane in image * channels..(image + 1) * channels {
            for row in rows.clone() {
                let line = &self.pixels[(plane * height + row) * width..][..width];
                window.extend_from_slice(&line[columns.clone()]);
            }
        }
        let data = TensorData::new(window, dims);
        Ok(Tensor::from_data(data, (&self.device, DType::F32)))
    }
}

/// How an image that is smaller than the window is filled up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Padding {
    /// With one value, here zero; see [`Value`](Self::Value) for another.
    #[default]
    Zero,
    /// With this value.
    Value(f32),
    /// With the image mirrored at its border pixels, which are not repeated.
    Reflect,
    /// With the border pixel.
    Replicate,
    /// With the image once more.
    Circular,
}

impl Padding {
    /// The pixel of a side of `len` pixels that is at `at`, which counts from the first pixel and may
    /// be outside; `None` where it is a value.
    fn source(self, at: isize, len: usize) -> Option<usize> {
        let last = len as isize - 1;
        let inside = match self {
            Self::Zero | Self::Value(_) => {
                return usize::try_from(at).ok().filter(|at| *at < len);
            }
            Self::Replicate => at.clamp(0, last),
            Self::Circular => at.rem_euclid(len as isize),
            // Back and forth, with a period of twice the way between the border pixels.
            Self::Reflect => {
                let place = at.rem_euclid((2 * last).max(1));
                place.min(2 * last - place)
            }
        };
        Some(inside as usize)
    }

    /// The value that is filled with, where it is not a pixel of the image.
    fn value(self) -> f32 {
        match self {
            Self::Value(value) => value,
            _ => 0.0,
        }
    }
}

/// Reads the pixels `window` of the padded image, which has these `axes`.
pub(super) fn read_window(
    source: &impl ImageSource,
    image: usize,
    axes: [&Axis; 2],
    window: [&Range<usize>; 2],
    padding: Padding,
) -> Result<Tensor<4>, BoxError> {
    let [rows, columns] = [0, 1].map(|side| Side::new(axes[side], window[side], padding));
    let pixels = source.read(image, rows.read.clone(), columns.read.clone())?;
    let pixels = columns.fill(pixels, 3, padding);
    Ok(rows.fill(pixels, 2, padding))
}

/// What of one side of a window is read, and what is filled up.
struct Side {
    /// Pixels of the image.
    read: Range<usize>,
    /// For each pixel of the window the one of `read` that fills it; `None` if the window is as it
    /// is read.
    places: Option<Vec<Option<usize>>>,
}

impl Side {
    fn new(axis: &Axis, window: &Range<usize>, padding: Padding) -> Self {
        let first = window.start as isize - axis.before as isize;
        let wanted = first..first + window.len() as isize;
        if first >= 0 && wanted.end <= axis.len as isize {
            let read = first as usize..wanted.end as usize;
            return Self { read, places: None };
        }
        // Only an image that is smaller than the window is padded, so all of it is read.
        let places = wanted.map(|at| padding.source(at, axis.len)).collect();
        Self {
            read: 0..axis.len,
            places: Some(places),
        }
    }

    fn fill(&self, pixels: Tensor<4>, dim: usize, padding: Padding) -> Tensor<4> {
        let Some(places) = &self.places else {
            return pixels;
        };
        let device = pixels.device();
        if let Some(indices) = places.iter().copied().collect::<Option<Vec<_>>>() {
            return pixels.select(dim, index_tensor(&indices, &device));
        }
        let mut dims = pixels.dims();
        let before = places.iter().take_while(|place| place.is_none()).count();
        let mut ranges = dims.map(|len| 0..len);
        ranges[dim] = before..before + dims[dim];
        dims[dim] = places.len();
        let filled = Tensor::full(dims, padding.value(), (&device, pixels.dtype()));
        filled.slice_assign(ranges, pixels)
    }
}

fn index_tensor(indices: &[usize], device: &Device) -> Tensor<1, Int> {
    let indices: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
    Tensor::from_data(TensorData::from(&indices[..]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_outside_come_from_where_the_padding_says() {
        let row = |padding: Padding| (-2..5).map(|at| padding.source(at, 3)).collect::<Vec<_>>();
        let indices = |at: [usize; 7]| at.map(Some).to_vec();
        assert_eq!(row(Padding::Reflect), indices([2, 1, 0, 1, 2, 1, 0]));
        assert_eq!(row(Padding::Replicate), indices([0, 0, 0, 1, 2, 2, 2]));
        assert_eq!(row(Padding::Circular), indices([1, 2, 0, 1, 2, 0, 1]));
        assert_eq!(row(Padding::Zero)[..3], [None, None, Some(0)]);
    }
}
