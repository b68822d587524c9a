//! What a run tells: a bar or plain lines on stderr; a table, or one JSON object a line, on stdout.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use burn::tensor::Device;
use burn_memopt::batch::BatchReport;
use burn_memopt::memory::Bytes;
use indicatif::{ProgressBar, ProgressStyle};

mod event;
mod memory;
mod text;

use super::target::Target;
use crate::progress::{JsonLines, Pace};
use event::{Event, Row, Summary};
use memory::Memory;
use text::{counted, line, shown, table};

/// Time between two lines of progress.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Time between two lines on stderr where that is no terminal.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// A file that begins.
pub struct Begun<'a> {
    /// What is read and written.
    pub target: &'a Target,
    /// Pages of it.
    pub num_pages: usize,
    /// Height and width of a page in pixels.
    pub size: [usize; 2],
    /// Height and width of a window.
    pub window: [usize; 2],
    /// Windows of all pages.
    pub num_windows: usize,
    /// Rows of all pages that an earlier run has left.
    pub rows_done: u64,
}

/// Shows how a run goes.
pub struct Report {
    bar: ProgressBar,
    json: JsonLines,
    device_name: String,
    memory: Memory,
    started: Instant,
    file: Option<Running>,
    done: Vec<Row>,
    num_skipped: usize,
    num_failed: usize,
    batch: Option<BatchReport>,
}

/// The file that runs.
struct Running {
    row: Row,
    num_windows: usize,
    windows_done: Option<usize>,
    started: Instant,
    told: Option<Instant>,
    said: Instant,
    pace: Pace,
}

