//! What image networks train on and are judged by: two parts of one source.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use burn::data::dataset::Dataset;
use burn::tensor::Device;
use burn_memopt_datasets::counting::CountDataset;
use burn_memopt_datasets::image_mask::ImageMaskFolder;
use burn_memopt_datasets::loader::{Loader, LoaderConfig};
use burn_memopt_datasets::normalization::Normalization;

use super::samples::{Augment, Batch, Sample, Samples};
use crate::settings::{RunSettings, UsageError};
use crate::train::holdout::num_training;

/// The two parts of the data.
pub struct Data {
    /// What is learned from.
    pub training: Samples,
    /// What the result is judged by, where something is held out.
    pub held_out: Option<Samples>,
}

impl Data {
    /// Opens the frames of a stack, with the table of the emitters in them.
    ///
    /// # Errors
    /// If files cannot be read, do not fit each other, or are too few.
    pub fn frames(stack: &Path, table: &Path, holdout: f64) -> Result<Self> {
        let frames = CountDataset::open(stack, table)?;
        let num_frames = frames.len();
        let num_training = num_training(num_frames, holdout, &stack.display().to_string())?;
        let (training, held_out) = if num_training == num_frames {
            let normalization = Normalization::measure(frames.stack(), 0..num_frames)?;
            let all = frames.with_normalization(normalization);
            (Samples::Frames(all), None)
        } else {
            let (training, held_out) = frames.split(num_training)?;
            (Samples::Frames(training), Some(Samples::Frames(held_out)))
        };
        Ok(Self { training, held_out })
    }

    /// Opens a folder of images and one of masks.
    ///
    /// # Errors
    /// If files cannot be read, do not fit each other, make no batch, or are too few.
    pub fn images(images: &Path, masks: &Path, run: &RunSettings) -> Result<Self> {
        let folder = ImageMaskFolder::open(images, masks)?;
        folder.verify()?;
        if run.batch_size > 1 {
            check_one_size(&folder)?;
        }
        let len = folder.len();
        let folder = Arc::new(folder);
        let cut = num_training(len, run.holdout, &images.display().to_string())?;
        let held_out = (cut < len).then(|| Samples::Images(folder.clone(), cut..len));
        Ok(Self {
            training: Samples::Images(folder, 0..cut),
            held_out,
        })
    }

    /// Shuffled, augmented batches of the training part.
    ///
    /// # Errors
    /// If there is no batch.
    pub fn loader(
        &self,
        batch_size: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Loader<Sample, Batch>> {
        let config = LoaderConfig::new(batch_size).with_shuffle(seed);
        Ok(Loader::seeded(
            self.training.clone(),
            Augment,
            config,
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

    /// Channels, height and width of the images.
    ///
    /// # Errors
    /// If the first image cannot be read.
    pub fn shape(&self) -> Result<[usize; 3]> {
        let Sample { height, width, .. } = self.training.get(0)?;
        Ok([self.training.channels(), height, width])
    }
}

/// Refuses images of different sizes, which make no batch.
fn check_one_size(folder: &ImageMaskFolder) -> Result<()> {
    let first = folder.size(0)?;
    for index in 1..folder.len() {
        let size = folder.size(index)?;
        if size != first {
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
