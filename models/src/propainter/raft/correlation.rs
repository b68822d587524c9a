use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{Int, Tensor};
use burn_memopt::memory::Bytes;
use burn_memopt::nn::canonical_strides;
use serde::{Deserialize, Serialize};

use crate::propainter::layers::in_dtype;

/// Levels of the pyramid, each at half the resolution of the one before.
const NUM_LEVELS: usize = 4;

/// Cells that are looked at to each side of a position, in each level.
const RADIUS: usize = 4;

/// Samples on a side of the window around a position.
const SIDE: usize = 2 * RADIUS + 1;

/// Values that are looked up for a pixel.
pub(super) const NUM_VALUES: usize = NUM_LEVELS * SIDE * SIDE;

/// How features of two frames are compared.
///
/// # Exactness
/// Both are the same up to rounding, about 1e-6 of the largest value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Correlation {
    /// All pixels with all pixels, once: the fastest. Memory grows with the square of the number
    /// of pixels: 1.1 GB for a pair of 1280×720.
    #[default]
    AllPairs,
    /// Only what is looked at, in every iteration again: memory grows with the number of pixels.
    OnDemand {
        /// Most memory for the features that are compared at a time.
        max_bytes: Bytes,
    },
    /// All pixels with all pixels where that takes at most `max_volume`, else on demand: memory is
    /// bounded, and grows with the number of pixels beyond.
    Bounded {
        /// Most memory for the comparison of the pairs of frames that are given at once.
        max_volume: Bytes,
        /// As of [`OnDemand`](Self::OnDemand).
        max_bytes: Bytes,
    },
}

impl Correlation {
    /// [`OnDemand`](Self::OnDemand) with 4 MiB, which a processor's cache holds: three times as fast
    /// there as 32 MiB. A GPU is faster with more.
    pub const ON_DEMAND: Self = Self::OnDemand {
        max_bytes: Bytes::mib(4),
    };

    /// The bytes that features may take at a time where `pairs` pairs of maps of `size` are compared
    /// on demand; `None` if all their pixels are compared at once.
    fn on_demand(self, pairs: usize, size: [usize; 2]) -> Option<Bytes> {
        match self {
            Self::AllPairs => None,
            Self::OnDemand { max_bytes } => Some(max_bytes),
            Self::Bounded {
                max_volume,
                max_bytes,
            } => (volume(pairs, size) > max_volume).then_some(max_bytes),
        }
    }

    /// Of `pairs` pairs of maps of `size`, as many as are best compared at once: those whose volume
    /// stays within its bound, all of them if there is none or not even one does.
    pub(crate) fn pairs_at_once(self, pairs: usize, size: [usize; 2]) -> usize {
        let Self::Bounded { max_volume, .. } = self else {
            return pairs;
        };
        match max_volume.get() / volume(1, size).get().max(1) {
            0 => pairs,
            fitting => pairs.min(usize::try_from(fitting).unwrap_or(usize::MAX)),
        }
    }
}

/// What all levels of the comparison of all pixels with all pixels take.
pub(crate) fn volume(pairs: usize, [height, width]: [usize; 2]) -> Bytes {
    let levels = (0..NUM_LEVELS).map(|level| (height >> level) * (width >> level));
    let cells = pairs * height * width * levels.sum::<usize>();
    Bytes::new((cells * size_of::<f32>()) as u64)
}

/// The comparison of two frames' features, to look values up in.
///
/// A value is the dot product of two features divided by the root of their length. A level's cells
/// are the means of four of the level before; the last row or column of an odd number is dropped.
///
/// Positions are counted in cells. So a coarsest level of a single cell, that of frames of 64 pixels,
/// is as good as any; coordinates from -1 to 1, by which others sample, would divide by zero there
/// and need 128 pixels.
#[derive(Debug, Clone)]
pub struct CorrelationField {
    source: Source,
    /// Size of the second frame's map in each level.
    sizes: Vec<[usize; 2]>,
}

#[derive(Debug, Clone)]
enum Source {
    /// `[batch_size * num_pixels, cells]` for each level.
    Volume(Vec<Tensor<2>>),
    Features(Box<Features>),
}

/// Features, one row a pixel.
#[derive(Debug, Clone)]
struct Features {
    /// `[batch_size, num_pixels, channels]`, divided by the root of their length.
    first: Tensor<3>,
    /// `[batch_size, cells, channels]` for each level.
    second: Vec<Tensor<3>>,
    max_bytes: Bytes,
}