impl Report {
    /// Shows a run on a device of this name; with `json`, for a machine.
    pub fn new(device_name: String, device: &Device, json: bool) -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            json: JsonLines::on_stdout(json),
            device_name,
            memory: Memory::of(device),
            started: Instant::now(),
            file: None,
            done: Vec::new(),
            num_skipped: 0,
            num_failed: 0,
            batch: None,
        }
    }

    /// Files that failed so far.
    pub fn num_failed(&self) -> usize {
        self.num_failed
    }

    /// Writes a line on stderr, above the bar where there is one.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Says that a file begins, and where.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn begin(&mut self, begun: Begun) -> Result<()> {
        let [height, width] = begun.size;
        let rows = (begun.num_pages * height) as u64;
        let (input, output) = (&begun.target.input, &begun.target.output);
        let [window_height, window_width] = begun.window;
        self.note(&format!(
            "{}: {} of {height}×{width} pixels, {} of {window_height}×{window_width}",
            input.display(),
            counted(begun.num_pages, "page"),
            counted(begun.num_windows, "window"),
        ));
        if begun.rows_done > 0 {
            let (page, row) = (
                begun.rows_done / height as u64,
                begun.rows_done % height as u64,
            );
            self.note(&format!("  going on after row {row} of page {page}"));
        }
        self.memory.start();
        self.bar.set_length(begun.num_windows as u64);
        self.bar.set_position(0);
        self.file = Some(Running {
            row: Row::of(&begun),
            num_windows: begun.num_windows,
            windows_done: None,
            started: Instant::now(),
            told: None,
            said: Instant::now(),
            pace: Pace::default(),
        });
        self.json.emit(&Event::File {
            input,
            output,
            pages: begun.num_pages,
            height,
            width,
            window: begun.window,
            windows: begun.num_windows,
            rows,
            rows_done: begun.rows_done,
        })
    }

    /// Shows that `done` windows of the file are done, those of an earlier run included.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn windows(&mut self, done: usize) -> Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let more = match file.windows_done.replace(done) {
            Some(before) => done.saturating_sub(before),
            None => 1,
        };
        file.pace.record(file.started.elapsed(), more as u64);
        let is_last = done == file.num_windows;
        let is_due = file.told.is_none_or(|told| told.elapsed() >= TELL_EVERY);
        if !is_due && !is_last {
            return Ok(());
        }
        // The first windows of a file are as large as all others.
        if file.told.is_some() || is_last {
            self.memory.end();
        }
        self.tell(done)
    }

    /// Notes how many windows of the file were run, those of an earlier run not included, and what
    /// became of all batches so far.
    pub fn ran(&mut self, num_windows: usize, batch: BatchReport) {
        if let Some(file) = &mut self.file {
            file.row.windows_run = num_windows;
        }
        self.batch = Some(batch).filter(|batch| batch.num_batches > 0);
    }

    fn tell(&mut self, done: usize) -> Result<()> {
        let (in_use, peak) = (self.memory.in_use(), self.memory.peak());
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.told = Some(Instant::now());
        let windows = file.num_windows;
        let rate = file.pace.items_per_second();
        let seconds_left = rate.map(|rate| windows.saturating_sub(done) as f64 / rate);
        let line = line(done, windows, [in_use, peak], seconds_left);
        if !self.bar.is_hidden() {
            self.bar.set_position(done as u64);
            self.bar.set_message(line);
        } else if file.said.elapsed() >= SAY_EVERY {
            file.said = Instant::now();
            eprintln!("{line}");
        }
        self.json.emit(&Event::Progress {
            windows_done: done,
            windows,
            bytes_in_use: in_use.map(Bytes::get),
            bytes_peak: peak.map(Bytes::get),
            seconds_left,
        })
    }

    /// Says that the result of a file is whole.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn done(&mut self, target: &Target, num_clipped: u64) -> Result<()> {
        if num_clipped > 0 {
            self.note(&format!(
                "  {} of {} lie below 0 or above 1 and were cut off; let --output end in .tif for all \
                 numbers as they are",
                counted(num_clipped as usize, "pixel"),
                target.output.display(),
            ));
        }
        self.memory.end();
        let Some(row) = self.end_file() else {
            return Ok(());
        };
        self.json.emit(&Event::Done(&row))?;
        self.done.push(row);
        Ok(())
    }

    /// Says that a file was finished before.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn skipped(&mut self, target: &Target) -> Result<()> {
        let Target { input, output } = target;
        self.num_skipped += 1;
        self.note(&format!("{}: finished before", input.display()));
        self.json.emit(&Event::Skipped { input, output })
    }

    /// Says why a file failed.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn failed(&mut self, target: &Target, error: &Error) -> Result<()> {
        self.memory.end();
        self.end_file();
        self.num_failed += 1;
        self.note(&format!("{}: failed: {error:#}", target.input.display()));
        self.json.emit(&Event::Failed {
            input: &target.input,
            error: format!("{error:#}"),
        })
    }

    /// Says how much of a file is kept.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn interrupted(&mut self, target: &Target, rows_done: u64) -> Result<()> {
        self.memory.end();
        self.end_file();
        let input = &target.input;
        self.json.emit(&Event::Interrupted { input, rows_done })
    }

    /// Ends the display with a table, or a summary for a machine.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn finish(mut self, output: &Path, interrupted: bool) -> Result<()> {
        self.bar.finish_and_clear();
        let peak = self.memory.peak();
        let summary = Summary {
            files: self.done.len(),
            skipped: self.num_skipped,
            failed: self.num_failed,
            interrupted,
            windows: self.done.iter().map(|row| row.windows_run).sum(),
            seconds: self.started.elapsed().as_secs_f64(),
            peak_bytes: peak.map(Bytes::get),
            chunk_size: self.done.iter().map(|row| row.window).max(),
            batch: self.batch.as_ref(),
            device: &self.device_name,
            output,
        };
        if !self.json.is_wanted() {
            print!("{}", table(&self.done));
        }
        if let Some(batch) = self.batch.as_ref().filter(|batch| batch.largest_batch > 1) {
            eprintln!("windows: {batch}");
        }
        eprintln!(
            "{} in {:.1} s on {}, peak memory {}; results in {}",
            counted(summary.files, "file"),
            summary.seconds,
            summary.device,
            shown(peak),
            output.display()
        );
        self.json.emit(&Event::Summary(summary))
    }

    fn end_file(&mut self) -> Option<Row> {
        let mut file = self.file.take()?;
        file.row.seconds = file.started.elapsed().as_secs_f64();
        Some(file.row)
    }
}
