//! `train unet`: puts data, network, techniques and artifacts together.

mod data;
mod estimate;
mod evaluation;
mod pictures;
mod plan;
mod run;
mod samples;
mod saved;
mod schedule;
mod session;
mod task;
mod watch;

use std::io::Write;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor};
use burn_memopt::precision::Precision;
use burn_memopt_models::unet::UNet;

pub use estimate::Estimate;
pub use plan::Plan;

use crate::cli::UNetFlags;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::settings::{TrainSettings, UsageError};
use data::Data;
use run::Run;
use session::Session;
use watch::Watch;

/// The name of the model in artifacts and commands.
const MODEL: &str = "unet";
/// The folder of generated data in the artifact folder.
const DATA_FOLDER: &str = "data";

/// Trains a UNet, or says what it would do.
///
/// # Errors
/// If a setting, the data or the run to resume is wrong, or the run fails.
pub fn train_unet(flags: &UNetFlags) -> Result<()> {
    let mut plan = Plan::new(MODEL, flags)?;
    let settings = &plan.settings;
    let device_name = settings.device.resolve()?.to_string();
    let device = settings.device.open()?.autodiff();
    let precision = task::precision(settings, &device)?;
    let given = Data::open(settings)?;
    // Whatever can be refused is refused before anything is written.
    let shape = given
        .as_ref()
        .map_or(Ok(data::GENERATED_SHAPE), Data::shape)?;
    let network = prepare_network(settings, shape, &device)?;
    if flags.dry_run {
        let expected = measure(settings, given, network, precision, &device)?;
        plan.settings.device = settings.device.resolve()?;
        return plan.print(&expected, flags.json);
    }
    let interrupt = Interrupt::install()?;
    let dir = plan.run_dir(MODEL)?;
    let data = match given {
        Some(data) => data,
        None => Data::generated(settings, &dir.root().join(DATA_FOLDER))?,
    };
    let mut session = Session::new(
        settings,
        precision,
        data.loader(settings, &device)?,
        &device,
    );
    let network = match &plan.resumed {
        Some((_, state)) => saved::load(&state.dir, network, &mut session)?,
        None => network,
    };
    let steps = num_steps(settings, &session)?;
    let json = flags
        .json
        .then(|| Box::new(std::io::stdout()) as Box<dyn Write>);
    Run {
        model: MODEL,
        settings,
        features: &flags.features,
        device_name,
        watch: Watch::new(settings, &device, &dir, session.step),
        progress: Progress::new(session.step, steps, settings.log_every, json),
        device,
        precision,
        dir,
        data,
        session,
        interrupt,
    }
    .train(network, steps)
}

/// Builds the network and cuts it into segments for images of `shape`.
fn prepare_network(settings: &TrainSettings, shape: [usize; 3], device: &Device) -> Result<UNet> {
    let [channels, height, width] = shape;
    data::check_depth(settings.depth, height, width)?;
    let policy = task::policy(settings)?;
    let network = task::build_network(settings, channels, device)?;
    let sample = Tensor::zeros([settings.batch_size, channels, height, width], device);
    let given = settings.grad_checkpoint.as_str();
    task::with_policy(network, policy, sample)
        .with_context(|| format!("cannot cut the network by --grad-checkpoint {given}"))
}

/// The optimizer steps of the whole run, of which some are left to do.
fn num_steps(settings: &TrainSettings, session: &Session) -> Result<u64> {
    let (steps, flag) = match (settings.steps, settings.epochs) {
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
fn measure(
    settings: &TrainSettings,
    given: Option<Data>,
    network: UNet,
    precision: Precision,
    device: &Device,
) -> Result<Estimate> {
    let folder = tempfile::tempdir().context("cannot make a folder for the generated data")?;
    let data = match given {
        Some(data) => data,
        None => Data::generated(settings, folder.path())?,
    };
    let session = Session::new(settings, precision, data.loader(settings, device)?, device);
    Estimate::measure(settings, network, session, device)
}
