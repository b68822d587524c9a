//! Random numbers of tiles: the same in both passes over them, and on any number of devices.

use burn::tensor::Device;

use crate::grad_checkpoint::{Run, SegmentSeed, hold_random_stream, share_seed};

/// The seed of a step on tiles, from which each group of tiles has one of its own.
pub(super) struct TileSeeds {
    /// `None` where nothing is drawn.
    seed: Option<SegmentSeed>,
    device: Device,
    num_passes: usize,
}

impl TileSeeds {
    pub(super) fn new(draws: bool, device: &Device, num_passes: usize) -> Self {
        Self {
            seed: draws.then(|| SegmentSeed::draw(device)),
            device: device.clone(),
            num_passes,
        }
    }

    /// Runs the forward pass of group `number`. The stream is held for it alone: what trains and what loads take turns.
    pub(super) fn run<T>(&self, number: usize, forward: impl FnOnce() -> T) -> T {
        match self.seed {
            Some(seed) => {
                let seed = seed.inner(number as u64);
                seed.run(self.num_passes > 1, &self.device, forward)
            }
            None => share_seed(forward),
        }
    }

    /// Moves the random stream on after the step.
    pub(super) fn end(self) {
        if let Some(seed) = self.seed {
            let _stream = hold_random_stream();
            seed.leave(Run::First, &self.device);
        }
    }
}
