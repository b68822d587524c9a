//! `plan`: the settings that keep a memory budget, and why.

mod estimates;
mod report;

use std::io::Write;

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_memopt::grad_checkpoint::{PlanError, Policy};
use burn_memopt::memory::estimate::{CalibrateError, ModelBytes, OptimizerKind, peak_of_step};
use burn_memopt::memory::plan::{
    Choice, Request, Technique, TileSize, Verified, VerifyError, verified,
};
use burn_memopt::memory::{Bytes, MemoryMonitor, on_host};
use burn_memopt::precision::Precision;
use clap::Args;
use serde::Serialize;

use crate::choices::PrecisionChoice;
use crate::cli::{
    DecodeFlags, ModelFlags, PlanArgs, PlanModel, RunFlags, UNetFlags, WatermarkFlags, WorkFlags,
};
use crate::settings::{ModelSettings, Settings, UsageError};
use crate::train::rehearsal::{Recomputable, Rehearsal, Stage};
use crate::train::{DecodeJob, UNetJob, WatermarkJob};
use report::Report;

/// Micro-batches after which a step holds all it ever holds at once.
const ENOUGH_MICRO_BATCHES: usize = 2;
/// The smallest tile, in pixels at the bottom of the network.
const LEAST_TILE: usize = 4;

type Error = VerifyError<CalibrateError>;

/// Finds settings, runs them for two steps, and prints them with their reasons.
///
/// # Errors
/// If a flag is wrong, no settings stay within the budget, the memory of the device cannot be
/// measured, or a step fails.
pub fn run(args: &PlanArgs) -> Result<()> {
    match &args.model {
        PlanModel::Decode(flags) => {
            let network = &flags.model;
            let model = DecodeFlags {
                base_channels: network.base_channels,
                depth: network.depth,
                norm_groups: network.norm_groups,
                ..DecodeFlags::default()
            };
            plan::<DecodeJob, _>(model, &flags.plan)
        }
        PlanModel::Unet(flags) => {
            let model = UNetFlags {
                network: flags.model.clone(),
                ..UNetFlags::default()
            };
            plan::<UNetJob, _>(model, &flags.plan)
        }
        PlanModel::Watermark(flags) => {
            let model = WatermarkFlags {
                network: flags.model.clone(),
                ..WatermarkFlags::default()
            };
            plan::<WatermarkJob, _>(model, &flags.plan)
        }
        PlanModel::Estimates(flags) => estimates::run(flags),
    }
}

/// The job of a model with the settings that `model` gives it.
fn job<J: Rehearsal, F: Args + Serialize + Default>(model: F) -> Result<J> {
    let run = RunFlags::default();
    let settings = Settings::<J::Settings>::resolve(&ModelFlags { model, run }, None)?;
    J::new(settings)
}

fn plan<J: Rehearsal, F>(model: F, work: &WorkFlags) -> Result<()>
where
    F: Args + Serialize + Default + Clone,
{
    let budget: Bytes = work
        .budget
        .parse()
        .map_err(|why| UsageError(format!("--budget: {why}")))?;
    let device = work.device.unwrap_or_default();
    let device_name = crate::device::resolve(device)?.to_string();
    let device = crate::device::open(device)?.autodiff();
    let job = job::<J, F>(model.clone())?;
    let size = work.size.0;
    let size = size.map(|side| side.next_multiple_of(job.padding_multiple()));
    let network = job.whole_network(size, &device)?;
    let stage = Stage {
        job,
        network,
        device,
    };
    let bytes = ModelBytes::of(&stage.network);
    let request = request(&stage, work, budget, size, bytes);
    let name = J::Settings::MODEL;
    let verified = search(&stage, work, &request).with_context(|| {
        format!(
            "cannot plan {name} on {} images of {}",
            work.batch, work.size
        )
    })?;
    let policy = policy_to_give(&stage, &verified.choice);
    let report = Report::new(name, &device_name, work, bytes, budget, verified)
        .with_command(&model, size, policy)?;
    let mut stdout = std::io::stdout().lock();
    match work.json {
        true => writeln!(stdout, "{}", serde_json::to_string(&report)?)?,
        false => write!(stdout, "{report}")?,
    }
    Ok(())
}

