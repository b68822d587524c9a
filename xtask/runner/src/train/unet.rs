//! `train unet`: counting emitters in frames, or finding the masks of images.

use std::path::Path;

use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor};
use burn_memopt::memory::estimate::Workload;
use burn_memopt::train::MicroBatchTrainer;
use burn_memopt_datasets::loader::Loader;
use burn_memopt_datasets::synthetic::emitters::EmitterConfig;
use burn_memopt_models::unet::UNet;

use super::cut_plan::CutPlan;
use super::images::{Batch, Data, Sample, Task, judge, prepare_network, whole_network};
use super::job::{Job, Metrics};
use super::movie::movie_in;
use super::rehearsal::Rehearsal;
use crate::choices::LossChoice;
use crate::run_dir::RunDir;
use crate::settings::{Settings, UNetSettings, UsageError};

/// The file of a run that says how its frames were normalised.
pub const NORMALIZATION_FILE: &str = "normalization.json";
/// Frames of the generated stack.
const GENERATED_FRAMES: usize = 200;
/// Photons of an emitter in a frame, on average: dim, so that counting them is no trifle.
const GENERATED_PHOTONS: f64 = 400.0;
/// Channels, height and width of its frames.
const GENERATED_SHAPE: [usize; 3] = [1, 32, 32];

/// A UNet on a stack with emitter positions, or on images with masks.
pub struct UNetJob {
    settings: Settings<UNetSettings>,
    task: Task,
}

impl Job for UNetJob {
    type Settings = UNetSettings;
    type Network = UNet;
    type Trainer = MicroBatchTrainer;
    type Data = Data;
    type Item = Sample;
    type Batch = Batch;

    fn new(settings: Settings<UNetSettings>) -> Result<Self> {
        check_loss(&settings.model)?;
        let task = Task::new(settings.model.data.loss);
        Ok(Self { settings, task })
    }

    fn open(&self) -> Result<Option<Data>> {
        let (data, run) = (&self.settings.model.data, &self.settings.run);
        match (&data.data, &data.targets, &data.images, &data.masks) {
            (Some(stack), Some(table), ..) => Data::frames(stack, table, run.holdout).map(Some),
            (.., Some(images), Some(masks)) => Data::images(images, masks, run).map(Some),
            _ => Ok(None),
        }
    }

    fn generate(&self, folder: &Path) -> Result<Data> {
        let run = &self.settings.run;
        let config = EmitterConfig::new()
            .with_num_frames(GENERATED_FRAMES)
            .with_height(GENERATED_SHAPE[1])
            .with_width(GENERATED_SHAPE[2])
            .with_photons(GENERATED_PHOTONS)
            .with_seed(run.seed);
        let files = movie_in(folder, &config)?;
        Data::frames(&files.frames, &files.localizations, run.holdout)
    }

    fn describe(&self, data: &Data, run: &RunDir) -> Result<()> {
        match data.normalization() {
            None => Ok(()),
            Some(normalization) => {
                run.replace_file(NORMALIZATION_FILE, |path| Ok(normalization.save(path)?))
            }
        }
    }

    fn network(&self, data: Option<&Data>, cut: &mut CutPlan, device: &Device) -> Result<UNet> {
        let Settings { model, run } = &self.settings;
        let shape = data.map_or(Ok(GENERATED_SHAPE), Data::shape)?;
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

impl Rehearsal for UNetJob {
    fn whole_network(&self, size: [usize; 2], device: &Device) -> Result<UNet> {
        let Settings { model, run } = &self.settings;
        let shape = [GENERATED_SHAPE[0], size[0], size[1]];
        whole_network(&model.network, run, self.task, shape, device)
    }

    fn side_multiple(&self) -> usize {
        1 << self.settings.model.network.depth
    }

    fn made_up(&self, workload: Workload, device: &Device) -> Batch {
        Batch::made_up(workload, GENERATED_SHAPE[0], device)
    }

    fn input(batch: Batch) -> Tensor<4> {
        batch.images
    }
}

/// Refuses a loss that does not fit the kind of data.
fn check_loss(settings: &UNetSettings) -> Result<()> {
    let data = &settings.data;
    let (has_masks, counts) = (data.images.is_some(), data.loss == LossChoice::Count);
    if has_masks == counts {
        let (kind, fitting) = match has_masks {
            true => ("images with masks", "bce-dice or cross-entropy"),
            false => ("stacks", "count"),
        };
        bail!(UsageError(format!(
            "the loss of {kind} must be {fitting}, got --loss {}",
            settings.data.loss
        )));
    }
    Ok(())
}
