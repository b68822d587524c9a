//! Pure. How much each pixel of a window counts where windows overlap.

use std::mem::take;
use std::ops::Range;

use super::grid::Axis;

/// The least weight of a pixel, so that every pixel gets a value.
const MIN_WEIGHT: f32 = 1e-3;

/// How overlapping windows are put together: every pixel is the weighted mean of the windows that
/// cover it.
#[derive(Debug, Clone, PartialEq)]
pub enum Blend {
    /// All pixels of a window count alike.
    Constant,
    /// Pixels count less towards the border of a window: a Gaussian of `sigma_scale` times
    /// the window's side, in each axis. Softens seams.
    Gaussian {
        /// Standard deviation in sides of the window. 0.125 is usual.
        sigma_scale: f64,
    },
    /// Custom weights, `[window height, window width]`, row by row; those below a thousandth
    /// count as such.
    Weights(Vec<f32>),
}

impl Blend {
    /// The Gaussian of a standard deviation of an eighth of the window.
    pub const GAUSSIAN: Self = Self::Gaussian { sigma_scale: 0.125 };

    /// The weight of each pixel of a window of `height` and `width`, row by row; all positive.
    ///
    /// # Panics
    /// If a scale is not above zero, or custom weights have another number or are not finite.
    ///
    /// # Example
    /// ```
    /// use burn_memopt::chunked::Blend;
    ///
    /// let weights = Blend::GAUSSIAN.weights([3, 3]);
    /// assert_eq!(weights[4], 1.0);
    /// assert!(weights[0] < weights[1]);
    /// ```
    pub fn weights(&self, [height, width]: [usize; 2]) -> Vec<f32> {
        match self {
            Self::Constant => vec![1.0; height * width],
            Self::Gaussian { sigma_scale } => gaussian([height, width], *sigma_scale),
            Self::Weights(weights) => {
                assert_eq!(
                    weights.len(),
                    height * width,
                    "a weight map must have one weight for each pixel of the window"
                );
                assert!(
                    weights.iter().all(|weight| weight.is_finite()),
                    "weights must be finite"
                );
                clamped(weights.clone())
            }
        }
    }
}

fn gaussian(sides: [usize; 2], sigma_scale: f64) -> Vec<f32> {
    assert!(
        sigma_scale > 0.0,
        "sigma_scale must be above 0, got {sigma_scale}"
    );
    let [rows, columns] = sides.map(|side| {
        let (center, sigma) = ((side - 1) as f64 / 2.0, sigma_scale * side as f64);
        let weight = move |at| {
            let x = (at as f64 - center) / sigma;
            (-0.5 * x * x).exp()
        };
        (0..side).map(weight).collect::<Vec<_>>()
    });
    let mut weights = Vec::with_capacity(rows.len() * columns.len());
    for row in &rows {
        weights.extend(columns.iter().map(|column| (row * column) as f32));
    }
    clamped(weights)
}

/// Raises weights to the least that is positive, or a thousandth if that is more.
fn clamped(mut weights: Vec<f32>) -> Vec<f32> {
    let positive = weights.iter().copied().filter(|weight| *weight > 0.0);
    let least = positive.fold(f32::INFINITY, f32::min);
    let floor = if least.is_finite() {
        least.max(MIN_WEIGHT)
    } else {
        MIN_WEIGHT
    };
    for weight in &mut weights {
        *weight = weight.max(floor);
    }
    weights
}

/// Weights of a window for a result of another size: each pixel's are those of the nearest.
fn resized(weights: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let place = |side: usize, at: usize| at * from[side] / to[side];
    let row = |y: usize| (0..to[1]).map(move |x| place(0, y) * from[1] + place(1, x));
    (0..to[0]).flat_map(row).map(|at| weights[at]).collect()
}

/// The weights of all windows over a result, row by row.
#[derive(Debug)]
pub(super) struct Coverage {
    /// Of one window, `[height, width]`.
    weights: Vec<f32>,
    are_ones: bool,
    /// Columns of a window.
    side: usize,
    /// First row and first column of each window, rising.
    starts: [Vec<usize>; 2],
    /// The sums of weights in one row, over the whole width,
    sums: Vec<f32>,
    /// for which the windows that cover it have these rows on it.
    covering: Vec<usize>,
    /// The sums that were asked for last.
    several: Vec<f32>,
}

