use std::ops::Range;
use std::path::Path;

use burn::tensor::Tensor;
use burn_memopt::chunked::Tile;

use super::completion::Completion;
use super::config::PROPAGATION_HALO;
use super::frames::host_frames;
use super::parts::Parts;
use super::schedule::Schedule;
use super::store::FrameStore;
use super::watch::{Stage, Watch};
use super::{InpaintError, Networks};

/// The fourth stage: pixels of the holes that other frames show, sub-video by sub-video.
pub(super) struct Propagation<'a> {
    pub(super) completion: Completion<'a>,
    /// Frames with pixels filled in, 0 where none is known, and the holes that are left.
    filled: FrameStore,
    parts: Parts,
}

impl<'a> Propagation<'a> {
    /// Opens the stage.
    pub(super) fn open(
        completion: Completion<'a>,
        root: &Path,
        schedule: &Schedule,
    ) -> Result<Self, InpaintError> {
        let frames = &completion.motion.frames;
        let mut propagation = Self {
            filled: frames.open_store(root, "propagated")?,
            completion,
            parts: Parts::new(0..0, 1, 0, 0),
        };
        propagation.follow(schedule);
        Ok(propagation)
    }

    /// Works as `schedule` says from now on.
    pub(super) fn follow(&mut self, schedule: &Schedule) {
        let frames = schedule.propagation..self.completion.motion.frames.num_frames;
        let done = self.filled.next();
        let length = schedule.config.propagation_length();
        self.parts = Parts::new(frames, length, PROPAGATION_HALO, done);
    }

    /// Frames that are filled.
    pub(super) fn finished(&self) -> usize {
        self.parts.finished()
    }

    /// The first frame that is still kept.
    pub(super) fn first(&self) -> usize {
        self.filled.first()
    }

    /// Frames with pixels filled in: `[1, frames, 3, height, width]`.
    pub(super) fn images(&self, range: Range<usize>) -> Result<Tensor<5>, InpaintError> {
        let frames = &self.completion.motion.frames;
        frames.stored(&self.filled, range, 0..3)
    }

    /// The holes that are left: `[1, frames, 1, height, width]`.
    pub(super) fn left(&self, range: Range<usize>) -> Result<Tensor<5>, InpaintError> {
        let frames = &self.completion.motion.frames;
        frames.stored(&self.filled, range, 3..4)
    }

    /// Fills the frames before `end`.
    pub(super) fn ensure(
        &mut self,
        end: usize,
        networks: &dyn Networks,
        watch: &mut Watch,
    ) -> Result<(), InpaintError> {
        while let Some(part) = self.parts.next_before(end) {
            let Tile { read, keep } = &part;
            let pairs = read.start..read.end - 1;
            self.completion.ensure(pairs.end, networks, watch)?;
            self.completion.motion.frames.ensure(read.end, watch)?;
            watch.enter(Stage::Propagation, keep.start)?;
            let Completion { motion, flows, .. } = &self.completion;
            let frames = &motion.frames;
            let images = frames.images(read.clone())?;
            let holes = frames.holes(read.clone())?;
            let flows = frames.flows(flows, pairs)?;
            let filled = watch.network(|| {
                let made = networks.propagate(images, flows, holes);
                host_frames(made, &part, Stage::Propagation)
            })?;
            self.filled.put_all(keep.clone(), &filled)?;
            self.parts.advance();
            watch.leave(keep.end);
        }
        Ok(())
    }

    /// Forgets the propagated frames before `first`, and of the stages before this one what
    /// nothing needs any more; the next neighbourhood begins with frame `local`.
    pub(super) fn release_before(
        &mut self,
        first: usize,
        local: usize,
    ) -> Result<(), InpaintError> {
        self.filled.release_before(first)?;
        let own = self.parts.first_needed();
        self.completion
            .release_before(local.min(own), first.min(local).min(own))
    }
}
