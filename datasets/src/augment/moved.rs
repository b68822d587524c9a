//! Images of any size whose pixels are moved when they are read.

use std::ops::Range;

use burn::tensor::Tensor;
use burn_memopt::chunked::{BoxError, ImageSource};

use super::Symmetry;

/// Images that a [`Symmetry`] moves as they are read, part by part: give an image and its target the same one, and
/// they stay together.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::chunked::ImageSource;
/// use burn_memopt_datasets::augment::{MovedImages, Symmetry};
///
/// let image = Tensor::<4>::ones([1, 3, 40, 30], &Device::flex());
/// let mask = Tensor::<4>::zeros([1, 1, 40, 30], &Device::flex());
/// let symmetry = Symmetry::pick(7, 40, 30);
/// let [image, mask] = [&image, &mask].map(|source| MovedImages::new(source, symmetry));
/// assert_eq!(image.read(0, 10..20, 5..30)?.dims(), [1, 3, 10, 25]);
/// assert_eq!(mask.dims(), [1, 1, 40, 30]);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Debug, Clone)]
pub struct MovedImages<'a, S> {
    source: &'a S,
    symmetry: Symmetry,
}

impl<'a, S: ImageSource> MovedImages<'a, S> {
    /// The images of `source`, moved. A transposition swaps their height and width.
    pub fn new(source: &'a S, symmetry: Symmetry) -> Self {
        Self { source, symmetry }
    }
}

impl<S: ImageSource> ImageSource for MovedImages<'_, S> {
    fn dims(&self) -> [usize; 4] {
        let [num_images, channels, height, width] = self.source.dims();
        match self.symmetry.transpose {
            true => [num_images, channels, width, height],
            false => [num_images, channels, height, width],
        }
    }

    fn read(
        &self,
        image: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor<4>, BoxError> {
        let [_, _, height, width] = self.dims();
        let Symmetry {
            transpose,
            flip_rows,
            flip_columns,
        } = self.symmetry;
        let from_end = |flipped: bool, range: Range<usize>, len: usize| match flipped {
            true => len - range.end..len - range.start,
            false => range,
        };
        let rows = from_end(flip_rows, rows, height);
        let columns = from_end(flip_columns, columns, width);
        let pixels = match transpose {
            true => self.source.read(image, columns, rows)?.swap_dims(2, 3),
            false => self.source.read(image, rows, columns)?,
        };
        let flipped = [(flip_rows, 2), (flip_columns, 3)];
        let axes = flipped
            .into_iter()
            .filter_map(|(flip, axis)| flip.then_some(axis));
        Ok(axes.fold(pixels, |pixels, axis: isize| pixels.flip([axis])))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int};

    use super::*;

    #[test]
    fn parts_are_those_of_the_image_that_is_moved_whole() {
        for (height, width) in [(6, 6), (5, 7)] {
            let numbers = Tensor::<1, Int>::arange(0..(height * width) as i64, &Device::flex());
            let image = numbers.float().reshape([1, 1, height, width]);
            let pixels: Vec<f32> = image.to_data().iter().collect();
            for seed in 0..30 {
                let symmetry = Symmetry::pick(seed, height, width);
                let moved = MovedImages::new(&image, symmetry);
                let whole = symmetry.apply(&pixels, height, width);
                let part = moved.read(0, 1..height - 1, 2..width).unwrap().into_data();
                let wanted = (1..height - 1)
                    .flat_map(|row| whole[row * width + 2..(row + 1) * width].to_vec());
                assert!(part.iter::<f32>().eq(wanted), "{symmetry:?}");
            }
        }
    }

    #[test]
    fn a_transposition_swaps_the_sides() {
        let image = Tensor::<4>::ones([1, 2, 3, 8], &Device::flex());
        let symmetry = Symmetry {
            transpose: true,
            ..Symmetry::default()
        };
        let moved = MovedImages::new(&image, symmetry);
        assert_eq!(moved.dims(), [1, 2, 8, 3]);
        assert_eq!(moved.read(0, 4..8, 0..1).unwrap().dims(), [1, 2, 4, 1]);
    }
}
