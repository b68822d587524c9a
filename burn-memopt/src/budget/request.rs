//! What is to be planned, and every way to do it.
//!
//! Pure.

use super::Ladder;
use super::step::StepSettings;
use super::technique::Technique;
use crate::memory::Bytes;
use crate::memory::estimate::Workload;

/// A batch of images to compute within a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The most that may be live.
    pub budget: Bytes,
    /// Images of a step, or to compute results for. In a video, frames: a micro-batch is then a
    /// sub-video.
    pub batch_size: usize,
    /// Height and width of an image.
    pub size: [usize; 2],
    /// Whether gradients are computed.
    pub is_training: bool,
    /// What is live between two steps and counts against the budget: parameters and the optimizer's
    /// state. The default is nothing, so that the budget is the step's alone.
    pub resident: Bytes,
    /// What a second micro-batch adds: one set of gradients in f32, which waits while the next is
    /// computed. The default is nothing.
    pub gradients: Bytes,
    /// Whether a layer normalises over the batch. Micro-batches are not exact then, and come after
    /// recomputation. The default is `false`.
    pub has_batch_statistics: bool,
    /// How images may be cut. The default is that they stay whole.
    pub tile: Option<TileSize>,
    /// The most that [`verify`](super::verify) may take to find out the least possible budget: at most
    /// what is free. The default is nothing, so that the least is a prediction.
    pub trial_limit: Bytes,
}

/// Which parts an image may be cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileSize {
    /// The shortest side in pixels that is still of use.
    pub least: usize,
    /// What sides are multiples of, in pixels.
    pub multiple: usize,
}

impl Request {
    /// Optimizer steps on `batch_size` images of `size`, height and width, that take at most `budget`.
    ///
    /// However it is split into micro-batches, a step sees this many images.
    ///
    /// # Panics
    /// If the batch or a side is zero.
    pub fn training(budget: Bytes, batch_size: usize, size: [usize; 2]) -> Self {
        let [height, width] = size;
        assert!(
            batch_size.min(height).min(width) > 0,
            "batch and sides must be at least 1, got {batch_size} images of {height}×{width}"
        );
        Self {
            budget,
            batch_size,
            size,
            is_training: true,
            resident: Bytes::ZERO,
            gradients: Bytes::ZERO,
            has_batch_statistics: false,
            tile: None,
            trial_limit: Bytes::ZERO,
        }
    }

    /// Results for `batch_size` images.
    ///
    /// # Panics
    /// As [`training`](Self::training).
    pub fn inference(budget: Bytes, batch_size: usize, size: [usize; 2]) -> Self {
        Self {
            is_training: false,
            ..Self::training(budget, batch_size, size)
        }
    }

    /// The whole batch at once.
    pub fn workload(&self) -> Workload {
        Workload::new(self.batch_size, self.size)
    }

    /// The micro-batches that are possible and how many of them make the batch, largest first.
    fn micro_batches(&self) -> Vec<(usize, usize)> {
        let mut splits: Vec<(usize, usize)> = Vec::new();
        for steps in 1..=self.batch_size {
            let micro = self.batch_size.div_ceil(steps);
            let is_new = splits.last().is_none_or(|&(last, _)| micro < last);
            // Two flags cannot describe a step of unequal micro-batches; results need no equal ones.
            if is_new && (self.batch_size.is_multiple_of(steps) || !self.is_training) {
                splits.push((micro, steps));
            }
        }
        splits
    }

    /// The whole image, then smaller and smaller parts of it.
    fn tiles(&self) -> Vec<[usize; 2]> {
        let mut tiles = vec![self.size];
        let Some(TileSize { least, multiple }) = self.tile else {
            return tiles;
        };
        assert!(
            least.min(multiple) > 0,
            "sides of a tile must be at least 1, got {least} and multiples of {multiple}"
        );
        let longest = self.size[0].max(self.size[1]);
        for parts in 2.. {
            let side = longest.div_ceil(parts).next_multiple_of(multiple);
            if side < least || longest.div_ceil(parts) < multiple {
                break;
            }
            let tile = self.size.map(|whole| whole.min(side));
            if tiles.last() != Some(&tile) {
                tiles.push(tile);
            }
        }
        tiles
    }

    /// What is live while one of `accumulation_steps` micro-batches is computed, without the pass itself.
    pub(super) fn held(&self, accumulation_steps: usize) -> Bytes {
        self.resident + self.waiting(accumulation_steps)
    }

    /// The gradients that wait for those of other micro-batches.
    pub(super) fn waiting(&self, accumulation_steps: usize) -> Bytes {
        if self.is_training && accumulation_steps > 1 {
            self.gradients
        } else {
            Bytes::ZERO
        }
    }

    /// Every way to compute the batch, the cheapest first.
    pub(super) fn ladder(&self, techniques: &[Technique]) -> Ladder<StepSettings> {
        let mut rungs = Vec::new();
        for tile in self.tiles() {
            for (micro_batch_size, accumulation_steps) in self.micro_batches() {
                let workload = Workload::new(micro_batch_size, tile);
                let held = self.held(accumulation_steps);
                for (index, technique) in techniques.iter().enumerate() {
                    let passes = technique.passes(workload).into_iter();
                    rungs.extend(passes.map(|pass| {
                        let settings = StepSettings {
                            precision: technique.precision,
                            policy: pass.policy,
                            cut: pass.cut,
                            micro_batch_size,
                            accumulation_steps,
                            tile,
                            recomputed: pass.recomputed,
                            technique: index,
                        };
                        (settings, held + pass.peak)
                    }));
                }
            }
        }
        rungs.sort_by(|(one, _), (other, _)| one.compare_cost(other, self));
        Ladder::with_peaks(rungs)
    }
}
