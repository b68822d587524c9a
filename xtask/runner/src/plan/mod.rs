//! `plan`: the settings that keep a memory budget, and why; and `plan estimates`: what is estimated of
//! each model against what is measured.

mod report;

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_memopt::budget::{
    self, Request, StepSettings, Technique, TileSize, Verified, VerifyError,
};
use burn_memopt::grad_checkpoint::{PlanError, Policy};
use burn_memopt::memory::estimate::{CalibrateError, ModelBytes, Workload, peak_of_step};
use burn_memopt::memory::{Bytes, free_on, on_host};
use burn_memopt::precision::Precision;
use burn_memopt_models::GradCheckpoint;
use serde::Serialize;
use xtask::cli::values::Words;

use crate::cli::{EstimatesFlags, OptimizerSettings, PlanArgs, PlanModel, WorkFlags};
use crate::report::{note, print};
use crate::settings::{ModelSettings, UsageError, precision_of, settings_of};
use crate::train::optimizer::Kept;
use crate::train::rehearsal::{ENOUGH_MICRO_BATCHES, Rehearsal, Stage};
use crate::train::{DecodeJob, UNetJob, WatermarkJob};
use report::Report;

/// The smallest tile, in pixels at the bottom of the network.
const LEAST_TILE: usize = 4;

type Error = VerifyError<CalibrateError>;

/// Finds settings, runs them for two steps, and prints them with their reasons.
pub fn run(args: &PlanArgs) -> Result<()> {
    match &args.model {
        PlanModel::Decode(flags) => plan::<DecodeJob>(&flags.model.words, &flags.plan),
        PlanModel::Unet(flags) => plan::<UNetJob>(&flags.model.words, &flags.plan),
        PlanModel::Watermark(flags) => plan::<WatermarkJob>(&flags.model.words, &flags.plan),
        PlanModel::Estimates(flags) => run_estimates(flags),
    }
}

fn plan<J: Rehearsal>(given: &Words, work: &WorkFlags) -> Result<()> {
    let budget: Bytes = work
        .budget
        .parse()
        .map_err(|why| UsageError(format!("--budget: {why}")))?;
    let device = work.target.device.unwrap_or_default();
    let device_name = crate::device::resolve(device)?.to_string();
    let device = crate::device::open(device)?.autodiff();
    let job = J::new(settings_of(given)?)?;
    let size = work.size.0;
    let size = size.map(|side| side.next_multiple_of(job.padding_multiple()));
    let network = job.whole_network(size, &device)?;
    let stage = Stage {
        job,
        network,
        optimizer: work.optimizer,
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
    let policy = policy_to_give(&stage, &verified.choice.settings);
    let state = Kept::of(&bytes, stage.optimizer, &stage.device).state;
    let report = Report::new(name, &device_name, work, bytes, state, budget, verified)
        .with_command(given, size, policy);
    if work.json {
        print(serde_json::to_string(&report)? + "\n")
    } else {
        print(report)
    }
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
        return Request {
            resident: bytes.parameters,
            tile: Some(TileSize {
                least: LEAST_TILE * multiple,
                multiple,
            }),
            ..Request::inference(budget, batch_size, size)
        };
    }
    Request {
        resident: Kept::of(&bytes, stage.optimizer, &stage.device).resident,
        gradients: bytes.gradients,
        has_batch_statistics: bytes.has_batch_statistics,
        ..Request::training(budget, batch_size, size)
    }
}

/// Plans in the precision that was asked for; else in f32 and, where that does not fit, in f16 too.
/// Where nothing fits, what needs least is tried, so that the error can say how much that is.
fn search<J: Rehearsal>(stage: &Stage<J>, work: &WorkFlags, request: &Request) -> Result<Verified> {
    let given = work.precision.map(precision_of);
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
    // Half of what is free, for trials; nothing if that is unknown.
    let free = free_on(&stage.device).unwrap_or(Bytes::ZERO);
    let request = Request {
        trial_limit: Bytes::new(free.get() / 2),
        ..request.clone()
    };
    Ok(verify(stage, &request, techniques)?)
}

fn ways<J: Rehearsal>(
    stage: &Stage<J>,
    precision: Precision,
    request: &Request,
) -> Result<Vec<Technique>> {
    note(format_args!("calibrating in {precision}"));
    let workload = request.workload();
    Ok(if request.is_training {
        stage.ways_to_train(precision, workload)?
    } else {
        vec![stage.way_to_infer(precision, workload)?]
    })
}

