//! `inpaint`: completes videos.

pub(crate) mod budget;
mod footage;
mod geometry;
mod job;
mod output;
mod result;
pub(crate) mod settings;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Error, Result, bail};
use burn::tensor::Device;
use burn_memopt::memory::on_host;
use burn_memopt::precision::Precision;
use burn_memopt_models::propainter::ProPainter;
use burn_memopt_models::propainter::inpaint::{Fallback, InpaintError, Inpainter};

use crate::cli::{InpaintArgs, PROCEDURAL};
use crate::interrupt::Interrupt;
use crate::report::inpaint::Report;
use crate::report::{causes, note};
use crate::settings::UsageError;
use budget::Budget;
use footage::{Results, VideoFootage};
use geometry::Geometry;
use job::Job;
use output::Output;
use settings::{InpaintSettings, VideoTask, open_video};

/// Completes the videos that flags name.
///
/// # Errors
/// If a video cannot be completed, or the user interrupts; frames that are finished stay. Of many
/// videos the others are completed first.
pub fn run(args: &InpaintArgs) -> Result<()> {
    let jobs = Job::list(args)?;
    let choice = crate::device::resolve(args.target.device.unwrap_or_default())?;
    let device = crate::device::open(choice)?;
    if are_procedural(&args.weights) {
        note(WARNING);
    }
    // Before the weights take their part of it.
    let budget = Budget::of(args, &device)?;
    let precision = match precision_of_flags(args, &device)? {
        Some(precision) => precision,
        None => precision_of(&jobs, args, budget)?,
    };
    let networks = load(&args.weights, precision, &device)?;
    let interrupt = Interrupt::install()?;
    let run = Run {
        args,
        budget,
        precision,
        report: Report::new(
            &device,
            choice.to_string(),
            args.json,
            args.video_dir.is_some(),
            &interrupt,
        ),
        device,
        interrupt,
    };
    run.all(jobs, networks)
}

/// The precision that the budget asks for: that of a run to resume, else half if a video needs it.
fn precision_of(jobs: &[Job], args: &InpaintArgs, budget: Option<Budget>) -> Result<Precision> {
    for job in jobs.iter().filter(|_| args.resume) {
        if let Some(saved) = InpaintSettings::saved(&Output::part_of(job))? {
            return Ok(saved.precision);
        }
    }
    let Some(budget) = budget else {
        return Ok(Precision::F32);
    };
    for job in jobs {
        // What cannot be read fails when its turn comes.
        let Ok(video) = open_video(&job.video, args) else {
            continue;
        };
        let size = [video.height(), video.width()];
        let (Ok(num_frames), Ok(geometry)) = (video.count_frames(), Geometry::new(args, size))
        else {
            continue;
        };
        let ladder = geometry.ladder(args);
        match budget.choose(args, &ladder, num_frames as usize, None) {
            Ok(choice) if choice.settings.precision == Precision::F32 => {}
            Ok(choice) => return Ok(choice.settings.precision),
            Err(error) if jobs.len() == 1 => return Err(error),
            Err(_) => {}
        }
    }
    Ok(Precision::F32)
}

/// What all videos share.
struct Run<'a> {
    args: &'a InpaintArgs,
    budget: Option<Budget>,
    precision: Precision,
    device: Device,
    report: Report,
    interrupt: Interrupt,
}

