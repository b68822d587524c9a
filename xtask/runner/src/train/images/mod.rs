//! `train unet` and `train watermark`: a U-Net that makes an image of an image.

pub mod data;
mod evaluation;
mod task;

use std::path::Path;

use anyhow::{Result, bail};
use burn::data::dataset::Dataset;
use burn::tensor::{Device, Tensor};
use burn_memopt::memory::estimate::Workload;
use burn_memopt::train::{MicroBatchTrainer, MicroBatchTrainerConfig};
use burn_memopt_datasets::loader::Loader;
use burn_memopt_datasets::synthetic::emitters::EmitterConfig;
use burn_memopt_datasets::synthetic::watermark::{WatermarkConfig, Watermarks};
use burn_memopt_models::unet::UNet;

use super::job::{Job, Metrics, parts};
use super::network::cut;
use super::rehearsal::Rehearsal;
use super::saved::CutPlan;
use super::{generate_once, movie_in};
use crate::choices::{LossChoice, NormChoice};
use crate::run_dir::RunDir;
use crate::settings::{
    ModelSettings, RunSettings, Settings, UNetData, UNetNetworkSettings, UNetSettings, UsageError,
    WatermarkSettings,
};
use data::{Batch, Data, Sample};
pub use task::{Task, build, most_probable};

/// The file of a run that says how its frames were normalised.
pub const NORMALIZATION_FILE: &str = "normalization.json";
/// Frames of the generated stack.
const GENERATED_FRAMES: usize = 200;
/// Photons of an emitter in a frame, on average: dim, so that counting them is no trifle.
const GENERATED_PHOTONS: f64 = 400.0;
/// Side of its frames in pixels.
const GENERATED_SIDE: usize = 32;
/// Heights of a line of text in a generated image, least and largest, as shares of the image's.
const TEXT_HEIGHTS: [f64; 2] = [0.3, 0.55];

/// A U-Net on a stack with emitter positions, or on images with masks.
pub type UNetJob = ImageJob<UNetSettings>;
/// A U-Net on images with watermarks, generated or given with their masks.
pub type WatermarkJob = ImageJob<WatermarkSettings>;

/// The data set that an image model learns from.
pub trait ImageSource: ModelSettings {
    fn network(&self) -> &UNetNetworkSettings;

    /// What the network learns; the loss must fit the kind of data.
    fn task(&self) -> Result<Task>;

    /// Channels, height and width of a generated image.
    fn generated_shape(&self) -> [usize; 3];

    /// Opens the data that the settings name, if they name any.
    fn open(&self, run: &RunSettings) -> Result<Option<Data>>;

    /// Generates the data in `folder`, or opens what was generated there before.
    fn generate(&self, run: &RunSettings, folder: &Path) -> Result<Data>;
}