impl Coverage {
    /// The weights of windows with a side of `window` pixels for a result with these `axes`.
    pub(super) fn new(blend: &Blend, window: [usize; 2], axes: &[Axis; 2]) -> Self {
        let sides = axes.each_ref().map(Axis::window);
        let weights = resized(&blend.weights(window), window, sides);
        let starts = |axis: &Axis| axis.windows.iter().map(|tile| tile.keep.start).collect();
        Self::from_weights(weights, axes.each_ref().map(starts), axes[1].padded())
    }

    fn from_weights(weights: Vec<f32>, starts: [Vec<usize>; 2], width: usize) -> Self {
        Self {
            are_ones: weights.iter().all(|weight| *weight == 1.0),
            side: width - starts[1].last().copied().unwrap_or_default(),
            weights,
            starts,
            sums: vec![0.0; width],
            covering: Vec::new(),
            several: Vec::new(),
        }
    }

    /// The weights of one window, `[height, width]`.
    pub(super) fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The same, unless all of them are 1.
    pub(super) fn unequal_weights(&self) -> Option<&[f32]> {
        (!self.are_ones).then_some(&self.weights)
    }

    /// The sums of weights, `[rows, columns]`.
    pub(super) fn rows(&mut self, rows: Range<usize>, columns: Range<usize>) -> &[f32] {
        let mut several = take(&mut self.several);
        several.clear();
        several.reserve_exact(rows.len() * columns.len());
        for row in rows {
            several.extend_from_slice(&self.row(row)[columns.clone()]);
        }
        self.several = several;
        &self.several
    }

    /// The sum of weights at each column of a row.
    ///
    /// It is computed once as long as the same rows of windows are on it.
    fn row(&mut self, row: usize) -> &[f32] {
        let height = self.weights.len() / self.side;
        let [rows, columns] = &self.starts;
        let first = rows.partition_point(|start| start + height <= row);
        let end = rows.partition_point(|start| *start <= row);
        let covering = rows[first..end].iter().map(|start| row - start);
        if !covering.clone().eq(self.covering.iter().copied()) {
            self.covering = covering.collect();
            self.sums.fill(0.0);
            for at in &self.covering {
                let weights = &self.weights[at * self.side..][..self.side];
                for column in columns {
                    let sums = &mut self.sums[*column..*column + self.side];
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum += weight;
                    }
                }
            }
        }
        &self.sums
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_pixel_is_covered_by_positive_weights_of_windows_that_start_in_range(
            size in prop::array::uniform2(1_usize..60), window in prop::array::uniform2(0_usize..30),
            overlap in prop::array::uniform2(0.0..0.95_f64), sigma_scale in 0.01..2.0_f64,
            is_constant in any::<bool>(),
        ) {
            let axes = [0, 1].map(|side| Axis::overlapping(size[side], window[side], overlap[side]));
            let sides = axes.each_ref().map(Axis::window);
            let blend = if is_constant { Blend::Constant } else { Blend::Gaussian { sigma_scale } };
            let weights = blend.weights(sides);
            prop_assert!(weights.iter().all(|weight| *weight > 0.0 && weight.is_finite()));
            let [height, width] = axes.each_ref().map(Axis::padded);
            let mut sums = vec![0.0; height * width];
            for top in axes[0].windows.iter().map(|tile| tile.keep.start) {
                for left in axes[1].windows.iter().map(|tile| tile.keep.start) {
                    prop_assert!(top + sides[0] <= height && left + sides[1] <= width);
                    for (number, weight) in weights.iter().enumerate() {
                        let [row, column] = [top + number / sides[1], left + number % sides[1]];
                        sums[row * width + column] += weight;
                    }
                }
            }
            let mut coverage = Coverage::new(&blend, sides, &axes);
            for (row, sums) in sums.chunks(width).enumerate() {
                for (got, wanted) in coverage.row(row).iter().zip(sums) {
                    prop_assert!(*got > 0.0 && (got - wanted).abs() <= 1e-4 * wanted);
                }
            }
        }
    }

    #[test]
    fn the_weights_of_every_window_over_a_pixel_add_up() {
        let weights = vec![1.0, 2.0, 3.0, 4.0];
        let mut coverage = Coverage::from_weights(weights, [vec![0, 1], vec![0, 1]], 3);
        assert_eq!(coverage.row(0), [1.0, 3.0, 2.0]);
        assert_eq!(coverage.row(1), [4.0, 10.0, 6.0]);
        assert_eq!(coverage.row(2), [3.0, 7.0, 4.0]);
        assert_eq!(coverage.row(0), [1.0, 3.0, 2.0]);
    }
}
