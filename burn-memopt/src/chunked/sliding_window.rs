use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};

use super::output::{Output, Run};
use super::source::read_window;
use super::{
    Accumulator, Axis, Blend, BoxError, ChunkedError, Grid, ImageSource, Padding, RowSink,
    TensorSink,
};

/// Runs a model on an image of any size, window by window, and puts the results together.
///
/// In memory are one batch of windows, what the model needs for it, and the rows of the result
/// that windows still touch. [`stream`](Self::stream) reads from and writes to files, so
/// nothing else grows with the image; with [`Accumulator::File`] nothing does but single rows.
///
/// | what | where it is |
/// |---|---|
/// | image | where its [`ImageSource`] has it |
/// | windows | [`with_device`](Self::with_device) |
/// | rows that windows still touch | [`with_accumulator`](Self::with_accumulator) |
/// | result | its [`RowSink`]; of [`infer`](Self::infer), the device of the images |
///
/// # Exactness
/// Where windows overlap, results are weighted means: close to those on the whole image, not equal.
/// An image that fits into one window gives what the model gives, to rounding of the weights.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::chunked::{Blend, SlidingWindow};
///
/// let image = Tensor::<4>::ones([1, 3, 100, 70], &Device::flex());
/// let windows = SlidingWindow::new([32, 32]).with_blend(Blend::GAUSSIAN);
/// let doubled = windows.infer(image, |window| window * 2.0);
/// assert_eq!(doubled.dims(), [1, 3, 100, 70]);
/// assert!((doubled.max().into_scalar::<f32>() - 2.0).abs() < 1e-6);
/// ```
///
/// # References
/// Defaults and the places of windows are those of `sliding_window_inference` in MONAI.
#[derive(Debug, Clone, PartialEq)]
pub struct SlidingWindow {
    window: [usize; 2],
    overlap: [f64; 2],
    blend: Blend,
    padding: Padding,
    batch_size: usize,
    device: Option<Device>,
    accumulator: Accumulator,
}

/// Windows that a model is to run on.
#[derive(Debug, Clone)]
pub struct Windows {
    /// `[windows, channels, window height, window width]`.
    pub pixels: Tensor<4>,
    /// Where each lies.
    pub places: Vec<WindowPlace>,
}

/// Where a window lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowPlace {
    /// Number of the image in its batch.
    pub image: usize,
    /// Row of the image that it starts with; below zero where the image is padded.
    pub row: isize,
    /// Column of the image that it starts with; below zero where the image is padded.
    pub column: isize,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Windows that are done, or were before an interrupted run was taken up.
    pub done: usize,
    /// Windows in all.
    pub total: usize,
}

impl SlidingWindow {
    /// Windows of this height and width in pixels; 0 is the side of the image.
    ///
    /// The defaults are an overlap of 0.25, [`Blend::Constant`], [`Padding::Zero`], one window at a
    /// time, the device of the images, and [`Accumulator::Host`].
    pub fn new(window: [usize; 2]) -> Self {
        Self {
            window,
            overlap: [0.25; 2],
            blend: Blend::Constant,
            padding: Padding::Zero,
            batch_size: 1,
            device: None,
            accumulator: Accumulator::Host,
        }
    }

    /// Chooses the share of a window, in each axis, that the next one covers too: from 0 to below
    /// 1.
    pub fn with_overlap(self, overlap: [f64; 2]) -> Self {
        Self { overlap, ..self }
    }

    /// Chooses how overlapping windows are put together.
    pub fn with_blend(self, blend: Blend) -> Self {
        Self { blend, ..self }
    }

    /// Chooses what stands around an image that is smaller than the window.
    pub fn with_padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// Chooses how many windows the model gets at once. Windows of one row of windows go together,
    /// of all images.
    ///
    /// # Panics
    /// If it is zero.
    pub fn with_batch_size(self, batch_size: usize) -> Self {
        assert!(batch_size > 0, "the batch size must be at least 1, got 0");
        Self { batch_size, ..self }
    }

    /// Chooses the device that windows are moved to before the model gets them, so that an image in
    /// host memory costs a GPU no more than a batch of windows.
    pub fn with_device(self, device: &Device) -> Self {
        let device = Some(device.clone());
        Self { device, ..self }
    }

    /// Chooses where rows are kept that windows still touch.
    pub fn with_accumulator(self, accumulator: Accumulator) -> Self {
        Self {
            accumulator,
            ..self
        }
    }

    /// The windows of an image of `height` and `width`.
    ///
    /// # Panics
    /// If a side or the overlap is wrong.
    pub fn grid(&self, height: usize, width: usize) -> Grid {
        let [rows, columns] = [(0, height), (1, width)]
            .map(|(side, len)| Axis::new(len, self.window[side], self.overlap[side]));
        Grid::new(rows, columns)
    }

    /// Runs a model of one output on images in memory.
    ///
    /// # Shapes
    /// - images: `[num_images, channels, height, width]`
    /// - output: `[num_images, out_channels, height, width]`, times the model's zoom
    ///
    /// # Panics
    /// If a window starts between two pixels of an output that has another resolution, or the
    /// device fails.
    pub fn infer(
        &self,
        images: Tensor<4>,
        mut model: impl FnMut(Tensor<4>) -> Tensor<4>,
    ) -> Tensor<4> {
        let [output] = self.infer_many(images, |windows| [model(windows.pixels)]);
        output
    }

