//! What a run of `infer` prints.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use burn::tensor::Device;
use burn_memopt::batch::BatchReport;
use burn_memopt::memory::Bytes;
use serde::Serialize;
use xtask::cli::paths;

use super::{Console, Memory, Pace, causes, counted, known, progress_line, table};
use crate::infer::target::Target;
use crate::interrupt::Interrupt;

/// Time between two events of progress.
const EVENT_EVERY: Duration = Duration::from_millis(200);
/// Time between two lines on stderr where that is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A file at its start.
pub struct FileStart<'a> {
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
    console: Console,
    json: bool,
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
    last_event: Option<Instant>,
    last_line: Instant,
    pace: Pace,
}

impl Report {
    /// Shows a run on a device of this name; with `json`, for a machine. `interrupt` is requested when
    /// nobody reads any more.
    pub fn new(device_name: String, device: &Device, json: bool, interrupt: &Interrupt) -> Self {
        Self {
            console: Console::new(json, interrupt),
            json,
            device_name,
            memory: Memory::new(device),
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
        self.console.note(text);
    }

    /// Says that a file begins, and where.
    pub fn begin(&mut self, start: FileStart) -> Result<()> {
        let [height, width] = start.size;
        let rows = (start.num_pages * height) as u64;
        let (input, output) = (&start.target.input, &start.target.output);
        let [window_height, window_width] = start.window;
        self.note(&format!(
            "{}: {} of {height}×{width} pixels, {} of {window_height}×{window_width}",
            input.display(),
            counted(start.num_pages, "page"),
            counted(start.num_windows, "window"),
        ));
        if start.rows_done > 0 {
            let (page, row) = (
                start.rows_done / height as u64,
                start.rows_done % height as u64,
            );
            self.note(&format!("  going on after row {row} of page {page}"));
        }
        self.memory.start();
        self.file = Some(Running {
            row: Row::new(&start),
            num_windows: start.num_windows,
            windows_done: None,
            started: Instant::now(),
            last_event: None,
            last_line: Instant::now(),
            pace: Pace::default(),
        });
        self.console.emit(&Event::File {
            input,
            output,
            pages: start.num_pages,
            height,
            width,
            window: start.window,
            windows: start.num_windows,
            rows,
            rows_done: start.rows_done,
        })
    }

    /// Shows that `done` windows of the file are done, those of an earlier run included.
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
        let is_due = file
            .last_event
            .is_none_or(|last| last.elapsed() >= EVENT_EVERY);
        if !is_due && !is_last {
            return Ok(());
        }
        // The first windows of a file are as large as all others.
        if file.last_event.is_some() || is_last {
            self.memory.end();
        }
        self.show(done)
    }

    /// Notes how many windows of the file were run, those of an earlier run not included, and the report
    /// on all batches so far.
    pub fn ran(&mut self, num_windows: usize, batch: BatchReport) {
        if let Some(file) = &mut self.file {
            file.row.windows_run = num_windows;
        }
        self.batch = Some(batch).filter(|batch| batch.num_batches > 0);
    }

    fn show(&mut self, done: usize) -> Result<()> {
        let (in_use, peak) = (self.memory.in_use(), self.memory.peak());
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.last_event = Some(Instant::now());
        let windows = file.num_windows;
        let rate = file.pace.items_per_second();
        let seconds_left = rate.map(|rate| windows.saturating_sub(done) as f64 / rate);
        let line = progress_line(
            &format!("window {done}/{windows}"),
            None,
            [in_use, peak],
            seconds_left.map(|seconds| (seconds, "")),
        );
        let is_due = file.last_line.elapsed() >= LINE_EVERY;
        if is_due {
            file.last_line = Instant::now();
        }
        self.console
            .progress(done as u64, windows as u64, line, is_due);
        self.console.emit(&Event::Progress {
            windows_done: done,
            windows,
            bytes_in_use: in_use.map(Bytes::get),
            bytes_peak: peak.map(Bytes::get),
            seconds_left,
        })
    }

    /// Says that the result of a file is whole.
    pub fn done(&mut self, target: &Target, num_clipped: u64) -> Result<()> {
        if num_clipped > 0 {
            self.note(&format!(
                "  {} of {} are below 0 or above 1 and were cut off; let --output end in .tif for all \
                 numbers as they are",
                counted(num_clipped as usize, "pixel"),
                target.output.display(),
            ));
        }
        self.memory.end();
        let Some(row) = self.end_file() else {
            return Ok(());
        };
        self.console.emit(&Event::Done(&row))?;
        self.done.push(row);
        Ok(())
    }

