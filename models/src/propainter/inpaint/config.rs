use burn_memopt::clip::FrameWindows;
use burn_memopt::memory::Bytes;
use serde::{Deserialize, Serialize};

/// How a video is completed. The defaults are those of ProPainter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InpaintConfig {
    /// Iterations of the optical flow. The default is 20.
    pub raft_iter: usize,
    /// Frames of a clip whose flow is computed at once, at least 2. The default, `None`, depends on
    /// the width as in ProPainter. It bounds memory and does not change the result.
    pub raft_clip: Option<usize>,
    /// Frames of a sub-video, which flow completion and image propagation work on at once. The
    /// default is 80.
    pub subvideo_length: usize,
    /// Frames of a neighbourhood that the generator completes at once, at least 2. The default is 10.
    pub neighbor_length: usize,
    /// Frames from one reference frame to the next. The default is 10.
    pub ref_stride: usize,
    /// Bytes of encoded frames that are kept for the next neighbourhoods. The default is 256 MiB.
    pub feature_cache: Bytes,
}

impl Default for InpaintConfig {
    fn default() -> Self {
        Self {
            raft_iter: 20,
            raft_clip: None,
            subvideo_length: 80,
            neighbor_length: 10,
            ref_stride: 10,
            feature_cache: Bytes::mib(256),
        }
    }
}

/// Frames beyond a sub-video that flow completion reads at each side.
pub(super) const COMPLETION_HALO: usize = 5;
/// Frames beyond a sub-video that image propagation reads at each side.
pub(super) const PROPAGATION_HALO: usize = 10;
/// Longest sub-video of image propagation.
const LONGEST_PROPAGATION: usize = 100;

impl InpaintConfig {
    /// Pairs of frames whose flow is computed at once.
    pub(super) fn raft_pairs(&self, width: usize) -> usize {
        let frames = self.raft_clip.unwrap_or(match width {
            ..=640 => 12,
            641..=720 => 8,
            721..=1280 => 4,
            _ => 2,
        });
        frames.max(2) - 1
    }

    /// Frames that image propagation keeps at once.
    pub(super) fn propagation_length(&self) -> usize {
        self.subvideo_length.min(LONGEST_PROPAGATION)
    }

    /// Which frames the generator sees together.
    pub(super) fn windows(&self) -> FrameWindows {
        FrameWindows {
            neighbor_length: self.neighbor_length,
            ref_stride: self.ref_stride,
            subvideo_length: self.subvideo_length,
        }
    }
}
