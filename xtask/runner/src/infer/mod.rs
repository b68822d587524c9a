//! `infer`: a trained model on images and stacks of any size, window by window.
//!
//! Results are written row by row as they become final, so that nothing but a window grows with what
//! the model needs. An interrupted run resumes where it was.

mod cut;
mod input;
mod model;
mod output;
mod records;
mod room;
pub(crate) mod target;

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use burn_memopt::batch::BatchError;
use burn_memopt::chunked::{ChunkedError, Progress};
use burn_memopt::files;
use burn_memopt::memory::Bytes;
use burn_memopt_datasets::tiff::TiffStackError;
use serde_json::Value;

use crate::cli::{InferArgs, InferFlags, InferModel};
use crate::interrupt::{Interrupt, program, quoted};
use crate::report::infer::{FileStart, Report};
use crate::settings::resolve_infer;
use crate::train::{precision, scheme_of};
use cut::{Cut, Cutter};
use input::{Input, PageGroup};
use model::{Forward, Trained};
use output::Output;
use records::{FinishedFiles, PartState, result_identity, run_identity};
use target::{Target, Work};

/// Runs a model on a file or a folder.
///
/// # Errors
/// If a setting, the model or the input is wrong, a file cannot be read or written, or the user asked
/// to stop.
pub fn run(args: &InferArgs) -> Result<()> {
    let InferModel::Unet(flags) = &args.model;
    let settings = resolve_infer(flags)?;
    let work = Work::find(&flags.input, &flags.output)?;
    if !flags.overwrite {
        work.check_free()?;
    }
    let device_name = crate::device::resolve_all(&settings.device)?.to_string();
    let devices = crate::device::open_list(&settings.device)?;
    let device = devices[0].clone();
    let precision = precision(settings.precision, &devices)?;
    let scheme = settings.quantize.map(scheme_of);
    let model = Trained::load(&flags.model, precision, scheme, &devices)?;
    let cutter = Cutter::new(&settings, &model, &device)?;
    work.make_folder()?;
    let interrupt = Interrupt::announcing("stopping after these windows")?;
    let report = Report::new(device_name, &device, flags.json, &interrupt);
    if let Some(quantized) = &model.quantized {
        report.note(&format!(
            "weights in {}: {} instead of {}, and up to {} in float while they are used",
            quantized.scheme,
            quantized.after(),
            quantized.before(),
            quantized
                .largest_in_use()
                .map_or(Bytes::ZERO, |it| it.before),
        ));
    }
    let session = Session {
        identity: run_identity(&settings, &model),
        report,
        interrupt,
        forward: Forward::new(&settings, &model, &device),
        model: &model,
        device: &device,
        cutter,
    };
    match work {
        Work::File(target) => one(session, &target),
        Work::Folder(folder, targets) => many(session, &folder, &targets, flags),
    }
}

/// Runs one file; whatever fails is the command's failure.
fn one(mut session: Session, target: &Target) -> Result<()> {
    PartState::clean_up(&target.output)?;
    let outcome = session.run(target)?;
    session
        .report
        .finish(&target.output, outcome == Outcome::Interrupted)?;
    match outcome {
        Outcome::Done => Ok(()),
        Outcome::Interrupted => bail!(interrupted()),
    }
}

/// Runs the files of a folder, except those that were finished before. An error ends the command only
/// after the others are done.
fn many(mut session: Session, folder: &Path, targets: &[Target], flags: &InferFlags) -> Result<()> {
    files::remove_leftovers_in(folder)
        .with_context(|| format!("cannot clean up {}", folder.display()))?;
    let mut finished = FinishedFiles::open(folder, &session.identity)?;
    if finished.was_of_another_run() {
        session.report.note(&format!(
            "{} holds results of another model or other settings; starting over",
            folder.display()
        ));
    }
    let mut is_interrupted = false;
    for target in targets {
        if finished.contains(target) {
            session.report.skipped(target)?;
            continue;
        }
        match session.run(target) {
            Ok(Outcome::Done) => finished.add(target)?,
            Ok(Outcome::Interrupted) => {
                is_interrupted = true;
                break;
            }
            Err(error) => session.report.failed(target, &error)?,
        }
    }
    let num_failed = session.report.num_failed();
    session.report.finish(folder, is_interrupted)?;
    if is_interrupted {
        bail!(interrupted());
    }
    if num_failed > 0 {
        bail!(
            "{num_failed} of the {} files in {} failed, as reported above; the others are done",
            targets.len(),
            flags.input.display()
        );
    }
    Ok(())
}

/// What to do after an interruption.
fn interrupted() -> String {
    let words = std::env::args_os().skip(1);
    let words: Vec<_> = words.map(|word| quoted(&word.to_string_lossy())).collect();
    let command = words.join(" ");
    let program = program();
    format!("interrupted; what is done is kept, resume with\n  {program} {command}")
}

/// What files are run with.
struct Session<'a> {
    model: &'a Trained,
    device: &'a Device,
    /// What results depend on.
    identity: Value,
    cutter: Cutter<'a>,
    forward: Forward<'a>,
    report: Report,
    interrupt: Interrupt,
}

/// How a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The result is whole.
    Done,
    /// The user asked to stop; what is done is kept.
    Interrupted,
}

