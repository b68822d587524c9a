use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{Axis, BoxError, Padding};

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

/// Reads the window that starts at `start` of the padded image.
pub(super) fn read_window(
    source: &impl ImageSource,
    image: usize,
    axes: [&Axis; 2],
    start: [usize; 2],
    padding: Padding,
) -> Result<Tensor<4>, BoxError> {
    let [rows, columns] = [0, 1].map(|side| Side::new(axes[side], start[side], padding));
    let pixels = source.read(image, rows.read.clone(), columns.read.clone())?;
    let pixels = columns.fill(pixels, 3, padding);
    Ok(rows.fill(pixels, 2, padding))
}

/// What of one side of a window is read, and what is filled up.
struct Side {
    /// Pixels of the image.
    read: Range<usize>,
    /// For each pixel of the window that of `read` which stands there; `None` if it is as it is
    /// read.
    places: Option<Vec<Option<usize>>>,
}

impl Side {
    fn new(axis: &Axis, start: usize, padding: Padding) -> Self {
        let first = start as isize - axis.before() as isize;
        let wanted = first..first + axis.window() as isize;
        if first >= 0 && wanted.end <= axis.len() as isize {
            let read = first as usize..wanted.end as usize;
            return Self { read, places: None };
        }
        // Only an image that is smaller than the window is padded, so all of it is read.
        let places = wanted.map(|at| padding.source(at, axis.len())).collect();
        Self {
            read: 0..axis.len(),
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
