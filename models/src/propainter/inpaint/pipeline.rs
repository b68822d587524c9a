use std::ops::Range;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use burn_memopt::chunked::Tile;
use burn_memopt::clip::{FrameWindow, sub_videos};

use super::config::{COMPLETION_HALO, PROPAGATION_HALO};
use super::frames::FrameStore;
use super::frames::{Frames, host_frames};
use super::generation::{FeatureCache, first_read};
use super::progress::{Stage, Watch};
use super::resume::{ResumeState, Schedule};
use super::{Footage, InpaintConfig, InpaintError, Networks};

/// The five stages of a run: reading, flow, completion, propagation and generation.
///
/// Work is pulled from the end: a neighbourhood of frames needs propagated frames, those need
/// completed flow, and so on.
pub(super) struct Pipeline<'a> {
    pub(super) networks: &'a dyn Networks,
    pub(super) frames: Frames<'a>,
    /// Optical flow both ways for each pair of frames.
    flow: TiledStage,
    /// Completed flow both ways for each pair of frames.
    pub(super) completion: TiledStage,
    /// Frames with pixels filled in, 0 where none is known, and the holes that are left.
    pub(super) propagation: TiledStage,
    /// Frames that the next neighbourhood may complete once more.
    pub(super) state: ResumeState,
    pub(super) features: FeatureCache,
    /// The neighbourhoods of the generator.
    pub(super) windows: Vec<FrameWindow>,
    /// Frames of the video, of which a neighbourhood may have one more.
    pub(super) total: usize,
}

impl<'a> Pipeline<'a> {
    /// Opens the stages in the folder `root`, where an earlier run may have begun.
    pub(super) fn open(
        networks: &'a dyn Networks,
        footage: &'a mut dyn Footage,
        root: &Path,
        config: &InpaintConfig,
        device: &Device,
    ) -> Result<Self, InpaintError> {
        let (size, total) = (footage.size(), footage.num_frames());
        let state = ResumeState::open(root, size, config)?;
        let frames = Frames::open(footage, root, device)?;
        let stage = |stage, name| Ok(TiledStage::new(stage, frames.open_store(root, name)?));
        let mut pipeline = Self {
            networks,
            flow: stage(Stage::Flow, "flows")?,
            completion: stage(Stage::Completion, "completed")?,
            propagation: stage(Stage::Propagation, "propagated")?,
            frames,
            state,
            features: FeatureCache::new(config.feature_cache),
            windows: Vec::new(),
            total,
        };
        pipeline.plan();
        Ok(pipeline)
    }

    /// What is worked with.
    pub(super) fn config(&self) -> &InpaintConfig {
        &self.state.schedule.config
    }

    /// Works with `config` from now on, after what every stage has finished.
    pub(super) fn change(&mut self, config: InpaintConfig) -> Result<(), InpaintError> {
        let next = self.windows.get(self.state.next);
        let schedule = Schedule {
            flow: self.flow.finished(),
            completion: self.completion.finished(),
            propagation: self.propagation.finished(),
            generation: next.map_or(self.total, |next| next.local.start),
            references: self.propagation.store.first(),
            config,
        };
        self.state.restart(schedule)?;
        self.plan();
        Ok(())
    }

    /// Divides the work of all stages as the schedule says.
    fn plan(&mut self) {
        let schedule = &self.state.schedule;
        let config = &schedule.config;
        let num_frames = self.frames.num_frames;
        let pairs = num_frames - 1;
        let raft_pairs = config.raft_pairs(self.frames.size[1]);
        self.flow.plan(schedule.flow..pairs, raft_pairs, 0);
        let length = config.subvideo_length;
        self.completion
            .plan(schedule.completion..pairs, length, COMPLETION_HALO);
        let length = config.propagation_length();
        self.propagation
            .plan(schedule.propagation..num_frames, length, PROPAGATION_HALO);
        self.windows = schedule.windows(num_frames);
        self.features = FeatureCache::new(config.feature_cache);
    }

    /// Frames that each stage has finished.
    pub(super) fn finished(&self) -> [usize; 4] {
        [
            self.flow.finished(),
            self.completion.finished(),
            self.propagation.finished(),
            self.done(),
        ]
    }

    /// Frames that no neighbourhood changes any more.
    pub(super) fn done(&self) -> usize {
        let next = self.windows.get(self.state.next);
        next.map_or(self.total, |next| next.local.start.min(self.total))
    }

    /// Computes the flows before pair `end`.
    fn ensure_flow(&mut self, end: usize, watch: &mut Watch) -> Result<(), InpaintError> {
        while let Some(tile) = self.flow.next_before(end) {
            // A pair is two frames.
            let frames = tile.read.start..tile.read.end + 1;
            self.frames.ensure(frames.end, watch)?;
            let work = Work::enter(watch, &mut self.flow, tile)?;
            let images = self.frames.images(frames)?;
            let iterations = self.state.schedule.config.raft_iter;
            work.run(|| self.networks.flows(images, iterations).into())?;
        }
        Ok(())
    }

