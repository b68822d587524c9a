use burn_memopt::clip::FrameWindow;
use serde::{Deserialize, Serialize};

use super::InpaintConfig;

/// What a run works with, and from where on: one that fell back to other settings keeps what was
/// finished before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Schedule {
    pub(super) config: InpaintConfig,
    /// First pair whose flow is computed so.
    pub(super) flow: usize,
    /// First pair whose flow is completed so.
    pub(super) completion: usize,
    /// First frame that is propagated so.
    pub(super) propagation: usize,
    /// First frame that is generated so.
    pub(super) generation: usize,
    /// First frame that may be a reference: those before it are forgotten.
    pub(super) references: usize,
}

impl Schedule {
    /// From the beginning of a video.
    pub(super) fn new(config: &InpaintConfig) -> Self {
        Self {
            config: config.clone(),
            flow: 0,
            completion: 0,
            propagation: 0,
            generation: 0,
            references: 0,
        }
    }

    /// The neighbourhoods of a video, without frames that were finished before. Each has two frames
    /// or more, as two have a flow between them.
    pub(super) fn windows(&self, num_frames: usize) -> Vec<FrameWindow> {
        let windows = self.config.windows().windows(num_frames).into_iter();
        let left = windows.filter(|window| window.local.end >= self.generation + 2);
        let cut = left.map(|mut window| {
            window.local.start = window.local.start.max(self.generation);
            window.references.retain(|frame| *frame >= self.references);
            window
        });
        cut.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn neighbourhoods_cover_every_frame_that_is_left_and_no_other(
            num_frames in 2_usize..60, from in 0_usize..60, neighbor_length in 2_usize..12,
            ref_stride in 1_usize..8, references in 0_usize..40,
        ) {
            let from = from.min(num_frames - 2);
            let config = InpaintConfig { neighbor_length, ref_stride, ..InpaintConfig::default() };
            let schedule = Schedule { generation: from, references, ..Schedule::new(&config) };
            let mut end = from;
            for window in schedule.windows(num_frames) {
                prop_assert!(window.local.start >= from && window.local.start <= end);
                prop_assert!(window.local.len() >= 2 && window.local.end >= end);
                prop_assert!(window.references.iter().all(|frame| *frame >= references));
                end = window.local.end;
            }
            prop_assert_eq!(end, num_frames);
        }
    }
}
