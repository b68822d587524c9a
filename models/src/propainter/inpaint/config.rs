//! How a video is completed, and what can be changed so that it takes less memory.
//!
//! Pure.

use std::fmt;

use burn_memopt::clip::FrameWindows;
use burn_memopt::memory::Bytes;
use serde::{Deserialize, Serialize};

use super::Stage;

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

/// Sub-video lengths, the best first.
pub const SUBVIDEO_LENGTHS: [usize; 7] = [80, 60, 40, 30, 20, 10, 5];
/// Neighbourhood lengths, the best first.
pub const NEIGHBOR_LENGTHS: [usize; 5] = [10, 8, 6, 4, 2];
/// Frames from one reference to the next, the best first.
pub const REF_STRIDES: [usize; 5] = [10, 15, 20, 30, 40];

/// What decides how much memory completing a video takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// Height and width in which the video is computed.
    Size,
    /// What flow completion and the generator compute in.
    Precision,
    /// [`InpaintConfig::subvideo_length`].
    SubvideoLength,
    /// [`InpaintConfig::neighbor_length`].
    NeighborLength,
    /// [`InpaintConfig::ref_stride`].
    RefStride,
    /// [`InpaintConfig::raft_clip`].
    RaftClip,
    /// What is computed at a time where work can be divided.
    WorkingMemory,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Size => "size",
            Self::Precision => "precision",
            Self::SubvideoLength => "sub-video length",
            Self::NeighborLength => "neighbour length",
            Self::RefStride => "reference stride",
            Self::RaftClip => "frames of flow",
            Self::WorkingMemory => "working memory",
        })
    }
}

/// A setting that was changed since memory ran out; frames that were finished before stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fallback {
    /// The stage that ran out of memory.
    pub stage: Stage,
    /// Frame that it began with, from 0.
    pub frame: usize,
    /// What was changed.
    pub setting: Setting,
    /// What it was.
    pub from: usize,
    /// What it is.
    pub to: usize,
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} instead of {}", self.setting, self.to, self.from)
    }
}

impl InpaintConfig {
    /// The next step down for `stage`, at frame `frame` of a video of `width` pixels, but not below
    /// `least`: what the step is, and the settings after it.
    pub(super) fn lowered(
        &self,
        stage: Stage,
        frame: usize,
        width: usize,
        least: &Self,
    ) -> Option<(Fallback, Self)> {
        let mut config = self.clone();
        let mut step = |setting| {
            let (from, to) = match setting {
                Setting::RaftClip => {
                    let frames = self.raft_pairs(width) + 1;
                    config.raft_clip = Some(frames.div_ceil(2).max(2));
                    (frames, frames.div_ceil(2).max(2))
                }
                Setting::NeighborLength => {
                    let (from, least) = (self.neighbor_length, least.neighbor_length);
                    config.neighbor_length =
                        next(&NEIGHBOR_LENGTHS, |it| least <= it && it < from)?;
                    (from, config.neighbor_length)
                }
                Setting::RefStride => {
                    let (from, most) = (self.ref_stride, least.ref_stride);
                    config.ref_stride = next(&REF_STRIDES, |it| from < it && it <= most)?;
                    (from, config.ref_stride)
                }
                _ => {
                    let (from, least) = (self.subvideo_length, least.subvideo_length);
                    config.subvideo_length =
                        next(&SUBVIDEO_LENGTHS, |it| least <= it && it < from)?;
                    (from, config.subvideo_length)
                }
            };
            (from != to).then_some(Fallback {
                stage,
                frame,
                setting,
                from,
                to,
            })
        };
        let fallback = match stage {
            Stage::Flow => step(Setting::RaftClip),
            Stage::Completion | Stage::Propagation => step(Setting::SubvideoLength),
            Stage::Generation => step(Setting::NeighborLength)
                .or_else(|| step(Setting::RefStride))
                .or_else(|| step(Setting::SubvideoLength)),
        };
        Some((fallback?, config))
    }
}

/// The first step of a ladder that may be taken.
fn next(ladder: &[usize], may_be: impl Fn(usize) -> bool) -> Option<usize> {
    ladder.iter().copied().find(|&step| may_be(step))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every step down of a stage.
    fn steps(stage: Stage, least: &InpaintConfig) -> Vec<String> {
        let mut config = InpaintConfig::default();
        let mut steps = Vec::new();
        while let Some((fallback, lower)) = config.lowered(stage, 0, 432, least) {
            steps.push(fallback.to_string());
            config = lower;
        }
        steps
    }

    #[test]
    fn a_stage_lowers_what_it_takes_memory_for_until_the_least_is_reached() {
        let least = InpaintConfig {
            subvideo_length: 40,
            neighbor_length: 6,
            ref_stride: 15,
            ..InpaintConfig::default()
        };
        assert_eq!(
            steps(Stage::Flow, &least),
            ["12", "6", "3"]
                .windows(2)
                .map(|pair| format!("frames of flow {} instead of {}", pair[1], pair[0]))
                .chain(["frames of flow 2 instead of 3".to_owned()])
                .collect::<Vec<_>>()
        );
        let sub_videos = [
            "sub-video length 60 instead of 80",
            "sub-video length 40 instead of 60",
        ];
        assert_eq!(steps(Stage::Completion, &least), sub_videos);
        assert_eq!(steps(Stage::Propagation, &least), sub_videos);
        let generator = [
            "neighbour length 8 instead of 10",
            "neighbour length 6 instead of 8",
            "reference stride 15 instead of 10",
        ];
        assert_eq!(
            steps(Stage::Generation, &least),
            [&generator[..], &sub_videos].concat()
        );
        assert!(steps(Stage::Generation, &InpaintConfig::default()).is_empty());
    }
}