    /// Completes the flows before pair `end`.
    fn ensure_completion(&mut self, end: usize, watch: &mut Watch) -> Result<(), InpaintError> {
        while let Some(tile) = self.completion.next_before(end) {
            let pairs = tile.read.clone();
            self.ensure_flow(pairs.end, watch)?;
            let work = Work::enter(watch, &mut self.completion, tile)?;
            let flows = self.frames.flows(&self.flow.store, pairs.clone())?;
            let holes = self.frames.holes(pairs.start..pairs.end + 1)?;
            work.run(|| self.networks.complete(flows, holes).into())?;
        }
        Ok(())
    }

    /// Fills the frames before `end`.
    pub(super) fn ensure_propagation(
        &mut self,
        end: usize,
        watch: &mut Watch,
    ) -> Result<(), InpaintError> {
        while let Some(tile) = self.propagation.next_before(end) {
            let frames = tile.read.clone();
            let pairs = frames.start..frames.end - 1;
            self.ensure_completion(pairs.end, watch)?;
            self.frames.ensure(frames.end, watch)?;
            let work = Work::enter(watch, &mut self.propagation, tile)?;
            let images = self.frames.images(frames.clone())?;
            let holes = self.frames.holes(frames)?;
            let flows = self.frames.flows(&self.completion.store, pairs)?;
            work.run(|| self.networks.propagate(images, flows, holes))?;
        }
        Ok(())
    }

    /// Deletes what no stage reads any more.
    pub(super) fn release(&mut self) -> Result<(), InpaintError> {
        let next = &self.windows[self.state.next..];
        let read = next.iter().map(first_read).min().unwrap_or(usize::MAX);
        let local = next.first().map_or(usize::MAX, |window| window.local.start);
        let [flow, completion, propagation] =
            [&self.flow, &self.completion, &self.propagation].map(TiledStage::first_needed);
        self.features.release_before(read);
        self.propagation.store.release_before(read)?;
        let completed = local.min(propagation);
        self.completion.store.release_before(completed)?;
        self.flow.store.release_before(completion)?;
        let frames = completed.min(read).min(completion).min(flow);
        self.frames.release_before(frames)
    }
}

/// A stage that works through a video tile by tile: it reads the frames of a tile and some around
/// it, and keeps what it makes of the frames in the middle.
///
/// Optical flow and flow completion count pairs of frames in place of frames.
pub(super) struct TiledStage {
    stage: Stage,
    /// What it made of each frame.
    pub(super) store: FrameStore,
    /// Frame that the first tile keeps first.
    first: usize,
    tiles: Vec<Tile>,
    /// Number of the tile that comes next.
    next: usize,
}

impl TiledStage {
    /// A stage without work, until [`plan`](Self::plan) gives it some.
    fn new(stage: Stage, store: FrameStore) -> Self {
        Self {
            stage,
            store,
            first: 0,
            tiles: Vec::new(),
            next: 0,
        }
    }

    /// Cuts the frames `range` into tiles of `length`, which read `halo` more on both sides, also
    /// from before `range`. Tiles whose frames are in the store are not done again; one that an
    /// interruption left in part is, so that the same frames are always computed together.
    fn plan(&mut self, range: Range<usize>, length: usize, halo: usize) {
        self.first = range.start;
        self.tiles.clear();
        if !range.is_empty() {
            let parts = sub_videos(range.len(), length, 0).into_iter();
            self.tiles.extend(parts.map(|part| {
                let keep = range.start + part.keep.start..range.start + part.keep.end;
                let read = keep.start.saturating_sub(halo)..(keep.end + halo).min(range.end);
                Tile { read, keep }
            }));
        }
        let done = self.store.next();
        self.next = self.tiles.partition_point(|tile| tile.keep.end <= done);
    }

    /// The next tile, if it begins before frame `end`.
    fn next_before(&self, end: usize) -> Option<Tile> {
        let tile = self.tiles.get(self.next);
        tile.filter(|tile| tile.keep.start < end).cloned()
    }

    /// Frames that are done.
    fn finished(&self) -> usize {
        let last = self.next.checked_sub(1);
        last.map_or(self.first, |last| self.tiles[last].keep.end)
    }

    /// First frame that the next tile reads; `usize::MAX` if none is left.
    fn first_needed(&self) -> usize {
        let tile = self.tiles.get(self.next);
        tile.map_or(usize::MAX, |tile| tile.read.start)
    }
}

/// The next tile of a stage, which is computed now.
struct Work<'w, 'p> {
    watch: &'w mut Watch<'p>,
    stage: &'w mut TiledStage,
    tile: Tile,
}

impl<'w, 'p> Work<'w, 'p> {
    /// Starts the clock of `stage`.
    ///
    /// # Errors
    /// If the caller asked to stop.
    fn enter(
        watch: &'w mut Watch<'p>,
        stage: &'w mut TiledStage,
        tile: Tile,
    ) -> Result<Self, InpaintError> {
        watch.enter(stage.stage, tile.keep.start)?;
        Ok(Self { watch, stage, tile })
    }

    /// Runs the networks on the tile, reads the result from the device and keeps it.
    fn run(self, network: impl FnOnce() -> [Tensor<5>; 2]) -> Result<(), InpaintError> {
        let Self { watch, stage, tile } = self;
        let values = watch.network(|| host_frames(network(), &tile, stage.stage))?;
        stage.store.put_all(tile.keep.clone(), &values)?;
        stage.next += 1;
        watch.leave(tile.keep.end);
        Ok(())
    }
}
