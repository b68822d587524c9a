use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};

use super::grid::Axis;
use super::run::{Placement, Run};
use super::{
    Accumulator, Blend, BoxError, ChunkedError, ImageSource, Padding, Progress, RowSink, Windows,
};
use crate::batch::BatchRunner;

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
    placement: Placement,
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
            placement: Placement::default(),
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

    /// Chooses what surrounds an image that is smaller than the window.
    pub fn with_padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// Chooses how many windows the model gets at once, at most: those of one row of windows, of all
    /// images.
    ///
    /// # Panics
    /// If it is zero.
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        assert!(batch_size > 0, "the batch size must be at least 1, got 0");
        self.placement.batch_size = Some(batch_size);
        self
    }

    /// Chooses the device that windows are moved to before the model gets them, so that an image in
    /// host memory costs a GPU no more than a batch of windows.
    pub fn with_device(mut self, device: &Device) -> Self {
        self.placement.device = Some(device.clone());
        self
    }

    /// Chooses where rows are kept that windows still touch.
    pub fn with_accumulator(mut self, accumulator: Accumulator) -> Self {
        self.placement.accumulator = accumulator;
        self
    }

    /// The number of windows of an image of `height` and `width`.
    ///
    /// # Panics
    /// If a side or the overlap is wrong.
    pub fn num_windows(&self, [height, width]: [usize; 2]) -> usize {
        let axes = self.run([1, 1, height, width]).axes;
        axes.iter().map(|axis| axis.windows.len()).product()
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
        model: impl FnMut(Windows) -> [Tensor<4>; N],
    ) -> [Tensor<4>; N] {
        self.run(images.dims()).infer(&images, model)
    }

    /// Runs a model on images that are read and written in parts.
    ///
    /// A sink that has rows of an interrupted run already gets only those that are missing. One
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
        sinks: [&mut dyn RowSink; N],
        progress: impl FnMut(Progress) -> ControlFlow<()>,
        model: impl FnMut(Windows) -> Result<[Tensor<4>; N], BoxError>,
    ) -> Result<(), ChunkedError> {
        self.run(source.dims())
            .stream(source, sinks, None, progress, model)
    }

    /// As [`stream`](Self::stream), in batches that are as large as `runner` finds to fit, and at
    /// most [`with_batch_size`](Self::with_batch_size) if that was chosen: when memory runs out, the same windows run
    /// again in smaller batches.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    ///
    /// # Panics
    /// As [`stream`](Self::stream).
    ///
    /// # Example
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// use burn::tensor::{Device, Tensor};
    /// use burn_memopt::batch::{BatchRunner, BatchSizeConfig};
    /// use burn_memopt::chunked::{SlidingWindow, TensorSink};
    ///
    /// let image = Tensor::<4>::ones([1, 1, 40, 200], &Device::flex());
    /// let mut runner = BatchRunner::new(BatchSizeConfig::default());
    /// SlidingWindow::new([16, 16]).stream_adaptive(
    ///     &image,
    ///     [&mut TensorSink::new()],
    ///     &mut runner,
    ///     |_| ControlFlow::Continue(()),
    ///     |windows| match windows.places.len() {
    ///         1..=3 => Ok([windows.pixels * 2.0]),
    ///         _ => Err("can't allocate buffer of size: 64".into()), // as a small device would
    ///     },
    /// )?;
    /// assert_eq!(runner.report().largest_batch, 2);
    /// # Ok::<(), burn_memopt::chunked::ChunkedError>(())
    /// ```
    pub fn stream_adaptive<const N: usize>(
        &self,
        source: &impl ImageSource,
        sinks: [&mut dyn RowSink; N],
        runner: &mut BatchRunner,
        progress: impl FnMut(Progress) -> ControlFlow<()>,
        model: impl FnMut(Windows) -> Result<[Tensor<4>; N], BoxError>,
    ) -> Result<(), ChunkedError> {
        self.run(source.dims())
            .stream(source, sinks, Some(runner), progress, model)
    }

    fn run(&self, [.., height, width]: [usize; 4]) -> Run<'_> {
        Run {
            axes: [(0, height), (1, width)]
                .map(|(side, len)| Axis::overlapping(len, self.window[side], self.overlap[side])),
            padding: self.padding,
            blend: Some(&self.blend),
            placement: &self.placement,
        }
    }
}