impl CorrelationField {
    /// Prepares the comparison of `first` with `second`.
    ///
    /// # Shapes
    /// - first, second: `[batch_size, channels, height, width]`
    ///
    /// # Panics
    /// If the shapes differ, or a side has fewer than 8 cells, which leaves nothing of the coarsest
    /// level.
    pub fn new(first: Tensor<4>, second: Tensor<4>, correlation: Correlation) -> Self {
        let [batch_size, channels, height, width] = first.dims();
        assert_eq!(
            first.dims(),
            second.dims(),
            "features of both frames must have one shape"
        );
        let least = 1 << (NUM_LEVELS - 1);
        assert!(
            height >= least && width >= least,
            "sides of the features must have at least {least} cells, got {height}×{width}"
        );
        let num_pixels = height * width;
        let on_demand = correlation.on_demand(batch_size, [height, width]);
        let first = rows(first).div_scalar((channels as f64).sqrt());
        let levels = match on_demand {
            None => {
                let volume = first.clone().matmul(rows(second).swap_dims(1, 2));
                pyramid(volume.reshape([batch_size * num_pixels, 1, height, width]))
            }
            // A mean of dot products is the dot product with a mean.
            Some(_) => pyramid(second),
        };
        let sizes = levels.iter().map(|level| {
            let [_, _, height, width] = level.dims();
            [height, width]
        });
        let sizes = sizes.collect();
        let source = match on_demand {
            None => {
                let flat = |level: Tensor<4>| level.flatten::<3>(2, 3).squeeze_dim::<2>(1);
                Source::Volume(levels.into_iter().map(flat).collect())
            }
            Some(max_bytes) => Source::Features(Box::new(Features {
                first,
                second: levels.into_iter().map(rows).collect(),
                max_bytes,
            })),
        };
        Self { source, sizes }
    }

    /// Looks up the windows around `coords`: 9×9 values of each of 4 levels, sampled bilinearly,
    /// zero outside. Channel `81 * level + 9 * i + j` is the value `i - 4` cells to the right of the
    /// position and `j - 4` below.
    ///
    /// # Shapes
    /// - coords: `[batch_size, 2, height, width]`, x then y, in pixels of the features
    /// - output: `[batch_size, 324, height, width]`
    pub fn lookup(&self, coords: Tensor<4>) -> Tensor<4> {
        let [batch_size, _, height, width] = coords.dims();
        let num_windows = batch_size * height * width;
        let axis = |axis| coords.clone().narrow(1, axis, 1).reshape([num_windows]);
        let (x, y) = (axis(0), axis(1));
        let levels = (0..NUM_LEVELS).map(|level| {
            let scale = f64::from(1 << level);
            let (x, y) = (x.clone().div_scalar(scale), y.clone().div_scalar(scale));
            self.windows(level, x, y)
        });
        Tensor::cat(levels.collect(), 1)
            .reshape([batch_size, height, width, NUM_VALUES])
            .permute([0, 3, 1, 2])
    }

    /// Samples the windows of a level around the positions `x` and `y`, in cells; a window's columns
    /// come one after the other.
    ///
    /// All samples of a window are equally far from the cells before them. So its `SIDE²` samples take
    /// `(SIDE + 1)²` cells and two shares, not four cells and four weights each.
    ///
    /// # Shapes
    /// - x, y: `[num_windows]`; 0 is the middle of the first cell
    /// - output: `[num_windows, SIDE²]`
    fn windows(&self, level: usize, x: Tensor<1>, y: Tensor<1>) -> Tensor<2> {
        let [height, width] = self.sizes[level];
        let (columns, rows) = (Axis::around(x, width), Axis::around(y, height));
        let [num_windows, num_cells] = columns.cells.dims();
        // [windows, rows, 1] and [windows, 1, columns] -> [windows, rows, columns]
        let first = rows.cells.mul_scalar(width as i64).unsqueeze_dim::<3>(2);
        let cells = first + columns.cells.unsqueeze_dim(1);
        let inside = rows.inside.unsqueeze_dim::<3>(2) * columns.inside.unsqueeze_dim(1);
        let values = self.values(level, cells.flatten(1, 2));
        let inside = in_dtype(inside, values.dtype());
        let values = values.reshape([num_windows, num_cells, num_cells]) * inside;
        let (left, right) = (values.clone().narrow(2, 0, SIDE), values.narrow(2, 1, SIDE));
        let across = left.clone() + (right - left) * columns.share;
        let (upper, lower) = (across.clone().narrow(1, 0, SIDE), across.narrow(1, 1, SIDE));
        let samples = upper.clone() + (lower - upper) * rows.share;
        samples.swap_dims(1, 2).reshape([num_windows, SIDE * SIDE])
    }

