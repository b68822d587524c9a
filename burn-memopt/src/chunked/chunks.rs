use std::fmt::Debug;
use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};

use super::grid::Axis;
use super::run::{Placement, Run};
use super::{
    Accumulator, Blend, BoxError, ChunkedError, ImageSource, Padding, Progress, RowSink, Windows,
};
use crate::batch::BatchRunner;

/// Windows over images of any size, on which a model runs: [`SlidingWindow`](super::SlidingWindow), which
/// overlap and are blended, and [`ExactTiles`](super::ExactTiles), which have a margin.
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
#[derive(Debug, Clone, PartialEq)]
pub struct Chunks<L> {
    pub(super) layout: L,
    placement: Placement,
}

/// Where windows are, and what becomes of their results.
pub trait Layout: Debug {
    /// The windows of an image of `height` and `width`.
    fn axes(&self, size: [usize; 2]) -> [Axis; 2];

    /// How overlapping windows are put together; `None` if results do not overlap and have the size of
    /// their windows.
    fn blend(&self) -> Option<&Blend> {
        None
    }

    /// What surrounds an image that is smaller than the window.
    fn padding(&self) -> Padding {
        Padding::Zero
    }
}

impl<L> Chunks<L> {
    pub(super) fn from_layout(layout: L) -> Self {
        Self {
            layout,
            placement: Placement::default(),
        }
    }

    /// Chooses how many windows the model gets at once, at most: those of one row of windows, of all
    /// images, as far as they have the same size and margins. The default is 1, and no limit for
    /// [`stream_adaptive`](Self::stream_adaptive).
    ///
    /// # Panics
    /// If it is zero.
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        assert!(batch_size > 0, "the batch size must be at least 1, got 0");
        self.placement.batch_size = Some(batch_size);
        self
    }

    /// Chooses the device that windows are moved to before the model gets them, so that an image in
    /// host memory costs a GPU no more than a batch of windows. The default is that of the images.
    pub fn with_device(mut self, device: &Device) -> Self {
        self.placement.device = Some(device.clone());
        self
    }

    /// Chooses where rows are kept that windows still touch. The default is [`Accumulator::Host`].
    pub fn with_accumulator(mut self, accumulator: Accumulator) -> Self {
        self.placement.accumulator = accumulator;
        self
    }
}

impl<L: Layout> Chunks<L> {
    /// The number of windows of an image of `height` and `width`.
    ///
    /// # Panics
    /// If a side or the overlap is wrong.
    pub fn num_windows(&self, size: [usize; 2]) -> usize {
        let axes = self.layout.axes(size);
        axes.iter().map(|axis| axis.windows.len()).product()
    }

    /// Runs a model of one output on images in memory.
    ///
    /// # Shapes
    /// - images: `[num_images, channels, height, width]`
    /// - output: `[num_images, out_channels, height, width]`, for windows that are blended times the
    ///   model's zoom
    ///
    /// # Panics
    /// If a window starts between two pixels of an output that has another resolution, the output of an
    /// exact tile has not its size, or the device fails.
    pub fn infer(
        &self,
        images: Tensor<4>,
        mut model: impl FnMut(Tensor<4>) -> Tensor<4>,
    ) -> Tensor<4> {
        let [output] = self.infer_many(images, |windows| [model(windows.pixels)]);
        output
    }

    /// As [`infer`](Self::infer), for a model that has several outputs, each of a resolution of its own,
    /// or needs the places of its windows.
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
    /// As [`infer`](Self::infer), and if the model returns another number of results than it got windows.
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
            axes: self.layout.axes([height, width]),
            padding: self.layout.padding(),
            blend: self.layout.blend(),
            placement: &self.placement,
        }
    }
}
