//! Where the images of `train unet` and `train watermark` come from, and what is learned from them.

use std::path::Path;

use anyhow::{Result, bail};
use burn_memopt_datasets::synthetic::emitters::EmitterConfig;
use burn_memopt_datasets::synthetic::watermark::{WatermarkConfig, Watermarks};

use super::data::Data;
use super::task::Task;
use crate::choices::LossChoice;
use crate::settings::{
    ImageSettings, ModelSettings, RunSettings, UNetData, UNetSettings, UsageError,
    WatermarkSettings,
};
use crate::train::{generate_once, movie_in};

/// Frames of the generated stack.
const GENERATED_FRAMES: usize = 200;
/// Photons of an emitter in a frame, on average: dim, so that counting them is no trifle.
const GENERATED_PHOTONS: f64 = 400.0;
/// Side of its frames in pixels.
const GENERATED_SIDE: usize = 32;
/// Heights of a line of text in a generated image, least and largest, as shares of the image's.
const TEXT_HEIGHTS: [f64; 2] = [0.3, 0.55];

/// The data set that an image model learns from.
pub trait ImageSource: ModelSettings {
    /// The network, and how it is trained.
    fn image(&self) -> &ImageSettings;

    /// What the network learns; the loss must fit the kind of data.
    fn task(&self) -> Result<Task>;

    /// Channels, height and width of a generated image.
    fn generated_shape(&self) -> [usize; 3];

    /// Images that are generated.
    fn num_generated(&self) -> usize;

    /// Opens the data that the settings name, if they name any.
    fn open(&self, run: &RunSettings) -> Result<Option<Data>>;

    /// Generates the data in `folder`, or opens what was generated there before.
    fn generate(&self, run: &RunSettings, folder: &Path) -> Result<Data>;
}

impl ImageSource for UNetSettings {
    fn image(&self) -> &ImageSettings {
        &self.image
    }

    fn task(&self) -> Result<Task> {
        let UNetData { loss, classes, .. } = self.data;
        let has_masks = self.data.images.is_some();
        if classes.is_some() && loss != LossChoice::CrossEntropy {
            bail!(UsageError(format!(
                "the loss of --classes must be cross-entropy, got --loss {loss}"
            )));
        }
        if has_masks == (loss == LossChoice::Count) {
            let (kind, fitting) = if has_masks {
                ("images with masks", "bce-dice or cross-entropy")
            } else {
                ("stacks", "count")
            };
            bail!(UsageError(format!(
                "the loss of {kind} must be {fitting}, got --loss {loss}"
            )));
        }
        Ok(Task::new(loss, classes))
    }

    fn generated_shape(&self) -> [usize; 3] {
        [1, GENERATED_SIDE, GENERATED_SIDE]
    }

    fn num_generated(&self) -> usize {
        GENERATED_FRAMES
    }

    fn open(&self, run: &RunSettings) -> Result<Option<Data>> {
        let data = &self.data;
        match (&data.data, &data.targets, &data.images, &data.masks) {
            (Some(stack), Some(table), ..) => {
                Data::frames(stack, table, data.pixel_size, run.holdout).map(Some)
            }
            (.., Some(images), Some(masks)) => {
                Data::images(images, masks, data.classes, run).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn generate(&self, run: &RunSettings, folder: &Path) -> Result<Data> {
        let config = EmitterConfig::new()
            .with_num_frames(GENERATED_FRAMES)
            .with_height(GENERATED_SIDE)
            .with_width(GENERATED_SIDE)
            .with_photons(GENERATED_PHOTONS)
            .with_seed(run.seed);
        let files = movie_in(folder, &config)?;
        Data::frames(&files.frames, &files.localizations, None, run.holdout)
    }
}

impl ImageSource for WatermarkSettings {
    fn image(&self) -> &ImageSettings {
        &self.image
    }

    fn task(&self) -> Result<Task> {
        Ok(Task::new(LossChoice::BceDice, None))
    }

    fn generated_shape(&self) -> [usize; 3] {
        [3, self.data.image_size, self.data.image_size]
    }

    fn num_generated(&self) -> usize {
        self.data.num_images
    }

    fn open(&self, run: &RunSettings) -> Result<Option<Data>> {
        match (&self.data.images, &self.data.masks) {
            (Some(images), Some(masks)) => Data::images(images, masks, None, run).map(Some),
            // Photographs that cannot be used are refused before anything is written.
            _ => watermarks(self, run).map(|_| None),
        }
    }

    fn generate(&self, run: &RunSettings, folder: &Path) -> Result<Data> {
        let (images, masks) = (folder.join("images"), folder.join("masks"));
        generate_once(folder, &masks, |folder| {
            watermarks(self, run)?.write(folder)?;
            Ok(())
        })?;
        Data::images(&images, &masks, None, run)
    }
}

/// The images to generate, on photographs where they are given.
fn watermarks(settings: &WatermarkSettings, run: &RunSettings) -> Result<Watermarks> {
    let data = &settings.data;
    let size = data.image_size;
    let [least, largest] = TEXT_HEIGHTS.map(|share| (share * size as f64).max(12.0));
    let config = WatermarkConfig::new()
        .with_num_images(data.num_images)
        .with_height(size)
        .with_width(size)
        .with_min_text_height(least)
        .with_max_text_height(largest)
        .with_seed(run.seed);
    Ok(match &data.images {
        Some(photographs) => Watermarks::on_photographs(config, photographs)?,
        None => Watermarks::new(config),
    })
}
