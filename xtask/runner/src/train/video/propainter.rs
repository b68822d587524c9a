//! `train propainter`: completing videos, against a discriminator.

use std::path::Path;

use anyhow::{Result, bail};
use burn::data::dataset::Dataset;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::{Device, Tensor};
use burn_memopt::train::MicroBatchTrainerConfig;
use burn_memopt_datasets::loader::Loader;
use burn_memopt_datasets::video::Clip;
use burn_memopt_models::propainter::raft::Raft;
use burn_memopt_models::propainter::training::InpaintTarget;
use burn_memopt_models::propainter::{
    AdversarialStep, Discriminator, FlowCompletion, InpaintGenerator, InpaintGeneratorConfig,
    Rivals, View,
};
use image::RgbImage;

use super::clips::{ClipBatch, Clips};
use super::{ADAM, Frozen, warn_of_procedural, write_weights};
use crate::run_dir::RunDir;
use crate::settings::{ProPainterSettings, Settings, UsageError};
use crate::train::job::{Job, Load, Metrics, stepped_rate};
use crate::train::network::{drawn, first_weights, fixed_policy};
use crate::train::optimizer::AdamSettings;
use crate::train::picture_of;
use crate::train::saved::CutPlan;

/// Steps after which the learning rate of the published training falls to a tenth.
const FALLS: [u64; 1] = [400_000];
/// Pictures that are written at most.
const NUM_PICTURES: usize = 4;

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

    const IS_COMPARED: bool = false;
    const ADAM: AdamSettings = ADAM;

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
        warn_of_procedural(clips);
        Ok(Self {
            raft: Frozen::load(clips, &settings.run.device)?,
            completion: Frozen::load(clips, &settings.run.device)?,
            settings,
        })
    }

    fn trainer(
        &self,
        _: &Clips,
        config: &MicroBatchTrainerConfig,
        optimizer: &ModuleOptimizer,
    ) -> AdversarialStep {
        let step = || config.init(optimizer.clone());
        AdversarialStep::new(step(), step())
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

    fn parts(data: &Clips) -> Vec<&dyn Dataset<Clip>> {
        data.parts()
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
        load: &Load,
        device: &Device,
    ) -> Result<Loader<Clip, ClipBatch>> {
        data.loader(load, device)
    }

    fn num_items(batch: &ClipBatch) -> usize {
        batch.num_items()
    }

    fn micro_batch(&self, rivals: &Rivals, train: &mut AdversarialStep, batch: ClipBatch) {
        train.micro_batch(rivals, self.target(batch).autodiff());
    }

    fn evaluate(
        &self,
        rivals: &Rivals,
        data: &Clips,
        _: usize,
        run: &RunDir,
        devices: &[Device],
    ) -> Result<Metrics> {
        let device = &devices[0];
        self.raft.pass_on(run)?;
        self.completion.pass_on(run)?;
        write_weights(run, &rivals.generator)?;
        evaluate(self, rivals, data, run, device)
    }
}

impl ProPainterJob {
    /// Clips with their holes filled as far as other frames show what is there.
    fn target(&self, batch: ClipBatch) -> InpaintTarget {
        let iterations = self.settings.model.clips.raft_iter;
        let (frames, masks) = (batch.local(&batch.frames), batch.local(&batch.masks));
        let known = batch.flows.clone();
        let device = frames.device();
        let flows = self.raft.flows(frames, known.clone(), iterations);
        let completed = |network: &FlowCompletion| network.complete(flows, &masks);
        let flows = self.completion.or_known(known, device, completed);
        InpaintTarget::new(batch.frames, flows, batch.masks, batch.num_local)
    }
}

/// Compares completed frames with the true ones in the holes of clips that were held out: `psnr_db`
/// is the peak signal-to-noise ratio in decibels, `l1` the mean distance of colours of which 1 is the
/// whole range; `psnr_before_db` and `l1_before` are those of the weights that training began with.
/// Writes pictures of masked, completed and true frames into `samples/` of the run.
fn evaluate(
    job: &ProPainterJob,
    rivals: &Rivals,
    data: &Clips,
    run: &RunDir,
    device: &Device,
) -> Result<Metrics> {
    let (plain, first) = (
        device.clone().without_autodiff(),
        job.network(Some(data), &mut CutPlan::default(), device)?
            .generator
            .valid(),
    );
    let generator = rivals.generator.valid();
    let [mut trained, mut before] = [Distance::default(); 2];
    for (number, clip) in data.evaluated(&plain).enumerate() {
        let (name, batch) = clip?;
        let target = job.target(batch);
        let completed = complete(&generator, &target);
        trained.add(&completed, &target);
        before.add(&complete(&first, &target), &target);
        if number < NUM_PICTURES {
            let picture = picture(&completed, &target)?;
            run.replace_file(&format!("samples/{name}.png"), |path| {
                Ok(picture.save(path)?)
            })?;
        }
    }
    if trained.values == 0.0 {
        return Ok(Metrics::new());
    }
    Ok(Metrics::from([
        ("psnr_db".into(), trained.psnr()),
        ("psnr_before_db".into(), before.psnr()),
        ("l1".into(), trained.l1()),
        ("l1_before".into(), before.l1()),
    ]))
}

/// The local frames as inference completes them.
fn complete(generator: &InpaintGenerator, target: &InpaintTarget) -> Tensor<5> {
    generator.forward(target.input.clone())
}

/// How far colours in holes are from the true ones, summed.
#[derive(Clone, Copy, Default)]
struct Distance {
    absolute: f64,
    squared: f64,
    values: f64,
}

impl Distance {
    fn add(&mut self, completed: &Tensor<5>, target: &InpaintTarget) {
        let local = completed.dims()[1];
        let truth = target.frames.clone().narrow(1, 0, local);
        let masks = target.input.masks.clone().narrow(1, 0, local);
        // Colours from -1 to 1.
        let off = (completed.clone() - truth).div_scalar(2.0) * masks.clone();
        let sum = |x: Tensor<5>| f64::from(x.sum().into_scalar::<f32>());
        self.absolute += sum(off.clone().abs());
        self.squared += sum(off.square());
        self.values += 3.0 * sum(masks);
    }

    fn l1(&self) -> f64 {
        self.absolute / self.values
    }

    /// In decibels.
    fn psnr(&self) -> f64 {
        -10.0 * (self.squared / self.values).log10()
    }
}

/// The middle frame: with its hole, completed, and as it is.
fn picture(completed: &Tensor<5>, target: &InpaintTarget) -> Result<RgbImage> {
    let local = completed.dims()[1];
    let middle = |x: &Tensor<5>| x.clone().narrow(1, local / 2, 1);
    let (truth, hole) = (middle(&target.frames), middle(&target.input.masks));
    let known = hole.clone().neg().add_scalar(1.0);
    let masked = truth.clone() * known.clone();
    let completed = middle(completed) * hole + masked.clone();
    // [1, 1, 3, height, 3 panels] -> [height, 3 panels, 3]
    let panels = Tensor::cat(vec![masked, completed, truth], 4);
    let panels = panels.squeeze_dim::<4>(0).squeeze_dim::<3>(0);
    picture_of(panels.permute([1, 2, 0]))
}
