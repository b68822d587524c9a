//! `train`: puts data, network, techniques and artifacts together.
//!
//! One loop trains every model: what differs between them is a `Job` (`job.rs`).

mod comparison;
mod decode;
mod evaluate;
mod gan;
mod images;
mod job;
mod network;
pub(crate) mod optimizer;
mod plan;
mod quantize;
pub(crate) mod rehearsal;
mod run;
mod saved;
mod session;
mod stages;
mod tile_plan;
mod tiling;
mod tune;
mod video;
mod watch;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor};
use burn_memopt::files;
use burn_memopt::precision::Precision;
use burn_memopt_datasets::counting::CountDataset;
use burn_memopt_datasets::synthetic::emitters::{EmitterConfig, EmitterMovie, MovieFiles};
use burn_memopt_datasets::tiff::open_frames;
use image::RgbImage;

use crate::cli::{TrainFlags, TrainModel};
use crate::interrupt::Interrupt;
use crate::report::train::Progress;
use crate::report::{Console, causes, note, print_notes};
use crate::run_dir::{DATA_FOLDER, RunDir};
use crate::settings::{RunSettings, Settings, UsageError};
pub(crate) use comparison::Comparison;
pub(crate) use decode::DecodeJob;
pub(crate) use evaluate::TrainedRun;
pub use evaluate::{evaluate, quantize};
use gan::GanJob;
pub(crate) use images::{
    NORMALIZATION_FILE, Task, UNetJob, WatermarkJob, build as build_unet, most_probable,
};
pub(crate) use job::{Job, Metrics};
pub(crate) use network::precision;
use network::training_precision;
use plan::{Estimate, Plan};
pub(crate) use quantize::{config_in, scheme_of};
use run::Run;
use saved::CutPlan;
pub(crate) use saved::MODEL_FILE;
use session::Session;
use stages::Schedule;
pub(crate) use stages::Stage;
use tune::{Machine, tune};
use video::{FlowCompletionJob, ProPainterJob};
use watch::Watch;

/// Trains a model, or says what it would do.
pub fn train(model: &TrainModel) -> Result<()> {
    match model {
        TrainModel::Decode(flags) => train_job::<DecodeJob>(flags),
        TrainModel::FlowCompletion(flags) => train_job::<FlowCompletionJob>(flags),
        TrainModel::Gan(flags) => train_job::<GanJob>(flags),
        TrainModel::ProPainter(flags) => train_job::<ProPainterJob>(flags),
        TrainModel::Unet(flags) => train_job::<UNetJob>(flags),
        TrainModel::Watermark(flags) => train_job::<WatermarkJob>(flags),
    }
}

fn train_job<J: Job>(flags: &TrainFlags<J::Settings>) -> Result<()> {
    let mut plan = Plan::new(flags)?;
    let run = &plan.settings.run;
    let device_name = crate::device::resolve_all(&run.device)?.to_string();
    let devices = crate::device::open_list(&run.device)?;
    let devices: Vec<_> = devices.into_iter().map(Device::autodiff).collect();
    let device = devices[0].clone();
    let precision = training_precision(run.precision, &devices)?;
    let mut job = J::new(plan.settings.clone())?;
    let data = job.open()?;
    if flags.options.verify
        && let Some(data) = &data
    {
        verify::<J>(data)?;
    }
    let machine = Machine::new(&device_name, &precision.to_string());
    let tuning = match flags.options.auto_tune {
        true => {
            let (machine, data) = (machine.clone(), data.as_ref());
            let tuning = tune::<J>(&mut plan, data, machine, precision, &device)?;
            tuning.note();
            job = J::new(plan.settings.clone())?;
            Some(tuning)
        }
        false => None,
    };
    let settings = &plan.settings;
    let run = &settings.run;
    // Whatever can be refused is refused before anything is written.
    let mut cut = match &plan.resumed {
        Some((run, _)) => CutPlan::open(run)?,
        None => CutPlan::default(),
    };
    let network = job.network(data.as_ref(), &mut cut, &device)?;
    if let Some(data) = &data {
        Schedule::sides(&job, data, &settings.model)?;
    }
    if flags.options.dry_run {
        let (expected, schedule) = measure(&job, settings, data, network, precision, &device)?;
        plan.settings.run.device = crate::device::resolve_all(&run.device)?;
        let tiles = cut.chosen_tiles();
        return plan.print(&expected, &schedule, tiles, flags.options.json);
    }
    let interrupt = Interrupt::install()?;
    let dir = plan.run_dir()?;
    cut.save(&dir)?;
    if let Some(tuning) = tuning {
        tuning.write(&dir)?;
    }
    let data = data_of(&job, data, &dir)?;
    job.describe(&data, &dir)?;
    if devices.len() > run.accumulation_steps {
        note(format_args!(
            "{} of {} devices have nothing to do: a step needs as many --accumulation-steps as \
             devices, got {}",
            devices.len() - run.accumulation_steps,
            devices.len(),
            run.accumulation_steps,
        ));
    }
    network::unused(run, precision, devices.len())
        .into_iter()
        .for_each(note);
    let mut session = Session::new(&job, &data, run, precision, &devices)?;
    let schedule = match &plan.resumed {
        Some((dir, Some(_))) => Schedule::open(dir, run)?,
        _ => {
            let steps = num_steps(run, &session)?;
            Schedule::new(&job, &data, settings, steps, precision, &device)?
        }
    };
    schedule.save(&dir)?;
    session.follow(schedule);
    let network = match &plan.resumed {
        Some((_, Some(state))) => saved::load(&state.dir, &job, &data, network, &mut session)?,
        Some((_, None)) => {
            note("nothing was saved of the run: it starts from the beginning");
            network
        }
        None => network,
    };
    let steps = num_steps(run, &session)?;
    let console = Console::new(flags.options.json, &interrupt);
    job.show_tiles(console.tiles());
    Run {
        job,
        settings,
        features: &flags.options.features,
        device_name,
        machine,
        keeps_model: plan.keeps_model,
        watch: Watch::new(run, &device, &dir, session.step),
        progress: Progress::new(console, session.step, steps, run.log_every),
        devices,
        precision,
        dir,
        data,
        session,
        interrupt,
    }
    .train(network, steps, !flags.options.json)
}

