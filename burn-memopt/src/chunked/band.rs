//! Sums of windows in host memory or in a file.

use std::io;
use std::ops::Range;

use rayon::prelude::*;

use super::buffer::{FloatFile, zeros};

/// Numbers that are worth a thread of their own.
const NUM_AT_ONCE: usize = 1 << 15;

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

/// What came out of a window, and its place in the padded result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    /// `[channels, height, width]`.
    pub pixels: &'a [f32],
    pub height: usize,
    pub width: usize,
    /// What pixels count as, `[height, width]`; without them each counts as 1.
    pub weights: Option<&'a [f32]>,
    /// The plane of its first channel.
    pub plane: usize,
    pub row: usize,
    pub column: usize,
    /// Rows before this one have sums of other windows already.
    pub old_rows: usize,
    /// In the other rows, columns before this one have such sums.
    pub old_columns: usize,
}

impl Band {
    /// A band of `height` rows for planes of `width` columns, in host memory.
    pub(super) fn on_host([num_planes, height, width]: [usize; 3]) -> Self {
        Self {
            num_planes,
            height,
            width,
            sums: Sums::Host(zeros(num_planes * height * width)),
        }
    }

    /// The same in an empty file.
    pub(super) fn in_file(file: FloatFile, [num_planes, height, width]: [usize; 3]) -> Self {
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

    /// Adds a window to its planes.
    pub(super) fn add(&mut self, piece: &Piece) -> io::Result<()> {
        let (height, width) = (self.height, self.width);
        match &mut self.sums {
            Sums::Host(sums) => {
                // All lines of the planes, of which threads take those that the window touches.
                let lines = sums[piece.plane * height * width..]
                    .par_chunks_mut(width)
                    .take(piece.channels() * height);
                let lines = lines.with_min_len(NUM_AT_ONCE.div_ceil(piece.width));
                lines.enumerate().for_each(|(line, sums)| {
                    let (channel, place) = (line / height, line % height);
                    // The row of the window in this place of the ring.
                    let row = (place + height - piece.row % height) % height;
                    if row < piece.height {
                        let sums = &mut sums[piece.column..][..piece.width];
                        piece.add_line(channel, row, sums);
                    }
                });
            }
            Sums::File { file, line } => {
                line.resize(piece.width, 0.0);
                for number in 0..piece.channels() * piece.height {
                    let (channel, row) = (number / piece.height, number % piece.height);
                    let place = (piece.row + row) % height;
                    let plane = piece.plane + channel;
                    let start = (plane * height + place) * width + piece.column;
                    file.read(start, &mut line[..piece.num_old(row)])?;
                    piece.add_line(channel, row, line);
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

impl Piece<'_> {
    fn channels(&self) -> usize {
        self.pixels.len() / (self.height * self.width)
    }

    /// The number of columns of a row of the window that have sums of other windows already.
    fn num_old(&self, row: usize) -> usize {
        if self.row + row < self.old_rows {
            self.width
        } else {
            self.old_columns.saturating_sub(self.column)
        }
    }

    /// Adds a line to `sums`, and overwrites what is not the sum of other windows.
    fn add_line(&self, channel: usize, row: usize, sums: &mut [f32]) {
        let num_old = self.num_old(row);
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
