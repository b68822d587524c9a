//! `train decode`: localizing emitters in a stack, with uncertainties, and the evaluation of that.

mod data;
mod units;

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::data::dataset::Dataset;
use burn::tensor::{Device, Tensor};
use burn_memopt::batch::ModelReplicas;
use burn_memopt::memory::estimate::Workload;
use burn_memopt::train::{MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss};
use burn_memopt_datasets::loader::{Loader, LoaderConfig};
use burn_memopt_datasets::localizations::{Localization, write_csv};
use burn_memopt_datasets::synthetic::emitters::EmitterConfig;
use burn_memopt_models::decode::{
    Attribute, DetectionConfig, FoundEmitter, MUNetConfig, Score, SigmaMUNet, SigmaMUNetConfig,
};
use burn_memopt_models::loss::MixtureLossConfig;

use super::job::{Job, Metrics, parts};
use super::network::{cut, first_weights};
use super::rehearsal::Rehearsal;
use super::saved::CutPlan;
use super::{check_finite, movie_in};
use crate::run_dir::RunDir;
use crate::settings::{DecodeSettings, Settings, UsageError};
use data::{Batch, Collate, Data, Sample, Samples};
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
        Ok(Self { settings })
    }

    fn trainer(&self, _: &Data, config: &MicroBatchTrainerConfig) -> MicroBatchTrainer {
        config.init(Self::optimizer())
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
        let run = &self.settings.run;
        let disabled =
            data.map_or_else(Units::disabled_when_generated, |data| data.units.disabled());
        let network = self.build(disabled, device)?;
        let multiple = network.net.size_multiple();
        let size = data.map_or(GENERATED_SIZE, Data::size);
        let [height, width] = size.map(|side| side.next_multiple_of(multiple));
        self.check_norm(size, [height, width] == [multiple; 2])?;
        let frames = network.net.num_frames();
        let sample = Tensor::zeros([run.batch_size, frames, height, width], device);
        cut(network, run, sample, saved)
    }

    fn loader(
        &self,
        data: &Data,
        batch_size: usize,
        device: &Device,
    ) -> Result<Loader<Sample, Batch>> {
        let config = LoaderConfig::new(batch_size).with_shuffle(Some(self.settings.run.seed));
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
        evaluate(&network, data, &self.settings.model, batch_size, run)
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

    /// The network with its first weights, not yet cut.
    fn build(&self, disabled: Vec<Attribute>, device: &Device) -> Result<SigmaMUNet> {
        let Settings { model, run } = &self.settings;
        let groups = Some(model.network.norm_groups).filter(|&groups| groups > 0);
        let core = MUNetConfig::new()
            .with_num_frames(2 * NEIGHBOURS + 1)
            .with_depth_shared(model.network.depth)
            .with_depth_union(model.network.depth)
            .with_initial_features(model.network.base_channels)
            .with_inter_features(model.network.base_channels)
            .with_norm_groups(groups);
        device.seed(run.seed);
        let network = SigmaMUNetConfig::new()
            .with_core(core)
            .with_disabled(disabled)
            .init(device);
        first_weights(network, model.weights.as_deref(), "--weights")
    }
}

impl Rehearsal for DecodeJob {
    fn whole_network(&self, _: [usize; 2], device: &Device) -> Result<SigmaMUNet> {
        self.build(Units::disabled_when_generated(), device)
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

/// Localizes the frames held out, or the training frames where none are; writes
/// `localizations.csv` and `units.json` into the run.
///
/// `jaccard` is the Jaccard index of found and true emitters, `rmse_px` the root mean squared
/// distance of the matches in pixels, where there are any; next to them `precision` and `recall`.
fn evaluate(
    network: &ModelReplicas<SigmaMUNet>,
    data: &Data,
    settings: &DecodeSettings,
    batch_size: usize,
    run: &RunDir,
) -> Result<Metrics> {
    let samples = data.held_out.as_ref().unwrap_or(&data.training);
    let detection = DetectionConfig::new().with_threshold(settings.threshold);
    let (mut rows, mut score) = (Vec::new(), Score::default());
    let frames: Vec<usize> = samples.frames.clone().collect();
    for frames in frames.chunks(batch_size * network.count()) {
        let parts = frames.chunks(batch_size).collect();
        let found = network.run(parts, |network, device, frames| {
            let device = device.clone().without_autodiff();
            localize(network, data, samples, frames, &detection, &device)
        });
        let found = found.into_iter().collect::<Result<Vec<_>>>()?;
        for (&frame, found) in frames.iter().zip(found.into_iter().flatten()) {
            let found = found.iter().map(|emitter| data.units.row(frame, emitter));
            let found: Vec<Localization> = found.collect();
            let truth = samples.emitters.emitters(frame);
            let radius = settings.radius;
            score = score.plus(Score::of_frame(&places(&found), &places(truth), radius));
            rows.extend(found);
        }
    }
    run.replace_file("localizations.csv", |path| Ok(write_csv(path, &rows)?))?;
    let units = serde_json::to_string_pretty(&data.units).context("cannot write units as JSON")?;
    run.replace_file("units.json", |path| Ok(std::fs::write(path, units + "\n")?))?;
    Ok(match data.held_out {
        None => Metrics::new(),
        Some(_) => metrics(&score),
    })
}

/// The emitters that the network finds in consecutive frames.
fn localize(
    network: &SigmaMUNet,
    data: &Data,
    samples: &Samples,
    frames: &[usize],
    detection: &DetectionConfig,
    device: &Device,
) -> Result<Vec<Vec<FoundEmitter>>> {
    let mut sequence = Vec::new();
    for (at, &frame) in frames.iter().enumerate() {
        let window = samples.windows.window(frame)?.frames;
        // Of the windows after the first, all frames but the last are there already.
        let known = if at == 0 { 0 } else { window.len() - 1 };
        sequence.extend_from_slice(&window[known..]);
    }
    let pixels: Vec<&[f32]> = sequence.iter().map(|frame| &frame.pixels[..]).collect();
    let batcher = data.batcher(network.net.size_multiple());
    let output = network.forward_sequence(batcher.batch(&pixels, 1, device));
    // One number for each frame, which is not finite if one of its values is not.
    let sums = output.clone().sum_dims(&[1, 2, 3]).try_into_data()?;
    for (&frame, sum) in frames.iter().zip(sums.iter::<f32>()) {
        let name = || samples.name(frame - samples.frames.start);
        check_finite(&[sum], name)?;
    }
    let [height, width] = batcher.size;
    let [batch_size, channels, ..] = output.dims();
    let output = output.slice([0..batch_size, 0..channels, 0..height, 0..width]);
    Ok(detection.find(output, &data.units.output))
}

fn places(emitters: &[Localization]) -> Vec<[f32; 2]> {
    emitters
        .iter()
        .map(|emitter| [emitter.x, emitter.y])
        .collect()
}

fn metrics(score: &Score) -> Metrics {
    let mut metrics = Metrics::from([
        ("jaccard".into(), score.jaccard()),
        ("precision".into(), score.precision()),
        ("recall".into(), score.recall()),
    ]);
    if let Some(rmse) = score.rmse() {
        metrics.insert("rmse_px".into(), rmse);
    }
    metrics
}
