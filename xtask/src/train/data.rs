//! Opening what a run trains on and what it is judged by.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use burn::data::dataset::Dataset;
use burn::tensor::Device;
use burn_memopt_datasets::counting::CountDataset;
use burn_memopt_datasets::image_mask::ImageMaskFolder;
use burn_memopt_datasets::loader::{Loader, LoaderConfig};
use burn_memopt_datasets::normalization::Normalization;
use burn_memopt_datasets::synthetic::emitters::{EmitterConfig, EmitterMovie};

use super::samples::{Augment, Batch, Sample, Samples};
use crate::choices::LossChoice;
use crate::settings::{TrainSettings, UsageError};

/// Frames of the generated stack.
const GENERATED_FRAMES: usize = 200;
/// Photons of an emitter in a frame, on average: dim, so that counting them is no trifle.
const GENERATED_PHOTONS: f64 = 400.0;
/// Channels, height and width of its frames.
pub const GENERATED_SHAPE: [usize; 3] = [1, 32, 32];

/// The two parts of the data.
pub struct Data {
    /// What is learned from.
    pub training: Samples,
    /// What the result is judged by, where something is held out.
    pub held_out: Option<Samples>,
}

impl Data {
    /// Opens the data that `settings` name and checks that a network can be trained
    /// on it; `None` if they name none.
    ///
    /// # Errors
    /// If files cannot be read, do not fit each other, the loss or the network, or
    /// are too few.
    pub fn open(settings: &TrainSettings) -> Result<Option<Self>> {
        check_loss(settings)?;
        let given = (&settings.data, &settings.targets);
        let data = match (given, &settings.images, &settings.masks) {
            ((Some(stack), Some(table)), ..) => Self::frames(stack, table, settings.holdout)?,
            (_, Some(images), Some(masks)) => {
                Self::images(images, masks, settings.holdout, settings.batch_size)?
            }
            _ => return Ok(None),
        };
        Ok(Some(data))
    }

    /// Opens the stack of emitters in `folder`, generated from the run's seed where it
    /// is not there yet.
    ///
    /// # Errors
    /// If it cannot be written or does not fit the network.
    pub fn generated(settings: &TrainSettings, folder: &Path) -> Result<Self> {
        let config = EmitterConfig::new()
            .with_num_frames(GENERATED_FRAMES)
            .with_height(GENERATED_SHAPE[1])
            .with_width(GENERATED_SHAPE[2])
            .with_photons(GENERATED_PHOTONS)
            .with_seed(settings.seed);
        let (stack, table) = (folder.join("frames.tif"), folder.join("localizations.csv"));
        if !stack.is_file() || !table.is_file() {
            EmitterMovie::generate(&config).write(folder)?;
        }
        Self::frames(&stack, &table, settings.holdout)
    }

    fn frames(stack: &Path, table: &Path, holdout: f64) -> Result<Self> {
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

    fn images(images: &Path, masks: &Path, holdout: f64, batch_size: usize) -> Result<Self> {
        let folder = ImageMaskFolder::open(images, masks)?;
        folder.verify()?;
        if batch_size > 1 {
            check_one_size(&folder)?;
        }
        let len = folder.len();
        let folder = Arc::new(folder);
        let cut = num_training(len, holdout, &images.display().to_string())?;
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
        settings: &TrainSettings,
        device: &Device,
    ) -> Result<Loader<Sample, Batch>> {
        let config = LoaderConfig::new(settings.batch_size).with_shuffle(settings.seed);
        Ok(Loader::seeded(
            self.training.clone(),
            Augment,
            config,
            device,
        )?)
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

/// Refuses images that a network of this depth would halve to nothing.
///
/// # Errors
/// If a side is too short; the error names the shortest possible.
pub fn check_depth(depth: usize, height: usize, width: usize) -> Result<()> {
    let least = 1 << depth;
    if height.min(width) < least {
        bail!(UsageError(format!(
            "--depth {depth} needs images of at least {least} pixels a side, got {height}×{width}; \
             choose a smaller depth"
        )));
    }
    Ok(())
}

/// Refuses a loss that does not fit the kind of data.
fn check_loss(settings: &TrainSettings) -> Result<()> {
    let (has_masks, counts) = (
        settings.images.is_some(),
        settings.loss == LossChoice::Count,
    );
    if has_masks == counts {
        let (data, fitting) = match has_masks {
            true => ("images with masks", "bce-dice or cross-entropy"),
            false => ("stacks", "count"),
        };
        bail!(UsageError(format!(
            "the loss of {data} must be {fitting}, got --loss {}",
            settings.loss
        )));
    }
    Ok(())
}

/// Items that are trained on, the first ones.
fn num_training(num_items: usize, holdout: f64, place: &str) -> Result<usize> {
    if holdout == 0.0 {
        return Ok(num_items);
    }
    if num_items < 2 {
        bail!(UsageError(format!(
            "{place} holds {num_items} item, too few to keep any for evaluation; use --holdout 0"
        )));
    }
    let held_out = (num_items as f64 * holdout).round() as usize;
    Ok(num_items - held_out.clamp(1, num_items - 1))
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
