use serde::{Deserialize, Serialize};

use crate::memory::Bytes;
use crate::memory::estimate::Workload;

/// What is to be planned: a batch of images within a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub(super) budget: Bytes,
    pub(super) batch_size: usize,
    pub(super) size: [usize; 2],
    pub(super) is_training: bool,
    pub(super) resident: Bytes,
    pub(super) gradients: Bytes,
    pub(super) has_batch_statistics: bool,
    pub(super) tile: Option<TileSize>,
    pub(super) trial_limit: Bytes,
}

/// Which parts an image may be cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
        let largest = batch_size.min(size[0]).min(size[1]);
        assert!(
            largest > 0,
            "batch and sides must be at least 1, got {batch_size} images of {}×{}",
            size[0],
            size[1]
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

    /// Results for `batch_size` images, or for that many frames of a video: the micro-batch is then
    /// the length of a sub-video.
    ///
    /// # Panics
    /// As [`training`](Self::training).
    pub fn inference(budget: Bytes, batch_size: usize, size: [usize; 2]) -> Self {
        Self {
            is_training: false,
            ..Self::training(budget, batch_size, size)
        }
    }

    /// Sets what is live between two steps and counts against the budget: parameters and the
    /// optimizer's state. The default is nothing, so that the budget is the step's alone.
    pub fn with_resident(mut self, resident: Bytes) -> Self {
        self.resident = resident;
        self
    }

    /// Sets what a second micro-batch adds: one set of gradients in f32, which waits while the next
    /// is computed. The default is nothing.
    pub fn with_gradients(mut self, gradients: Bytes) -> Self {
        self.gradients = gradients;
        self
    }

    /// Sets whether a layer normalises over the batch, so that micro-batches are not exact and come
    /// after recomputation. The default is `false`.
    pub fn with_batch_statistics(mut self, has_batch_statistics: bool) -> Self {
        self.has_batch_statistics = has_batch_statistics;
        self
    }

    /// Sets that images may be cut. The default is that they stay whole.
    ///
    /// # Panics
    /// If a side is zero.
    pub fn with_tiles(mut self, tile: TileSize) -> Self {
        assert!(
            tile.least.min(tile.multiple) > 0,
            "sides of a tile must be at least 1, got {tile:?}"
        );
        self.tile = Some(tile);
        self
    }

    /// Sets how much memory a trial may take that is to find the least possible budget: at most what
    /// is free. The default is nothing, so that the least is a prediction.
    pub fn with_trial_limit(mut self, trial_limit: Bytes) -> Self {
        self.trial_limit = trial_limit;
        self
    }

    /// The whole batch at once.
    pub fn workload(&self) -> Workload {
        Workload::new(self.batch_size, self.size)
    }

    /// Whether it is for training.
    pub fn is_training(&self) -> bool {
        self.is_training
    }

    /// The most that may be live.
    pub fn budget(&self) -> Bytes {
        self.budget
    }

    /// What is live between two steps.
    pub fn resident(&self) -> Bytes {
        self.resident
    }

    /// The same within another budget.
    pub fn with_budget(mut self, budget: Bytes) -> Self {
        self.budget = budget;
        self
    }

    /// The micro-batches that are possible and how many of them make the batch, largest first.
    pub(super) fn micro_batches(&self) -> Vec<(usize, usize)> {
        let mut splits: Vec<(usize, usize)> = Vec::new();
        for steps in 1..=self.batch_size {
            let is_even = self.batch_size.is_multiple_of(steps);
            let micro = self.batch_size.div_ceil(steps);
            let is_new = splits.last().is_none_or(|&(last, _)| micro < last);
            // A step of unequal micro-batches could not be said in two flags; results can.
            if is_new && (is_even || !self.is_training) {
                splits.push((micro, steps));
            }
        }
        splits
    }

    /// The whole image, then smaller and smaller parts of it.
    pub(super) fn tiles(&self) -> Vec<[usize; 2]> {
        let mut tiles = vec![self.size];
        let Some(TileSize { least, multiple }) = self.tile else {
            return tiles;
        };
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
}