fn verify<J: Rehearsal>(
    stage: &Stage<J>,
    request: &Request,
    techniques: Vec<Technique>,
) -> Result<Verified, Error> {
    let run = |planned: &StepSettings| {
        let (precision, workload) = (planned.precision, planned.workload());
        note(format_args!("running {workload} in {precision}"));
        if !request.is_training {
            return peak_of_step(&stage.device, stage.inference(precision, workload));
        }
        let network = stage
            .network
            .clone()
            .with_grad_checkpoint(planned.cut_or_policy());
        let micro_batches = planned.accumulation_steps.min(ENOUGH_MICRO_BATCHES);
        let step = stage.training(network, precision, workload, micro_batches);
        peak_of_step(&stage.device, step)
    };
    budget::verify(request, techniques, run)
}

/// The policy to train with. A run measures its blocks again and must find that the budget is enough,
/// so that is tried here.
fn policy_to_give<J: Rehearsal>(stage: &Stage<J>, planned: &StepSettings) -> Policy {
    if !matches!(planned.policy, Policy::Budget(_)) {
        return planned.policy;
    }
    let sample = J::input(stage.job.made_up(planned.workload(), &stage.device));
    match stage.network.plan(planned.policy, sample) {
        Err(PlanError::Budget(error)) => Policy::Budget(error.least),
        _ => planned.policy,
    }
}

/// Images in a step.
const BATCH_SIZE: usize = 4;
/// Their sides: large enough that calibration on parts of them is far from what is estimated.
const SIDE: usize = 128;

/// A row of the table.
#[derive(Debug, Serialize)]
struct Row {
    model: &'static str,
    batch: String,
    settings: String,
    parameters: Bytes,
    gradients: Bytes,
    optimizer_state: Bytes,
    activations: Bytes,
    estimated_peak: Bytes,
    measured_peak: Bytes,
    deviation: f64,
}

/// Estimates and measures an optimizer step of every model, and prints the table.
fn run_estimates(flags: &EstimatesFlags) -> Result<()> {
    let choice = flags.target.device.unwrap_or_default();
    let device = crate::device::open(choice)?.autodiff();
    let mut rows = Vec::new();
    rows.extend(estimates_of::<UNetJob>(&device)?);
    rows.extend(estimates_of::<DecodeJob>(&device)?);
    rows.extend(estimates_of::<WatermarkJob>(&device)?);
    if flags.json {
        print(serde_json::to_string(&rows)? + "\n")
    } else {
        print(table(&rows))
    }
}

/// A model as it is, and with each technique that is calibrated.
fn estimates_of<J: Rehearsal>(device: &Device) -> Result<Vec<Row>> {
    let job = J::new(settings_of(&Words::new())?)?;
    let network = job.whole_network([SIDE, SIDE], device)?;
    let device = device.clone();
    let stage = Stage {
        job,
        network,
        optimizer: OptimizerSettings::default(),
        device,
    };
    let mut ways = vec![
        (Precision::F32, Policy::None),
        (Precision::F32, Policy::EveryBlock),
    ];
    // A host computes half precision by way of f32, in many times the time.
    if Precision::F16.check(&stage.device).is_ok() && !on_host(&stage.device) {
        ways.push((Precision::F16, Policy::None));
    }
    let ways = ways.into_iter();
    ways.map(|(precision, policy)| row(&stage, precision, policy))
        .collect()
}

fn row<J: Rehearsal>(stage: &Stage<J>, precision: Precision, policy: Policy) -> Result<Row> {
    let model = J::Settings::MODEL;
    note(format_args!("{model} in {precision}, recomputed: {policy}"));
    let bytes = ModelBytes::of(&stage.network);
    let Kept { state, resident } = Kept::of(&bytes, stage.optimizer, &stage.device);
    let workload = Workload::new(BATCH_SIZE, [SIDE, SIDE]);
    let estimated = stage
        .fit_training(precision, policy, workload)?
        .at(workload);
    let network = stage.network.clone().with_grad_checkpoint(policy);
    let step = stage.training(network, precision, workload, 1);
    let measured = resident + peak_of_step(&stage.device, step)?;
    let estimated_peak = resident + estimated;
    Ok(Row {
        model,
        batch: workload.to_string(),
        settings: match policy {
            Policy::None => precision.to_string(),
            policy => format!("{precision}, {policy}"),
        },
        parameters: bytes.parameters,
        gradients: bytes.gradients,
        optimizer_state: state,
        activations: estimated - bytes.gradients,
        estimated_peak,
        measured_peak: measured,
        deviation: estimated_peak.get() as f64 / measured.get() as f64 - 1.0,
    })
}

/// The rows as a table in Markdown.
fn table(rows: &[Row]) -> String {
    let mut lines = vec![
        "| model | batch | settings | parameters | gradients | AdamW | activations | estimated peak \
         | measured peak | deviation |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(rows.iter().map(|row| {
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {:+.1} % |",
            row.model,
            row.batch,
            row.settings,
            row.parameters,
            row.gradients,
            row.optimizer_state,
            row.activations,
            row.estimated_peak,
            row.measured_peak,
            100.0 * row.deviation,
        )
    }));
    lines.join("\n") + "\n"
}
