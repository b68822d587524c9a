//! Which frames of a video make a clip: pure numbers.

use std::ops::Range;

use rand::{SeedableRng, rngs::StdRng, seq::index};

/// The frames of a clip: neighbours, and others of the same video for reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipFrames {
    /// Consecutive frames.
    pub local: Range<usize>,
    /// Frames outside of these, rising, drawn at random and each at most once.
    pub reference: Vec<usize>,
}

impl ClipFrames {
    /// The clip of `num_local` frames that begins at `start`, and `num_reference` of the
    /// other frames. The same seed gives the same.
    ///
    /// # Panics
    /// If the video of `num_frames` has not enough frames.
    pub fn pick(
        num_frames: usize,
        start: usize,
        num_local: usize,
        num_reference: usize,
        seed: u64,
    ) -> Self {
        let local = start..start.saturating_add(num_local);
        let end = local.end;
        assert!(
            end <= num_frames,
            "clip must end within {num_frames} frames, got {local:?}"
        );
        let num_others = num_frames - num_local;
        assert!(
            num_reference <= num_others,
            "reference frames must be at most {num_others}, got {num_reference}"
        );
        let mut rng = StdRng::seed_from_u64(seed);
        let others = index::sample(&mut rng, num_others, num_reference).into_iter();
        let mut reference: Vec<_> = others
            .map(|other| {
                if other < start {
                    other
                } else {
                    other + num_local
                }
            })
            .collect();
        reference.sort_unstable();
        Self { local, reference }
    }
}

/// How many clips of `num_local` frames begin in a video, one every `stride` frames.
pub(super) fn num_clips(num_frames: usize, num_local: usize, stride: usize) -> usize {
    match num_frames.checked_sub(num_local) {
        Some(last) => last / stride + 1,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_clip_has_no_frame_twice_and_all_within_the_video(
            start in 0usize..20, num_local in 1usize..12, num_reference in 0usize..12,
            more in 0usize..40, seed in any::<u64>(),
        ) {
            let num_frames = start + num_local + num_reference + more;
            let clip = ClipFrames::pick(num_frames, start, num_local, num_reference, seed);
            prop_assert_eq!(clip.local.clone(), start..start + num_local);
            prop_assert_eq!(clip.reference.len(), num_reference);
            prop_assert!(clip.reference.is_sorted_by(|a, b| a < b));
            for frame in &clip.reference {
                prop_assert!(*frame < num_frames && !clip.local.contains(frame));
            }
            let again = ClipFrames::pick(num_frames, start, num_local, num_reference, seed);
            prop_assert_eq!(clip, again);
        }

        #[test]
        fn the_last_clip_fits_and_one_more_would_not(
            num_frames in 0usize..50, num_local in 1usize..12, stride in 1usize..9,
        ) {
            let num_clips = num_clips(num_frames, num_local, stride);
            let end = |clip: usize| clip * stride + num_local;
            prop_assert!(num_clips == 0 || end(num_clips - 1) <= num_frames);
            prop_assert!(end(num_clips) > num_frames);
        }
    }

    #[test]
    fn another_seed_draws_other_reference_frames() {
        let pick = |seed| ClipFrames::pick(100, 40, 10, 6, seed).reference;
        assert_ne!(pick(1), pick(2));
    }
}
