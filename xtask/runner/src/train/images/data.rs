//! What image networks train on and are evaluated by: two parts of one source, and batches of them.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_memopt::memory::Bytes;
use burn_memopt::memory::estimate::Workload;
use burn_memopt_datasets::augment::Symmetry;
use burn_memopt_datasets::counting::CountDataset;
use burn_memopt_datasets::lazy::LazyDataset;
use burn_memopt_datasets::loader::{Loader, SeededBatcher};
use burn_memopt_datasets::masks::ImageMaskFolder;
use burn_memopt_datasets::normalization::Normalization;
use burn_memopt_datasets::shuffle::mix;
use burn_memopt_datasets::tiff::FrameSource;

use crate::report::{note, note_unread};
use crate::settings::{RunSettings, UsageError};
use crate::train::job::Load;
use crate::train::{num_training, open_counted};

/// The two parts of the data.
pub struct Data {
    /// What is learned from.
    pub training: Samples,
    /// What the result is evaluated by, where something is held out.
    pub held_out: Option<Samples>,
    /// The least height and the least width of an image.
    pub least_sides: [usize; 2],
    /// The largest height and the largest width.
    pub largest_sides: [usize; 2],
}

impl Data {
    /// Opens the frames of a stack, with the table of the emitters in them.
    pub fn frames(
        stack: &Path,
        table: &Path,
        pixel_size: Option<f64>,
        holdout: f64,
    ) -> Result<Self> {
        let frames = open_counted(stack, table, pixel_size)?;
        let num_frames = frames.len();
        let num_training = num_training(num_frames, holdout, &stack.display().to_string())?;
        let least_sides = [frames.stack().height(), frames.stack().width()];
        let (training, held_out) = if num_training == num_frames {
            let normalization = Normalization::measure(frames.stack(), 0..num_frames)?;
            let all = frames.with_normalization(normalization);
            (Samples::Frames(all), None)
        } else {
            let (training, held_out) = frames.split(num_training)?;
            (Samples::Frames(training), Some(Samples::Frames(held_out)))
        };
        Ok(Self {
            training,
            held_out,
            least_sides,
            largest_sides: least_sides,
        })
    }

    /// Opens a folder of images and one of masks, with so many classes or an object.
    pub fn images(
        images: &Path,
        masks: &Path,
        classes: Option<usize>,
        run: &RunSettings,
    ) -> Result<Self> {
        let mut folder = ImageMaskFolder::open(images, masks)?;
        if let Some(classes) = classes {
            folder = folder.with_classes(classes);
        }
        let sizes = folder.verify()?;
        note_unread(images)?;
        note_unread(masks)?;
        note(folder.mask_rule()?);
        if run.batch_size > 1 {
            check_one_size(&folder, &sizes)?;
        }
        let heights = sizes.iter().map(|(height, _)| *height);
        let widths = sizes.iter().map(|(_, width)| *width);
        let least_sides = [heights.clone().min(), widths.clone().min()];
        let largest_sides = [heights.max(), widths.max()];
        let [least_sides, largest_sides] =
            [least_sides, largest_sides].map(|sides| sides.map(Option::unwrap_or_default));
        let len = folder.len();
        let folder = Arc::new(folder);
        let cut = num_training(len, run.holdout, &images.display().to_string())?;
        let held_out = (cut < len).then(|| Samples::Images(folder.clone(), cut..len));
        Ok(Self {
            training: Samples::Images(folder, 0..cut),
            held_out,
            least_sides,
            largest_sides,
        })
    }

    /// Shuffled, augmented batches of the training part, of random crops if a side is given.
    pub fn loader(&self, load: &Load, seed: u64, device: &Device) -> Result<Loader<Sample, Batch>> {
        Ok(Loader::seeded(
            self.training.clone(),
            Augment { side: load.side },
            load.config(seed),
            device,
        )?)
    }

    /// How pixels of frames are normalised; `None` for images, whose colours are 0 to 1 as they are.
    pub fn normalization(&self) -> Option<Normalization> {
        match &self.training {
            Samples::Frames(frames) => Some(frames.normalization()),
            Samples::Images(..) => None,
        }
    }