    /// Says that a file was finished before.
    pub fn skipped(&mut self, target: &Target) -> Result<()> {
        let Target { input, output } = target;
        self.num_skipped += 1;
        self.note(&format!("{}: finished before", input.display()));
        self.console.emit(&Event::Skipped { input, output })
    }

    /// Says why a file failed.
    pub fn failed(&mut self, target: &Target, error: &Error) -> Result<()> {
        self.memory.end();
        self.end_file();
        self.num_failed += 1;
        let error = causes(error);
        self.note(&format!("{}: failed: {error}", target.input.display()));
        self.console.emit(&Event::Failed {
            input: &target.input,
            error,
        })
    }

    /// Says how much of a file is kept.
    pub fn interrupted(&mut self, target: &Target, rows_done: u64) -> Result<()> {
        self.memory.end();
        self.end_file();
        let input = &target.input;
        self.console.emit(&Event::Interrupted { input, rows_done })
    }

    /// Ends the display with a table, or a summary for a machine.
    pub fn finish(self, output: &Path, interrupted: bool) -> Result<()> {
        self.console.bar.finish_and_clear();
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
        if !self.json {
            super::print(file_table(&self.done))?;
        }
        if let Some(batch) = self.batch.as_ref().filter(|batch| batch.largest_batch > 1) {
            super::note(format_args!("windows: {batch}"));
        }
        super::note(format_args!(
            "{} in {:.1} s on {}, peak memory {}; results in {}",
            counted(summary.files, "file"),
            summary.seconds,
            summary.device,
            known(peak),
            output.display()
        ));
        self.console.emit(&Event::Summary(summary))
    }

    fn end_file(&mut self) -> Option<Row> {
        let mut file = self.file.take()?;
        file.row.seconds = file.started.elapsed().as_secs_f64();
        Some(file.row)
    }
}

/// A file that is done.
#[derive(Clone, Debug, Serialize)]
struct Row {
    input: String,
    output: String,
    pages: usize,
    height: usize,
    width: usize,
    window: [usize; 2],
    windows_run: usize,
    seconds: f64,
}

impl Row {
    /// A file that begins.
    fn new(start: &FileStart) -> Self {
        let [height, width] = start.size;
        Self {
            input: start.target.input.display().to_string(),
            output: start.target.output.display().to_string(),
            pages: start.num_pages,
            height,
            width,
            window: start.window,
            windows_run: 0,
            seconds: 0.0,
        }
    }
}

/// What happens.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    File {
        #[serde(with = "paths")]
        input: &'a Path,
        #[serde(with = "paths")]
        output: &'a Path,
        pages: usize,
        height: usize,
        width: usize,
        window: [usize; 2],
        windows: usize,
        rows: u64,
        rows_done: u64,
    },
    Progress {
        windows_done: usize,
        windows: usize,
        bytes_in_use: Option<u64>,
        bytes_peak: Option<u64>,
        seconds_left: Option<f64>,
    },
    Done(&'a Row),
    Skipped {
        #[serde(with = "paths")]
        input: &'a Path,
        #[serde(with = "paths")]
        output: &'a Path,
    },
    Failed {
        #[serde(with = "paths")]
        input: &'a Path,
        error: String,
    },
    Interrupted {
        #[serde(with = "paths")]
        input: &'a Path,
        rows_done: u64,
    },
    Summary(Summary<'a>),
}

/// What happened.
#[derive(Serialize)]
struct Summary<'a> {
    files: usize,
    skipped: usize,
    failed: usize,
    interrupted: bool,
    windows: usize,
    seconds: f64,
    peak_bytes: Option<u64>,
    /// Height and width of the largest windows; of exact tiles, what they keep.
    chunk_size: Option<[usize; 2]>,
    /// What became of batches; exact tiles run alone.
    batch: Option<&'a BatchReport>,
    device: &'a str,
    #[serde(with = "paths")]
    output: &'a Path,
}

/// One line a file, for people.
fn file_table(rows: &[Row]) -> String {
    let header = [
        "file", "pages", "pixels", "window", "windows", "seconds", "result",
    ];
    let cells = rows.iter().map(|row| {
        [
            row.input.clone(),
            row.pages.to_string(),
            format!("{}×{}", row.height, row.width),
            format!("{}×{}", row.window[0], row.window[1]),
            row.windows_run.to_string(),
            format!("{:.1}", row.seconds),
            row.output.clone(),
        ]
    });
    let rows: Vec<_> = std::iter::once(header.map(String::from))
        .chain(cells)
        .collect();
    table(&rows, header.len())
}
