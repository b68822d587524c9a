//! `train flow-completion`: optical flow in the holes of videos.

use std::path::Path;

use anyhow::Result;
use burn::data::dataset::Dataset;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::{Device, Tensor};
use burn_memopt::train::{MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss};
use burn_memopt_datasets::loader::Loader;
use burn_memopt_datasets::video::Clip;
use burn_memopt_models::propainter::raft::Raft;
use burn_memopt_models::propainter::training::{FlowCompletionLoss, FlowCompletionTarget};
use burn_memopt_models::propainter::{FlowCompletion, Flows, Published, masks_of_pairs};

use super::clips::{ClipBatch, Clips};
use super::{ADAM, Frozen, warn_of_procedural, write_weights};
use crate::run_dir::RunDir;
use crate::settings::{FlowCompletionSettings, Settings};
use crate::train::job::{Job, Load, Metrics, stepped_rate};
use crate::train::network::{first_weights, fixed_policy};
use crate::train::optimizer::AdamSettings;
use crate::train::saved::CutPlan;

/// Steps after which the learning rate of the published training falls to a fifth.
const FALLS: [u64; 4] = [300_000, 400_000, 500_000, 600_000];

/// The flow completion network on clips whose optical flow is known, or found by RAFT.
pub struct FlowCompletionJob {
    settings: Settings<FlowCompletionSettings>,
    raft: Frozen<Raft>,
}

impl Job for FlowCompletionJob {
    type Settings = FlowCompletionSettings;
    type Network = FlowCompletion;
    type Trainer = MicroBatchTrainer;
    type Data = Clips;
    type Item = Clip;
    type Batch = ClipBatch;

    const IS_COMPARED: bool = false;
    const ADAM: AdamSettings = ADAM;

    fn new(settings: Settings<FlowCompletionSettings>) -> Result<Self> {
        fixed_policy(&settings.run)?;
        let clips = &settings.model.clips;
        warn_of_procedural(clips);
        let raft = Frozen::load(clips, &settings.run.device)?;
        Ok(Self { settings, raft })
    }

    fn learning_rate(rate: f64, step: u64) -> f64 {
        stepped_rate(rate, step, 0.2, &FALLS)
    }

    fn trainer(
        &self,
        _: &Clips,
        config: &MicroBatchTrainerConfig,
        optimizer: &ModuleOptimizer,
    ) -> MicroBatchTrainer {
        config.init(optimizer.clone())
    }

    fn open(&self) -> Result<Option<Clips>> {
        let Settings { model, run } = &self.settings;
        let open = |root| Clips::open(root, &model.clips, 0, run);
        model.clips.data.as_deref().map(open).transpose()
    }

    fn generate(&self, folder: &Path) -> Result<Clips> {
        let Settings { model, run } = &self.settings;
        Clips::generate(folder, &model.clips, 0, run)
    }

    fn parts(data: &Clips) -> Vec<&dyn Dataset<Clip>> {
        data.parts()
    }

    fn network(
        &self,
        _: Option<&Clips>,
        _: &mut CutPlan,
        device: &Device,
    ) -> Result<FlowCompletion> {
        let Settings { model, run } = &self.settings;
        device.seed(run.seed);
        let network = FlowCompletion::published_size(device);
        let network = first_weights(
            network,
            model.clips.init_weights.as_deref(),
            "--init-weights",
        )?;
        Ok(network.with_grad_checkpoint(fixed_policy(run)?))
    }

    fn loader(
        &self,
        data: &Clips,
        load: &Load,
        device: &Device,
    ) -> Result<Loader<Clip, ClipBatch>> {
        data.loader(load, device)
    }

    fn num_items(batch: &ClipBatch) -> usize {
        batch.num_items()
    }

    fn micro_batch(
        &self,
        network: &FlowCompletion,
        train: &mut MicroBatchTrainer,
        batch: ClipBatch,
    ) {
        let target = self.target(&batch).autodiff();
        let given = (target.flows.clone(), target.masks.clone());
        let predict =
            |network: &FlowCompletion, (flows, masks)| network.predict_with_edges(flows, &masks);
        train.micro_batch(network, given, predict, |predicted| {
            let terms = FlowCompletionLoss::new().terms(&predicted, &target);
            MicroLoss::mean(terms.total(), batch.num_items() as f64)
        });
    }

    fn evaluate(
        &self,
        network: &FlowCompletion,
        data: &Clips,
        _: usize,
        run: &RunDir,
        devices: &[Device],
    ) -> Result<Metrics> {
        let device = &devices[0];
        self.raft.pass_on(run)?;
        write_weights(run, network)?;
        evaluate(self, network, data, device)
    }
}

impl FlowCompletionJob {
    /// Clips with their flow.
    fn target(&self, batch: &ClipBatch) -> FlowCompletionTarget {
        let iterations = self.settings.model.clips.raft_iter;
        FlowCompletionTarget {
            flows: self
                .raft
                .flows(batch.frames.clone(), batch.flows.clone(), iterations),
            frames: batch.frames.clone(),
            masks: batch.masks.clone(),
        }
    }
}

/// Says how far completed flow is from the true flow in the holes of clips that were held out, on average
/// over their pixels: `epe_px` pixels; `epe_before_px` with the weights that training began with,
/// and `epe_zero_px` without any flow there.
fn evaluate(
    job: &FlowCompletionJob,
    network: &FlowCompletion,
    data: &Clips,
    device: &Device,
) -> Result<Metrics> {
    let (plain, first) = (
        device.clone().without_autodiff(),
        job.network(Some(data), &mut CutPlan::default(), device)?,
    );
    let (network, first) = (network.valid(), first.valid());
    let [mut trained, mut before, mut zero] = [EndpointError::default(); 3];
    for clip in data.evaluated(&plain) {
        let target = job.target(&clip?.1);
        let (flows, masks) = (&target.flows, &target.masks);
        trained.add(&network.predict(flows.clone(), masks), flows, masks);
        before.add(&first.predict(flows.clone(), masks), flows, masks);
        let none = Flows {
            forward: flows.forward.zeros_like(),
            backward: flows.backward.zeros_like(),
        };
        zero.add(&none, flows, masks);
    }
    let errors = [
        ("epe_px", trained),
        ("epe_before_px", before),
        ("epe_zero_px", zero),
    ];
    let known = errors.into_iter().filter(|(_, error)| error.pixels > 0.0);
    Ok(known
        .map(|(name, error)| (name.into(), error.mean()))
        .collect())
}

/// How far flows are from true ones in holes, summed over their pixels.
#[derive(Clone, Copy, Default)]
struct EndpointError {
    sum: f64,
    pixels: f64,
}

impl EndpointError {
    fn add(&mut self, predicted: &Flows, truth: &Flows, masks: &Tensor<5>) {
        let [there, back] = masks_of_pairs(masks);
        for (predicted, truth, mask) in [
            (&predicted.forward, &truth.forward, there),
            (&predicted.backward, &truth.backward, back),
        ] {
            let off = (predicted.clone() - truth.clone())
                .square()
                .sum_dim(2)
                .sqrt();
            self.sum += f64::from((off * mask.clone()).sum().into_scalar::<f32>());
            self.pixels += f64::from(mask.sum().into_scalar::<f32>());
        }
    }

    /// In pixels.
    fn mean(&self) -> f64 {
        self.sum / self.pixels
    }
}
