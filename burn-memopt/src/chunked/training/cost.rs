//! What tiles take that run at once.

use std::ops::Range;

use burn::tensor::{Device, Tensor};

use super::batches::side_tiles;
use crate::chunked::{BoxError, Tile, WindowPlace, Windows};
use crate::memory::estimate::{CalibrateError, peak_of_step};
use crate::memory::{Bytes, PeakMeter};

/// Sides of the tiles that are measured.
const MEASURED: [usize; 2] = [64, 128];

/// Tiles that run at once: how many, and the largest there are in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TileShape {
    num_tiles: usize,
    /// Rows and columns of the tile in its image.
    axes: [Tile; 2],
    image_size: [usize; 2],
}

impl TileShape {
    /// The largest tile of an image of `size`, height and width, whose tiles keep `core` pixels and read `halo` more,
    /// `num_tiles` times.
    ///
    /// # Panics
    /// As [`tiles`](crate::chunked::tiles).
    pub fn largest(
        num_tiles: usize,
        size: [usize; 2],
        core: [usize; 2],
        halo: usize,
        stride: usize,
    ) -> Self {
        let largest = |side: usize| {
            let tiles = side_tiles(size[side], core[side], halo, stride).into_iter();
            let largest = tiles.max_by_key(|tile| [tile.read.len(), tile.keep.len()]);
            largest.expect("invariant: an image has tiles")
        };
        Self {
            num_tiles,
            axes: [largest(0), largest(1)],
            image_size: size,
        }
    }

    /// How many there are.
    pub fn num_tiles(&self) -> usize {
        self.num_tiles
    }

    /// Height and width that a tile reads.
    pub fn read(&self) -> [usize; 2] {
        self.axes.each_ref().map(|tile| tile.read.len())
    }

    /// Height and width that a tile keeps.
    pub fn kept(&self) -> [usize; 2] {
        self.axes.each_ref().map(|tile| tile.keep.len())
    }

    /// `pixels` as tiles at this place of their image.
    ///
    /// # Shapes
    /// - pixels: `[num_tiles, channels, height, width]`, as large as a tile [reads](Self::read)
    pub fn windows(&self, pixels: Tensor<4>) -> Windows {
        let [row, column] = self.axes.each_ref().map(|tile| tile.read.start as isize);
        let place = WindowPlace {
            image: 0,
            row,
            column,
        };
        Windows {
            pixels,
            places: vec![place; self.num_tiles],
            image_size: self.image_size,
        }
    }

    /// What tiles keep of a model's output in the resolution of the image.
    ///
    /// # Shapes
    /// - output: `[num_tiles, channels, height, width]`, as large as a tile [reads](Self::read)
    pub fn cut(&self, output: Tensor<4>) -> Tensor<4> {
        let [num_tiles, channels, ..] = output.dims();
        let [rows, columns] = self.axes.each_ref().map(kept_within);
        output.slice([0..num_tiles, 0..channels, rows, columns])
    }
}

/// What is kept of a tile, in pixels of the tile.
pub(super) fn kept_within(tile: &Tile) -> Range<usize> {
    let start = tile.keep.start - tile.read.start;
    start..start + tile.keep.len()
}

/// The peak of a training step on tiles: a fixed amount, so much for each pixel that they read, and so much for each
/// that they keep, since a model may leave the margin out of its last layers.
///
/// # Example
/// ```
/// use burn_memopt::chunked::{TileCost, TileShape};
/// use burn_memopt::memory::Bytes;
///
/// // Four tiles of 64×64 pixels with a margin of 16, in an image of 256×256.
/// let shape = TileShape::largest(4, [256, 256], [64, 64], 16, 8);
/// assert_eq!((shape.read(), shape.kept()), ([96, 96], [64, 64]));
/// let cost = TileCost::new(Bytes::mib(1), 100.0, 50.0);
/// let pixels = 4 * (100 * 96 * 96 + 50 * 64 * 64);
/// assert_eq!(cost.bytes(&shape), Bytes::mib(1) + Bytes::new(pixels));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TileCost {
    fixed: f64,
    per_read: f64,
    per_kept: f64,
}

impl TileCost {
    /// A fixed amount, and bytes for each pixel that is read and for each that is kept.
    pub fn new(fixed: Bytes, per_read: f64, per_kept: f64) -> Self {
        Self {
            fixed: fixed.get() as f64,
            per_read,
            per_kept,
        }
    }

    /// Measures single tiles: two small ones without a margin, and one with it.
    ///
    /// `prepare` makes the step on tiles of a shape with its inputs, which count only if the step itself makes them. The step is
    /// to add gradients of two batches of tiles, as later ones do in training.
    ///
    /// # Errors
    /// As [`peak_of_step`].
    ///
    /// # Exactness
    /// As [`PeakFit`](crate::memory::estimate::PeakFit): what tiles are chosen by it is to be run, as
    /// [`TilePlanner::verify`](super::TilePlanner::verify) does.
    pub fn measure<S>(
        device: &Device,
        halo: usize,
        stride: usize,
        mut prepare: impl FnMut(TileShape) -> S,
    ) -> Result<Self, CalibrateError>
    where
        S: FnMut(&PeakMeter) -> Result<(), BoxError>,
    {
        let small = MEASURED[0].next_multiple_of(stride);
        let mut run = |image: usize, core: usize, halo: usize| {
            let shape = TileShape::largest(1, [image; 2], [core; 2], halo, stride);
            let point = |side: [usize; 2]| (side[0] * side[1]) as f64;
            let [read, kept] = [point(shape.read()), point(shape.kept())];
            let peak = peak_of_step(device, prepare(shape))?;
            Ok::<_, CalibrateError>((read, kept, peak.get() as f64))
        };
        let large = MEASURED[1].next_multiple_of(stride).max(2 * small);
        let (few, _, low) = run(small, small, 0)?;
        let (many, _, high) = run(large, large, 0)?;
        // Less than nothing, which noise in the counts may seem to say, counts as nothing.
        let slope = ((high - low) / (many - few)).max(0.0);
        let fixed = (high - slope * many).max(0.0);
        if halo == 0 {
            return Ok(Self {
                fixed,
                per_read: slope,
                per_kept: 0.0,
            });
        }
        // In an image of so many tiles a side, the one in the middle has its whole margin.
        let image = small * (2 * halo.div_ceil(small) + 1);
        let (read, kept, peak) = run(image, small, halo)?;
        let per_read = (peak - fixed - slope * kept) / (read - kept);
        let per_read = per_read.clamp(0.0, slope);
        Ok(Self {
            fixed,
            per_read,
            per_kept: slope - per_read,
        })
    }

    /// The predicted peak of tiles.
    pub fn bytes(&self, shape: &TileShape) -> Bytes {
        let pixels = |[height, width]: [usize; 2]| (shape.num_tiles * height * width) as f64;
        let grown = self.per_read * pixels(shape.read()) + self.per_kept * pixels(shape.kept());
        Bytes::new((self.fixed + grown).ceil() as u64)
    }

    /// Every prediction so many times as large.
    pub(super) fn scaled(self, factor: f64) -> Self {
        Self {
            fixed: factor * self.fixed,
            per_read: factor * self.per_read,
            per_kept: factor * self.per_kept,
        }
    }
}
