//! What commands print: a bar or plain lines on stderr; on stdout a table, or one JSON object a
//! line where a machine reads. What returns an error does so only if stdout cannot be written.
//!
//! A reader may end before the command, as `head` does. Then what saves its state ends as after
//! Ctrl-C, and everything else ends in silence. A closed stderr is no reason to end.

pub mod infer;
pub mod inpaint;
pub mod quantize;
pub mod train;

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};
use burn::tensor::Device;
use burn_memopt::chunked::Progress;
use burn_memopt::memory::{Bytes, PeakMeter, live_on, on_host, peak};
use burn_memopt_datasets::folder::unread_files;
use burn_memopt_datasets::tiff::FrameSource;
use burn_memopt_datasets::with_causes;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::interrupt::Interrupt;

/// Nobody reads stdout any more: the command ends with exit code 0 and says nothing.
#[derive(Debug)]
pub struct StdoutClosed;

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout is closed")
    }
}

impl std::error::Error for StdoutClosed {}

/// Writes on stdout.
///
/// # Errors
/// [`StdoutClosed`], or another error if stdout cannot be written.
pub fn print(text: impl fmt::Display) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        written => written.context("cannot write to stdout"),
    }
}

/// Writes a line on stderr.
pub fn note(text: impl fmt::Display) {
    // Whoever closed it does not want to know.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// An error with its causes, each said once.
pub fn causes(error: &Error) -> String {
    with_causes(&**error)
}

/// Says on standard error what is to be known about frames that are read.
pub fn print_notes(frames: &dyn FrameSource) {
    for note in frames.notes() {
        self::note(format_args!("{}: {note}", frames.path().display()));
    }
}

/// Says which files of `folder` are not read, if it is a folder and has some.
///
/// # Errors
/// If it cannot be listed.
pub fn note_unread(folder: &Path) -> Result<()> {
    if folder.is_dir()
        && let Some(note) = unread_files(folder)?
    {
        self::note(format_args!("note: {note}"));
    }
    Ok(())
}

/// Steps that items per second and the time left are measured over.
const WINDOW_STEPS: usize = 20;

/// The terminal of a run, and where its events go, if anywhere.
pub struct Console {
    bar: ProgressBar,
    events: Option<Mutex<Box<dyn Write + Send>>>,
    interrupt: Interrupt,
}

impl Console {
    /// A console that writes events to stdout if `json`, and requests `interrupt` when nobody reads
    /// them any more.
    pub fn new(json: bool, interrupt: &Interrupt) -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {msg}{prefix}") {
            bar.set_style(style);
        }
        let console = Self {
            bar,
            events: None,
            interrupt: interrupt.clone(),
        };
        if json {
            console.with_events(Box::new(std::io::stdout()))
        } else {
            console
        }
    }

    fn with_events(self, events: Box<dyn Write + Send>) -> Self {
        Self {
            events: Some(Mutex::new(events)),
            ..self
        }
    }

    /// Plain lines even on a terminal, where those of several runs would overwrite each other's bar.
    fn without_bar(self) -> Self {
        Self {
            bar: ProgressBar::hidden(),
            ..self
        }
    }

    /// Writes a line on stderr, above the bar where there is one.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }

    /// Shows that `done` of `all` is done: in the bar, or as a plain line if one `is_due`.
    fn progress(&self, done: u64, all: u64, line: String, is_due: bool) {
        if !self.bar.is_hidden() {
            self.bar.set_length(all);
            self.bar.set_position(done);
            self.bar.set_message(line);
        } else if is_due {
            note(line);
        }
    }

    /// What shows tiles within a step.
    pub fn tiles(&self) -> TileDisplay {
        TileDisplay {
            bar: self.bar.clone(),
            shown: Mutex::new(Instant::now()),
        }
    }

    /// Writes an event, if anybody reads.
    fn emit(&self, event: &impl Serialize) -> Result<()> {
        let Some(events) = &self.events else {
            return Ok(());
        };
        let line = serde_json::to_string(event).context("cannot turn an event into JSON")?;
        let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
        match writeln!(events, "{line}").and_then(|()| events.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                if !self.interrupt.request() {
                    self.note("stdout is closed: ending as after Ctrl-C");
                }
                Ok(())
            }
            written => written.context("cannot write to stdout"),
        }
    }
}

/// Shows how many tiles of a step are done: behind the bar, or as a line from time to time.
pub struct TileDisplay {
    bar: ProgressBar,
    shown: Mutex<Instant>,
}

impl TileDisplay {
    /// Time between two lines.
    const PAUSE: Duration = Duration::from_secs(30);

