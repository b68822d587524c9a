use std::ops::{ControlFlow, Range};

use burn::tensor::{Device, Tensor};

use super::band::Piece;
use super::pending::{Finished, Pending};
use super::reach::Reach;
use super::tile::{Tile, tiles};
use super::{
    Accumulator, BoxError, ChunkedError, ImageSource, Progress, RowSink, TensorSink, WindowPlace,
};

/// Runs a model on tiles that carry a margin of real pixels, and keeps the middles: the result is
/// that on the whole image.
///
/// The margin must be at least how far a pixel reaches through the model, and tiles must start at
/// multiples of the model's stride: [`Reach::measure`] finds out both.
///
/// # Exactness
/// Equal to the model on the whole image, to rounding where a kernel computes a size in another
/// order, if the model is the same everywhere in the image. It is not if it normalizes by the
/// image's own statistics or attends to all of it. Where it resizes by the image's size, as bilinear
/// upsampling with aligned corners does, it has to be told where its tile lies, by
/// [`infer_placed`](Self::infer_placed). [`ExactReport`](super::ExactReport) tells.
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
    device: Option<Device>,
    accumulator: Accumulator,
}

/// A tile that a model is to run on, and where it lies: for models whose layers depend on the size of
/// the image.
#[derive(Debug, Clone)]
pub struct PlacedTile {
    /// `[1, channels, tile height, tile width]`.
    pub pixels: Tensor<4>,
    /// Row and column of the image that it starts with.
    pub start: [usize; 2],
    /// Height and width of the image.
    pub image: [usize; 2],
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
        Self {
            core,
            halo,
            stride,
            device: None,
            accumulator: Accumulator::Host,
        }
    }

    /// Chooses the device that tiles are moved to before the model gets them. The default is that of
    /// the images.
    pub fn with_device(self, device: &Device) -> Self {
        let device = Some(device.clone());
        Self { device, ..self }
    }

    /// Chooses where the result of a row of tiles is kept. The default is [`Accumulator::Host`].
    pub fn with_accumulator(self, accumulator: Accumulator) -> Self {
        Self {
            accumulator,
            ..self
        }
    }

    /// Height and width that a tile keeps.
    pub fn core(&self) -> [usize; 2] {
        self.core
    }

    /// Pixels that a tile reads around what it keeps.
    pub fn halo(&self) -> usize {
        self.halo
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
        self.infer_placed(images, |tile| model(tile.pixels))
    }

    /// As [`infer`](Self::infer), for a model that is told where its tile lies.
    ///
    /// # Panics
    /// As [`infer`](Self::infer).
    pub fn infer_placed(
        &self,
        images: Tensor<4>,
        mut model: impl FnMut(PlacedTile) -> Tensor<4>,
    ) -> Tensor<4> {
        let device = images.device();
        let mut sink = TensorSink::for_accumulator(&self.accumulator, &device);
        let go_on = |_| ControlFlow::Continue(());
        self.stream_placed(&images, &mut sink, go_on, |tile| Ok(model(tile)))
            .unwrap_or_else(|error| error.panic());
        sink.into_tensor(&device)
    }

    /// Runs a model on images that are read and written in parts. In memory is one tile, and, if the
    /// accumulator is not a file, the result of one row of tiles.
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
        progress: impl FnMut(Progress) -> ControlFlow<()>,
        mut model: impl FnMut(Tensor<4>) -> Result<Tensor<4>, BoxError>,
    ) -> Result<(), ChunkedError> {
        self.stream_placed(source, sink, progress, |tile| model(tile.pixels))
    }

    /// As [`stream`](Self::stream), for a model that is told where its tile lies.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    ///
    /// # Panics
    /// As [`stream`](Self::stream).
    pub fn stream_placed(
        &self,
        source: &impl ImageSource,
        sink: &mut dyn RowSink,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
        mut model: impl FnMut(PlacedTile) -> Result<Tensor<4>, BoxError>,
    ) -> Result<(), ChunkedError> {
        let [num_images, _, height, width] = source.dims();
        let rows = tiles(height, self.core[0], self.halo, self.stride);
        let columns = tiles(width, self.core[1], self.halo, self.stride);
        let each = num_images * columns.len();
        let total = rows.len() * each;
        let mut begun: Option<Begun> = None;
        'rows: for (number, row) in rows.iter().enumerate() {
            if begun
                .as_ref()
                .is_some_and(|begun| row.keep.end <= begun.written)
            {
                continue;
            }
            let mut done = number * each;
            for (image, column) in
                (0..num_images).flat_map(|image| columns.iter().map(move |column| (image, column)))
            {
                let (at, kept) = self.run(source, image, [row, column], &mut model)?;
                if begun.is_none() {
                    let dims = [num_images, kept.dims()[1], height, width];
                    let there = begun.insert(self.begin(dims, rows[0].keep.len(), &kept, sink)?);
                    if row.keep.end <= there.written {
                        continue 'rows;
                    }
                }
                if let Some(begun) = &mut begun {
                    let [row, column] = [row, column].map(|tile| tile.keep.start);
                    begun
                        .pending
                        .add(at, &[Piece::alone(image, row, column)], kept)?;
                }
                done += 1;
                if progress(Progress { done, total }).is_break() && done < total {
                    return Err(ChunkedError::Cancelled { done, total });
                }
            }
            if let Some(begun) = &mut begun {
                begun.finish(row.keep.clone(), width, sink)?;
            }
        }
        Ok(())
    }

    /// Reads a tile and runs the model on it; answers the middle.
    fn run(
        &self,
        source: &impl ImageSource,
        image: usize,
        tile: [&Tile; 2],
        model: &mut impl FnMut(PlacedTile) -> Result<Tensor<4>, BoxError>,
    ) -> Result<(WindowPlace, Tensor<4>), ChunkedError> {
        let [.., height, width] = source.dims();
        let [rows, columns] = tile.map(|tile| tile.read.clone());
        let start = [rows.start, columns.start];
        let at = WindowPlace {
            image,
            row: rows.start as isize,
            column: columns.start as isize,
        };
        let size = [rows.len(), columns.len()];
        let pixels = source.read(image, rows, columns);
        let pixels = pixels.map_err(|error| ChunkedError::read(image, start, error))?;
        let placed = PlacedTile {
            pixels: match &self.device {
                Some(device) => pixels.to_device(device),
                None => pixels,
            },
            start,
            image: [height, width],
        };
        let result = model(placed).map_err(|error| ChunkedError::model(at, error))?;
        let [_, channels, height, width] = result.dims();
        assert_eq!(
            [height, width],
            size,
            "the output of exact tiles must have the height and width of its input"
        );
        let [rows, columns] = tile.map(|tile| {
            let start = tile.keep.start - tile.read.start;
            start..start + tile.keep.len()
        });
        Ok((at, result.slice([0..1, 0..channels, rows, columns])))
    }

    /// Tells the sink what comes, of `[num_images, channels, height, width]` in rows of tiles of at most
    /// `rows` rows.
    fn begin(
        &self,
        dims: [usize; 4],
        rows: usize,
        result: &Tensor<4>,
        sink: &mut dyn RowSink,
    ) -> Result<Begun, ChunkedError> {
        let [num_images, channels, _, width] = dims;
        let written = sink.begin(dims);
        let written = written.map_err(|source| ChunkedError::write(0, 0, source))?;
        let dims = [num_images, channels, rows, width];
        Ok(Begun {
            written,
            pending: Pending::new(&self.accumulator, 0, dims, None, &result.device())?,
        })
    }
}

/// A result on its way to its sink.
struct Begun {
    /// Rows that the sink had when the run began.
    written: usize,
    pending: Pending,
}

impl Begun {
    /// Hands on a row of tiles.
    fn finish(
        &mut self,
        rows: Range<usize>,
        width: usize,
        sink: &mut dyn RowSink,
    ) -> Result<(), ChunkedError> {
        let finished = Finished {
            first: rows.start,
            until: rows.end,
            rows: rows.start.max(self.written)..rows.end,
            columns: 0..width,
            before: 0,
        };
        self.pending.finish(finished, sink)
    }
}