fn request<J: Rehearsal>(
    stage: &Stage<J>,
    work: &WorkFlags,
    budget: Bytes,
    size: [usize; 2],
    bytes: ModelBytes,
) -> Request {
    let batch_size = usize::try_from(work.batch).unwrap_or(usize::MAX);
    if work.inference {
        let multiple = stage.job.side_multiple();
        return Request::inference(budget, batch_size, size)
            .with_resident(bytes.parameters)
            .with_tiles(TileSize {
                least: LEAST_TILE * multiple,
                multiple,
            });
    }
    Request::training(budget, batch_size, size)
        .with_resident(bytes.resident(OptimizerKind::AdamW))
        .with_gradients(bytes.gradients)
        .with_batch_statistics(bytes.has_batch_statistics)
}

/// Plans in the precision that was asked for; else in f32 and, where that does not fit, in f16 too.
/// Where nothing fits, what needs least is tried, so that the error can say how much that is.
fn search<J: Rehearsal>(stage: &Stage<J>, work: &WorkFlags, request: &Request) -> Result<Verified> {
    let given = work.precision.map(|precision| match precision {
        PrecisionChoice::F32 => Precision::F32,
        PrecisionChoice::F16 => Precision::F16,
        PrecisionChoice::Bf16 => Precision::Bf16,
    });
    let first = given.unwrap_or_default();
    first
        .check(&stage.device)
        .map_err(|error| UsageError(format!("--precision: {error}")))?;
    let mut techniques = ways(stage, first, request)?;
    match verify(stage, request, techniques.clone()) {
        Err(VerifyError::Budget(_)) => {}
        found => return Ok(found?),
    }
    if given.is_none() && Precision::F16.check(&stage.device).is_ok() {
        techniques.extend(ways(stage, Precision::F16, request)?);
    }
    let request = request
        .clone()
        .with_trial_limit(half_of_free(&stage.device));
    Ok(verify(stage, &request, techniques)?)
}

/// Half of what is free on the device now, for trials; nothing if that is unknown.
fn half_of_free(device: &Device) -> Bytes {
    let snapshot = MemoryMonitor::new([device.clone()]).snapshot();
    let free = match on_host(device) {
        true => snapshot.host_available,
        false => snapshot.devices.first().and_then(|device| device.free),
    };
    Bytes::new(free.map_or(0, |free| free.get() / 2))
}

fn ways<J: Rehearsal>(
    stage: &Stage<J>,
    precision: Precision,
    request: &Request,
) -> Result<Vec<Technique>> {
    eprintln!("calibrating in {precision}");
    let workload = request.workload();
    Ok(match request.is_training() {
        true => stage.ways_to_train(precision, workload)?,
        false => vec![stage.way_to_infer(precision, workload)?],
    })
}

fn verify<J: Rehearsal>(
    stage: &Stage<J>,
    request: &Request,
    techniques: Vec<Technique>,
) -> Result<Verified, Error> {
    let run = |choice: &Choice| {
        eprintln!("running {} in {}", choice.workload(), choice.precision);
        let (precision, workload) = (choice.precision, choice.workload());
        if !request.is_training() {
            return peak_of_step(&stage.device, stage.inference(precision, workload));
        }
        let network = cut(stage.network.clone(), choice);
        let micro_batches = choice.accumulation_steps.min(ENOUGH_MICRO_BATCHES);
        let step = stage.training(network, precision, workload, micro_batches);
        peak_of_step(&stage.device, step)
    };
    verified(request, techniques, run)
}

fn cut<M: Recomputable>(network: M, choice: &Choice) -> M {
    match &choice.cut {
        Some(plan) => network.cut_by(plan.into()),
        None => network.cut_by(choice.policy.into()),
    }
}

/// The policy to train with. A run measures its blocks anew and must find that the budget does: what
/// it takes for the least is tried here.
fn policy_to_give<J: Rehearsal>(stage: &Stage<J>, choice: &Choice) -> Policy {
    if !matches!(choice.policy, Policy::Budget(_)) {
        return choice.policy;
    }
    let device: &Device = &stage.device;
    let sample = J::input(stage.job.made_up(choice.workload(), device));
    match stage.network.measure(choice.policy, sample) {
        Err(PlanError::Budget(error)) => Policy::Budget(error.minimum),
        _ => choice.policy,
    }
}