    /// The level's values at `cells`.
    ///
    /// # Shapes
    /// - cells, output: `[batch_size * num_pixels, num_cells]`
    fn values(&self, level: usize, cells: Tensor<2, Int>) -> Tensor<2> {
        match &self.source {
            Source::Volume(levels) => levels[level].clone().gather(1, cells),
            Source::Features(features) => {
                let (first, second) = (&features.first, &features.second[level]);
                dot_products(first, second, cells, features.max_bytes)
            }
        }
    }

    /// The values of a level as a map, where they are kept.
    ///
    /// # Shapes
    /// - output: `[batch_size * num_pixels, 1, height, width]`
    pub fn level(&self, level: usize) -> Option<Tensor<4>> {
        let [height, width] = *self.sizes.get(level)?;
        match &self.source {
            Source::Volume(levels) => {
                let values = levels[level].clone();
                let num_windows = values.dims()[0];
                Some(values.reshape([num_windows, 1, height, width]))
            }
            Source::Features(_) => None,
        }
    }
}

/// The products of each pixel's feature with those of its cells, as many pixels at a time as
/// `max_bytes` hold.
fn dot_products(
    first: &Tensor<3>,
    second: &Tensor<3>,
    cells: Tensor<2, Int>,
    max_bytes: Bytes,
) -> Tensor<2> {
    let [batch_size, num_pixels, channels] = first.dims();
    let [_, num_cells] = cells.dims();
    let bytes_per_pixel = (num_cells * channels * first.dtype().size()) as u64;
    let chunk_len = (max_bytes.get() / bytes_per_pixel).max(1) as usize;
    let mut chunks = Vec::new();
    for item in 0..batch_size {
        let first = first.clone().narrow(0, item, 1).squeeze_dim::<2>(0);
        let second = second.clone().narrow(0, item, 1).squeeze_dim::<2>(0);
        for start in (0..num_pixels).step_by(chunk_len) {
            let len = chunk_len.min(num_pixels - start);
            let cells = cells.clone().narrow(0, item * num_pixels + start, len);
            let looked_at = second.clone().select(0, cells.reshape([len * num_cells]));
            let looked_at = looked_at.reshape([len, num_cells, channels]);
            let pixels = first.clone().narrow(0, start, len).unsqueeze_dim::<3>(2);
            chunks.push(looked_at.matmul(pixels).squeeze_dim::<2>(2));
        }
    }
    Tensor::cat(chunks, 0)
}

/// One row a pixel.
///
/// # Shapes
/// - map: `[batch_size, channels, height, width]`
/// - output: `[batch_size, height * width, channels]`
fn rows(map: Tensor<4>) -> Tensor<3> {
    map.flatten::<3>(2, 3).swap_dims(1, 2)
}

/// The map and its halvings.
fn pyramid(map: Tensor<4>) -> Vec<Tensor<4>> {
    let mut levels = vec![map];
    while levels.len() < NUM_LEVELS {
        let last = levels[levels.len() - 1].clone();
        let options = AvgPoolOptions::new([2, 2]);
        levels.push(canonical_strides(avg_pool2d(last, options)));
    }
    levels
}

/// Windows along one axis of a map.
struct Axis {
    /// The `SIDE + 1` cells of each window; those outside the map are moved to its edge.
    cells: Tensor<2, Int>,
    /// 1 for cells in the map, 0 for those outside.
    inside: Tensor<2>,
    /// How far the samples are past the cells before them, from 0 to 1: `[num_windows, 1, 1]`.
    share: Tensor<3>,
}

impl Axis {
    /// The windows around `positions` on an axis of `len` cells.
    fn around(positions: Tensor<1>, len: usize) -> Self {
        let [num_windows] = positions.dims();
        let steps = Tensor::<1, Int>::arange(0..SIDE as i64 + 1, &positions.device());
        let reach = RADIUS as f64 + 1.0;
        // Farther out nothing of a window is in the map either, and integers stay small.
        let positions = positions.clamp(-reach, len as f64 + reach);
        let before = positions.clone().floor();
        let share = positions - before.clone();
        let first = before.int().sub_scalar(RADIUS as i64);
        let cells = first.unsqueeze_dim::<2>(1) + steps.unsqueeze_dim(0);
        let last = len as i64 - 1;
        let [not_before, not_after] = [
            cells.clone().greater_equal_elem(0),
            cells.clone().lower_equal_elem(last),
        ];
        Self {
            cells: cells.clamp(0, last),
            inside: not_before.float() * not_after.float(),
            share: share.reshape([num_windows, 1, 1]),
        }
    }
}

#[cfg(test)]
mod tests;
