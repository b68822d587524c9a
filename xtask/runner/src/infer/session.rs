//! One file after the other.

use std::ops::ControlFlow;

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_memopt::batch::BatchError;
use burn_memopt::chunked::{ChunkedError, Progress};
use burn_memopt_datasets::tiff::TiffStackError;

use super::cut::{Cut, Cutter};
use super::forward::Forward;
use super::identity::Identity;
use super::input::{Input, PageGroup};
use super::model::Trained;
use super::output::Output;
use super::report::{Begun, Report};
use super::target::Target;
use super::unfinished::{Making, Unfinished};
use crate::interrupt::Interrupt;

/// What files are run with.
pub struct Session<'a> {
    /// What runs.
    pub model: &'a Trained,
    /// Where it runs.
    pub device: &'a Device,
    /// What results depend on.
    pub identity: Identity,
    /// Where windows lie.
    pub cutter: Cutter<'a>,
    /// Runs windows.
    pub forward: Forward<'a>,
    /// What is shown.
    pub report: Report,
    /// Whether the user asked to stop.
    pub interrupt: Interrupt,
}

/// How a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
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
    pub fn run(&mut self, target: &Target) -> Result<Ended> {
        let input = Input::open(&target.input, self.model)?;
        target.check_pages(input.num_pages())?;
        let (cut, mut output) = self.open_output(target, &input)?;
        let num_windows = input.num_pages() * cut.num_windows;
        self.report.begin(Begun {
            target,
            num_pages: input.num_pages(),
            size: input.size(),
            window: cut.window,
            num_windows,
            rows_done: output.rows_done(),
        })?;
        let ended = match self.pages(&input, &cut, &mut output) {
            Ok(ended) => ended,
            Err(error) => {
                // The error of the run is the one to report.
                let _ = output.sync();
                return Err(error.context(format!("cannot finish {}", target.input.display())));
            }
        };
        if ended == Ended::Interrupted {
            output.sync()?;
            self.report.interrupted(target, output.rows_done())?;
            return Ok(ended);
        }
        let num_clipped = output.finish()?;
        self.report.done(target, num_clipped)?;
        Ok(ended)
    }

    /// Opens the result, with the rows that an earlier run has left if they are of the same making.
    fn open_output(&mut self, target: &Target, input: &Input) -> Result<(Cut, Output)> {
        let making = Making::of(&self.identity, input)?;
        let (size, name) = (input.size(), target.output.display());
        let mut state = match Unfinished::find(&target.output) {
            Some(state) if state.making == making => state,
            found => {
                if found.is_some() {
                    self.report.note(&format!(
                        "{name} was begun with another model, input or other settings; starting over"
                    ));
                }
                Unfinished {
                    making,
                    window: self.cutter.window(size)?,
                    rows_done: 0,
                }
            }
        };
        let cut = self
            .cutter
            .cut(size, state.window, self.windows_at_once(size, state.window))?
            .with_sums_beside(&target.output);
        let output = match Output::open(target, state.clone(), size) {
            Err(TiffStackError::RowsMissing { .. }) => {
                self.report
                    .note(&format!("the unfinished {name} is damaged; starting over"));
                state.rows_done = 0;
                Output::open(target, state, size)
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
    fn pages(&mut self, input: &Input, cut: &Cut, output: &mut Output) -> Result<Ended> {
        let height = input.size()[0] as u64;
        let at_once = cut.pages_at_once(self.windows_at_once(input.size(), cut.window));
        let run_before = self.forward.report().num_items;
        while output.rows_done() < input.num_pages() as u64 * height {
            if self.interrupt.is_requested() {
                return Ok(Ended::Interrupted);
            }
            let page = (output.rows_done() / height) as usize;
            let end = match output.rows_done().is_multiple_of(height) {
                true => (page + at_once).min(input.num_pages()),
                false => page + 1,
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
                match told.is_err() || interrupt.is_requested() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            };
            let ran = cut.run(&pages, output, progress, &mut self.forward);
            told?;
            let batches = self.forward.report();
            self.report.ran(batches.num_items - run_before, batches);
            match ran {
                Ok(()) => {}
                Err(ChunkedError::Cancelled { .. }) => return Ok(Ended::Interrupted),
                Err(error) => {
                    let advice = advice(&error);
                    return Err(error).with_context(|| format!("page {page} failed{advice}"));
                }
            }
        }
        Ok(Ended::Done)
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
        Some(BatchError::DevicePoisoned { .. }) => ": give the same command again to go on",
        _ => "",
    }
}
