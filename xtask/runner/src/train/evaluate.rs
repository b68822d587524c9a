//! The evaluation of a run's network: at the end of `train`, when a killed run is completed, and by
//! `evaluate`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use burn_memopt::precision::Precision;
use serde::{Deserialize, Serialize};
use xtask::cli::values::Words;

use super::data_of;
use super::job::{Job, Metrics};
use super::quantize::quantize_run;
use super::saved::{self, CutPlan};
use super::session::Session;
use super::{DecodeJob, FlowCompletionJob, GanJob, ProPainterJob, UNetJob, WatermarkJob};
use crate::cli::{EvaluateArgs, QuantizeArgs};
use crate::report::train::EvaluationReport;
use crate::run_dir::{RunDir, SavedState};
use crate::settings::{
    DecodeSettings, FlowCompletionSettings, GanSettings, ModelSettings, ProPainterSettings,
    Settings, UNetSettings, WatermarkSettings, open_run_with,
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

/// Calls a function with the job of a run's model.
macro_rules! with_job {
    ($root:expr, $run:ident($($arg:expr),*)) => {
        match RunDir::model_in($root)?.as_str() {
            DecodeSettings::MODEL => $run::<DecodeJob>($($arg),*),
            FlowCompletionSettings::MODEL => $run::<FlowCompletionJob>($($arg),*),
            GanSettings::MODEL => $run::<GanJob>($($arg),*),
            ProPainterSettings::MODEL => $run::<ProPainterJob>($($arg),*),
            UNetSettings::MODEL => $run::<UNetJob>($($arg),*),
            WatermarkSettings::MODEL => $run::<WatermarkJob>($($arg),*),
            other => bail!(
                "{} holds a run of the model {other}, which this version does not know",
                $root.display()
            ),
        }
    };
}

/// Evaluates the last saved state of a run and prints the metrics.
pub fn evaluate(args: &EvaluateArgs) -> Result<()> {
    with_job!(&args.model, evaluate_run(args))
}

fn evaluate_run<J: Job>(args: &EvaluateArgs) -> Result<()> {
    let trained = TrainedRun::<J>::open(args)?;
    let metrics = trained.evaluate(&trained.network, &trained.run)?;
    let report = EvaluationReport {
        model: J::Settings::MODEL,
        step: trained.session.step,
        device: trained.device_name,
        artifact_dir: trained.run.root().display().to_string(),
        metrics,
    };
    report.print(args.json)
}

/// Packs the weights of the last saved state of a run, evaluates both, and prints what changed.
pub fn quantize(args: &QuantizeArgs) -> Result<()> {
    with_job!(&args.evaluate.model, quantize_run(args))
}

/// The last saved state of a run, with all that it takes to evaluate it.
pub struct TrainedRun<J: Job> {
    pub run: RunDir,
    pub settings: Settings<J::Settings>,
    pub state: SavedState,
    pub job: J,
    pub data: J::Data,
    pub network: J::Network,
    pub session: Session<J>,
    pub device_name: String,
    device: Device,
    moved: Words,
}

impl<J: Job> TrainedRun<J> {
    /// Opens the run, its data and its network.
    pub fn open(args: &EvaluateArgs) -> Result<Self> {
        let moved = args.data_words();
        let (run, settings) = open_run_with::<J::Settings>(&args.model, &moved)?;
        let state = run.latest_or_error()?;
        let choice = args.device.unwrap_or(settings.run.device.main());
        let mut on_device = settings.clone();
        on_device.run.device = choice.into();
        let device_name = crate::device::resolve(choice)?.to_string();
        let device = crate::device::open(choice)?.autodiff();
        let devices = std::slice::from_ref(&device);
        let job = J::new(on_device.clone())?;
        let data = data_of(&job, job.open()?, &run)?;
        let network = job.network(Some(&data), &mut CutPlan::open(&run)?, &device)?;
        // No step is made.
        let mut session = Session::new(&job, &data, &on_device.run, Precision::F32, devices)?;
        let network = saved::load_to_evaluate(&state.dir, network, &mut session)?;
        Ok(Self {
            run,
            settings,
            state,
            job,
            data,
            network,
            session,
            device_name,
            device,
            moved,
        })
    }

    /// Evaluates a network of the run, which is that of its last saved state or made from it, and
    /// writes what shows how good it is into the folder of `run`.
    pub fn evaluate(&self, network: &J::Network, run: &RunDir) -> Result<Metrics> {
        evaluate_network(
            &self.job,
            network,
            &self.data,
            &self.session,
            self.moved.clone(),
            run,
            std::slice::from_ref(&self.device),
        )
    }
}