    /// Shows what is done.
    pub fn show(&self, Progress { done, total }: Progress) {
        if !self.bar.is_hidden() {
            let text = match done == total {
                true => String::new(),
                false => format!("  tile {done}/{total}"),
            };
            return self.bar.set_prefix(text);
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if done == total {
            *shown = Instant::now();
        } else if shown.elapsed() >= Self::PAUSE {
            *shown = Instant::now();
            note(format_args!("tile {done} of {total} of this step"));
        }
    }
}

/// A line of progress: what is done, how fast, the memory now and at most, and the time that is left,
/// with what it is left of.
fn progress_line(
    done: &str,
    rate: Option<String>,
    [in_use, peak]: [Option<Bytes>; 2],
    left: Option<(f64, &str)>,
) -> String {
    let mut line = done.to_owned();
    if let Some(rate) = rate {
        line += &format!("  {rate}");
    }
    line += &format!("  memory {}, peak {}", known(in_use), known(peak));
    if let Some((seconds, of)) = left {
        let time = HumanDuration(Duration::from_secs(seconds.ceil() as u64));
        line += &format!("  {time} left{of}");
    }
    line
}

/// An amount, or that it is unknown.
pub fn known(bytes: Option<Bytes>) -> String {
    bytes.map_or_else(|| "unknown".into(), |bytes| bytes.to_string())
}

/// So many of something.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Rows of cells as lines with columns two spaces apart. The first `num_left` columns are aligned on
/// the left, the others on the right.
pub fn table<const N: usize>(rows: &[[String; N]], num_left: usize) -> String {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: &[String; N]| {
        let cells = cells.iter().zip(widths).enumerate();
        let padded = cells.map(|(column, (cell, width))| {
            if column < num_left {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        let line = padded.collect::<Vec<_>>().join("  ");
        let line = if num_left == N {
            line.trim_end()
        } else {
            &line
        };
        format!("{line}\n")
    };
    rows.iter().map(line).collect()
}

/// The memory of a run: now, and the highest so far.
struct Memory {
    device: Device,
    /// Runs over the first windows of a file where readings cost time.
    meter: Option<PeakMeter>,
    device_peak: Option<Bytes>,
}

impl Memory {
    fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            meter: None,
            device_peak: None,
        }
    }

    /// Begins to measure, where the device has pools; on the host, all is counted anyway.
    fn start(&mut self) {
        if self.device.memory_pool_usage().is_some() {
            self.meter = Some(PeakMeter::start(&self.device));
        }
    }

    /// Ends what [`start`](Self::start) began.
    fn end(&mut self) {
        if let Some(meter) = self.meter.take() {
            self.device_peak = self.device_peak.max(meter.finish().highest());
        }
    }

    /// Bytes in use now; `None` if unknown.
    fn in_use(&self) -> Option<Bytes> {
        live_on(&self.device)
    }

    /// The highest bytes in use so far; `None` if unknown.
    fn peak(&self) -> Option<Bytes> {
        if on_host(&self.device) {
            peak()
        } else {
            self.device_peak
        }
    }
}

/// The last steps' times, for rates that follow the present.
#[derive(Default)]
struct Pace {
    /// Time since the start and items since the start, at the end of each step.
    marks: VecDeque<(Duration, u64)>,
    items: u64,
}

impl Pace {
    /// Notes that items were done at this time since the start.
    fn record(&mut self, at: Duration, items: u64) {
        self.items += items;
        self.marks.push_back((at, self.items));
        if self.marks.len() > WINDOW_STEPS + 1 {
            self.marks.pop_front();
        }
    }

    /// Seconds and items between the first and the last mark. The first step is
    /// never part of it: it compiles kernels and fills pools.
    fn window(&self) -> Option<(f64, u64)> {
        let (first, last) = (self.marks.front()?, self.marks.back()?);
        let seconds = (last.0 - first.0).as_secs_f64();
        (seconds > 0.0).then_some((seconds, last.1 - first.1))
    }

    /// Items in a second; `None` until two steps are done.
    fn items_per_second(&self) -> Option<f64> {
        self.window().map(|(seconds, items)| items as f64 / seconds)
    }

    fn seconds_a_step(&self) -> Option<f64> {
        self.window()
            .map(|(seconds, _)| seconds / (self.marks.len() - 1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_leave_the_first_step_out_and_follow_the_present() {
        let mut pace = Pace::default();
        pace.record(Duration::from_secs(100), 4);
        assert_eq!(
            (pace.items_per_second(), pace.seconds_a_step()),
            (None, None)
        );
        for step in 1..=30 {
            pace.record(Duration::from_secs(100 + 2 * step), 4);
        }
        assert_eq!(
            (pace.items_per_second(), pace.seconds_a_step()),
            (Some(2.0), Some(2.0))
        );
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["name", "bytes"], ["a", "1"], ["longer", "100"]];
        let rows = rows.map(|row| row.map(String::from));
        assert_eq!(
            table(&rows, 1),
            "name    bytes\na           1\nlonger    100\n"
        );
        assert_eq!(table(&rows, 2), "name    bytes\na       1\nlonger  100\n");
    }
}
