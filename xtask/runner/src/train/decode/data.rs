//! The stack and its emitters, in two parts.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use burn::data::dataset::Dataset;
use burn_memopt_datasets::counting::CountDataset;
use burn_memopt_datasets::normalization::Normalization;
use burn_memopt_datasets::tiff::FrameWindows;
use burn_memopt_models::decode::FrameBatcher;

use super::NEIGHBOURS;
use super::samples::Samples;
use super::units::Units;
use crate::train::holdout::num_training;

/// The two parts of a stack, and the units of its network.
pub struct Data {
    /// What is learned from.
    pub training: Samples,
    /// What the result is judged by, where something is held out.
    pub held_out: Option<Samples>,
    /// How counts and photons are scaled, by the training part.
    pub units: Units,
}

impl Data {
    /// Opens the frames of a stack, with the table of the emitters in them.
    ///
    /// # Errors
    /// If files cannot be read, do not fit each other, or are too few.
    pub fn open(stack: &Path, table: &Path, holdout: f64) -> Result<Self> {
        let emitters = CountDataset::open(stack, table)?;
        let num_frames = emitters.len();
        let cut = num_training(num_frames, holdout, &stack.display().to_string())?;
        let counts = Normalization::measure(emitters.stack(), 0..cut)?;
        let known = (0..cut).flat_map(|frame| emitters.emitters(frame));
        let units = Units::of(counts, known);
        let windows = FrameWindows::new(emitters.stack().clone(), NEIGHBOURS, NEIGHBOURS);
        let all = Samples {
            windows: Arc::new(windows),
            emitters,
            frames: 0..num_frames,
        };
        let part = |frames| Samples {
            frames,
            ..all.clone()
        };
        Ok(Self {
            training: part(0..cut),
            held_out: (cut < num_frames).then(|| part(cut..num_frames)),
            units,
        })
    }

    /// Height and width of a frame in pixels.
    pub fn size(&self) -> [usize; 2] {
        let stack = self.training.emitters.stack();
        [stack.height(), stack.width()]
    }

    /// Makes inputs of frames for a network whose sides must be multiples of `multiple`.
    pub fn batcher(&self, multiple: usize) -> FrameBatcher {
        FrameBatcher {
            size: self.size(),
            scale: self.units.input,
            multiple,
        }
    }
}
