//! `train unet` and `train watermark`: a U-Net that makes an image of an image.

pub mod data;
mod evaluation;
mod source;
mod task;

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::data::dataset::Dataset;
use burn::optim::ModuleOptimizer;
use burn::tensor::{Device, Tensor};
use burn_memopt::chunked::{Reach, TileShape};
use burn_memopt::memory::Bytes;
use burn_memopt::memory::estimate::Workload;
use burn_memopt::train::{MicroBatchTrainer, MicroBatchTrainerConfig, freeze_statistics};
use burn_memopt_datasets::loader::Loader;
use burn_memopt_models::unet::UNet;

use super::job::{Job, Load, Metrics, parts};
use super::network::cut;
use super::rehearsal::Rehearsal;
use super::saved::CutPlan;
use super::tile_plan::{Rehearsed, TileChoice, TileRequest, images_beside};
use super::tiling::{self, JobTiles};
use crate::choices::NormChoice;
use crate::report::TileDisplay;
use crate::run_dir::RunDir;
use crate::settings::{
    ImageSettings, Settings, UNetNetworkSettings, UNetSettings, UsageError, WatermarkSettings,
    budget,
};
use data::{Batch, Data, Sample};
use evaluation::Forward;
use source::ImageSource;
pub use task::{Task, build, most_probable};

/// The file of a run that says how its frames were normalised.
pub const NORMALIZATION_FILE: &str = "normalization.json";
/// A U-Net on a stack with emitter positions, or on images with masks.
pub type UNetJob = ImageJob<UNetSettings>;
/// A U-Net on images with watermarks, generated or given with their masks.
pub type WatermarkJob = ImageJob<WatermarkSettings>;

/// A U-Net on one of the data sets.
pub struct ImageJob<S> {
    settings: Settings<S>,
    task: Task,
    tiles: JobTiles,
}

impl<S: ImageSource> ImageJob<S> {
    /// Refuses images of these least sides if the network cannot halve them as often as it does.
    fn check_sides(&self, [height, width]: [usize; 2]) -> Result<()> {
        let network = &self.settings.model.image().network;
        let least = 1 << network.depth;
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
        Ok(())
    }

    /// The network with its first weights for images of these channels and least sides, not cut.
    fn build(&self, [channels, height, width]: [usize; 3], device: &Device) -> Result<UNet> {
        let Settings { model, run } = &self.settings;
        self.check_sides([height, width])?;
        let channels = [channels, self.task.out_channels()];
        let unet = build(&model.image().network, channels, run.seed, device)?;
        Ok(match model.image().freeze_norm {
            true => freeze_statistics(unet),
            false => unet,
        })
    }

    /// How far the network reaches.
    fn reach(&self, network: &UNet, channels: usize, device: &Device) -> Result<Reach> {
        let Settings { model, run } = &self.settings;
        let without_norms = UNetNetworkSettings {
            norm: NormChoice::None,
            weights: None,
            ..model.image().network.clone()
        };
        let both = [channels, self.task.out_channels()];
        let plain = build(&without_norms, both, run.seed, device)?;
        let stride = 1 << model.image().network.depth;
        let forward = UNet::forward_tiles;
        tiling::reach(
            &model.image().tiling,
            [network, &plain],
            stride,
            channels,
            forward,
        )
    }

    /// The tiles that images are trained on, of a network that reaches this far.
    fn choose_tiles(
        &self,
        network: &UNet,
        reach: &Reach,
        data: Option<&Data>,
        saved: &mut CutPlan,
        device: &Device,
    ) -> Result<TileChoice> {
        let Settings { model, run } = &self.settings;
        let [channels, height, width] =
            data.map_or_else(|| Ok(model.generated_shape()), Data::shape)?;
        let size = data.map_or([height, width], |data| data.largest_sides);
        let item = Bytes::new((4 * (channels + 1) * size[0] * size[1]) as u64);
        let all = data.map_or_else(|| item * model.num_generated() as u64, Data::training_bytes);
        let request = TileRequest {
            budget: budget(model.image().stages.budget.as_deref())?,
            ..TileRequest::new(&model.image().tiling, run, size, reach)
        };
        let margin = request.margin();
        let tile = |network: &UNet, train: &mut MicroBatchTrainer, shape: &TileShape| {
            let plane = |channels, [height, width]: [usize; 2]| {
                [shape.num_tiles(), channels, height, width]
            };
            let pixels = Tensor::ones(plane(channels, shape.read()), device);
            let targets = Tensor::zeros(plane(1, shape.kept()), device);
            let forward = |network: &UNet, pixels| {
                network.forward_tiles_within(shape.windows(pixels), margin)
            };
            let loss = |output| self.task.loss(shape.cut(output), targets);
            train.micro_batch(network, pixels, forward, loss);
        };
        let tiled = Rehearsed {
            network,
            tile,
            images: images_beside(item, all, run, device)?,
            adam: Self::ADAM,
        };
        tiled.tiles(request, run, saved, device)
    }
}

