//! Frames at another size, as Pillow makes them.
//!
//! Each row is resampled first, then each column. Between the two passes values are rounded to bytes
//! and clipped to 0 to 255, which matters where bicubic weights overshoot.

use std::ops::Range;

/// Red, green and blue.
const CHANNELS: usize = 3;
/// Fraction bits of a weight. The absolute weights of a pixel sum to less than 2, so the sum of its
/// weighted bytes fits into an `i32`.
const FRACTION_BITS: u32 = 22;
/// Where the sum of a pixel starts, so that the shift at its end rounds.
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// How the pixels of a [resized](super::VideoFrame::resized) frame are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resampling {
    /// Sharp; for making frames smaller.
    Bicubic,
    /// Soft, without overshoot; for making frames larger.
    Bilinear,
}

impl Resampling {
    /// The distance beyond which pixels have no weight.
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
        }
    }

    /// The weight of a pixel at `distance`, before the weights are divided by their sum.
    fn weight(self, distance: f64) -> f64 {
        const A: f64 = -0.5;
        let x = distance.abs();
        match self {
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic | Self::Bilinear => 0.0,
        }
    }
}

/// The input pixels that one output pixel is a weighted mean of, along one axis.
struct Taps {
    first: usize,
    /// Weights in units of `1 / 2^FRACTION_BITS`.
    weights: Vec<i32>,
}

impl Taps {
    /// The taps of the output pixel `at` of an axis that goes from `from` pixels to `to`.
    fn new(at: usize, from: usize, to: usize, resampling: Resampling) -> Self {
        let scale = from as f64 / to as f64;
        // An axis that gets shorter averages over all the pixels that an output pixel covers.
        let stretch = scale.max(1.0);
        let support = resampling.support() * stretch;
        let centre = (at as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weight = |pixel: usize| resampling.weight((pixel as f64 - centre + 0.5) / stretch);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let unit = f64::from(1 << FRACTION_BITS) / weights.iter().sum::<f64>();
        let weights = weights.iter().map(|weight| (weight * unit).round() as i32);
        Self {
            first,
            weights: weights.collect(),
        }
    }

    fn pixels(&self) -> Range<usize> {
        self.first..self.first + self.weights.len()
    }
}

/// Resizes `pixels`, `[from[0], from[1], 3]`, to `[to[0], to[1], 3]`.
///
/// Besides input and output, all input rows are held at their output width.
pub(super) fn resize(
    pixels: &[u8],
    from: [usize; 2],
    to: [usize; 2],
    resampling: Resampling,
) -> Vec<u8> {
    if from[1] == to[1] {
        return resize_columns(pixels, from[0], to, resampling);
    }
    let rows = resize_rows(pixels, from, to[1], resampling);
    match from[0] == to[0] {
        true => rows,
        false => resize_columns(&rows, from[0], to, resampling),
    }
}

/// Every row at another width.
fn resize_rows(
    pixels: &[u8],
    [height, width]: [usize; 2],
    to: usize,
    resampling: Resampling,
) -> Vec<u8> {
    let columns: Vec<Taps> = (0..to)
        .map(|at| Taps::new(at, width, to, resampling))
        .collect();
    let mut resized = Vec::with_capacity(height * to * CHANNELS);
    for row in pixels.chunks_exact(width * CHANNELS) {
        let (row, _) = row.as_chunks::<CHANNELS>();
        for taps in &columns {
            let mut sums = [HALF; CHANNELS];
            for (pixel, &weight) in row[taps.pixels()].iter().zip(&taps.weights) {
                add_weighted(&mut sums, pixel, weight);
            }
            resized.extend(sums.map(to_byte));
        }
    }
    resized
}

/// Every column, of `from` pixels, at the height `to[0]`; the width is `to[1]`.
fn resize_columns(pixels: &[u8], from: usize, to: [usize; 2], resampling: Resampling) -> Vec<u8> {
    let row_len = to[1] * CHANNELS;
    let mut resized = Vec::with_capacity(to[0] * row_len);
    let mut sums = vec![HALF; row_len];
    for y in 0..to[0] {
        let taps = Taps::new(y, from, to[0], resampling);
        sums.fill(HALF);
        for (row, &weight) in taps.pixels().zip(&taps.weights) {
            add_weighted(&mut sums, &pixels[row * row_len..][..row_len], weight);
        }
        resized.extend(sums.iter().map(|sum| to_byte(*sum)));
    }
    resized
}

fn add_weighted(sums: &mut [i32], values: &[u8], weight: i32) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += weight * i32::from(*value);
    }
}

fn to_byte(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}
