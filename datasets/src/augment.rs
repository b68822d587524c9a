//! The symmetries of a frame, for augmentation that repeats exactly.

use rand::{RngExt, SeedableRng, rngs::StdRng};

mod moved;

pub use moved::MovedImages;

/// One of the eight flips and rotations of a square.
///
/// It is a transposition or none, followed by a flip of the rows or none, and a
/// flip of the columns or none. Pixels move and keep their values, so a sum
/// stays what it was. The default moves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Symmetry {
    transpose: bool,
    flip_rows: bool,
    flip_columns: bool,
}

impl Symmetry {
    /// Picks one of the eight symmetries of a square frame, or of the four that
    /// keep the shape of any other.
    pub fn pick(seed: u64, height: usize, width: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut coin = || rng.random::<bool>();
        Self {
            flip_rows: coin(),
            flip_columns: coin(),
            transpose: coin() && height == width,
        }
    }

    /// Moves the pixels of a frame of `height * width`, row by row.
    ///
    /// # Panics
    /// If `pixels` has another length, or a frame that is not square is transposed.
    pub fn apply(self, pixels: &[f32], height: usize, width: usize) -> Vec<f32> {
        let len = pixels.len();
        assert!(
            len == height * width,
            "frame must have {height}×{width} pixels, got {len}"
        );
        assert!(
            !self.transpose || height == width,
            "transposed frame must be square, got {height}×{width}"
        );
        let source = |row: usize, column: usize| {
            let row = if self.flip_rows {
                height - 1 - row
            } else {
                row
            };
            let column = if self.flip_columns {
                width - 1 - column
            } else {
                column
            };
            match self.transpose {
                true => pixels[column * width + row],
                false => pixels[row * width + column],
            }
        };
        (0..len).map(|at| source(at / width, at % width)).collect()
    }

    /// Where a place, column and row in pixels, goes when its frame is moved.
    ///
    /// # Example
    /// ```
    /// use burn_memopt_datasets::augment::Symmetry;
    ///
    /// let symmetry = Symmetry::pick(7, 3, 3);
    /// let mut pixels = [0.0; 9];
    /// pixels[2 * 3 + 1] = 1.0; // row 2, column 1
    /// let moved = symmetry.apply(&pixels, 3, 3);
    /// let [x, y] = symmetry.place([1.0, 2.0], 3, 3);
    /// assert_eq!(moved[3 * y as usize + x as usize], 1.0);
    /// ```
    pub fn place(self, [x, y]: [f32; 2], height: usize, width: usize) -> [f32; 2] {
        let [x, y] = if self.transpose { [y, x] } else { [x, y] };
        let flip = |flipped: bool, at: f32, len: usize| match flipped {
            true => (len - 1) as f32 - at,
            false => at,
        };
        [
            flip(self.flip_columns, x, width),
            flip(self.flip_rows, y, height),
        ]
    }
}

/// Applies one symmetry, picked by `seed`, to an image and its density map.
///
/// The same seed gives the same result, so a resumed run repeats it exactly.
///
/// # Panics
/// If a slice has another length than `height * width`.
pub fn augment(
    image: &[f32],
    density: &[f32],
    height: usize,
    width: usize,
    seed: u64,
) -> (Vec<f32>, Vec<f32>) {
    let symmetry = Symmetry::pick(seed, height, width);
    (
        symmetry.apply(image, height, width),
        symmetry.apply(density, height, width),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn results(height: usize, width: usize) -> HashSet<Vec<u32>> {
        let pixels: Vec<f32> = (0..height * width).map(|value| value as f32).collect();
        (0..200)
            .map(|seed| augment(&pixels, &pixels, height, width, seed))
            .map(|(image, density)| {
                assert_eq!(image, density);
                image.into_iter().map(|value| value as u32).collect()
            })
            .collect()
    }

    #[test]
    fn a_square_has_eight_symmetries() {
        assert_eq!(results(3, 3).len(), 8);
    }

    #[test]
    fn places_move_with_their_pixels() {
        for (height, width, seed) in (0..40).map(|seed| (2 + seed % 2, 3, seed as u64)) {
            let symmetry = Symmetry::pick(seed, height, width);
            for at in 0..height * width {
                let mut pixels = vec![0.0; height * width];
                pixels[at] = 1.0;
                let moved = symmetry.apply(&pixels, height, width);
                let place = [(at % width) as f32, (at / width) as f32];
                let [x, y] = symmetry.place(place, height, width);
                assert_eq!(moved[y as usize * width + x as usize], 1.0);
            }
        }
    }

    #[test]
    fn a_rectangle_has_four() {
        let all = results(2, 3);
        assert_eq!(all.len(), 4);
        assert!(all.contains(&vec![5, 4, 3, 2, 1, 0]));
    }
}