/// Refuses norms that do not fit the other settings.
fn check_norm(model: &impl ImageSource) -> Result<()> {
    let norm = model.image().network.norm;
    if model.image().freeze_norm && norm != NormChoice::Batch {
        bail!(UsageError(format!(
            "--freeze-norm is for --norm batch, which alone has running statistics, got --norm {norm}"
        )));
    }
    let is_global = match norm {
        NormChoice::Batch => !model.image().freeze_norm,
        NormChoice::Group => true,
        NormChoice::Channel | NormChoice::None => false,
    };
    let advice = "--norm channel or none, --norm batch with --freeze-norm";
    match is_global {
        true => tiling::refuse_norm(&model.image().tiling, &format!("--norm {norm}"), advice),
        false => Ok(()),
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
        let model = &settings.model;
        check_norm(model)?;
        let ImageSettings { tiling, stages, .. } = model.image();
        tiling::check_unused(tiling, &settings.run)?;
        if tiling.use_chunking && stages.progressive.is_some() {
            bail!(UsageError(
                "--use-chunking and --progressive both divide images; leave one out".into()
            ));
        }
        Ok(Self {
            settings,
            task,
            tiles: JobTiles::default(),
        })
    }

    fn trainer(
        &self,
        _: &Data,
        config: &MicroBatchTrainerConfig,
        optimizer: &ModuleOptimizer,
    ) -> MicroBatchTrainer {
        config.init(optimizer.clone())
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
        if !model.image().tiling.use_chunking {
            let sample = Tensor::zeros([run.batch_size, channels, height, width], device);
            return cut(network, &run.grad_checkpoint, sample, saved);
        }
        let reach = self.reach(&network, channels, device)?;
        let choice = self.choose_tiles(&network, &reach, data, saved, device)?;
        let (sample, given) = self
            .tiles
            .set(&model.image().tiling, choice, &reach, channels)?;
        cut(network, &given, Tensor::zeros(sample, device), saved)
    }

    fn show_tiles(&self, display: TileDisplay) {
        self.tiles.show(display);
    }

    fn check_side(&self, data: &Data, side: usize) -> Result<()> {
        let [height, width] = data.least_sides;
        if side > height.max(width) {
            bail!(UsageError(format!(
                "--progressive {side} is more than the images have: {height}×{width} pixels"
            )));
        }
        self.check_sides([side.min(height), side.min(width)])
            .with_context(|| format!("--progressive {side}"))
    }

    fn loader(&self, data: &Data, load: &Load, device: &Device) -> Result<Loader<Sample, Batch>> {
        data.loader(load, self.settings.run.seed, device)
    }

    fn num_items(batch: &Batch) -> usize {
        batch.num_items()
    }

    fn micro_batch(&self, network: &UNet, train: &mut MicroBatchTrainer, batch: Batch) {
        let Batch { images, targets } = batch;
        if let Some(step) = self.tiles.of_images(images.dims()[0]) {
            return self
                .tiles
                .accumulate(&step, [&images, &targets], |tiles, progress| {
                    self.task.accumulate(tiles, train, network, progress)
                });
        }
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
        let is_exact = !self.settings.model.image().tiling.approximate_chunks;
        let stride = 1 << self.settings.model.image().network.depth;
        let step = self.tiles.get().filter(|_| is_exact);
        let tiles = step.map(|step| tiling::for_evaluation(step, stride));
        let forward = Forward {
            task: self.task,
            tiles,
        };
        evaluation::evaluate(network, &forward, data, batch_size, run, devices)
    }
}

impl<S: ImageSource> Rehearsal for ImageJob<S> {
    fn whole_network(&self, [height, width]: [usize; 2], device: &Device) -> Result<UNet> {
        let [channels, ..] = self.settings.model.generated_shape();
        self.build([channels, height, width], device)
    }

    fn side_multiple(&self) -> usize {
        1 << self.settings.model.image().network.depth
    }

    fn made_up(&self, workload: Workload, device: &Device) -> Batch {
        let [channels, ..] = self.settings.model.generated_shape();
        Batch::made_up(workload, channels, device)
    }

    fn input(batch: Batch) -> Tensor<4> {
        batch.images
    }
}
