//! `train`: puts data, network, techniques and artifacts together.
//!
//! One loop trains every model: what differs between them is a `Job` (`job.rs`).

mod cut_plan;
mod decode;
mod feed;
mod holdout;
mod images;
mod job;
mod movie;
mod plan;
pub(crate) mod rehearsal;
mod run;
mod saved;
mod schedule;
mod session;
mod techniques;
mod trainer;
mod unet;
mod video;
mod watch;
mod watermark;
mod weights;

use std::io::Write;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use burn_memopt::precision::Precision;
use clap::Args;
use serde::Serialize;

use crate::cli::{ModelFlags, TrainModel};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::settings::{RunSettings, UsageError};
use cut_plan::CutPlan;
pub(crate) use decode::DecodeJob;
pub(crate) use images::{Task, build as build_unet};
use job::Job;
use plan::{Estimate, Plan};
use run::Run;
pub(crate) use saved::MODEL_FILE;
use session::Session;
pub(crate) use techniques::precision;
pub(crate) use unet::{NORMALIZATION_FILE, UNetJob};
use video::{FlowCompletionJob, ProPainterJob};
use watch::Watch;
pub(crate) use watermark::WatermarkJob;

/// The folder of generated data in the artifact folder.
const DATA_FOLDER: &str = "data";

/// Trains a model, or says what it would do.
///
/// # Errors
/// If a setting, the data or the run to resume is wrong, or the run fails.
pub fn train(model: &TrainModel) -> Result<()> {
    match model {
        TrainModel::Decode(flags) => train_job::<DecodeJob, _>(flags),
        TrainModel::FlowCompletion(flags) => train_job::<FlowCompletionJob, _>(flags),
        TrainModel::ProPainter(flags) => train_job::<ProPainterJob, _>(flags),
        TrainModel::Unet(flags) => train_job::<UNetJob, _>(flags),
        TrainModel::Watermark(flags) => train_job::<WatermarkJob, _>(flags),
    }
}

fn train_job<J: Job, F: Args + Serialize>(flags: &ModelFlags<F>) -> Result<()> {
    let mut plan = Plan::new(flags)?;
    let settings = &plan.settings;
    let run = &settings.run;
    let device_name = crate::device::resolve(run.device)?.to_string();
    let device = crate::device::open(run.device)?.autodiff();
    let precision = precision(run.precision, &device)?;
    let job = J::new(settings.clone())?;
    let given = job.open()?;
    // Whatever can be refused is refused before anything is written.
    let mut cut = match &plan.resumed {
        Some((run, _)) => CutPlan::of_run(run)?,
        None => CutPlan::default(),
    };
    let network = job.network(given.as_ref(), &mut cut, &device)?;
    if flags.run.dry_run {
        let expected = measure(&job, run, given, network, precision, &device)?;
        plan.settings.run.device = crate::device::resolve(run.device)?;
        return plan.print(&expected, flags.run.json);
    }
    let interrupt = Interrupt::install()?;
    let dir = plan.run_dir()?;
    cut.save(&dir)?;
    let data = match given {
        Some(data) => data,
        None => job.generate(&dir.root().join(DATA_FOLDER))?,
    };
    job.describe(&data, &dir)?;
    let mut session = Session::new(&job, &data, run, precision, &device)?;
    let network = match &plan.resumed {
        Some((_, state)) => saved::load(&state.dir, &job, &data, network, &mut session)?,
        None => network,
    };
    let steps = num_steps(run, &session)?;
    let json = flags.run.json;
    let json = json.then(|| Box::new(std::io::stdout()) as Box<dyn Write>);
    Run {
        job,
        settings,
        features: &flags.run.features,
        device_name,
        watch: Watch::new(run, &device, &dir, session.step),
        progress: Progress::new(session.step, steps, run.log_every, json),
        device,
        precision,
        dir,
        data,
        session,
        interrupt,
    }
    .train(network, steps)
}

/// The optimizer steps of the whole run, of which some are left to do.
fn num_steps<J: Job>(run: &RunSettings, session: &Session<J>) -> Result<u64> {
    let (steps, flag) = match (run.steps, run.epochs) {
        (Some(steps), _) => (steps, "--steps"),
        (None, Some(epochs)) => (epochs * session.steps_per_epoch(), "--epochs"),
        (None, None) => bail!(UsageError("give --steps or --epochs".into())),
    };
    if steps <= session.step {
        bail!(UsageError(format!(
            "the run has done {} of its {steps} steps already, nothing is left; give more with {flag}",
            session.step
        )));
    }
    Ok(steps)
}

/// Runs a step to see how much memory it takes; generated data goes to a folder that
/// is removed again.
fn measure<J: Job>(
    job: &J,
    run: &RunSettings,
    given: Option<J::Data>,
    network: J::Network,
    precision: Precision,
    device: &Device,
) -> Result<Estimate> {
    let folder = tempfile::tempdir().context("cannot make a folder for the generated data")?;
    let data = match given {
        Some(data) => data,
        None => job.generate(folder.path())?,
    };
    let session = Session::new(job, &data, run, precision, device)?;
    Estimate::measure(job, run, network, session, device)
}
