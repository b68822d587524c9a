use std::ops::{ControlFlow, Range};

use burn::tensor::{DType, Tensor};

use super::reach::Reach;
use super::tile::{Tile, tiles};
use super::{BoxError, ChunkedError, ImageSource, Progress, RowSink, TensorSink, WindowPlace};

/// Runs a model on tiles that carry a margin of real pixels, and keeps the middles: the result is
/// that on the whole image.
///
/// The margin must be at least how far a pixel reaches through the model, and tiles must start at
/// multiples of the model's stride: [`Reach::measure`] finds out both.
///
/// # Exactness
/// Equal to the model on the whole image, to rounding where a kernel computes a size in another
/// order, if the model is the same everywhere in the image. It is not if it normalizes by the
/// image's own statistics, attends to all of it, or resizes by the image's size, as bilinear
/// upsampling with aligned corners does; [`Reach`] tells.
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
}

impl ExactTiles {
    /// Tiles that keep `core` pixels, height and width, for a model of a known reach.
    ///
    /// # Panics
    /// If every pixel reaches the whole image, or a side is below the model's stride.
    pub fn new(core: [usize; 2], reach: &Reach) -> Self {
        let halo = reach.halo();
        assert!(
            halo.is_some(),
            "the model must have a limited reach for exact tiles, got one that sees the whole image"
        );
        Self::with_halo(core, halo.unwrap_or_default(), reach.stride())
    }

    /// Tiles that keep `core` pixels and read `halo` more on each side, and start at multiples of
    /// `stride`.
    ///
    /// # Panics
    /// If a side is below `stride`, or `stride` is zero.
    pub fn with_halo(core: [usize; 2], halo: usize, stride: usize) -> Self {
        let least = core[0].min(core[1]);
        assert!(
            stride > 0 && least >= stride,
            "tiles must keep at least the model's stride of {stride} pixels, got {least}"
        );
        Self { core, halo, stride }
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
        let device = images.device();
        let mut sink = TensorSink::new();
        let go_on = |_| ControlFlow::Continue(());
        self.stream(&images, &mut sink, go_on, |tile| Ok(model(tile)))
            .unwrap_or_else(|error| error.panic());
        sink.into_tensor(&device)
    }

    /// Runs a model on images that are read and written in parts. In memory is one tile, and the
    /// result of one row of tiles.
    ///
    /// # Errors
    /// If a part cannot be read or written, the model or its device fails, or `progress` asks to
    /// stop; what was written stays.
    ///
    /// # Panics
    /// If an output has another height or width than its input.
    pub fn stream(
        &self,
        source: &impl ImageSource,
        sink: &mut dyn RowSink,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
        mut model: impl FnMut(Tensor<4>) -> Result<Tensor<4>, BoxError>,
    ) -> Result<(), ChunkedError> {
        let [num_images, _, height, width] = source.dims();
        let rows = tiles(height, self.core[0], self.halo, self.stride);
        let columns = tiles(width, self.core[1], self.halo, self.stride);
        let each = num_images * columns.len();
        let total = rows.len() * each;
        let mut written = None;
        for (number, row) in rows.iter().enumerate() {
            if written.is_some_and(|written| row.keep.end <= written) {
                continue;
            }
            let mut done = number * each;
            let mut strip = Strip::new(row.keep.clone(), width);
            for image in 0..num_images {
                for column in &columns {
                    let pixels = source
                        .read(image, row.read.clone(), column.read.clone())
                        .map_err(|error| {
                            ChunkedError::read(image, [row.read.start, column.read.start], error)
                        })?;
                    let place = WindowPlace {
                        image,
                        row: row.read.start as isize,
                        column: column.read.start as isize,
                    };
                    model(pixels)
                        .and_then(|result| strip.add(image, row, column, result))
                        .map_err(|error| ChunkedError::model(place, error))?;
                    done += 1;
                    if progress(Progress { done, total }).is_break() && done < total {
                        return Err(ChunkedError::Cancelled { done, total });
                    }
                }
            }
            let first = row.keep.start;
            let failed = |source| ChunkedError::write(0, first, source);
            let there = match written {
                Some(there) => there,
                None => {
                    let dims = [num_images, strip.channels, height, width];
                    *written.insert(sink.begin(dims).map_err(failed)?)
                }
            };
            let missing = first.max(there)..row.keep.end;
            if !missing.is_empty() {
                let pixels = strip.rows(missing.clone());
                sink.write(missing, &pixels).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// The result of one row of tiles.
struct Strip {
    rows: Range<usize>,
    width: usize,
    channels: usize,
    /// `[num_images, channels, rows, width]`.
    pixels: Vec<f32>,
}

impl Strip {
    fn new(rows: Range<usize>, width: usize) -> Self {
        Self {
            rows,
            width,
            channels: 0,
            pixels: Vec::new(),
        }
    }

    /// Keeps the middle of a tile's result.
    fn add(
        &mut self,
        image: usize,
        row: &Tile,
        column: &Tile,
        result: Tensor<4>,
    ) -> Result<(), BoxError> {
        let [_, channels, height, width] = result.dims();
        assert_eq!(
            [height, width],
            [row.read.len(), column.read.len()],
            "the output of exact tiles must have the height and width of its input"
        );
        let [rows, columns] = [row, column].map(|tile| {
            let start = tile.keep.start - tile.read.start;
            start..start + tile.keep.len()
        });
        let kept = result.slice([0..1, 0..channels, rows, columns]);
        let data = kept.cast(DType::F32).try_into_data()?;
        let data = data.as_slice::<f32>().expect("invariant: cast to f32");
        self.channels = channels;
        let planes = (image + 1) * channels;
        let (height, side) = (self.rows.len(), column.keep.len());
        self.pixels
            .resize(self.pixels.len().max(planes * height * self.width), 0.0);
        for (number, line) in data.chunks(side).enumerate() {
            let start = (image * channels * height + number) * self.width + column.keep.start;
            self.pixels[start..start + side].copy_from_slice(line);
        }
        Ok(())
    }

    /// Those of some rows: `[num_images, channels, rows, width]`.
    fn rows(&self, wanted: Range<usize>) -> Vec<f32> {
        let part = (wanted.start - self.rows.start) * self.width
            ..(wanted.end - self.rows.start) * self.width;
        let planes = self.pixels.chunks(self.rows.len() * self.width);
        planes
            .flat_map(|plane| &plane[part.clone()])
            .copied()
            .collect()
    }
}
