use std::path::Path;

use burn_memopt::chunked::Tile;

use super::super::Flows;
use super::config::COMPLETION_HALO;
use super::frames::host_frames;
use super::motion::Motion;
use super::parts::Parts;
use super::schedule::Schedule;
use super::store::FrameStore;
use super::watch::{Stage, Watch};
use super::{InpaintError, Networks};

/// The third stage: flow inside the holes, sub-video by sub-video.
pub(super) struct Completion<'a> {
    pub(super) motion: Motion<'a>,
    /// Both ways for each pair of frames.
    pub(super) flows: FrameStore,
    parts: Parts,
}

impl<'a> Completion<'a> {
    /// Opens the stage.
    pub(super) fn open(
        motion: Motion<'a>,
        root: &Path,
        schedule: &Schedule,
    ) -> Result<Self, InpaintError> {
        let mut completion = Self {
            flows: motion.frames.open_store(root, "completed")?,
            motion,
            parts: Parts::new(0..0, 1, 0, 0),
        };
        completion.follow(schedule);
        Ok(completion)
    }

    /// Works as `schedule` says from now on.
    pub(super) fn follow(&mut self, schedule: &Schedule) {
        let pairs = schedule.completion..self.motion.frames.num_frames - 1;
        let done = self.flows.next();
        let length = schedule.config.subvideo_length;
        self.parts = Parts::new(pairs, length, COMPLETION_HALO, done);
    }

    /// Pairs of frames whose flow is completed.
    pub(super) fn finished(&self) -> usize {
        self.parts.finished()
    }

    /// Completes the flows before `end`.
    pub(super) fn ensure(
        &mut self,
        end: usize,
        networks: &dyn Networks,
        watch: &mut Watch,
    ) -> Result<(), InpaintError> {
        while let Some(part) = self.parts.next_before(end) {
            let Tile { read, keep } = &part;
            self.motion.ensure(read.end, networks, watch)?;
            watch.enter(Stage::Completion, keep.start)?;
            let Motion { frames, flows, .. } = &self.motion;
            let given = frames.flows(flows, read.clone())?;
            // A flow lies between two frames.
            let holes = frames.holes(read.start..read.end + 1)?;
            let completed = watch.network(|| {
                let Flows { forward, backward } = networks.complete(given, holes);
                host_frames([forward, backward], &part, Stage::Completion)
            })?;
            self.flows.put_all(keep.clone(), &completed)?;
            self.parts.advance();
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
        self.flows.release_before(index)?;
        let first = self.parts.first_needed();
        self.motion.release_before(first)?;
        self.motion.frames.release_before(frames.min(first))
    }
}
