//! Which tiles run together, and what is read for them.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Device, Tensor};

use super::TiledError;
use super::cost::kept_within;
use crate::chunked::{ChunkedError, ImageSource, Tile, WindowPlace, Windows, tiles};

/// The tiles of one size that run together, before they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Image, row of tiles and column of tiles.
    places: Vec<[usize; 3]>,
}

/// The tiles along a side of an image. A last one that would keep less than the model makes one pixel of takes a stride of
/// the one before it, if that has two.
pub(super) fn side_tiles(len: usize, core: usize, halo: usize, stride: usize) -> Vec<Tile> {
    let mut tiles = tiles(len, core, halo, stride);
    if let [.., before, last] = &mut tiles[..]
        && last.keep.len() < stride
        && before.keep.len() >= 2 * stride
    {
        let (border, halo) = (last.keep.start - stride, halo.next_multiple_of(stride));
        *before = Tile::around(before.keep.start..border, halo, len);
        *last = Tile::around(border..len, halo, len);
    }
    tiles
}

/// Tiles in groups of at most `batch_size`. All of a group have the same size and keep the same part.
pub(super) fn groups(num_images: usize, axes: &[Vec<Tile>; 2], batch_size: usize) -> Vec<Group> {
    let mut alike: BTreeMap<[usize; 6], Vec<[usize; 3]>> = BTreeMap::new();
    for image in 0..num_images {
        for (row, rows) in axes[0].iter().enumerate() {
            for (column, columns) in axes[1].iter().enumerate() {
                let [top, left] = [kept_within(rows), kept_within(columns)];
                let shape = [rows.read.len(), top.start, top.end];
                let shape = [shape, [columns.read.len(), left.start, left.end]];
                let places =
                    alike.entry(shape.concat().try_into().expect("invariant: six numbers"));
                places.or_default().push([image, row, column]);
            }
        }
    }
    let groups = alike.values().flat_map(|places| places.chunks(batch_size));
    let group = |places: &[[usize; 3]]| Group {
        places: places.to_vec(),
    };
    groups.map(group).collect()
}

/// The most tiles of one size, that is of one group where its size is no limit.
pub(super) fn most_alike(num_images: usize, axes: &[Vec<Tile>; 2]) -> usize {
    let most = |axis: &Vec<Tile>| {
        let mut alike: BTreeMap<[usize; 3], usize> = BTreeMap::new();
        for tile in axis {
            let kept = kept_within(tile);
            *alike
                .entry([tile.read.len(), kept.start, kept.end])
                .or_default() += 1;
        }
        alike.into_values().max().unwrap_or(0)
    };
    num_images * axes.iter().map(most).product::<usize>()
}

/// Tiles that were read, with the targets of what they keep.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub windows: Windows,
    /// `[tiles, channels, kept height, kept width]`.
    pub target: Tensor<4>,
    /// In pixels of the tile, height and width.
    kept: [Range<usize>; 2],
    /// Where the image ends within what is kept, so that an output of another resolution keeps its last pixels.
    at_end: [bool; 2],
    stride: usize,
}

