use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};

use super::grid::Axis;
use super::run::{Placement, Run};
use super::{
    Accumulator, BoxError, ChunkedError, ImageSource, Padding, Progress, Reach, RowSink, Windows,
};
use crate::batch::BatchRunner;

/// Runs a model on tiles that have a margin of real pixels, and keeps the middles: the result is
/// that on the whole image.
///
/// The margin must be at least how far a pixel reaches through the model, and tiles must start at
/// multiples of the model's stride: [`Reach::measure`] finds out both.
///
/// # Exactness
/// Equal to the model on the whole image, to rounding where a kernel computes a size in another
/// order, if the model is the same everywhere in the image. It is not if it normalizes by the
/// image's own statistics or attends to all of it. Where it resizes by the image's size, as bilinear
/// upsampling with aligned corners does, it needs the places of its tiles: [`Windows`] has them.
/// [`ExactReport`](super::ExactReport) measures how far tiles are off.
///
/// # Example
/// ```
/// use burn::nn::PaddingConfig2d;
/// use burn::nn::conv::Conv2dConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt::chunked::{ExactTiles, Reach};
///
/// let device = Device::flex();
/// let padding = PaddingConfig2d::Explicit(2, 2, 2, 2);
/// let conv = Conv2dConfig::new([1, 1], [5, 5]).with_padding(padding).init(&device);
/// let reach = Reach::measure([1, 64, 64], 1, &device, |x| conv.forward(x));
/// assert_eq!(reach.halo(), Some(2));
///
/// let image = Tensor::<4>::random([1, 1, 90, 70], Distribution::Default, &device);
/// let tiled = ExactTiles::new([32, 32], &reach).infer(image.clone(), |x| conv.forward(x));
/// assert_eq!(tiled.into_data(), conv.forward(image).into_data());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExactTiles {
    core: [usize; 2],
    halo: usize,
    stride: usize,
    placement: Placement,
}

impl ExactTiles {
    /// Tiles that keep `core` pixels, height and width, for a model of a known reach.
    ///
    /// # Panics
    /// If every pixel reaches the whole image, or a side is below the model's stride.
    pub fn new(core: [usize; 2], reach: &Reach) -> Self {
        let Some(halo) = reach.halo() else {
            panic!(
                "the model must have a limited reach for exact tiles, got one that sees the whole \
                 image"
            );
        };
        Self::with_halo(core, halo, reach.stride())
    }

    /// Tiles that keep `core` pixels and read `halo` more on each side, and start at multiples of
    /// `stride`.
    ///
    /// The defaults are one tile at a time, the device of the images, and [`Accumulator::Host`].
    ///
    /// # Panics
    /// If a side is below `stride`, or `stride` is zero.
    pub fn with_halo(core: [usize; 2], halo: usize, stride: usize) -> Self {
        let least = core[0].min(core[1]);
        assert!(
            stride > 0 && least >= stride,
            "tiles must keep at least the model's stride of {stride} pixels, got {least}"
        );
        Self {
            core,
            halo,
            stride,
            placement: Placement::default(),
        }
    }

    /// Chooses how many tiles the model gets at once, at most: those of one row of tiles that have the
    /// same size and margins.
    ///
    /// # Panics
    /// If it is zero.
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        assert!(batch_size > 0, "the batch size must be at least 1, got 0");
        self.placement.batch_size = Some(batch_size);
        self
    }

    /// Chooses the device that tiles are moved to before the model gets them.
    pub fn with_device(mut self, device: &Device) -> Self {
        self.placement.device = Some(device.clone());
        self
    }

    /// Chooses where the result of a row of tiles is kept.
    pub fn with_accumulator(mut self, accumulator: Accumulator) -> Self {
        self.placement.accumulator = accumulator;
        self
    }

    /// Height and width that a tile keeps.
    pub fn core(&self) -> [usize; 2] {
        self.core
    }

    /// Pixels that a tile reads around what it keeps.
    pub fn halo(&self) -> usize {
        self.halo
    }

    /// The number of tiles of an image of `height` and `width`.
    ///
    /// # Panics
    /// If a side is zero.
    pub fn num_tiles(&self, [height, width]: [usize; 2]) -> usize {
        let axes = self.run([1, 1, height, width]).axes;
        axes.iter().map(|axis| axis.windows.len()).product()
    }

    /// Runs a model whose output has the size of its input on images in memory.
    ///
    /// # Shapes
    /// - images: `[num_images, channels, height, width]`
    /// - output: `[num_images, out_channels, height, width]`
    ///
    /// # Panics
    /// If an output has another height or width than its input, or the device fails.
    pub fn infer(
        &self,
        images: Tensor<4>,
        mut model: impl FnMut(Tensor<4>) -> Tensor<4>,
    ) -> Tensor<4> {
        let [output] = self.infer_many(images, |tiles| [model(tiles.pixels)]);
        output
    }

    /// As [`infer`](Self::infer), for a model that has several outputs or needs the places of its
    /// tiles.
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

    /// Runs a model on images that are read and written in parts. In memory is one batch of tiles,
    /// and, if the accumulator is not a file, the result of one row of tiles.
    ///
    /// # Errors
    /// If a part cannot be read or written, the model or its device fails, or `progress` asks to
    /// stop; what was written stays.
    ///
    /// # Panics
    /// If an output has another height or width than its input.
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
    /// most [`with_batch_size`](Self::with_batch_size) if that was chosen.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    ///
    /// # Panics
    /// As [`stream`](Self::stream).
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
                .map(|(side, len)| Axis::exact(len, self.core[side], self.halo, self.stride)),
            // Tiles end where the image does.
            padding: Padding::Zero,
            blend: None,
            placement: &self.placement,
        }
    }
}
