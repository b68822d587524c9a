//! The rows of a result that windows still touch; pure.

use std::io;
use std::ops::Range;

use rayon::prelude::*;

use super::float_file::FloatFile;
use super::zeros::zeros;

/// Numbers that are worth a thread of their own.
pub(super) const NUM_AT_ONCE: usize = 1 << 15;

/// Sums of windows times weights for the rows of one row of windows, of all planes.
///
/// Rows are kept in a ring: row `r` of the result takes the place of row `r - height`.
#[derive(Debug)]
pub(super) struct Band {
    num_planes: usize,
    height: usize,
    width: usize,
    sums: Sums,
}

/// `[num_planes, height, width]`.
#[derive(Debug)]
enum Sums {
    Host(Vec<f32>),
    File { file: FloatFile, line: Vec<f32> },
}

impl Band {
    /// A band of `height` rows for planes of `width` columns.
    pub(super) fn on_host(num_planes: usize, height: usize, width: usize) -> Self {
        Self {
            num_planes,
            height,
            width,
            sums: Sums::Host(zeros(num_planes * height * width)),
        }
    }

    /// The same in an empty file.
    pub(super) fn in_file(file: FloatFile, num_planes: usize, height: usize, width: usize) -> Self {
        let line = Vec::new();
        Self {
            num_planes,
            height,
            width,
            sums: Sums::File { file, line },
        }
    }

    pub(super) fn num_planes(&self) -> usize {
        self.num_planes
    }

    /// Adds a window to the planes from `plane` on.
    pub(super) fn add(&mut self, plane: usize, piece: &Piece, window: &Window) -> io::Result<()> {
        let (height, width) = (self.height, self.width);
        match &mut self.sums {
            Sums::Host(sums) => {
                let num_lines = window.channels() * height;
                let lines = sums[plane * height * width..]
                    .par_chunks_mut(width)
                    .take(num_lines);
                let lines = lines.with_min_len(NUM_AT_ONCE.div_ceil(window.width));
                lines.enumerate().for_each(|(line, sums)| {
                    let (channel, place) = (line / height, line % height);
                    let row = (place + height - piece.row % height) % height;
                    if row < window.height {
                        let sums = &mut sums[piece.column..][..window.width];
                        window.add(channel, row, piece.num_old(row, window.width), sums);
                    }
                });
            }
            Sums::File { file, line } => {
                line.resize(window.width, 0.0);
                for (channel, row) in window.lines() {
                    let place = (piece.row + row) % height;
                    let start = ((plane + channel) * height + place) * width + piece.column;
                    let num_old = piece.num_old(row, window.width);
                    file.read(start, &mut line[..num_old])?;
                    window.add(channel, row, num_old, line);
                    file.write(start, line)?;
                }
            }
        }
        Ok(())
    }

    /// Fills the lines of all planes and `rows`, plane after plane, with sums from `column` on,
    /// divided by what windows weigh there, `[rows, columns]`.
    pub(super) fn read(
        &mut self,
        rows: Range<usize>,
        column: usize,
        weights: Option<&[f32]>,
        lines: Vec<&mut [f32]>,
    ) -> io::Result<()> {
        let (height, width) = (self.height, self.width);
        let start = |number: usize| {
            let (plane, row) = (number / rows.len(), rows.start + number % rows.len());
            (plane * height + row % height) * width + column
        };
        let divide = |number: usize, line: &mut [f32]| {
            let weights = weights.map(|weights| &weights[number % rows.len() * line.len()..]);
            for (sum, weight) in line.iter_mut().zip(weights.unwrap_or_default()) {
                *sum /= weight;
            }
        };
        match &mut self.sums {
            // The first touch of memory takes longer than the copy: threads share it.
            Sums::Host(sums) => lines
                .into_par_iter()
                .enumerate()
                .for_each(|(number, line)| {
                    line.copy_from_slice(&sums[start(number)..][..line.len()]);
                    divide(number, line);
                }),
            Sums::File { file, .. } => {
                for (number, line) in lines.into_iter().enumerate() {
                    file.read(start(number), line)?;
                    divide(number, line);
                }
            }
        }
        Ok(())
    }
}

/// Where the result of a window goes in the padded result, and what is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub image: usize,
    pub row: usize,
    pub column: usize,
    /// Rows before this one hold something already,
    pub old_rows: usize,
    /// and so do columns before this one, in rows that do not.
    pub old_columns: usize,
}

impl Piece {
    /// A piece that lies on no other.
    pub(super) fn alone(image: usize, row: usize, column: usize) -> Self {
        Self {
            image,
            row,
            column,
            old_rows: 0,
            old_columns: 0,
        }
    }

    /// Of row `row` of the window, `width` columns wide, the columns that hold something already.
    fn num_old(&self, row: usize, width: usize) -> usize {
        match self.row + row < self.old_rows {
            true => width,
            false => self.old_columns.saturating_sub(self.column),
        }
    }
}

/// What came out of a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'a> {
    /// `[channels, height, width]`.
    pub pixels: &'a [f32],
    pub height: usize,
    pub width: usize,
    /// What pixels count as, `[height, width]`; without them each counts as 1.
    pub weights: Option<&'a [f32]>,
}

impl Window<'_> {
    fn channels(&self) -> usize {
        self.pixels.len() / (self.height * self.width)
    }

    /// Channel and row of every line.
    fn lines(&self) -> impl Iterator<Item = (usize, usize)> {
        let height = self.height;
        (0..self.channels() * height).map(move |line| (line / height, line % height))
    }

    /// Adds a line to `sums`. Only the first `num_old` hold something already; the others are
    /// overwritten.
    fn add(&self, channel: usize, row: usize, num_old: usize, sums: &mut [f32]) {
        let pixels = &self.pixels[(channel * self.height + row) * self.width..][..self.width];
        let (old_sums, new_sums) = sums.split_at_mut(num_old);
        let (old_pixels, new_pixels) = pixels.split_at(num_old);
        let Some(weights) = self.weights else {
            for (sum, pixel) in old_sums.iter_mut().zip(old_pixels) {
                *sum += pixel;
            }
            return new_sums.copy_from_slice(new_pixels);
        };
        let weights = &weights[row * self.width..][..self.width];
        let (old_weights, new_weights) = weights.split_at(num_old);
        for ((sum, pixel), weight) in old_sums.iter_mut().zip(old_pixels).zip(old_weights) {
            *sum += pixel * weight;
        }
        for ((sum, pixel), weight) in new_sums.iter_mut().zip(new_pixels).zip(new_weights) {
            *sum = pixel * weight;
        }
    }
}
