//! `inpaint`: completes videos.

mod budget;
mod footage;
mod geometry;
mod given;
mod in_order;
mod job;
mod output;
mod report;
mod results;
mod settings;
pub(crate) mod weights;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Error, Result, bail};
use burn::tensor::Device;
use burn_memopt::precision::Precision;
use burn_memopt_datasets::video::VideoSource;
use burn_memopt_models::propainter::ProPainter;
use burn_memopt_models::propainter::inpaint::{Fallback, InpaintError, Inpainter};

use crate::cli::InpaintArgs;
use crate::interrupt::Interrupt;
use budget::Budget;
use footage::{Holes, VideoFootage};
use geometry::Geometry;
use in_order::InOrder;
use job::Job;
use output::Output;
use report::Report;
use results::{Original, Results};
use settings::InpaintSettings;

/// Completes the videos that flags name.
///
/// # Errors
/// If a video cannot be completed, or the user interrupts; frames that are finished stay. Of many
/// videos the others are completed first.
pub fn run(args: &InpaintArgs) -> Result<()> {
    let jobs = Job::list(args)?;
    let choice = crate::device::resolve(args.device.unwrap_or_default())?;
    let device = crate::device::open(choice)?;
    if weights::are_procedural(&args.weights) {
        eprintln!("{}", weights::WARNING);
    }
    // Before the weights take their part of it.
    let budget = Budget::of(args, &device)?;
    let precision = match weights::precision(args, &device)? {
        Some(precision) => precision,
        None => precision_of(&jobs, args, budget)?,
    };
    let networks = weights::load(&args.weights, precision, &device)?;
    let run = Run {
        args,
        budget,
        precision,
        report: Report::new(
            &device,
            choice.to_string(),
            args.json,
            args.video_dir.is_some(),
        ),
        device,
        interrupt: Interrupt::install()?,
    };
    run.all(jobs, networks)
}

/// The precision that the budget asks for: that of a run to go on with, else half if a video needs
/// it.
fn precision_of(jobs: &[Job], args: &InpaintArgs, budget: Option<Budget>) -> Result<Precision> {
    for job in jobs.iter().filter(|_| args.resume) {
        if let Some(kept) = InpaintSettings::kept(&Output::part_of(job))? {
            return Ok(kept.precision);
        }
    }
    let Some(budget) = budget else {
        return Ok(Precision::F32);
    };
    for job in jobs {
        // What cannot be read fails when its turn comes.
        let Ok(video) = VideoSource::open(&job.video) else {
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
    /// Completes all videos, some side by side.
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
        match failed.is_empty() {
            true => Ok(()),
            false => Err(summed_up(&failed, total)),
        }
    }

    /// Completes one video.
    fn one(&self, job: &Job, networks: &ProPainter) -> Result<()> {
        let (args, started) = (self.args, Instant::now());
        let video = VideoSource::open(&job.video)?;
        let given = self.given(job, video)?;
        let Some(output) = Output::open(job, args, given.video.frame_rate())? else {
            let output = job.output.display();
            self.report
                .note(&format!("{}: {output} is complete already", job.name));
            return Ok(());
        };
        let settings = &given.settings;
        settings.keep(output.part())?;
        self.report.start(&job.name, settings)?;
        if let (Some(choice), Some(budget)) = (&given.choice, self.budget) {
            self.report.budget(&job.name, budget, choice)?;
        }
        let geometry = settings.geometry;
        let holes = given.masks.clone().map_or(Holes::Around, |masks| {
            Holes::Masks(Box::new(InOrder::new(masks)), settings.mask_dilation)
        });
        let footage = VideoFootage::new(given.video.clone(), settings.num_frames, holes, geometry);
        let mut footage = footage.with_masked(output.masked_writer()?);
        let original = given
            .masks
            .clone()
            .map(|masks| Original::new(given.video.clone(), masks, settings.mask_dilation));
        let mut results = Results::new(output.frame_writer()?, geometry, original);
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
                match told.is_err() || self.interrupt.is_requested() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            },
        );
        told?;
        let times = times.map_err(explained)?;
        if let Some(note) = output.finish()? {
            self.report.note(&note);
        }
        self.report
            .finished(&job.name, &job.output, started, &times)
    }
}

/// An error of the pipeline as the user of a command can answer it.
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
        .map(|(name, error)| format!("\n  {name}: {error:#}"));
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
