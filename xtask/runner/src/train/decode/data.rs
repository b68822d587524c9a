//! What DECODE trains on and is evaluated by: windows of frames with the emitters in their middle.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::memory::estimate::Workload;
use burn_memopt_datasets::augment::Symmetry;
use burn_memopt_datasets::counting::CountDataset;
use burn_memopt_datasets::lazy::LazyDataset;
use burn_memopt_datasets::loader::SeededBatcher;
use burn_memopt_datasets::localizations::Localization;
use burn_memopt_datasets::normalization::Normalization;
use burn_memopt_datasets::tiff::{Frame, FrameSource, FrameWindow, FrameWindows};
use burn_memopt_models::decode::{Emitter, EmitterTargets, FrameBatcher, OutputScale};

use super::NEIGHBOURS;
use super::units::Units;
use crate::train::{num_training, open_counted};

/// The two parts of a stack, and the units of its network.
pub struct Data {
    /// What is learned from.
    pub training: Samples,
    /// What the result is evaluated by, where something is held out.
    pub held_out: Option<Samples>,
    /// How counts and photons are scaled, by the training part.
    pub units: Units,
}

impl Data {
    /// Opens the frames of a stack, with the table of the emitters in them.
    pub fn open(stack: &Path, table: &Path, pixel_size: Option<f64>, holdout: f64) -> Result<Self> {
        let emitters = open_counted(stack, table, pixel_size)?;
        let num_frames = emitters.len();
        let cut = num_training(num_frames, holdout, &stack.display().to_string())?;
        let counts = Normalization::measure(emitters.stack(), 0..cut)?;
        let known = (0..cut).flat_map(|frame| emitters.emitters(frame));
        let units = Units::new(counts, known);
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

/// A window of frames and the emitters in its middle.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The frames, shared with the neighbouring windows.
    pub window: FrameWindow,
    /// The emitters.
    pub emitters: Vec<Localization>,
}

/// Some frames of a stack, read when they are asked for.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Frames with their neighbours.
    pub windows: Arc<FrameWindows<Arc<dyn FrameSource>>>,
    /// The emitters in each frame.
    pub emitters: CountDataset,
    /// Which frames.
    pub frames: Range<usize>,
}

impl Samples {
    /// The name of item `index`, for messages, with the frame of its window whose pixels are not all
    /// finite, if there is one.
    pub fn name(&self, index: usize) -> String {
        let middle = self.frames.start + index;
        let window = self.windows.get(middle).map(|window| window.frames);
        let is_bad = |frame: &&Arc<Frame>| !frame.pixels.iter().all(|pixel| pixel.is_finite());
        match window.unwrap_or_default().iter().find(is_bad) {
            Some(frame) => format!("frame {middle} (see frame {})", frame.index),
            None => format!("frame {middle}"),
        }
    }
}

impl Dataset<Sample> for Samples {
    fn get(&self, index: usize) -> Result<Sample, DatasetError> {
        let frame = self.frames.start + index;
        Ok(Sample {
            window: self.windows.get(frame)?,
            emitters: self.emitters.emitters(frame).to_vec(),
        })
    }

    fn len(&self) -> usize {
        self.frames.len()
    }
}

impl LazyDataset<Sample> for Samples {
    fn item_bytes(&self, index: usize) -> u64 {
        let frame = self.frames.start + index;
        let emitters = size_of_val(self.emitters.emitters(frame));
        self.windows.item_bytes(frame) + emitters as u64
    }
}

/// Samples on a device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch_size, num_frames, height, width]`
    pub windows: Tensor<4>,
    /// The emitters and the background.
    pub targets: EmitterTargets,
    /// 0 where no background is known, so that none is learned.
    pub background_weight: f64,
}

/// Emitters in every frame of a batch that is made up.
const EMITTERS_MADE_UP: usize = 16;

impl Batch {
    /// Random windows of `num_frames`, and as many emitters in each as are dense, to measure a step
    /// with.
    pub fn made_up(workload: Workload, num_frames: usize, device: &Device) -> Self {
        let Workload {
            batch_size,
            size: [height, width],
        } = workload;
        let shape = [batch_size, num_frames, height, width];
        Self {
            windows: Tensor::random(shape, Distribution::Default, device),
            targets: made_up_targets(workload, EMITTERS_MADE_UP, device),
            background_weight: 1.0,
        }
    }
}

