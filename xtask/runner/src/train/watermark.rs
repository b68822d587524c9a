//! `train watermark`: finding text watermarks in images.

use std::path::Path;

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use burn_memopt::memory::estimate::Workload;
use burn_memopt::train::MicroBatchTrainer;
use burn_memopt_datasets::loader::Loader;
use burn_memopt_datasets::synthetic::watermark::{WatermarkConfig, Watermarks};
use burn_memopt_models::unet::UNet;

use super::cut_plan::CutPlan;
use super::images::{Batch, Data, Sample, Task, judge, prepare_network, whole_network};
use super::job::{Job, Metrics};
use super::rehearsal::Rehearsal;
use crate::choices::LossChoice;
use crate::run_dir::RunDir;
use crate::settings::{Settings, WatermarkSettings};

/// Channels of an image.
const NUM_CHANNELS: usize = 3;
/// Heights of a line of text, least and largest, as shares of the image's.
const TEXT_HEIGHTS: [f64; 2] = [0.3, 0.55];

/// A UNet on images with watermarks, generated or given with their masks.
pub struct WatermarkJob {
    settings: Settings<WatermarkSettings>,
    task: Task,
}

impl WatermarkJob {
    /// The images to generate, on photographs where they are given.
    fn watermarks(&self) -> Result<Watermarks> {
        let data = &self.settings.model.data;
        let size = data.image_size;
        let [least, largest] = TEXT_HEIGHTS.map(|share| (share * size as f64).max(12.0));
        let config = WatermarkConfig::new()
            .with_num_images(data.num_images)
            .with_height(size)
            .with_width(size)
            .with_min_text_height(least)
            .with_max_text_height(largest)
            .with_seed(self.settings.run.seed);
        Ok(match &data.images {
            Some(photographs) => Watermarks::on_photographs(config, photographs)?,
            None => Watermarks::new(config),
        })
    }
}

impl Job for WatermarkJob {
    type Settings = WatermarkSettings;
    type Network = UNet;
    type Trainer = MicroBatchTrainer;
    type Data = Data;
    type Item = Sample;
    type Batch = Batch;

    fn new(settings: Settings<WatermarkSettings>) -> Result<Self> {
        let task = Task::new(LossChoice::BceDice);
        Ok(Self { settings, task })
    }

    fn open(&self) -> Result<Option<Data>> {
        let Settings { model, run } = &self.settings;
        match (&model.data.images, &model.data.masks) {
            (Some(images), Some(masks)) => Data::images(images, masks, run).map(Some),
            // Without photographs there would be nothing to generate from.
            _ => self.watermarks().map(|_| None),
        }
    }

    fn generate(&self, folder: &Path) -> Result<Data> {
        let (images, masks) = (folder.join("images"), folder.join("masks"));
        if !images.is_dir() || !masks.is_dir() {
            self.watermarks()?.write(folder)?;
        }
        Data::images(&images, &masks, &self.settings.run)
    }

    fn network(&self, data: Option<&Data>, cut: &mut CutPlan, device: &Device) -> Result<UNet> {
        let Settings { model, run } = &self.settings;
        let size = model.data.image_size;
        let shape = data.map_or(Ok([NUM_CHANNELS, size, size]), Data::shape)?;
        prepare_network(&model.network, run, self.task, shape, cut, device)
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
        self.task.micro_batch(network, train, batch);
    }

    fn judge(
        &self,
        network: &UNet,
        data: &Data,
        batch_size: usize,
        run: &RunDir,
        device: &Device,
    ) -> Result<Metrics> {
        judge(network, self.task, data, batch_size, run, device)
    }
}

impl Rehearsal for WatermarkJob {
    fn whole_network(&self, size: [usize; 2], device: &Device) -> Result<UNet> {
        let Settings { model, run } = &self.settings;
        let shape = [NUM_CHANNELS, size[0], size[1]];
        whole_network(&model.network, run, self.task, shape, device)
    }

    fn side_multiple(&self) -> usize {
        1 << self.settings.model.network.depth
    }

    fn made_up(&self, workload: Workload, device: &Device) -> Batch {
        Batch::made_up(workload, NUM_CHANNELS, device)
    }

    fn input(batch: Batch) -> Tensor<4> {
        batch.images
    }
}
