use std::path::Path;

use burn_memopt::chunked::Tile;

use super::super::Flows;
use super::frames::{Frames, host_frames};
use super::schedule::Schedule;
use super::store::FrameStore;
use super::watch::{Stage, Watch};
use super::{InpaintError, Networks};

/// The second stage: optical flow between neighbouring frames, both ways.
pub(super) struct Motion<'a> {
    pub(super) frames: Frames<'a>,
    /// Both ways for each pair of frames.
    pub(super) flows: FrameStore,
    /// Pair from which pairs are counted.
    from: usize,
    /// Pairs of frames whose flow is computed at once.
    num_pairs: usize,
    iterations: usize,
}

impl<'a> Motion<'a> {
    /// Opens the stage.
    pub(super) fn open(
        frames: Frames<'a>,
        root: &Path,
        schedule: &Schedule,
    ) -> Result<Self, InpaintError> {
        let mut motion = Self {
            flows: frames.open_store(root, "flows")?,
            from: 0,
            num_pairs: 1,
            iterations: schedule.config.raft_iter,
            frames,
        };
        motion.follow(schedule);
        Ok(motion)
    }

    /// Works as `schedule` says from now on.
    pub(super) fn follow(&mut self, schedule: &Schedule) {
        self.from = schedule.flow;
        self.num_pairs = schedule.config.raft_pairs(self.frames.size[1]);
    }

    /// Pairs of frames whose flow is known.
    pub(super) fn finished(&self) -> usize {
        self.flows.next()
    }

    /// Computes the flows before `end`.
    pub(super) fn ensure(
        &mut self,
        end: usize,
        networks: &dyn Networks,
        watch: &mut Watch,
    ) -> Result<(), InpaintError> {
        while self.finished() < end {
            // The same pairs together however often a run was interrupted.
            let since = self.finished() - self.from;
            let first = self.from + since / self.num_pairs * self.num_pairs;
            let last = (first + self.num_pairs).min(self.frames.num_frames - 1);
            self.frames.ensure(last + 1, watch)?;
            watch.enter(Stage::Flow, first)?;
            let images = self.frames.images(first..last + 1)?;
            let pairs = Tile {
                read: first..last,
                keep: first..last,
            };
            let flows = watch.network(|| {
                let Flows { forward, backward } = networks.flows(images, self.iterations);
                host_frames([forward, backward], &pairs, Stage::Flow)
            })?;
            self.flows.put_all(pairs.keep, &flows)?;
            watch.leave(last);
        }
        Ok(())
    }

    /// Forgets the flows before `index`.
    pub(super) fn release_before(&mut self, index: usize) -> Result<(), InpaintError> {
        self.flows.release_before(index)
    }
}