impl Session<'_> {
    /// Runs the model on one file, from where it was left.
    ///
    /// # Errors
    /// If the file cannot be read, its result not be written, or the model fails; rows that are done
    /// are kept.
    fn run(&mut self, target: &Target) -> Result<Outcome> {
        let input = Input::open(&target.input, self.model)?;
        target.check_pages(input.num_pages())?;
        if self.was_finished(target, &input)? {
            PartState::remove(&target.output)?;
            self.report.skipped(target)?;
            return Ok(Outcome::Done);
        }
        let (cut, mut output) = self.open_output(target, &input)?;
        let num_windows = input.num_pages() * cut.num_windows;
        self.report.begin(FileStart {
            target,
            num_pages: input.num_pages(),
            size: input.size(),
            window: cut.window,
            num_windows,
            rows_done: output.rows_done(),
        })?;
        let outcome = match self.pages(&input, &cut, &mut output) {
            Ok(outcome) => outcome,
            Err(error) => {
                // The error of the run is the one to report.
                let _ = output.sync();
                return Err(error.context(format!("cannot finish {}", target.input.display())));
            }
        };
        if outcome == Outcome::Interrupted {
            output.sync()?;
            self.report.interrupted(target, output.rows_done())?;
            return Ok(outcome);
        }
        let num_clipped = output.finish()?;
        self.report.done(target, num_clipped)?;
        Ok(outcome)
    }

    /// Whether an earlier run was killed when the result was whole.
    fn was_finished(&self, target: &Target, input: &Input) -> Result<bool> {
        let Some(state) = PartState::find(&target.output) else {
            return Ok(false);
        };
        let num_rows = input.num_pages() as u64 * input.size()[0] as u64;
        let is_same = state.identity == result_identity(&self.identity, input)?;
        Ok(is_same && state.is_finished(&target.output, num_rows))
    }

    /// Opens the result, with the rows that an earlier run has left if it was the same.
    fn open_output(&mut self, target: &Target, input: &Input) -> Result<(Cut, Output)> {
        let identity = result_identity(&self.identity, input)?;
        let (size, name) = (input.size(), target.output.display());
        let mut state = match PartState::find(&target.output) {
            Some(state) if state.identity == identity => state,
            found => {
                if found.is_some() {
                    self.report.note(&format!(
                        "{name} was begun with another model, input or other settings; starting over"
                    ));
                }
                PartState {
                    identity,
                    window: self.cutter.window(size)?,
                    rows_done: 0,
                }
            }
        };
        let at_once = self.windows_at_once(size, state.window);
        let cut = self.cutter.cut(size, state.window, at_once)?;
        let cut = cut.with_sums_next_to(&target.output);
        let shape = [self.forward.model.out_channels(), size[0], size[1]];
        let output = match Output::open(target, state.clone(), shape) {
            Err(TiffStackError::RowsMissing { .. }) => {
                self.report
                    .note(&format!("the unfinished {name} is damaged; starting over"));
                state.rows_done = 0;
                Output::open(target, state, shape)
            }
            opened => opened,
        };
        Ok((cut, output?))
    }

    /// Windows that are read for one batch.
    fn windows_at_once(&self, size: [usize; 2], window: [usize; 2]) -> usize {
        let most = self.cutter.windows_at_once(size, window);
        let wanted = self.forward.windows_at_once(window);
        most.map_or(wanted, |most| wanted.min(most))
    }

    /// Runs the pages that are not done.
    fn pages(&mut self, input: &Input, cut: &Cut, output: &mut Output) -> Result<Outcome> {
        let height = input.size()[0] as u64;
        let at_once = cut.pages_at_once(self.windows_at_once(input.size(), cut.window));
        let run_before = self.forward.report().num_items;
        while output.rows_done() < input.num_pages() as u64 * height {
            if self.interrupt.is_requested() {
                return Ok(Outcome::Interrupted);
            }
            let page = (output.rows_done() / height) as usize;
            let end = if output.rows_done().is_multiple_of(height) {
                (page + at_once).min(input.num_pages())
            } else {
                page + 1
            };
            let before = page * cut.num_windows;
            let pages = PageGroup {
                input,
                pages: page..end,
                device: self.device,
            };
            output.start(page);
            let (report, interrupt) = (&mut self.report, &self.interrupt);
            let mut told = Ok(());
            let progress = |progress: Progress| {
                told = report.windows(before + progress.done);
                if told.is_err() || interrupt.is_requested() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            let ran = cut.run(&pages, output, progress, &mut self.forward);
            told?;
            let batches = self.forward.report();
            self.report.ran(batches.num_items - run_before, batches);
            match ran {
                Ok(()) => {}
                Err(ChunkedError::Cancelled { .. }) => return Ok(Outcome::Interrupted),
                Err(error) => {
                    let advice = advice(&error);
                    return Err(error).with_context(|| format!("page {page} failed{advice}"));
                }
            }
        }
        Ok(Outcome::Done)
    }
}

/// What to do about an error.
fn advice(error: &ChunkedError) -> &'static str {
    let ChunkedError::Model { source, .. } = error else {
        return "";
    };
    match source.downcast_ref() {
        Some(BatchError::OutOfMemory { .. }) => {
            ": give a smaller --chunk-size or --batch-size, or --precision f16, or free memory"
        }
        Some(BatchError::DevicePoisoned { .. }) => ": give the same command again to resume",
        _ => "",
    }
}
