//! `train propainter`: completing videos, against a discriminator.

mod evaluation;

use std::path::Path;

use anyhow::{Result, bail};
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use burn_memopt_datasets::loader::Loader;
use burn_memopt_datasets::video::Clip;
use burn_memopt_models::propainter::raft::Raft;
use burn_memopt_models::propainter::training::InpaintTarget;
use burn_memopt_models::propainter::{
    AdversarialStep, Discriminator, FlowCompletion, InpaintGeneratorConfig, Rivals, View,
};

use super::batch::ClipBatch;
use super::clips::Clips;
use super::weights::Frozen;
use super::{optimizer, weights};
use crate::run_dir::RunDir;
use crate::settings::{ProPainterSettings, Settings, UsageError};
use crate::train::cut_plan::CutPlan;
use crate::train::job::{Job, Metrics};
use crate::train::schedule::stepped_rate;
use crate::train::techniques::fixed_policy;
use crate::train::weights::{drawn, first_weights};

/// Steps after which the learning rate of the published training falls to a tenth.
const FALLS: [u64; 1] = [400_000];

/// The generator on clips whose flow is known, or found by RAFT and completed.
pub struct ProPainterJob {
    settings: Settings<ProPainterSettings>,
    raft: Frozen<Raft>,
    completion: Frozen<FlowCompletion>,
}

impl Job for ProPainterJob {
    type Settings = ProPainterSettings;
    type Network = Rivals;
    type Trainer = AdversarialStep;
    type Data = Clips;
    type Item = Clip;
    type Batch = ClipBatch;

    fn new(settings: Settings<ProPainterSettings>) -> Result<Self> {
        fixed_policy(&settings.run)?;
        if settings.run.auto_micro_batch {
            bail!(UsageError(
                "--auto-micro-batch cannot undo a step of two networks; leave it out, and give a \
                 smaller --batch-size with more --accumulation-steps"
                    .into()
            ));
        }
        let clips = &settings.model.clips;
        weights::warn_of_procedural(clips);
        let device = crate::device::open(settings.run.device)?;
        Ok(Self {
            raft: Frozen::load(clips, &device)?,
            completion: Frozen::load(clips, &device)?,
            settings,
        })
    }

    fn optimizer() -> ModuleOptimizer {
        optimizer()
    }

    fn learning_rate(rate: f64, step: u64) -> f64 {
        stepped_rate(rate, step, 0.1, &FALLS)
    }

    fn open(&self) -> Result<Option<Clips>> {
        let Settings { model, run } = &self.settings;
        let open = |root| Clips::open(root, &model.clips, model.generator.num_reference, run);
        model.clips.data.as_deref().map(open).transpose()
    }

    fn generate(&self, folder: &Path) -> Result<Clips> {
        let Settings { model, run } = &self.settings;
        Clips::generate(folder, &model.clips, model.generator.num_reference, run)
    }

    fn network(&self, _: Option<&Clips>, _: &mut CutPlan, device: &Device) -> Result<Rivals> {
        let Settings { model, run } = &self.settings;
        device.seed(run.seed);
        let generator = InpaintGeneratorConfig::new()
            .with_depth(model.generator.depth)
            .init(device);
        let generator = first_weights(
            generator,
            model.clips.init_weights.as_deref(),
            "--init-weights",
        )?;
        let discriminator = drawn(Discriminator::new(View::Clip, device));
        Ok(Rivals {
            generator: generator.with_grad_checkpoint(fixed_policy(run)?),
            discriminator,
        })
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

    fn micro_batch(&self, rivals: &Rivals, train: &mut AdversarialStep, batch: ClipBatch) {
        train.micro_batch(rivals, self.target(batch).autodiff());
    }

    fn judge(
        &self,
        rivals: &Rivals,
        data: &Clips,
        _: usize,
        run: &RunDir,
        device: &Device,
    ) -> Result<Metrics> {
        self.raft.pass_on(run)?;
        self.completion.pass_on(run)?;
        weights::write(run, &rivals.generator)?;
        evaluation::judge(self, rivals, data, run, device)
    }
}

impl ProPainterJob {
    /// Clips with their holes filled as far as other frames show what is there.
    fn target(&self, batch: ClipBatch) -> InpaintTarget {
        let iterations = self.settings.model.clips.raft_iter;
        let (frames, masks) = (batch.local(&batch.frames), batch.local(&batch.masks));
        let known = batch.flows.clone();
        let flows = self.raft.flows(frames, known.clone(), iterations);
        let completed = |network: &FlowCompletion| network.complete(flows, &masks);
        let flows = self.completion.or_known(known, completed);
        InpaintTarget::new(batch.frames, flows, batch.masks, batch.num_local)
    }
}
