//! The rows of a result that windows still touch; pure.

use std::fs::File;
use std::io;

use super::float_file::FloatFile;

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
            sums: Sums::Host(vec![0.0; num_planes * height * width]),
        }
    }

    /// The same in an empty file.
    pub(super) fn in_file(file: File, num_planes: usize, height: usize, width: usize) -> Self {
        let (file, line) = (FloatFile::new(file, 0), Vec::new());
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

    /// Adds pixels that count as `weights` to the line that starts at `[plane, row, column]`. Only the
    /// first `old` sums hold something already; the others are overwritten.
    pub(super) fn add(
        &mut self,
        place: [usize; 3],
        pixels: &[f32],
        weights: &[f32],
        old: usize,
    ) -> io::Result<()> {
        self.change(place, pixels.len(), old, |sums| {
            let (old_sums, new_sums) = sums.split_at_mut(old);
            let (old_pixels, new_pixels) = pixels.split_at(old);
            let (old_weights, new_weights) = weights.split_at(old);
            for ((sum, pixel), weight) in old_sums.iter_mut().zip(old_pixels).zip(old_weights) {
                *sum += pixel * weight;
            }
            for ((sum, pixel), weight) in new_sums.iter_mut().zip(new_pixels).zip(new_weights) {
                *sum = pixel * weight;
            }
        })
    }

    /// Overwrites the line that starts at `[plane, row, column]`.
    pub(super) fn put(&mut self, place: [usize; 3], pixels: &[f32]) -> io::Result<()> {
        self.change(place, pixels.len(), 0, |sums| sums.copy_from_slice(pixels))
    }

    /// Reads the line that starts at `[plane, row, column]`.
    pub(super) fn read(&mut self, place: [usize; 3], line: &mut [f32]) -> io::Result<()> {
        let start = self.start(place);
        match &mut self.sums {
            Sums::Host(sums) => line.copy_from_slice(&sums[start..start + line.len()]),
            Sums::File { file, .. } => file.read(start, line)?,
        }
        Ok(())
    }

    /// Lets `change` change a line of `len` sums, of which the first `old` are wanted as they are.
    fn change(
        &mut self,
        place: [usize; 3],
        len: usize,
        old: usize,
        change: impl FnOnce(&mut [f32]),
    ) -> io::Result<()> {
        let start = self.start(place);
        match &mut self.sums {
            Sums::Host(sums) => change(&mut sums[start..start + len]),
            Sums::File { file, line } => {
                line.resize(len, 0.0);
                file.read(start, &mut line[..old])?;
                change(line);
                file.write(start, line)?;
            }
        }
        Ok(())
    }

    fn start(&self, [plane, row, column]: [usize; 3]) -> usize {
        (plane * self.height + row % self.height) * self.width + column
    }
}