    /// What all items to learn from take once they are loaded.
    pub fn training_bytes(&self) -> Bytes {
        let bytes = |index| self.training.item_bytes(index);
        Bytes::new((0..self.training.len()).map(bytes).sum())
    }

    /// Channels, height and width of the images.
    pub fn shape(&self) -> Result<[usize; 3]> {
        let Sample { height, width, .. } = self.training.get(0)?;
        Ok([self.training.channels(), height, width])
    }
}

/// Refuses images of different sizes, which make no batch.
fn check_one_size(folder: &ImageMaskFolder, sizes: &[(usize, usize)]) -> Result<()> {
    let first = sizes[0];
    for (index, size) in sizes.iter().enumerate() {
        if *size != first {
            bail!(UsageError(format!(
                "images of different sizes make no batch: {} is {}×{} pixels, {} is {}×{}; \
                 use --batch-size 1 with --accumulation-steps, or scale them",
                folder.stem(0),
                first.0,
                first.1,
                folder.stem(index),
                size.0,
                size.1,
            )));
        }
    }
    Ok(())
}

/// One image and what the network is to make of it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// How the item is called in artifacts.
    pub name: String,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Channel by channel, row by row: `channels * height * width` values.
    pub image: Vec<f32>,
    /// Density, mask or numbers of classes, row by row: `height * width` values.
    pub target: Vec<f32>,
}

impl Sample {
    /// Cuts out a square of a side, or what there is of it where the sample is smaller.
    fn crop(&mut self, side: usize, seed: u64) {
        let (height, width) = (self.height, self.width);
        let (rows, columns) = (side.min(height), side.min(width));
        // Other bits than those that choose the symmetry.
        let place = |number: u64, free: usize| (mix(seed, number) % (free as u64 + 1)) as usize;
        let (top, left) = (place(1, height - rows), place(2, width - columns));
        let cut = |planes: &[f32]| -> Vec<f32> {
            let planes = planes.chunks_exact(height * width);
            let rows = planes.flat_map(|plane| plane.chunks_exact(width).skip(top).take(rows));
            rows.flat_map(|row| &row[left..left + columns])
                .copied()
                .collect()
        };
        self.image = cut(&self.image);
        self.target = cut(&self.target);
        (self.height, self.width) = (rows, columns);
    }
}

/// Some of the items of a source, read when they are asked for.
#[derive(Clone, Debug)]
pub enum Samples {
    /// Frames and the density of their emitters.
    Frames(CountDataset),
    /// Images and masks.
    Images(Arc<ImageMaskFolder>, Range<usize>),
}

impl Samples {
    /// Channels of an image.
    pub fn channels(&self) -> usize {
        match self {
            Self::Frames(_) => 1,
            Self::Images(..) => 3,
        }
    }
}

impl Dataset<Sample> for Samples {
    fn get(&self, index: usize) -> Result<Sample, DatasetError> {
        match self {
            Self::Frames(frames) => frames.get(index).map(|item| Sample {
                name: format!("frame-{:05}", item.frame),
                height: item.height,
                width: item.width,
                image: item.image,
                target: item.density,
            }),
            Self::Images(folder, range) => folder.get(range.start + index).map(|item| Sample {
                name: item.stem,
                height: item.height,
                width: item.width,
                image: item.image,
                target: item.mask,
            }),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Frames(frames) => frames.len(),
            Self::Images(_, range) => range.len(),
        }
    }
}

impl LazyDataset<Sample> for Samples {
    fn item_bytes(&self, index: usize) -> u64 {
        match self {
            Self::Frames(frames) => frames.item_bytes(index),
            Self::Images(folder, range) => folder.item_bytes(range.start + index),
        }
    }
}

/// Samples of one size, on a device.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch_size, channels, height, width]`
    pub images: Tensor<4>,
    /// `[batch_size, 1, height, width]`
    pub targets: Tensor<4>,
}