impl ImageSource for UNetSettings {
    fn network(&self) -> &UNetNetworkSettings {
        &self.network
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
    fn network(&self) -> &UNetNetworkSettings {
        &self.network
    }

    fn task(&self) -> Result<Task> {
        Ok(Task::new(LossChoice::BceDice, None))
    }

    fn generated_shape(&self) -> [usize; 3] {
        [3, self.data.image_size, self.data.image_size]
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

/// A U-Net on one of the data sets.
pub struct ImageJob<S> {
    settings: Settings<S>,
    task: Task,
}

impl<S: ImageSource> ImageJob<S> {
    /// The network with its first weights for images of these channels and least sides, not cut.
    fn build(&self, [channels, height, width]: [usize; 3], device: &Device) -> Result<UNet> {
        let Settings { model, run } = &self.settings;
        let (network, least) = (model.network(), 1 << model.network().depth);
        if height.min(width) < least {
            let advice = if network.depth > 1 {
                "choose a smaller depth, or leave out or enlarge smaller images"
            } else {
                "leave out or enlarge smaller images"
            };
            bail!(UsageError(format!(
                "--depth {} needs images of at least {least} pixels a side, got {height}×{width}; \
                 {advice}",
                network.depth
            )));
        }
        // The coarsest level has half as many channels as the halvings alone would give.
        let channels_at_bottom = network.base_channels << (network.depth - 1);
        let pixels_at_bottom = (height >> network.depth) * (width >> network.depth);
        if network.norm == NormChoice::Group && channels_at_bottom * pixels_at_bottom == 1 {
            bail!(UsageError(format!(
                "images of {height}×{width} pixels are halved to a single one, of which --norm group \
                 would leave nothing; use --base-channels 2 or more, or --norm batch"
            )));
        }
        build(
            network,
            [channels, self.task.out_channels()],
            run.seed,
            device,
        )
    }
}

impl<S: ImageSource> Job for ImageJob<S> {
    type Settings = S;
    type Network = UNet;
    type Trainer = MicroBatchTrainer;
    type Data = Data;
    type Item = Sample;
    type Batch = Batch;

    const DRAWS: bool = false;

    fn new(settings: Settings<S>) -> Result<Self> {
        let task = settings.model.task()?;
        Ok(Self { settings, task })
    }

    fn trainer(&self, _: &Data, config: &MicroBatchTrainerConfig) -> MicroBatchTrainer {
        config.init(Self::optimizer())
    }

    fn open(&self) -> Result<Option<Data>> {
        self.settings.model.open(&self.settings.run)
    }

    fn generate(&self, folder: &Path) -> Result<Data> {
        self.settings.model.generate(&self.settings.run, folder)
    }

    fn item_name(data: &Data, index: usize) -> String {
        let sample = data.training.get(index);
        sample.map_or_else(|_| format!("item {index}"), |sample| sample.name)
    }

    fn describe(&self, data: &Data, run: &RunDir) -> Result<()> {
        let Some(normalization) = data.normalization() else {
            return Ok(());
        };
        run.replace_file(NORMALIZATION_FILE, |path| Ok(normalization.save(path)?))
    }

    fn parts(data: &Data) -> Vec<&dyn Dataset<Sample>> {
        parts(&data.training, &data.held_out)
    }

    fn network(&self, data: Option<&Data>, saved: &mut CutPlan, device: &Device) -> Result<UNet> {
        let Settings { model, run } = &self.settings;
        let shape = data.map_or_else(|| Ok(model.generated_shape()), Data::shape)?;
        let [channels, height, width] = shape;
        let least = data.map_or([height, width], |data| data.least_sides);
        let network = self.build([channels, least[0], least[1]], device)?;
        let sample = Tensor::zeros([run.batch_size, channels, height, width], device);
        cut(network, run, sample, saved)
    }

    fn loader(
        &self,
        data: &Data,
        batch_size: usize,
        device: &Device,
    ) -> Result<Loader<Sample, Batch>> {
        data.loader(batch_size, self.settings.run.seed, device)
    }

    fn num_items(batch: &Batch) -> usize {
        batch.num_items()
    }

    fn micro_batch(&self, network: &UNet, train: &mut MicroBatchTrainer, batch: Batch) {
        let Batch { images, targets } = batch;
        train.micro_batch(network, images, UNet::forward, |output| {
            self.task.loss(output, targets)
        });
    }

    fn evaluate(
        &self,
        network: &UNet,
        data: &Data,
        batch_size: usize,
        run: &RunDir,
        devices: &[Device],
    ) -> Result<Metrics> {
        evaluation::evaluate(network, self.task, data, batch_size, run, devices)
    }
}

impl<S: ImageSource> Rehearsal for ImageJob<S> {
    fn whole_network(&self, [height, width]: [usize; 2], device: &Device) -> Result<UNet> {
        let [channels, ..] = self.settings.model.generated_shape();
        self.build([channels, height, width], device)
    }

    fn side_multiple(&self) -> usize {
        1 << self.settings.model.network().depth
    }

    fn made_up(&self, workload: Workload, device: &Device) -> Batch {
        let [channels, ..] = self.settings.model.generated_shape();
        Batch::made_up(workload, channels, device)
    }

    fn input(batch: Batch) -> Tensor<4> {
        batch.images
    }
}
