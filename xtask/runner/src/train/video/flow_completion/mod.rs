//! `train flow-completion`: optical flow in the holes of videos.

mod evaluation;

use std::path::Path;

use anyhow::Result;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use burn_memopt::train::{MicroBatchTrainer, MicroLoss};
use burn_memopt_datasets::loader::Loader;
use burn_memopt_datasets::video::Clip;
use burn_memopt_models::propainter::raft::Raft;
use burn_memopt_models::propainter::training::{FlowCompletionLoss, FlowCompletionTarget};
use burn_memopt_models::propainter::{FlowCompletion, Published};

use super::batch::ClipBatch;
use super::clips::Clips;
use super::weights::Frozen;
use super::{optimizer, weights};
use crate::run_dir::RunDir;
use crate::settings::{FlowCompletionSettings, Settings};
use crate::train::cut_plan::CutPlan;
use crate::train::job::{Job, Metrics};
use crate::train::schedule::stepped_rate;
use crate::train::techniques::fixed_policy;
use crate::train::weights::first_weights;

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

    fn new(settings: Settings<FlowCompletionSettings>) -> Result<Self> {
        fixed_policy(&settings.run)?;
        let clips = &settings.model.clips;
        weights::warn_of_procedural(clips);
        let raft = Frozen::load(clips, &crate::device::open(settings.run.device)?)?;
        Ok(Self { settings, raft })
    }

    fn optimizer() -> ModuleOptimizer {
        optimizer()
    }

    fn learning_rate(rate: f64, step: u64) -> f64 {
        stepped_rate(rate, step, 0.2, &FALLS)
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
        batch_size: usize,
        device: &Device,
    ) -> Result<Loader<Clip, ClipBatch>> {
        data.loader(batch_size, device)
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

    fn judge(
        &self,
        network: &FlowCompletion,
        data: &Clips,
        _: usize,
        run: &RunDir,
        device: &Device,
    ) -> Result<Metrics> {
        self.raft.pass_on(run)?;
        weights::write(run, network)?;
        evaluation::judge(self, network, data, device)
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