/// Reads all items of the data.
///
/// # Errors
/// If items cannot be read: names the first of them.
fn verify<J: Job>(data: &J::Data) -> Result<()> {
    /// More errors than these are only counted.
    const MAX_NAMED: usize = 5;
    let parts = J::parts(data);
    let items = parts
        .iter()
        .flat_map(|part| (0..part.len()).map(move |index| part.get(index)));
    // Several clips may have the same damaged frame.
    let errors: BTreeSet<String> = items
        .filter_map(|item| Some(causes(&item.err()?.into())))
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    let mut named: Vec<_> = errors.iter().take(MAX_NAMED).cloned().collect();
    if errors.len() > MAX_NAMED {
        named.push(format!("and {} more", errors.len() - MAX_NAMED));
    }
    bail!("the data cannot be read:\n{}", named.join("\n"))
}

/// The data of a run as it was opened, or that which is generated in its folder.
fn data_of<J: Job>(job: &J, opened: Option<J::Data>, run: &RunDir) -> Result<J::Data> {
    match opened {
        Some(data) => Ok(data),
        None => job.generate(&run.root().join(DATA_FOLDER)),
    }
}

/// The optimizer steps of the whole run, no fewer than are done.
fn num_steps<J: Job>(run: &RunSettings, session: &Session<J>) -> Result<u64> {
    let (steps, flag) = match (run.steps, run.epochs) {
        (Some(steps), _) => (steps, "--steps"),
        (None, Some(epochs)) => (epochs * session.steps_per_epoch(), "--epochs"),
        (None, None) => bail!(UsageError("give --steps or --epochs".into())),
    };
    if steps < session.step {
        bail!(UsageError(format!(
            "the run has done {} steps already, which cannot be undone; {flag} makes {steps} of them, \
             give more",
            session.step
        )));
    }
    Ok(steps)
}

/// Runs a step to see how much memory it takes; generated data goes to a folder that
/// is removed again.
fn measure<J: Job>(
    job: &J,
    settings: &Settings<J::Settings>,
    data: Option<J::Data>,
    network: J::Network,
    precision: Precision,
    device: &Device,
) -> Result<(Estimate, Schedule)> {
    let run = &settings.run;
    let folder = tempfile::tempdir().context("cannot make a folder for the generated data")?;
    let data = match data {
        Some(data) => data,
        None => job.generate(folder.path())?,
    };
    let session = Session::new(job, &data, run, precision, std::slice::from_ref(device))?;
    let steps = num_steps(run, &session)?;
    let schedule = Schedule::new(job, &data, settings, steps, precision, device)?;
    let expected = Estimate::measure(job, run, network, session, device)?;
    Ok((expected, schedule))
}

/// Items that are trained on, the first ones; `holdout` is the share of those that are not.
fn num_training(num_items: usize, holdout: f64, place: &str) -> Result<usize> {
    if holdout == 0.0 {
        return Ok(num_items);
    }
    if num_items < 2 {
        bail!(UsageError(format!(
            "{place} holds {num_items} item, too few to keep any for evaluation; use --holdout 0"
        )));
    }
    let held_out = (num_items as f64 * holdout).round() as usize;
    Ok(num_items - held_out.clamp(1, num_items - 1))
}

/// Opens a stack with its table and prints the notes on both, those on the stack before the table is
/// read: a damaged stack may have fewer frames than the table names.
fn open_counted(stack: &Path, table: &Path, pixel_size: Option<f64>) -> Result<CountDataset> {
    let stack = open_frames(stack)?;
    print_notes(&stack);
    let frames = CountDataset::with_table(stack, table, pixel_size)?;
    frames.notes().iter().for_each(note);
    Ok(frames)
}

/// Refuses what a network made of an item, whose name is for the message, if it is not finite.
fn check_finite(output: &[f32], name: impl Fn() -> String) -> Result<()> {
    if output.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    bail!(
        "evaluation: the network's output for {} is not finite. Look for NaN or infinite values in \
         its file",
        name()
    )
}

/// Colours `[height, width, 3]` from -1 to 1 as a picture.
fn picture_of(colors: Tensor<3>) -> Result<RgbImage> {
    let [height, width, _] = colors.dims();
    let colors = colors.add_scalar(1.0).mul_scalar(127.5);
    let colors = colors.round().clamp(0.0, 255.0).into_data();
    let colors = colors.iter::<f32>().map(|color| color as u8).collect();
    RgbImage::from_raw(width as u32, height as u32, colors).context("a picture has pixels")
}

/// Lets `write` fill the folder of generated data, whole or not at all, unless `generated`, which is
/// in it, is there already.
fn generate_once(
    folder: &Path,
    generated: &Path,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if generated.exists() {
        return Ok(());
    }
    files::write_folder(folder, write)
        .with_context(|| format!("cannot write the generated data into {}", folder.display()))
}

/// The generated movie in `folder`; it is generated if it is not there yet.
fn movie_in(folder: &Path, config: &EmitterConfig) -> Result<MovieFiles> {
    let files = MovieFiles::in_folder(folder);
    generate_once(folder, &files.localizations, |folder| {
        EmitterMovie::generate(config).write(folder)?;
        Ok(())
    })?;
    Ok(files)
}
