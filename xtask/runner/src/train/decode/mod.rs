//! `train decode`: localizing emitters in a stack, with uncertainties, and the evaluation of that.

mod data;
mod evaluation;
mod units;

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::data::dataset::Dataset;
use burn::optim::ModuleOptimizer;
use burn::tensor::{Device, Tensor};
use burn_memopt::batch::ModelReplicas;
use burn_memopt::chunked::{Reach, TileShape};
use burn_memopt::memory::Bytes;
use burn_memopt::memory::estimate::Workload;
use burn_memopt::train::{MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss};
use burn_memopt_datasets::loader::Loader;
use burn_memopt_datasets::synthetic::emitters::EmitterConfig;
use burn_memopt_models::decode::{
    Attribute, DetectionConfig, MUNetConfig, SigmaMUNet, SigmaMUNetConfig,
};
use burn_memopt_models::loss::MixtureLossConfig;

use super::job::{Job, Load, Metrics, parts};
use super::movie_in;
use super::network::{cut, drawn, first_weights};
use super::rehearsal::Rehearsal;
use super::saved::CutPlan;
use super::tile_plan::{Rehearsed, TileChoice, TileRequest, images_beside};
use super::tiling::{self, JobTiles};
use crate::report::TileDisplay;
use crate::run_dir::RunDir;
use crate::settings::{DecodeSettings, Settings, UsageError};
use data::{Batch, Collate, Data, Sample, made_up_targets};
use evaluation::Localizer;
use units::Units;

/// Frames of the generated stack.
const GENERATED_FRAMES: usize = 500;
/// Height and width of its frames.
const GENERATED_SIZE: [usize; 2] = [32, 32];
/// Frames before and after the one that is localized.
const NEIGHBOURS: usize = 1;

/// What the count of a frame without emitters weighs in the loss, against 1 with one emitter.
const EMPTY_FRAME_WEIGHT: f64 = 1.0;

/// DECODE's network on a stack with emitter positions.
pub struct DecodeJob {
    settings: Settings<DecodeSettings>,
    tiles: JobTiles,
}

impl Job for DecodeJob {
    type Settings = DecodeSettings;
    type Network = SigmaMUNet;
    type Trainer = MicroBatchTrainer;
    type Data = Data;
    type Item = Sample;
    type Batch = Batch;

    const DRAWS: bool = false;