    /// Runs a model of several outputs, each of a resolution of its own, on images in memory.
    ///
    /// # Shapes
    /// As [`infer`](Self::infer), for each output.
    ///
    /// # Panics
    /// As [`infer`](Self::infer).
    pub fn infer_many<const N: usize>(
        &self,
        images: Tensor<4>,
        mut model: impl FnMut(Windows) -> [Tensor<4>; N],
    ) -> [Tensor<4>; N] {
        let device = images.device();
        let mut sinks: [TensorSink; N] =
            std::array::from_fn(|_| TensorSink::for_accumulator(&self.accumulator, &device));
        let places = sinks.each_mut().map(|sink| sink as &mut dyn RowSink);
        let go_on = |_| ControlFlow::Continue(());
        self.stream(&images, places, go_on, |windows| Ok(model(windows)))
            .unwrap_or_else(|error| error.panic());
        sinks.map(|sink| sink.into_tensor(&device))
    }

    /// Runs a model on images that are read and written in parts.
    ///
    /// A sink that has rows of an interrupted run already is given those that are missing. One
    /// batch of windows is run before the sinks are asked, to know what comes out.
    ///
    /// # Errors
    /// If a part cannot be read or written, the model or its device fails, or `progress` asks to
    /// stop; what was written stays.
    ///
    /// # Panics
    /// If a window starts between two pixels of an output that has another resolution.
    pub fn stream<const N: usize>(
        &self,
        source: &impl ImageSource,
        mut sinks: [&mut dyn RowSink; N],
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
        mut model: impl FnMut(Windows) -> Result<[Tensor<4>; N], BoxError>,
    ) -> Result<(), ChunkedError> {
        let [num_images, _, height, width] = source.dims();
        let run = Run {
            grid: self.grid(height, width),
            num_images,
            blend: &self.blend,
            accumulator: &self.accumulator,
        };
        // Alike for every row of windows.
        let num_columns = run.grid.columns().starts().len();
        let windows: Vec<_> = (0..num_images)
            .flat_map(|image| (0..num_columns).map(move |column| (image, column)))
            .collect();
        let num_rows = run.grid.rows().starts().len();
        let total = num_rows * windows.len();
        let mut outputs: Option<Vec<Output>> = None;
        let (mut first, mut row) = (0, 0);
        'rows: while row < num_rows {
            let mut done = row * windows.len();
            for places in windows.chunks(self.batch_size) {
                let windows = self.read(source, &run.grid, row, places)?;
                let at = windows.places[0];
                let results = model(windows).map_err(|error| ChunkedError::model(at, error))?;
                if outputs.is_none() {
                    let begun = outputs.insert(begin(&run, &results, &mut sinks)?);
                    let missing = begun.iter().map(Output::first_missing);
                    first = missing.min().unwrap_or(0);
                    if first > 0 {
                        row = first;
                        continue 'rows;
                    }
                }
                for (output, result) in outputs.iter_mut().flatten().zip(results) {
                    output.add([first, row], places, at, result)?;
                }
                done += places.len();
                if progress(Progress { done, total }).is_break() && done < total {
                    return Err(ChunkedError::Cancelled { done, total });
                }
            }
            for (output, sink) in outputs.iter_mut().flatten().zip(&mut sinks) {
                output.finish(row, *sink)?;
            }
            row += 1;
        }
        Ok(())
    }

    /// Reads windows of the `row`th row of windows, at these images and columns.
    fn read(
        &self,
        source: &impl ImageSource,
        grid: &Grid,
        row: usize,
        places: &[(usize, usize)],
    ) -> Result<Windows, ChunkedError> {
        let axes = [grid.rows(), grid.columns()];
        let top = grid.rows().starts()[row];
        let left = |column: usize| grid.columns().starts()[column];
        let window = |&(image, column): &(usize, usize)| {
            let start = [top, left(column)];
            read_window(source, image, axes, start, self.padding)
                .map_err(|error| ChunkedError::read(image, start, error))
        };
        let mut pixels: Vec<_> = places.iter().map(window).collect::<Result<_, _>>()?;
        let pixels = match pixels.len() {
            1 => pixels.swap_remove(0),
            _ => Tensor::cat(pixels, 0),
        };
        let place = |&(image, column): &(usize, usize)| WindowPlace {
            image,
            row: top as isize - grid.rows().before() as isize,
            column: left(column) as isize - grid.columns().before() as isize,
        };
        Ok(Windows {
            pixels: match &self.device {
                Some(device) => pixels.to_device(device),
                None => pixels,
            },
            places: places.iter().map(place).collect(),
        })
    }
}

/// Tells every sink what comes.
fn begin<const N: usize>(
    run: &Run,
    results: &[Tensor<4>; N],
    sinks: &mut [&mut dyn RowSink; N],
) -> Result<Vec<Output>, ChunkedError> {
    let outputs = results.iter().zip(sinks).enumerate();
    outputs
        .map(|(number, (result, sink))| Output::begin(number, result, run, *sink))
        .collect()
}