impl Batch {
    /// Random images of `channels`, and targets of next to nothing, to measure a step with: large
    /// counts would overflow in half precision for many steps.
    pub fn made_up(workload: Workload, channels: usize, device: &Device) -> Self {
        let [height, width] = workload.size;
        let random = |channels: usize| {
            let shape = [workload.batch_size, channels, height, width];
            Tensor::random(shape, Distribution::Default, device)
        };
        Self {
            images: random(channels),
            targets: random(1).mul_scalar(1e-3),
        }
    }

    /// Puts samples of one size together.
    ///
    /// # Panics
    /// If there is none, or they differ in size.
    pub fn new(samples: &[Sample], device: &Device) -> Self {
        let (height, width) = (samples[0].height, samples[0].width);
        for sample in samples {
            // Sizes of one area, as 4x6 and 6x4, would fit into each other's places.
            assert!(
                (sample.height, sample.width) == (height, width),
                "images of a batch must have one size, got {height}x{width} and {}x{}",
                sample.height,
                sample.width
            );
        }
        let stack = |planes: fn(&Sample) -> &Vec<f32>| {
            let values: Vec<f32> = samples.iter().flat_map(planes).copied().collect();
            let channels = values.len() / (samples.len() * height * width);
            let shape = [samples.len(), channels, height, width];
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Self {
            images: stack(|sample| &sample.image),
            targets: stack(|sample| &sample.target),
        }
    }

    /// Images in the batch.
    pub fn num_items(&self) -> usize {
        self.images.dims()[0]
    }
}

/// Makes batches for training: every sample is flipped and rotated by its seed.
pub struct Augment {
    /// Side of a square that is cut out of larger samples, its place by the seed too.
    pub side: Option<usize>,
}

impl SeededBatcher<Sample, Batch> for Augment {
    fn batch(&self, mut samples: Vec<Sample>, seeds: &[u64], device: &Device) -> Batch {
        for (sample, &seed) in samples.iter_mut().zip(seeds) {
            if let Some(side) = self.side {
                sample.crop(side, seed);
            }
            let (height, width) = (sample.height, sample.width);
            let symmetry = Symmetry::pick(seed, height, width);
            let planes = sample.image.chunks_exact(height * width);
            sample.image = planes
                .flat_map(|plane| symmetry.apply(plane, height, width))
                .collect();
            sample.target = symmetry.apply(&sample.target, height, width);
        }
        Batch::new(&samples, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_and_target_are_moved_alike() {
        let plane: Vec<f32> = (0..9u8).map(f32::from).collect();
        let sample = Sample {
            name: "a".into(),
            height: 3,
            width: 3,
            image: plane.repeat(2),
            target: plane.clone(),
        };
        for seed in 0..20 {
            let augment = Augment { side: None };
            let batch = augment.batch(vec![sample.clone()], &[seed], &Device::default());
            assert_eq!(batch.images.dims(), [1, 2, 3, 3]);
            let images = batch.images.into_data().try_to_vec::<f32>().unwrap();
            let target = batch.targets.into_data().try_to_vec::<f32>().unwrap();
            assert_eq!(images, target.repeat(2));
        }
    }

    #[test]
    fn crops_of_image_and_target_are_of_the_same_place() {
        let plane: Vec<f32> = (0..35u8).map(f32::from).collect();
        let sample = Sample {
            name: "a".into(),
            height: 5,
            width: 7,
            image: plane.repeat(2),
            target: plane.clone(),
        };
        let mut places = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut crop = sample.clone();
            crop.crop(3, seed);
            assert_eq!((crop.height, crop.width), (3, 3));
            assert_eq!(crop.image, crop.target.repeat(2));
            let first = crop.target[0];
            assert_eq!(crop.target[8], first + 2.0 * 7.0 + 2.0);
            places.insert(first as u8);
        }
        assert_eq!(places.len(), 3 * 5);
        let mut whole = sample.clone();
        whole.crop(6, 1);
        assert_eq!((whole.height, whole.width), (5, 6));
    }
}
