//! Tiles with a margin of real pixels, along one side of an image; pure.

use std::ops::Range;

/// One tile: what is read, and what of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Pixels of the image that the model gets.
    pub read: Range<usize>,
    /// Pixels of the image that are taken from its result, all within `read`.
    pub keep: Range<usize>,
}

/// Cuts a side of `len` pixels into tiles that keep `core` pixels each, the last perhaps fewer, and
/// read `halo` more on both sides, or to the end of the image.
///
/// Every tile starts at a multiple of `stride`, as do those of a model that halves its input: so
/// `core` and `halo` are made multiples of it, `core` by rounding down and `halo` by rounding up.
///
/// # Panics
/// If `len` or `stride` is zero, or `core` is below `stride`.
///
/// # Example
/// ```
/// use burn_memopt::chunked::tiles;
///
/// let tiles = tiles(20, 8, 3, 4);
/// let read: Vec<_> = tiles.iter().map(|tile| tile.read.clone()).collect();
/// let keep: Vec<_> = tiles.iter().map(|tile| tile.keep.clone()).collect();
/// assert_eq!(read, [0..12, 4..20, 12..20]);
/// assert_eq!(keep, [0..8, 8..16, 16..20]);
/// ```
pub fn tiles(len: usize, core: usize, halo: usize, stride: usize) -> Vec<Tile> {
    assert!(len > 0, "an image must have pixels, got a side of 0");
    assert!(stride > 0, "the stride must be at least 1, got 0");
    assert!(
        core >= stride,
        "a tile must keep at least {stride} pixels, the model's stride, got {core}"
    );
    let (core, halo) = (core / stride * stride, halo.next_multiple_of(stride));
    let tile = |start: usize| {
        let keep = start..(start + core).min(len);
        Tile {
            read: start.saturating_sub(halo)..(keep.end + halo).min(len),
            keep,
        }
    };
    (0..len).step_by(core).map(tile).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tiles_keep_every_pixel_once_and_read_their_margins(
            len in 1_usize..300, core in 1_usize..80, halo in 0_usize..40, stride in 1_usize..17,
        ) {
            let core = core.max(stride);
            let tiles = tiles(len, core, halo, stride);
            let mut end = 0;
            for tile in &tiles {
                prop_assert_eq!(tile.keep.start, end);
                end = tile.keep.end;
                prop_assert!(tile.read.start <= tile.keep.start && tile.keep.end <= tile.read.end);
                prop_assert!(tile.read.end <= len && tile.read.start % stride == 0);
                prop_assert!(tile.read.start == 0 || tile.keep.start - tile.read.start >= halo);
                prop_assert!(tile.read.end == len || tile.read.end - tile.keep.end >= halo);
            }
            prop_assert_eq!(end, len);
        }
    }

    #[test]
    #[should_panic(expected = "a tile must keep at least 16 pixels, the model's stride, got 8")]
    fn tiles_smaller_than_the_stride_are_refused() {
        tiles(100, 8, 3, 16);
    }
}
