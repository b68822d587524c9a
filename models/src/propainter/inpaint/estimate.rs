//! What completing a video takes, stage by stage.
//!
//! Pure.
//!
//! Amounts for a pixel of a frame were counted on the CPU with the allocator that counts, at several
//! sizes and lengths, and rounded up; `models/tests/inpaint_budget.rs` compares them with what is
//! counted.

use burn_memopt::memory::Bytes;
use burn_memopt::precision::Precision;

use super::super::raft::volume;
use super::config::{COMPLETION_HALO, PROPAGATION_HALO};
use super::{InpaintConfig, Stage};

/// What may be computed at a time where work can be divided, the fastest first.
pub const WORKING_MEMORY: [Bytes; 7] = [
    Bytes::gib(1),
    Bytes::mib(512),
    Bytes::mib(256),
    Bytes::mib(128),
    Bytes::mib(64),
    Bytes::mib(32),
    Bytes::mib(16),
];

/// A video and how it is completed.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// Frames of the video.
    pub num_frames: usize,
    /// What flow completion and the generator compute in.
    pub precision: Precision,
    /// Whether the networks compute in the memory of the host.
    pub on_host: bool,
    /// What is computed at a time where work can be divided.
    pub working: Bytes,
    /// Lengths and strides.
    pub config: InpaintConfig,
}

/// Weights in f32: of the optical flow, and of flow completion and the generator.
const WEIGHTS: [u64; 2] = [22_000_000, 180_000_000];
/// What threads, buffers of products and small tensors take besides.
const BESIDE: Bytes = Bytes::mib(32);
/// Bytes for a pixel of each frame whose flow is computed at once.
const FLOW: f64 = 350.0;
/// Bytes for a pixel of each frame whose flow is completed at once.
const COMPLETION: f64 = 300.0;
/// Bytes for a pixel of each frame that is propagated at once.
const PROPAGATION: f64 = 180.0;
/// Bytes for a pixel of each frame that the generator sees, and of each that it completes.
const GENERATION: [f64; 2] = [150.0, 200.0];
/// Bytes for a pixel of one frame in the encoder or decoder, which is done at once.
const ONE_FRAME: f64 = 1000.0;
/// What half precision leaves of the bytes of flow completion and the generator: some stay f32.
const HALF: f64 = 0.65;
/// What a device with memory pools takes for what is counted on a host.
const POOLS: f64 = 1.25;
/// Channels of a token.
const WIDTH: usize = 512;
/// Heads of the attention.
const HEADS: usize = 4;
/// Tokens of a window of the attention.
const WINDOW: usize = 45;
/// Tokens in and around a window.
const AROUND: usize = 193;
/// Tokens that a pooled one stands for.
const POOL: usize = 16;

impl Workload {
    /// This, with the frames of flow and the cache that its working memory allows: both change
    /// nothing but the time.
    pub(super) fn divided(mut self) -> Self {
        let frames = (self.working.get() as f64 / (FLOW * self.area())) as usize;
        let most = self.config.raft_pairs(self.size[1]) + 1;
        self.config.raft_clip = Some(frames.clamp(2, most.max(2)));
        self.config.feature_cache = Bytes::new(self.working.get() / 4);
        self
    }

    /// Highest live bytes of `side_by_side` such videos, weights included.
    pub fn peak(&self, side_by_side: usize) -> Bytes {
        let stages = Stage::ALL.map(|stage| self.stage(stage));
        let [a, b, c, d] = stages;
        let highest = a.max(b).max(c).max(d) + self.cache();
        let running = self.weights() + scaled(highest * side_by_side as u64, self.pools());
        running.max(self.loading())
    }

    /// Weights, while a video is completed.
    pub fn weights(&self) -> Bytes {
        let [flow, others] = WEIGHTS;
        match self.precision {
            Precision::F32 => Bytes::new(flow + others),
            Precision::F16 | Precision::Bf16 => Bytes::new(flow + others / 2),
        }
    }

    /// Weights, while they are read and, if need be, rounded.
    fn loading(&self) -> Bytes {
        let [flow, others] = WEIGHTS;
        Bytes::new(flow + 2 * others)
    }

    /// What one stage takes besides weights and cache.
    pub fn stage(&self, stage: Stage) -> Bytes {
        let bytes = match stage {
            Stage::Flow => self.flow(),
            Stage::Completion => self.half() * COMPLETION * self.area() * self.completed() as f64,
            Stage::Propagation => PROPAGATION * self.area() * self.propagated() as f64,
            Stage::Generation => self.generation(),
        };
        Bytes::new(bytes as u64) + BESIDE
    }

    fn flow(&self) -> f64 {
        let frames = self.config.raft_pairs(self.size[1]) + 1;
        let frames = frames.min(self.num_frames.max(2));
        let one = volume(1, self.size.map(|side| side / 8)).get();
        let at_once = (self.working.get() / one.max(1)).min(frames as u64 - 1);
        FLOW * self.area() * frames as f64 + (one * at_once) as f64
    }

    /// Frames between which flow is completed at once.
    fn completed(&self) -> usize {
        let pairs = self.config.subvideo_length + 2 * COMPLETION_HALO;
        (pairs + 1).min(self.num_frames.max(2))
    }

    /// Frames that are propagated at once.
    fn propagated(&self) -> usize {
        let frames = self.config.propagation_length() + 2 * PROPAGATION_HALO;
        frames.min(self.num_frames.max(2))
    }

    /// Frames of the largest neighbourhood, and those that it sees with its references.
    fn generated(&self) -> [usize; 2] {
        let InpaintConfig {
            neighbor_length,
            ref_stride,
            subvideo_length,
            ..
        } = self.config;
        let local = (neighbor_length / 2 * 2 + 1).min(self.num_frames.max(2));
        let around = subvideo_length.min(self.num_frames);
        let references = (around / ref_stride + 1).min(self.num_frames.saturating_sub(local));
        [local, local + references]
    }

    fn generation(&self) -> f64 {
        let [local, seen] = self.generated();
        let [of_seen, of_local] = GENERATION;
        let frames = of_seen * seen as f64 + of_local * local as f64;
        let working = (self.working.get() / 4) as f64;
        let least = (ONE_FRAME * self.area()).max(self.window(seen));
        self.half() * (frames * self.area() + working.max(least))
    }

    /// What attention takes for a window, which is done at once.
    fn window(&self, seen: usize) -> f64 {
        let tokens = self
            .size
            .map(|side| side / 12 + 1)
            .iter()
            .product::<usize>();
        let keys = (AROUND + tokens / POOL) * seen.div_ceil(2);
        let queries = WINDOW * seen;
        (2 * size_of::<f32>() * (HEADS * queries * keys + 2 * WIDTH * (queries + keys))) as f64
    }

    fn cache(&self) -> Bytes {
        // Features at a quarter of the sides, of the frames that neighbourhoods share.
        let [_, seen] = self.generated();
        let frames = self.half() * self.area() / 16.0 * 128.0 * 4.0 * seen as f64;
        self.config.feature_cache.min(Bytes::new(frames as u64))
    }

    fn area(&self) -> f64 {
        self.size.iter().product::<usize>() as f64
    }

    fn half(&self) -> f64 {
        match self.precision {
            Precision::F32 => 1.0,
            Precision::F16 | Precision::Bf16 => HALF,
        }
    }

    fn pools(&self) -> f64 {
        if self.on_host { 1.0 } else { POOLS }
    }
}

fn scaled(bytes: Bytes, factor: f64) -> Bytes {
    Bytes::new((bytes.get() as f64 * factor) as u64)
}
