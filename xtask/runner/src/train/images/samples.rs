//! Where items come from, in one form for all sources: image, target, count.

use std::ops::Range;
use std::sync::Arc;

use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_memopt::memory::estimate::Workload;
use burn_memopt_datasets::augment::Symmetry;
use burn_memopt_datasets::counting::CountDataset;
use burn_memopt_datasets::image_mask::ImageMaskFolder;
use burn_memopt_datasets::lazy::LazyDataset;
use burn_memopt_datasets::loader::SeededBatcher;

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
    /// Density or mask, row by row: `height * width` values.
    pub target: Vec<f32>,
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
    pub fn of(samples: &[Sample], device: &Device) -> Self {
        let (height, width) = (samples[0].height, samples[0].width);
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
pub struct Augment;

impl SeededBatcher<Sample, Batch> for Augment {
    fn batch(&self, mut samples: Vec<Sample>, seeds: &[u64], device: &Device) -> Batch {
        for (sample, &seed) in samples.iter_mut().zip(seeds) {
            let (height, width) = (sample.height, sample.width);
            let symmetry = Symmetry::pick(seed, height, width);
            let planes = sample.image.chunks_exact(height * width);
            sample.image = planes
                .flat_map(|plane| symmetry.apply(plane, height, width))
                .collect();
            sample.target = symmetry.apply(&sample.target, height, width);
        }
        Batch::of(&samples, device)
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
            let batch = Augment.batch(vec![sample.clone()], &[seed], &Device::default());
            assert_eq!(batch.images.dims(), [1, 2, 3, 3]);
            let images = batch.images.into_data().try_to_vec::<f32>().unwrap();
            let target = batch.targets.into_data().try_to_vec::<f32>().unwrap();
            assert_eq!(images, target.repeat(2));
        }
    }
}
