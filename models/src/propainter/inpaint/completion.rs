use std::path::Path;

use burn_memopt::chunked::Tile;
use burn_memopt::clip::sub_videos;

use super::super::Flows;
use super::config::COMPLETION_HALO;
use super::frames::host_frames;
use super::motion::Motion;
use super::store::FrameStore;
use super::watch::{Stage, Watch};
use super::{InpaintConfig, InpaintError, Networks};

/// The third stage: flow inside the holes, sub-video by sub-video.
pub(super) struct Completion<'a> {
    pub(super) motion: Motion<'a>,
    pub(super) forward: FrameStore,
    pub(super) backward: FrameStore,
    parts: Vec<Tile>,
    /// Number of the part that comes next.
    next: usize,
}

impl<'a> Completion<'a> {
    /// Opens the stage.
    pub(super) fn open(
        motion: Motion<'a>,
        root: &Path,
        config: &InpaintConfig,
    ) -> Result<Self, InpaintError> {
        let [height, width] = motion.frames.size;
        let bytes = 2 * 4 * height * width;
        let forward = FrameStore::open(root, "completed-forward", bytes)?;
        let backward = FrameStore::open(root, "completed-backward", bytes)?;
        let num_flows = motion.frames.num_frames - 1;
        let parts = sub_videos(num_flows, config.subvideo_length, COMPLETION_HALO);
        Ok(Self {
            // A backward flow is kept after the forward one.
            next: parts.partition_point(|part| part.keep.end <= backward.next()),
            motion,
            forward,
            backward,
            parts,
        })
    }

    /// Pairs of frames whose flow is completed.
    pub(super) fn finished(&self) -> usize {
        let last = self
            .next
            .checked_sub(1)
            .map(|last| self.parts[last].keep.end);
        last.unwrap_or(0)
    }

    /// Completes the flows before `end`.
    pub(super) fn ensure(
        &mut self,
        end: usize,
        networks: &dyn Networks,
        watch: &mut Watch,
    ) -> Result<(), InpaintError> {
        while let Some(part) = self.parts.get(self.next).cloned() {
            let Tile { read, keep } = &part;
            if keep.start >= end {
                break;
            }
            self.motion.ensure(read.end, networks, watch)?;
            watch.enter(Stage::Completion, keep.start)?;
            let Motion {
                frames,
                forward,
                backward,
                ..
            } = &self.motion;
            let given = Flows {
                forward: frames.stored(forward, read.clone())?,
                backward: frames.stored(backward, read.clone())?,
            };
            // A flow lies between two frames.
            let holes = frames.holes(read.start..read.end + 1)?;
            let [forward, backward] = watch.network(|| {
                let Flows { forward, backward } = networks.complete(given, holes);
                host_frames([forward, backward], &part, "flow completion")
            })?;
            self.forward.put_all(keep.clone(), &forward)?;
            self.backward.put_all(keep.clone(), &backward)?;
            self.next += 1;
            watch.leave(keep.end);
        }
        Ok(())
    }

    /// Forgets the completed flows before `index`, and of the stages before this one what it does
    /// not need any more; others need the frames from `frames` on.
    pub(super) fn release_before(
        &mut self,
        index: usize,
        frames: usize,
    ) -> Result<(), InpaintError> {
        self.forward.release_before(index)?;
        self.backward.release_before(index)?;
        let first = self
            .parts
            .get(self.next)
            .map_or(usize::MAX, |part| part.read.start);
        self.motion.release_before(first)?;
        self.motion.frames.release_before(frames.min(first))
    }
}
