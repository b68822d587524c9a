//! The evaluation of a run's network: at the end of `train`, when a killed run is completed, and by
//! `evaluate`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use xtask::cli::values::Words;

use super::data_of;
use super::job::{Job, Metrics};
use super::network::training_precision;
use super::saved::{self, CutPlan};
use super::session::Session;
use super::{DecodeJob, FlowCompletionJob, GanJob, ProPainterJob, UNetJob, WatermarkJob};
use crate::cli::EvaluateArgs;
use crate::report::train::EvaluationReport;
use crate::run_dir::RunDir;
use crate::settings::{
    DecodeSettings, FlowCompletionSettings, GanSettings, ModelSettings, ProPainterSettings,
    UNetSettings, WatermarkSettings, open_run_with,
};

/// The file of a run that says how good its network is. It is written last: where it is there, so
/// are pictures and tables.
const METRICS_FILE: &str = "metrics.json";

/// What the network of a run was evaluated with.
#[derive(Serialize, Deserialize)]
pub struct Evaluation {
    /// Optimizer steps that had been done.
    step: u64,
    /// Where the data was, if not where the run was trained on it.
    #[serde(default, skip_serializing_if = "Words::is_empty")]
    data: Words,
    /// `null` is what is no number.
    metrics: BTreeMap<String, Option<f64>>,
}

impl Evaluation {
    /// The metrics after `step` steps, if the run was evaluated then.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn find(run: &RunDir, step: u64) -> Result<Option<Metrics>> {
        let path = run.root().join(METRICS_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let context = || format!("cannot use {}; remove it", path.display());
        let text = fs::read_to_string(&path).with_context(context)?;
        let found: Self = saved::from_json(&text).with_context(context)?;
        let metrics = found.metrics.into_iter();
        let metrics = metrics.map(|(name, value)| (name, value.unwrap_or(f64::NAN)));
        let is_wanted = found.step == step && found.data.is_empty();
        Ok(is_wanted.then(|| metrics.collect()))
    }

    fn save(&self, run: &RunDir) -> Result<()> {
        let text =
            serde_json::to_string_pretty(self).context("cannot write the metrics as JSON")?;
        run.replace_file(METRICS_FILE, |path| Ok(fs::write(path, text + "\n")?))
    }
}

/// Evaluates a network as far as `session` has trained it, and writes everything that shows how good
/// it is into the run. `moved` says where data is that was elsewhere in training.
pub fn evaluate_network<J: Job>(
    job: &J,
    network: &J::Network,
    data: &J::Data,
    session: &Session<J>,
    moved: Words,
    run: &RunDir,
    devices: &[Device],
) -> Result<Metrics> {
    let metrics = job.evaluate(network, data, session.parts.size(), run, devices)?;
    let evaluation = Evaluation {
        step: session.step,
        data: moved,
        metrics: metrics
            .iter()
            .map(|(name, &value)| (name.clone(), Some(value)))
            .collect(),
    };
    evaluation.save(run)?;
    Ok(metrics)
}

/// Evaluates the last saved state of a run and prints the metrics.
pub fn evaluate(args: &EvaluateArgs) -> Result<()> {
    match RunDir::model_in(&args.model)?.as_str() {
        DecodeSettings::MODEL => evaluate_run::<DecodeJob>(args),
        FlowCompletionSettings::MODEL => evaluate_run::<FlowCompletionJob>(args),
        GanSettings::MODEL => evaluate_run::<GanJob>(args),
        ProPainterSettings::MODEL => evaluate_run::<ProPainterJob>(args),
        UNetSettings::MODEL => evaluate_run::<UNetJob>(args),
        WatermarkSettings::MODEL => evaluate_run::<WatermarkJob>(args),
        other => bail!(
            "{} holds a run of the model {other}, which this version does not know",
            args.model.display()
        ),
    }
}

fn evaluate_run<J: Job>(args: &EvaluateArgs) -> Result<()> {
    let moved = args.data_words();
    let (run, mut settings) = open_run_with::<J::Settings>(&args.model, &moved)?;
    let state = run.latest_or_error()?;
    let choice = args.device.unwrap_or(settings.run.device.main());
    settings.run.device = choice.into();
    let device_name = crate::device::resolve(choice)?.to_string();
    let device = crate::device::open(choice)?.autodiff();
    let job = J::new(settings.clone())?;
    let data = data_of(&job, job.open()?, &run)?;
    let network = job.network(Some(&data), &mut CutPlan::open(&run)?, &device)?;
    let precision = training_precision(settings.run.precision, std::slice::from_ref(&device))?;
    let mut session = Session::new(
        &job,
        &data,
        &settings.run,
        precision,
        std::slice::from_ref(&device),
    )?;
    let network = saved::load(&state.dir, &job, &data, network, &mut session)?;
    let metrics = evaluate_network(
        &job,
        &network,
        &data,
        &session,
        moved,
        &run,
        std::slice::from_ref(&device),
    )?;
    let report = EvaluationReport {
        model: J::Settings::MODEL,
        step: session.step,
        device: device_name,
        artifact_dir: run.root().display().to_string(),
        metrics,
    };
    report.print(args.json)
}
