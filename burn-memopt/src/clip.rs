//! Pure. Which frames of a video are worked on together, so that memory does not grow with its length.
//!
//! | piece | for |
//! |---|---|
//! | [`sub_videos`] | stages that look a few frames ahead and back: what is read, and the valid centre |
//! | [`FrameWindows`] | stages that look at neighbours and at strided references of the whole video |
//!
//! Each stage of a pipeline has a length of its own.
//!
//! # References
//! The rules are those of ProPainter's inference (Zhou et al. 2023, arXiv:2309.03897).

use std::ops::Range;

use crate::chunked::{Tile, tiles};

/// Cuts `num_frames` frames into sub-videos of which `length` frames each are kept, the last perhaps
/// fewer, and `halo` more on both sides are read, as far as there are any.
///
/// # Panics
/// If `num_frames` or `length` is zero.
///
/// # Example
/// ```
/// let parts = burn_memopt::clip::sub_videos(100, 40, 5);
/// assert_eq!(parts[1].read, 35..85);
/// assert_eq!(parts[1].keep, 40..80);
/// ```
pub fn sub_videos(num_frames: usize, length: usize, halo: usize) -> Vec<Tile> {
    assert!(
        length > 0,
        "a sub-video must have frames, got a length of 0"
    );
    tiles(num_frames, length, halo, 1)
}

/// Picks, for centres spread over a video, the frames around each and references further away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameWindows {
    /// Frames of a neighbourhood; centres are half of it apart.
    pub neighbor_length: usize,
    /// Frames from one reference to the next.
    pub ref_stride: usize,
    /// Longest video whose references come from all of it; those of a longer one come from
    /// about as many frames around the centre.
    pub subvideo_length: usize,
}

/// The frames of one centre.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameWindow {
    /// The frame in the middle.
    pub center: usize,
    /// The neighbourhood, the centre included.
    pub local: Range<usize>,
    /// Frames beyond the neighbourhood, rising.
    pub references: Vec<usize>,
}

impl FrameWindows {
    /// The windows of a video.
    ///
    /// # Panics
    /// If `neighbor_length` is below 2, or another field is zero.
    ///
    /// # Example
    /// ```
    /// use burn_memopt::clip::FrameWindows;
    ///
    /// let windows = FrameWindows {
    ///     neighbor_length: 6,
    ///     ref_stride: 4,
    ///     subvideo_length: 80,
    /// };
    /// let second = &windows.windows(13)[1];
    /// assert_eq!((second.center, second.local.clone()), (3, 0..7));
    /// assert_eq!(second.references, [8, 12]);
    /// ```
    pub fn windows(&self, num_frames: usize) -> Vec<FrameWindow> {
        let half = self.neighbor_length / 2;
        assert!(
            half > 0,
            "neighbor_length must be at least 2, got {}",
            self.neighbor_length
        );
        assert!(self.ref_stride > 0, "ref_stride must be at least 1, got 0");
        let window = |center: usize| {
            let local = center.saturating_sub(half)..(center + half + 1).min(num_frames);
            FrameWindow {
                center,
                references: self.references(center, &local, num_frames),
                local,
            }
        };
        (0..num_frames).step_by(half).map(window).collect()
    }

    fn references(&self, center: usize, local: &Range<usize>, num_frames: usize) -> Vec<usize> {
        let outside = |frame: &usize| !local.contains(frame);
        if num_frames <= self.subvideo_length {
            let frames = (0..num_frames).step_by(self.ref_stride);
            return frames.filter(outside).collect();
        }
        let most = self.subvideo_length / self.ref_stride;
        let reach = self.ref_stride * (most / 2);
        let frames = center.saturating_sub(reach)..(center + reach).min(num_frames);
        let frames = frames.step_by(self.ref_stride).filter(outside);
        frames.take(most + 1).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_frame_is_in_a_neighbourhood_and_no_reference_is(
            num_frames in 1_usize..200, neighbor_length in 2_usize..20, ref_stride in 1_usize..20,
            subvideo_length in 1_usize..100,
        ) {
            let windows = FrameWindows { neighbor_length, ref_stride, subvideo_length };
            let mut end = 0;
            for window in windows.windows(num_frames) {
                prop_assert!(window.local.contains(&window.center));
                prop_assert!(window.local.start <= end && window.local.end <= num_frames);
                end = window.local.end;
                prop_assert!(window.references.is_sorted());
                for frame in &window.references {
                    prop_assert!(*frame < num_frames && !window.local.contains(frame));
                }
                let bound = windows.subvideo_length.max(num_frames.min(subvideo_length));
                prop_assert!(window.references.len() <= bound / ref_stride + 1);
            }
            prop_assert_eq!(end, num_frames);
        }
    }

    #[test]
    fn references_of_a_long_video_lie_around_the_centre() {
        let windows = FrameWindows {
            neighbor_length: 10,
            ref_stride: 10,
            subvideo_length: 80,
        };
        let window = &windows.windows(300)[30];
        assert_eq!((window.center, window.local.clone()), (150, 145..156));
        assert_eq!(window.references, [110, 120, 130, 140, 160, 170, 180]);
    }
}
