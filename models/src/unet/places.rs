//! Where tiles are in their images, level by level, and what of them the decoder need not compute.

use burn::tensor::Tensor;
use burn_memopt::chunked::Windows;

use crate::layers::Part;

/// Pixels to leave out at the start and the end of the rows and of the columns.
pub(super) type Crop = [[usize; 2]; 2];

/// Tiles where a decoder block doubles them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Height and width of each tile in its coarse image.
    pub parts: Vec<[Part; 2]>,
    /// What is left out after doubling.
    pub doubled: Crop,
    /// What is left out of the skip.
    pub skip: Crop,
}

impl Places {
    /// Tiles that were halved `level` times, of a network that halves `depth` times, of which only what is further
    /// than `margin` pixels from their borders within the image matters.
    pub(super) fn new(tiles: &Windows, level: usize, depth: usize, margin: usize) -> Self {
        let coarse = match level == depth {
            true => [[0; 2]; 2],
            false => crop_at(tiles, level, margin),
        };
        let fine = crop_at(tiles, level - 1, margin);
        let part = |side: usize, start: isize| Part {
            start: (usize::try_from(start).expect("tiles must start in the image") >> level)
                + coarse[side][0],
            whole: tiles.image_size[side] >> level,
        };
        let places = tiles.places.iter();
        let left = |side: usize| [0, 1].map(|end| fine[side][end] - 2 * coarse[side][end]);
        Self {
            parts: places
                .map(|place| [part(0, place.row), part(1, place.column)])
                .collect(),
            doubled: [left(0), left(1)],
            skip: fine,
        }
    }
}

/// What is left out of tiles before the convolutions of the decoder at `level`: of the margin, all that is
/// further away than the rest of the network reaches. Nothing where a tile ends with its image.
pub(super) fn crop_at(tiles: &Windows, level: usize, margin: usize) -> Crop {
    let [_, _, height, width] = tiles.pixels.dims();
    let least = (margin >> level).saturating_sub(reach_from(level));
    [0, 1].map(|side| {
        let starts = tiles
            .places
            .iter()
            .map(|place| [place.row, place.column][side]);
        let end = tiles.image_size[side] - [height, width][side];
        let [first, last] = starts.fold([isize::MAX, 0], |[first, last], start| {
            [first.min(start), last.max(start)]
        });
        [first > 0, last < end as isize].map(|is_inside| if is_inside { least } else { 0 })
    })
}

/// Pixels that a pixel of the result reaches at the first convolution of the decoder at `level`: two
/// convolutions reach two, and doubling reaches half as far as what follows, and one more.
fn reach_from(level: usize) -> usize {
    (0..level).fold(2, |reach: usize, _| reach.div_ceil(2) + 1 + 2)
}

/// Leaves pixels out.
pub(super) fn cropped(x: Tensor<4>, [rows, columns]: Crop) -> Tensor<4> {
    if [rows, columns] == [[0; 2]; 2] {
        return x;
    }
    let [batch_size, channels, height, width] = x.dims();
    x.slice([
        0..batch_size,
        0..channels,
        rows[0]..height - rows[1],
        columns[0]..width - columns[1],
    ])
}

/// Puts zeros where pixels were left out.
pub(super) fn filled(x: Tensor<4>, [rows, columns]: Crop) -> Tensor<4> {
    if [rows, columns] == [[0; 2]; 2] {
        return x;
    }
    x.pad([(rows[0], rows[1]), (columns[0], columns[1])], 0.0)
}
