//! How much the windows that cover a pixel weigh together; pure.

use std::mem::take;
use std::ops::Range;

/// The weights of all windows over a result, row by row.
#[derive(Debug)]
pub(super) struct Coverage {
    /// Of one window, `[height, width]`.
    weights: Vec<f32>,
    /// Whether all of them are 1.
    are_ones: bool,
    /// Columns of a window.
    side: usize,
    /// First row and first column of each window, rising.
    starts: [Vec<usize>; 2],
    /// Of the row that was asked for last,
    sums: Vec<f32>,
    /// and of the rows.
    several: Vec<f32>,
    /// Rows of a window that lie on it.
    of: Vec<usize>,
}

impl Coverage {
    /// Windows of `weights`, `side` columns wide, at every one of these rows and columns of a result
    /// of `width` columns.
    pub(super) fn new(
        weights: Vec<f32>,
        side: usize,
        starts: [Vec<usize>; 2],
        width: usize,
    ) -> Self {
        Self {
            are_ones: weights.iter().all(|weight| *weight == 1.0),
            weights,
            side,
            starts,
            sums: vec![0.0; width],
            several: Vec::new(),
            of: Vec::new(),
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

    /// Columns of a window.
    pub(super) fn side(&self) -> usize {
        self.side
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
    fn row(&mut self, row: usize) -> &[f32] {
        let height = self.weights.len() / self.side;
        let [rows, columns] = &self.starts;
        let covering = rows.partition_point(|start| start + height <= row)
            ..rows.partition_point(|start| *start <= row);
        let of = rows[covering].iter().map(|start| row - start);
        if !of.clone().eq(self.of.iter().copied()) {
            self.of = of.collect();
            self.sums.fill(0.0);
            for at in &self.of {
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
    use crate::chunked::{Axis, Blend};

    proptest! {
        #[test]
        fn every_pixel_is_covered_by_positive_weights_of_windows_that_start_in_range(
            size in prop::array::uniform2(1_usize..60), window in prop::array::uniform2(0_usize..30),
            overlap in prop::array::uniform2(0.0..0.95_f64), sigma_scale in 0.01..2.0_f64,
            is_constant in any::<bool>(),
        ) {
            let axes = [0, 1].map(|side| Axis::new(size[side], window[side], overlap[side]));
            let sides = [0, 1].map(|side| axes[side].window());
            let blend = match is_constant {
                true => Blend::Constant,
                false => Blend::Gaussian { sigma_scale },
            };
            let weights = blend.weights(sides);
            prop_assert!(weights.iter().all(|weight| *weight > 0.0 && weight.is_finite()));
            let [height, width] = [0, 1].map(|side| axes[side].padded());
            let mut sums = vec![0.0; height * width];
            for top in axes[0].starts() {
                for left in axes[1].starts() {
                    prop_assert!(top + sides[0] <= height && left + sides[1] <= width);
                    for (number, weight) in weights.iter().enumerate() {
                        let [row, column] = [top + number / sides[1], left + number % sides[1]];
                        sums[row * width + column] += weight;
                    }
                }
            }
            let starts = [0, 1].map(|side| axes[side].starts().to_vec());
            let mut coverage = Coverage::new(weights, sides[1], starts, width);
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
        let mut coverage = Coverage::new(weights, 2, [vec![0, 1], vec![0, 1]], 3);
        assert_eq!(coverage.row(0), [1.0, 3.0, 2.0]);
        assert_eq!(coverage.row(1), [4.0, 10.0, 6.0]);
        assert_eq!(coverage.row(2), [3.0, 7.0, 4.0]);
        assert_eq!(coverage.row(0), [1.0, 3.0, 2.0]);
    }
}
