//! Pure. The windows along each side of an image.

use std::ops::Range;

/// A window along one side of an image: what is read, and what is kept of its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Pixels of the image that the model gets.
    pub read: Range<usize>,
    /// Pixels of the image that are taken from its result, all within `read`.
    pub keep: Range<usize>,
}

impl Tile {
    /// The tile that keeps `keep` of a side of `len` pixels and reads `halo` more on both sides, or to the end of the image.
    pub(super) fn around(keep: Range<usize>, halo: usize, len: usize) -> Self {
        Self {
            read: keep.start.saturating_sub(halo)..(keep.end + halo).min(len),
            keep,
        }
    }
}

/// Cuts a side of `len` pixels into tiles that keep `core` pixels each, the last perhaps fewer, and
/// read `halo` more on both sides, or to the end of the image.
///
/// Every tile starts at a multiple of `stride`, as a model that halves its input needs it: `core` is
/// rounded down and `halo` up to a multiple of it.
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
    let tile = |start: usize| Tile::around(start..(start + core).min(len), halo, len);
    (0..len).step_by(core).map(tile).collect()
}

/// The windows along one side of an image or of a result, from its start to its end.
///
/// Windows count pixels of the padded side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    pub windows: Vec<Tile>,
    /// Pixels of the image.
    pub len: usize,
    /// Pixels that are padded in front of the image.
    pub before: usize,
}

impl Axis {
    /// Windows of `window` pixels over `len` pixels; a `window` of 0 is as long as the image.
    ///
    /// They follow each other at `floor(window * (1 - overlap))` pixels, at least one, until one
    /// reaches the end; the last is moved back so that it ends there. An image that is shorter than
    /// the window is padded, half in front, rounded down, and the rest behind, and has one window.
    ///
    /// # Panics
    /// If `len` is zero, or `overlap` is not from 0 to below 1.
    pub(super) fn overlapping(len: usize, window: usize, overlap: f64) -> Self {
        assert!(len > 0, "an image must have pixels, got a side of 0");
        assert!(
            (0.0..1.0).contains(&overlap),
            "the overlap must be from 0 to below 1, got {overlap}"
        );
        let window = if window == 0 { len } else { window };
        let padded = len.max(window);
        let last = padded - window;
        let step = ((window as f64 * (1.0 - overlap)) as usize).max(1);
        let whole = |start| Tile {
            read: start..start + window,
            keep: start..start + window,
        };
        let starts = (0..last).step_by(step).chain([last]);
        Self {
            windows: starts.map(whole).collect(),
            len,
            before: (padded - len) / 2,
        }
    }

    /// Windows that keep each pixel once, as by [`tiles`].
    pub(super) fn exact(len: usize, core: usize, halo: usize, stride: usize) -> Self {
        Self {
            windows: tiles(len, core, halo, stride),
            len,
            before: 0,
        }
    }

    /// The same for a result that has `out` pixels where a window keeps [`window`](Self::window).
    ///
    /// # Errors
    /// The first place that is not between two pixels of the result.
    pub(super) fn scaled(&self, out: usize) -> Result<Self, usize> {
        let window = self.window();
        let starts = self.windows.iter().map(|window| window.keep.start);
        let mut places = starts.chain([self.before, self.len]);
        if let Some(odd) = places.find(|place| !(place * out).is_multiple_of(window)) {
            return Err(odd);
        }
        let scale = |place: usize| place * out / window;
        let range = |range: &Range<usize>| scale(range.start)..scale(range.end);
        let tile = |tile: &Tile| Tile {
            read: range(&tile.read),
            keep: range(&tile.keep),
        };
        Ok(Self {
            windows: self.windows.iter().map(tile).collect(),
            len: scale(self.len),
            before: scale(self.before),
        })
    }

    /// Pixels that a window keeps; the last may keep fewer.
    pub(super) fn window(&self) -> usize {
        self.windows[0].keep.len()
    }

    /// Pixels of the padded side.
    pub(super) fn padded(&self) -> usize {
        self.windows[self.windows.len() - 1].keep.end
    }

    /// Where the pixels end that no window after number `number` touches.
    pub(super) fn final_end(&self, number: usize) -> usize {
        let next = self.windows.get(number + 1);
        next.map_or(self.padded(), |next| next.keep.start)
    }

    /// Where the window before number `number` ends, of those from number `first` on; 0 if there is
    /// none.
    pub(super) fn covered_end(&self, number: usize, first: usize) -> usize {
        if number > first {
            self.windows[number - 1].keep.end
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn starts(axis: &Axis) -> Vec<usize> {
        axis.windows.iter().map(|tile| tile.keep.start).collect()
    }

    proptest! {
        #[test]
        fn windows_cover_every_pixel_and_are_no_more_than_necessary(
            len in 1_usize..200, window in 0_usize..80, overlap in 0.0..0.99_f64,
        ) {
            let axis = Axis::overlapping(len, window, overlap);
            let (window, padded) = (axis.window(), axis.padded());
            let starts = starts(&axis);
            prop_assert_eq!(starts[0], 0);
            prop_assert_eq!(starts.last().unwrap() + window, padded);
            prop_assert_eq!(padded, len.max(window));
            let step = ((window as f64 * (1.0 - overlap)) as usize).max(1);
            for pair in starts.windows(2) {
                prop_assert!(pair[0] < pair[1] && pair[1] - pair[0] <= step);
            }
            // One fewer at this step would not reach the end.
            prop_assert!(starts.len() == 1 || (starts.len() - 2) * step + window < padded);
            let after = padded - len - axis.before;
            prop_assert!(after - axis.before <= 1);
        }

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
    fn windows_follow_each_other_by_their_overlap() {
        assert_eq!(starts(&Axis::overlapping(10, 4, 0.25)), [0, 3, 6]);
        assert_eq!(starts(&Axis::overlapping(10, 4, 0.0)), [0, 4, 6]);
        let padded = Axis::overlapping(3, 8, 0.25);
        assert_eq!(starts(&padded), [0]);
        assert_eq!((padded.before, padded.padded() - padded.len), (2, 5));
    }

    #[test]
    fn rows_become_final_once_and_in_order() {
        let axis = Axis::overlapping(11, 4, 0.25);
        let ends: Vec<_> = (0..axis.windows.len())
            .map(|number| axis.final_end(number))
            .collect();
        assert_eq!(ends, [3, 6, 7, 11]);
    }

    #[test]
    fn results_of_another_size_have_windows_of_that_size() {
        let axis = Axis::overlapping(20, 8, 0.5);
        let half = axis.scaled(4).unwrap();
        assert_eq!((half.window(), half.len, half.padded()), (4, 10, 10));
        assert_eq!(starts(&half), [0, 2, 4, 6]);
        assert_eq!(axis.scaled(3), Err(4));
    }

    #[test]
    #[should_panic(expected = "the overlap must be from 0 to below 1, got 1")]
    fn windows_that_never_move_on_are_refused() {
        Axis::overlapping(10, 4, 1.0);
    }

    #[test]
    #[should_panic(expected = "a tile must keep at least 16 pixels, the model's stride, got 8")]
    fn tiles_smaller_than_the_stride_are_refused() {
        tiles(100, 8, 3, 16);
    }
}