    fn new(settings: Settings<DecodeSettings>) -> Result<Self> {
        let DecodeSettings {
            network, tiling, ..
        } = &settings.model;
        if network.norm_groups > 0 {
            let norm = format!("--norm-groups {}", network.norm_groups);
            tiling::refuse_norm(tiling, &norm, "--norm-groups 0")?;
        }
        tiling::check_unused(tiling, &settings.run)?;
        Ok(Self {
            settings,
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
        let Settings { model, run } = &self.settings;
        match (&model.data, &model.targets) {
            (Some(stack), Some(table)) => {
                Data::open(stack, table, model.pixel_size, run.holdout).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn item_name(data: &Data, index: usize) -> String {
        data.training.name(index)
    }

    fn generate(&self, folder: &Path) -> Result<Data> {
        let [height, width] = GENERATED_SIZE;
        let config = EmitterConfig::new()
            .with_num_frames(GENERATED_FRAMES)
            .with_height(height)
            .with_width(width)
            .with_seed(self.settings.run.seed);
        let files = movie_in(folder, &config)?;
        Data::open(
            &files.frames,
            &files.localizations,
            None,
            self.settings.run.holdout,
        )
    }

    fn parts(data: &Data) -> Vec<&dyn Dataset<Sample>> {
        parts(&data.training, &data.held_out)
    }

    fn network(
        &self,
        data: Option<&Data>,
        saved: &mut CutPlan,
        device: &Device,
    ) -> Result<SigmaMUNet> {
        let Settings { model, run } = &self.settings;
        let disabled =
            data.map_or_else(Units::disabled_when_generated, |data| data.units.disabled());
        let network = self.build(&disabled, device)?;
        let multiple = network.net.size_multiple();
        let size = data.map_or(GENERATED_SIZE, Data::size);
        let [height, width] = size.map(|side| side.next_multiple_of(multiple));
        self.check_norm(size, [height, width] == [multiple; 2])?;
        let frames = network.net.num_frames();
        if !model.tiling.use_chunking {
            let sample = Tensor::zeros([run.batch_size, frames, height, width], device);
            return cut(network, &run.grad_checkpoint, sample, saved);
        }
        let both = [&network, &self.plain(&disabled, device)];
        let forward = SigmaMUNet::forward_tiles;
        let reach = tiling::reach(&model.tiling, both, multiple, frames, forward)?;
        let choice = self.choose_tiles(&network, &reach, [height, width], saved, device)?;
        let (sample, given) = self.tiles.set(&model.tiling, choice, &reach, frames)?;
        cut(network, &given, Tensor::zeros(sample, device), saved)
    }

    fn loader(&self, data: &Data, load: &Load, device: &Device) -> Result<Loader<Sample, Batch>> {
        let config = load.config(self.settings.run.seed);
        let collate = Collate {
            frames: data.batcher(1 << self.settings.model.network.depth),
            units: data.units,
        };
        Ok(Loader::seeded(
            data.training.clone(),
            collate,
            config,
            device,
        )?)
    }

    fn show_tiles(&self, display: TileDisplay) {
        self.tiles.show(display);
    }

    fn num_items(batch: &Batch) -> usize {
        batch.windows.dims()[0]
    }

    fn micro_batch(&self, network: &SigmaMUNet, train: &mut MicroBatchTrainer, batch: Batch) {
        let Batch {
            windows,
            targets,
            background_weight,
        } = batch;
        let loss = MixtureLossConfig::new()
            .with_channel_weights([1.0, background_weight])
            .with_least_count_weight(EMPTY_FRAME_WEIGHT)
            .init();
        if let Some(step) = self.tiles.of_images(windows.dims()[0]) {
            let loss = loss.on_tiles(&targets);
            let forward = SigmaMUNet::forward_tiles;
            return self
                .tiles
                .accumulate(&step, [&windows, &loss], |tiles, progress| {
                    tiles.accumulate_sums(train, network, forward, &loss, progress)
                });
        }
        train.micro_batch(network, windows, SigmaMUNet::forward, |output| {
            let loss = loss.forward_sum(output, &targets);
            MicroLoss::sum(loss.sum, loss.weight)
        });
    }

    fn evaluate(
        &self,
        network: &SigmaMUNet,
        data: &Data,
        batch_size: usize,
        run: &RunDir,
        devices: &[Device],
    ) -> Result<Metrics> {
        let network = ModelReplicas::new(network, devices)
            .context("cannot start a thread for each device")?;
        let model = &self.settings.model;
        let multiple = 1 << model.network.depth;
        let step = self
            .tiles
            .get()
            .filter(|_| !model.tiling.approximate_chunks);
        let localizer = Localizer {
            data,
            detection: DetectionConfig::new().with_threshold(model.threshold),
            tiles: step.map(|step| tiling::for_evaluation(step, multiple)),
        };
        localizer.evaluate(&network, model.radius, batch_size, run)
    }
}

impl DecodeJob {
    /// Refuses groups of one value, which a normalization sets to 0: where frames are halved to a
    /// single pixel of no more channels than groups.
    fn check_norm(&self, [height, width]: [usize; 2], is_one_pixel: bool) -> Result<()> {
        let network = &self.settings.model.network;
        let channels = network.base_channels << (network.depth - 1);
        if is_one_pixel && channels <= network.norm_groups {
            bail!(UsageError(format!(
                "frames of {height}×{width} pixels are halved to a single one, where the groups of \
                 --norm-groups {} have one value each; choose fewer groups, 0 for none, or more \
                 --base-channels than {}",
                network.norm_groups, network.norm_groups
            )));
        }
        Ok(())
    }

    /// The tiles that frames of this padded size are trained on, of a network that reaches this far.
    fn choose_tiles(
        &self,
        network: &SigmaMUNet,
        reach: &Reach,
        size: [usize; 2],
        saved: &mut CutPlan,
        device: &Device,
    ) -> Result<TileChoice> {
        let Settings { model, run } = &self.settings;
        let frames = network.net.num_frames();
        let config = MixtureLossConfig::new();
        // More emitters than these take no more memory.
        let num_emitters = config.targets_at_once;
        let loss = config.init();
        let tile = |network: &SigmaMUNet, train: &mut MicroBatchTrainer, shape: &TileShape| {
            let [height, width] = shape.read();
            let pixels = Tensor::ones([shape.num_tiles(), frames, height, width], device);
            let kept = Workload {
                batch_size: shape.num_tiles(),
                size: shape.kept(),
            };
            let targets = made_up_targets(kept, num_emitters, device);
            let forward =
                |network: &SigmaMUNet, pixels| network.forward_tiles(shape.windows(pixels));
            train.micro_batch(network, pixels, forward, |output| {
                let loss = loss.forward_sum(shape.cut(output), &targets);
                MicroLoss::sum(loss.sum, loss.weight)
            });
        };
        let item = Bytes::new((4 * frames * size[0] * size[1]) as u64);
        let prefetch = Load::new(run)?.prefetch;
        let rehearsed = Rehearsed {
            network,
            tile,
            images: images_beside(item, prefetch, run, device)?,
            adam: Self::ADAM,
        };
        let request = TileRequest::new(&model.tiling, run, size, reach);
        rehearsed.tiles(request, run, saved, device)
    }

    /// The network with its first weights, not yet cut.
    fn build(&self, disabled: &[Attribute], device: &Device) -> Result<SigmaMUNet> {
        let Settings { model, run } = &self.settings;
        device.seed(run.seed);
        let network = self
            .config(model.network.norm_groups, disabled)
            .init(device);
        first_weights(network, model.weights.as_deref(), "--weights")
    }

    /// A network of the same shape without norms.
    fn plain(&self, disabled: &[Attribute], device: &Device) -> SigmaMUNet {
        device.seed(self.settings.run.seed);
        drawn(self.config(0, disabled).init(device))
    }

    fn config(&self, norm_groups: usize, disabled: &[Attribute]) -> SigmaMUNetConfig {
        let network = &self.settings.model.network;
        let core = MUNetConfig::new()
            .with_num_frames(2 * NEIGHBOURS + 1)
            .with_depth_shared(network.depth)
            .with_depth_union(network.depth)
            .with_initial_features(network.base_channels)
            .with_inter_features(network.base_channels)
            .with_norm_groups(Some(norm_groups).filter(|&groups| groups > 0));
        SigmaMUNetConfig::new()
            .with_core(core)
            .with_disabled(disabled.to_vec())
    }
}

impl Rehearsal for DecodeJob {
    fn whole_network(&self, _: [usize; 2], device: &Device) -> Result<SigmaMUNet> {
        self.build(&Units::disabled_when_generated(), device)
    }

    fn side_multiple(&self) -> usize {
        1 << self.settings.model.network.depth
    }

    fn padding_multiple(&self) -> usize {
        self.side_multiple()
    }

    fn made_up(&self, workload: Workload, device: &Device) -> Batch {
        Batch::made_up(workload, 2 * NEIGHBOURS + 1, device)
    }

    fn input(batch: Batch) -> Tensor<4> {
        batch.windows
    }
}