/// Targets of so many emitters in every frame.
pub fn made_up_targets(workload: Workload, num_emitters: usize, device: &Device) -> EmitterTargets {
    let Workload {
        batch_size,
        size: [height, width],
    } = workload;
    let emitter = |i: usize| Emitter {
        x: (i * 7 % height) as f32,
        y: (i * 5 % width) as f32,
        z: 0.0,
        photons: 500.0,
    };
    let emitters = vec![(0..num_emitters).map(emitter).collect(); batch_size];
    let backgrounds = vec![10.0; batch_size];
    let scale = OutputScale::new(1000.0, 100.0);
    EmitterTargets::new(&emitters, &backgrounds, workload.size, &scale, device)
}

/// Makes batches for training: every sample is flipped and rotated by its seed, unless z is
/// known, which shows in the orientation of a spot.
pub struct Collate {
    /// Makes inputs of frames.
    pub frames: FrameBatcher,
    /// Makes targets of emitters.
    pub units: Units,
}

impl SeededBatcher<Sample, Batch> for Collate {
    fn batch(&self, samples: Vec<Sample>, seeds: &[u64], device: &Device) -> Batch {
        let [height, width] = self.frames.size;
        let (mut frames, mut emitters, mut backgrounds) = (Vec::new(), Vec::new(), Vec::new());
        for (sample, &seed) in samples.iter().zip(seeds) {
            let symmetry = if self.units.knows_z {
                Symmetry::default()
            } else {
                Symmetry::pick(seed, height, width)
            };
            let moved = |frame: &Arc<Frame>| symmetry.apply(&frame.pixels, height, width);
            frames.extend(sample.window.frames.iter().map(moved));
            backgrounds.push(self.units.background(&sample.emitters));
            let moved = sample.emitters.iter().map(|emitter| {
                let [x, y] = symmetry.place([emitter.x, emitter.y], height, width);
                Emitter {
                    x,
                    y,
                    ..self.units.emitter(emitter)
                }
            });
            emitters.push(moved.collect());
        }
        let frames: Vec<&[f32]> = frames.iter().map(Vec::as_slice).collect();
        let num_frames = frames.len() / samples.len();
        let (size, scale) = (self.frames.padded_size(), &self.units.output);
        Batch {
            windows: self.frames.batch(&frames, num_frames, device),
            targets: EmitterTargets::new(&emitters, &backgrounds, size, scale, device),
            background_weight: f64::from(u8::from(self.units.knows_background)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_emitters_are_moved_alike() {
        // The brightest pixel of every frame is where the emitter is.
        let mut bright = vec![100.0; 12];
        bright[2 * 4 + 1] = 300.0;
        let frame = Arc::new(Frame {
            index: 0,
            height: 3,
            width: 4,
            pixels: bright,
        });
        let emitter = Localization {
            photons: Some(50.0),
            bg: Some(10.0),
            ..Localization::new(0, 1.0, 2.0)
        };
        let counts = Normalization {
            low: 100.0,
            high: 300.0,
        };
        let units = Units::new(counts, [&emitter]);
        let frames = FrameBatcher {
            size: [3, 4],
            scale: units.input,
            multiple: 2,
        };
        let collate = Collate { frames, units };
        for seed in 0..20 {
            let sample = Sample {
                window: FrameWindow {
                    index: 0,
                    frames: vec![frame.clone(); 3],
                },
                emitters: vec![emitter],
            };
            let batch = collate.batch(vec![sample], &[seed], &Device::flex());
            assert_eq!(batch.windows.dims(), [1, 3, 4, 4]);
            let params = batch.targets.params.into_data();
            let params: Vec<f32> = params.iter::<f32>().collect();
            let (row, column) = (params[1] as usize, params[2] as usize);
            for frame in 0..3 {
                let pixel = batch.windows.clone().slice([
                    0..1,
                    frame..frame + 1,
                    row..row + 1,
                    column..column + 1,
                ]);
                assert_eq!(pixel.into_scalar::<f32>(), 1.0);
            }
        }
    }
}