impl Batch {
    /// Reads tiles and targets and moves them to `device`.
    pub(super) fn read(
        group: &Group,
        axes: &[Vec<Tile>; 2],
        stride: usize,
        [image, target]: [&dyn ImageSource; 2],
        device: &Device,
    ) -> Result<Self, ChunkedError> {
        let [.., height, width] = image.dims();
        let (mut pixels, mut targets, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let mut last = None;
        for &[number, row, column] in &group.places {
            let [rows, columns] = [&axes[0][row], &axes[1][column]];
            let read = |source: &dyn ImageSource, rows: &Range<usize>, columns: &Range<usize>| {
                let start = [rows.start, columns.start];
                let read = source.read(number, rows.clone(), columns.clone());
                read.map_err(|error| ChunkedError::read(number, start, error))
            };
            pixels.push(read(image, &rows.read, &columns.read)?);
            targets.push(read(target, &rows.keep, &columns.keep)?);
            places.push(WindowPlace {
                image: number,
                row: rows.read.start as isize,
                column: columns.read.start as isize,
            });
            last = Some([rows, columns]);
        }
        let last = last.expect("invariant: no group is empty");
        let ends = [height, width];
        let to_device = |tensors| joined(tensors).to_device(device).autodiff();
        Ok(Self {
            windows: Windows {
                pixels: to_device(pixels),
                places,
                image_size: [height, width],
            },
            target: to_device(targets),
            kept: last.map(kept_within),
            at_end: [0, 1].map(|side| last[side].keep.end == ends[side]),
            stride,
        })
    }

    /// What of the tiles' output is kept.
    pub(super) fn cut(&self, output: Tensor<4>) -> Result<Tensor<4>, TiledError> {
        let [tiles, channels, height, width] = output.dims();
        let [_, _, tile_height, tile_width] = self.windows.pixels.dims();
        let (tile, out) = ([tile_height, tile_width], [height, width]);
        let wrong = || TiledError::OutputSize {
            tile,
            output: out,
            stride: self.stride,
        };
        let mut ranges = Vec::new();
        for side in [0, 1] {
            // A pixel of the output for `zoom` of the tile; the last one may have fewer, or be missing.
            let fits = |zoom: &usize| {
                let lens = [tile[side] / zoom, tile[side].div_ceil(*zoom)];
                self.stride.is_multiple_of(*zoom) && lens.contains(&out[side])
            };
            let zoom = (1..=self.stride).find(fits).ok_or_else(wrong)?;
            let kept = &self.kept[side];
            let end = match self.at_end[side] {
                true => out[side],
                false => kept.end / zoom,
            };
            let range = kept.start / zoom..end;
            if range.is_empty() {
                return Err(wrong());
            }
            ranges.push(range);
        }
        let [rows, columns] = [ranges[0].clone(), ranges[1].clone()];
        Ok(output.slice([0..tiles, 0..channels, rows, columns]))
    }
}

fn joined(mut tensors: Vec<Tensor<4>>) -> Tensor<4> {
    match tensors.len() {
        1 => tensors.swap_remove(0),
        _ => Tensor::cat(tensors, 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_tile_is_in_one_group_of_its_kind(
            images in 1_usize..3, sides in prop::array::uniform2(1_usize..200),
            core in 8_usize..40, halo in 0_usize..20, batch_size in 1_usize..5,
        ) {
            let axes = sides.map(|side| side_tiles(side, core, halo, 4));
            for (axis, side) in axes.iter().zip(sides) {
                let keeps = |tile: &Tile| tile.keep.len() >= 4.min(side);
                prop_assert!(axis.iter().all(keeps));
                let mut next = 0;
                for tile in axis {
                    prop_assert_eq!(tile.keep.start, next);
                    next = tile.keep.end;
                }
                prop_assert_eq!(next, side);
            }
            let groups = groups(images, &axes, batch_size);
            let mut places: Vec<_> = groups.iter().flat_map(|group| group.places.clone()).collect();
            places.sort_unstable();
            let num_tiles = images * axes[0].len() * axes[1].len();
            places.dedup();
            prop_assert_eq!(places.len(), num_tiles);
            let alike = super::groups(images, &axes, usize::MAX);
            let most = alike.iter().map(|group| group.places.len()).max();
            prop_assert_eq!(most, Some(most_alike(images, &axes)));
            for group in groups {
                prop_assert!((1..=batch_size).contains(&group.places.len()));
                let shape = |&[_, row, column]: &[usize; 3]| {
                    let tiles = [&axes[0][row], &axes[1][column]];
                    tiles.map(|tile| (tile.read.len(), kept_within(tile)))
                };
                prop_assert!(group.places.iter().all(|place| shape(place) == shape(&group.places[0])));
            }
        }
    }
}