impl Run<'_> {
    /// Completes all videos, some at the same time.
    fn all(&self, jobs: Vec<Job>, networks: ProPainter) -> Result<()> {
        let total = jobs.len();
        let side_by_side = self.args.batch_size.unwrap_or(1).min(total as u64);
        let (waiting, failed) = (Mutex::new(VecDeque::from(jobs)), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..side_by_side {
                let (networks, waiting, failed) = (networks.clone(), &waiting, &failed);
                scope.spawn(move || {
                    while let Some(job) = pop(waiting).filter(|_| !self.interrupt.is_requested()) {
                        if let Err(error) = self.one(&job, &networks) {
                            // Of two errors the first is the one to report.
                            let _ = self.report.failed(&job.name, &error);
                            failed
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push((job.name, error));
                        }
                    }
                });
            }
        });
        let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        if self.args.video.is_some() {
            return failed.pop().map_or(Ok(()), |(_, error)| Err(error));
        }
        if self.interrupt.is_requested() {
            bail!("interrupted; the same command with --resume goes on");
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(summed_up(&failed, total))
        }
    }

    /// Completes one video.
    fn one(&self, job: &Job, networks: &ProPainter) -> Result<()> {
        let (args, started) = (self.args, Instant::now());
        let VideoTask {
            video,
            masks,
            settings,
            choice,
        } = VideoTask::new(self, job)?;
        let Some(output) = Output::open(job, args, &video, &settings.geometry)? else {
            let output = job.output.display();
            self.report
                .note(&format!("{}: {output} is complete already", job.name));
            return Ok(());
        };
        settings.save(output.part())?;
        self.report.start(&job.name, &settings)?;
        for note in &output.notes {
            self.report.note(&format!("{}: {note}", job.name));
        }
        if let (Some(choice), Some(budget)) = (&choice, self.budget) {
            self.report.budget(&job.name, budget, choice)?;
        }
        let footage = VideoFootage::new(video.clone(), masks.clone(), &settings);
        let mut footage = footage.with_masked(output.masked_writer()?);
        let mut results = Results::new(output.frame_writer()?, video, masks, &settings);
        let networks = networks.clone();
        let networks = networks.with_working_memory(settings.working_memory, &self.device);
        // An error of stdout shows at the next progress.
        let fell_back = |fallback: &Fallback| {
            let _ = self.report.fell_back(&job.name, fallback);
        };
        let inpainter = Inpainter::new(&networks, settings.config.clone(), &self.device)
            .with_fallback(budget::least(args, &settings.config), &fell_back);
        let mut told = Ok(());
        let times = inpainter.run(
            &mut footage,
            &output.work(),
            &mut results,
            &mut |progress| {
                told = self.report.progress(&job.name, progress);
                if told.is_err() || self.interrupt.is_requested() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        told?;
        let times = times.map_err(explained)?;
        for note in output.finish()? {
            self.report.note(&format!("{}: {note}", job.name));
        }
        self.report
            .finished(&job.name, &job.output, started, &times)
    }
}

/// An error of the pipeline, with what the user of a command can do.
fn explained(error: InpaintError) -> Error {
    match error {
        InpaintError::Cancelled { done, total } => anyhow::anyhow!(
            "interrupted after {done} of {total} frames; the same command with --resume goes on"
        ),
        error @ (InpaintError::Read { .. } | InpaintError::Write { .. }) => {
            Error::new(error).context("the same command with --resume goes on once this is mended")
        }
        error => error.into(),
    }
}

fn summed_up(failed: &[(String, Error)], total: usize) -> Error {
    let lines = failed
        .iter()
        .map(|(name, error)| format!("\n  {name}: {}", causes(error)));
    let lines: String = lines.collect();
    anyhow::anyhow!(
        "{} of {total} videos could not be completed:{lines}",
        failed.len()
    )
}

fn pop(waiting: &Mutex<VecDeque<Job>>) -> Option<Job> {
    waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop_front()
}

/// Whether weights are made up.
pub(crate) fn are_procedural(weights: &Path) -> bool {
    weights.as_os_str() == PROCEDURAL
}

/// What made-up weights mean.
const WARNING: &str = "warning: --weights procedural makes weights up: everything runs as with \
    trained ones, takes their time and memory, and fills with patterns that mean nothing";

/// What flags ask flow completion and the generator to compute in: a preset asks for half precision
/// where the device has it. `None` if they do not say.
///
/// # Errors
/// [`UsageError`] if `--fp16` is given and the device does not compute in f16.
fn precision_of_flags(args: &InpaintArgs, device: &Device) -> Result<Option<Precision>> {
    match Precision::F16.check(device) {
        Ok(()) if args.fp16 || args.preset.is_some() => Ok(Some(Precision::F16)),
        Err(lacking) if args.fp16 => Err(UsageError(format!("--fp16: {lacking}")).into()),
        // Half precision is emulated there, in many times the time.
        _ if args.preset.is_some() || on_host(device) => Ok(Some(Precision::F32)),
        _ => Ok(None),
    }
}

/// The networks with the weights of a folder, or made-up ones.
///
/// # Errors
/// If a file is missing, cannot be read, or does not fit its network.
fn load(weights: &Path, precision: Precision, device: &Device) -> Result<ProPainter> {
    let networks = if are_procedural(weights) {
        ProPainter::procedural(device)
    } else {
        ProPainter::load(weights, device)?
    };
    Ok(networks.in_precision(precision, device)?)
}
