//! What a machine reads: one object a line.

use std::path::Path;

use burn_memopt::batch::BatchReport;
use serde::Serialize;

use super::Begun;

/// A file that is done.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub input: String,
    pub output: String,
    pub pages: usize,
    pub height: usize,
    pub width: usize,
    pub window: [usize; 2],
    pub windows_run: usize,
    pub seconds: f64,
}

impl Row {
    /// A file that begins.
    pub fn of(begun: &Begun) -> Self {
        let [height, width] = begun.size;
        Self {
            input: begun.target.input.display().to_string(),
            output: begun.target.output.display().to_string(),
            pages: begun.num_pages,
            height,
            width,
            window: begun.window,
            windows_run: 0,
            seconds: 0.0,
        }
    }
}

/// What happens.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    File {
        input: &'a Path,
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
        input: &'a Path,
        output: &'a Path,
    },
    Failed {
        input: &'a Path,
        error: String,
    },
    Interrupted {
        input: &'a Path,
        rows_done: u64,
    },
    Summary(Summary<'a>),
}

/// What happened.
#[derive(Serialize)]
pub struct Summary<'a> {
    pub files: usize,
    pub skipped: usize,
    pub failed: usize,
    pub interrupted: bool,
    pub windows: usize,
    pub seconds: f64,
    pub peak_bytes: Option<u64>,
    /// Height and width of the largest windows; of exact tiles, what they keep.
    pub chunk_size: Option<[usize; 2]>,
    /// What became of batches; exact tiles run alone.
    pub batch: Option<&'a BatchReport>,
    pub device: &'a str,
    pub output: &'a Path,
}
