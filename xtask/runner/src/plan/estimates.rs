//! `plan estimates`: what is estimated of each model against what is measured.

use anyhow::Result;
use burn::tensor::Device;
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::memory::estimate::{ModelBytes, OptimizerKind, Workload, peak_of_step};
use burn_memopt::memory::{Bytes, on_host};
use burn_memopt::precision::Precision;
use burn_memopt_models::GradCheckpoint;
use serde::Serialize;
use xtask::cli::values::Words;

use crate::cli::EstimatesFlags;
use crate::report::{note, print};
use crate::settings::{ModelSettings, settings_of};
use crate::train::rehearsal::{Rehearsal, Stage};
use crate::train::{DecodeJob, UNetJob, WatermarkJob};

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
pub(super) fn run(flags: &EstimatesFlags) -> Result<()> {
    let choice = flags.target.device.unwrap_or_default();
    let device = crate::device::open(choice)?.autodiff();
    let mut rows = Vec::new();
    rows.extend(model::<UNetJob>(&device)?);
    rows.extend(model::<DecodeJob>(&device)?);
    rows.extend(model::<WatermarkJob>(&device)?);
    if flags.json {
        print(serde_json::to_string(&rows)? + "\n")
    } else {
        print(table(&rows))
    }
}

/// A model as it is, and with each technique that is calibrated.
fn model<J: Rehearsal>(device: &Device) -> Result<Vec<Row>> {
    let job = J::new(settings_of(&Words::new())?)?;
    let network = job.whole_network([SIDE, SIDE], device)?;
    let device = device.clone();
    let stage = Stage {
        job,
        network,
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
    let resident = bytes.resident(OptimizerKind::AdamW);
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
        optimizer_state: bytes.optimizer_state(OptimizerKind::AdamW),
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
