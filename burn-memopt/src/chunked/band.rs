//! The rows of a result that windows still touch; pure.

use std::ops::Range;

/// Sums of windows times weights, and of weights, for the rows of one row of windows.
#[derive(Debug)]
pub(super) struct Band {
    num_planes: usize,
    height: usize,
    width: usize,
    /// Row of the padded result that the band starts with.
    first: usize,
    /// `[num_planes, height, width]`.
    values: Vec<f32>,
    /// `[height, width]`, alike for all planes.
    weights: Vec<f32>,
}

impl Band {
    /// A band of `height` rows for planes of `width` columns, all zero.
    pub(super) fn new(num_planes: usize, height: usize, width: usize, first: usize) -> Self {
        Self {
            num_planes,
            height,
            width,
            first,
            values: vec![0.0; num_planes * height * width],
            weights: vec![0.0; height * width],
        }
    }

    /// Adds a window whose pixels, `[planes, height, side]`, count as `weights`, `[height, side]`.
    pub(super) fn add(
        &mut self,
        planes: Range<usize>,
        column: usize,
        pixels: &[f32],
        weights: &[f32],
    ) {
        let area = self.height * self.width;
        let side = weights.len() / self.height;
        for (plane, pixels) in planes.zip(pixels.chunks(weights.len())) {
            let sums = self.values[plane * area..][..area].chunks_mut(self.width);
            let rows = pixels.chunks(side).zip(weights.chunks(side));
            for (sums, (pixels, weights)) in sums.zip(rows) {
                let sums = &mut sums[column..column + side];
                for ((sum, pixel), weight) in sums.iter_mut().zip(pixels).zip(weights) {
                    *sum += pixel * weight;
                }
            }
        }
    }

    /// Adds the weights of a window, once for all planes.
    pub(super) fn weigh(&mut self, column: usize, weights: &[f32]) {
        let side = weights.len() / self.height;
        let rows = self.weights.chunks_mut(self.width);
        for (sums, weights) in rows.zip(weights.chunks(side)) {
            for (sum, weight) in sums[column..column + side].iter_mut().zip(weights) {
                *sum += weight;
            }
        }
    }

    /// Takes the rows before `until` of the padded result out, and answers the weighted means of
    /// those in `rows` and `columns`: `[num_planes, rows, columns]`.
    pub(super) fn take(
        &mut self,
        until: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Vec<f32> {
        let mut means = Vec::with_capacity(self.num_planes * rows.len() * columns.len());
        let wanted = rows.start - self.first..rows.end - self.first;
        for plane in self.values.chunks(self.height * self.width) {
            for row in wanted.clone() {
                let part = row * self.width + columns.start..row * self.width + columns.end;
                let pixels = plane[part.clone()].iter().zip(&self.weights[part]);
                means.extend(pixels.map(|(sum, weight)| sum / weight));
            }
        }
        let gone = until - self.first;
        self.first = until;
        let planes = self.values.chunks_mut(self.height * self.width);
        for plane in planes.chain([&mut self.weights[..]]) {
            plane.copy_within(gone * self.width.., 0);
            plane[(self.height - gone) * self.width..].fill(0.0);
        }
        means
    }
}
