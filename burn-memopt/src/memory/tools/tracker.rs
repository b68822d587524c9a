use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use burn::prelude::Device;

use super::history::History;
use super::plot::{self, PhaseMark, PlotError};
use super::{Leak, MemoryMaxima, MemorySample};
use crate::files;
use crate::memory::allocator::PeakWindow;
use crate::memory::{Bytes, MemoryMonitor, MemorySnapshot, PeakReading};

/// The course of memory could not be written.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum TrackerError {
    /// The table could not be written.
    #[error(
        "the memory table cannot be written to `{}`; see that the folder exists and can be written to",
        path.display()
    )]
    Csv {
        /// The file that was to be written.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The picture could not be drawn or written.
    #[error(
        "the memory plot cannot be written to `{}`; see that the folder exists and can be written to",
        path.display()
    )]
    Plot {
        /// The file that was to be written.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Rows of a history: a row is 160 bytes, so about 3 MiB.
const MAX_ROWS: usize = 20_000;

/// Marks that are kept; a plot is about a thousand pixels wide.
const MAX_MARKS: usize = 1_000;

/// The first line of the table.
const CSV_HEADER: [&str; 9] = [
    "seconds",
    "step",
    "phase",
    "process_rss_bytes",
    "live_bytes",
    "live_peak_bytes",
    "device_in_use_bytes",
    "device_peak_bytes",
    "device_reserved_bytes",
];

/// Records the memory of a run: table, plot, maxima and whether it leaks.
///
/// The history holds 20,000 rows. A longer run has neighbouring rows joined, which keeps their
/// maxima, so its own memory is bounded and reserved from the beginning.
///
/// # Exactness
/// Amounts are those of a [`MemoryMonitor`] at the moments of the samples; between them memory
/// may have been higher. Two of them are complete: the live peak with a
/// [`CountingAllocator`](crate::memory::CountingAllocator), and on Linux the maximum of the resident
/// memory. For the peak of a step on a device pass a [`PeakReading`].
///
/// # Example
/// ```
/// use burn::prelude::*;
/// use burn_memopt::memory::MemoryTracker;
///
/// let folder = std::env::temp_dir();
/// let mut tracker = MemoryTracker::of_device(&Device::flex());
/// tracker.mark("training");
/// for step in 1..=3 {
///     // … one training step …
///     tracker.sample(step);
/// }
/// tracker.write_csv(folder.join("memory-example.csv"))?;
/// tracker.plot(folder.join("memory-example.png"))?;
/// assert_eq!(tracker.history().len(), 3);
/// # Ok::<(), burn_memopt::memory::TrackerError>(())
/// ```
#[derive(Debug)]
pub struct MemoryTracker {
    monitor: MemoryMonitor,
    started: Instant,
    history: History,
    maxima: MemoryMaxima,
    window: Option<PeakWindow>,
    marks: Vec<PhaseMark>,
    phase: Option<Arc<str>>,
}

impl MemoryTracker {
    /// A tracker of what `monitor` reads. Its time starts now.
    pub fn new(monitor: MemoryMonitor) -> Self {
        Self {
            monitor,
            started: Instant::now(),
            history: History::new(MAX_ROWS),
            maxima: MemoryMaxima::default(),
            window: PeakWindow::open(),
            marks: Vec::with_capacity(MAX_MARKS),
            phase: None,
        }
    }

    /// A tracker of the host, this process and `device`.
    pub fn of_device(device: &Device) -> Self {
        Self::new(MemoryMonitor::new([device.clone()]))
    }

    /// Takes a sample after `step` and returns it.
    ///
    /// On a device with memory pools this executes what the calling thread had queued.
    pub fn sample(&mut self, step: usize) -> MemorySnapshot {
        self.record(step, None)
    }

    /// Takes a sample after `step`, whose peak on the device was measured.
    pub fn sample_with_peak(&mut self, step: usize, reading: &PeakReading) -> MemorySnapshot {
        self.record(step, reading.highest())
    }

    /// Begins a phase, which names the rows that follow and gets a line in the plot.
    pub fn mark(&mut self, phase: impl Into<Arc<str>>) {
        let phase = phase.into();
        if self.marks.len() == MAX_MARKS {
            // Too many to distinguish in a plot: every other one is enough.
            let mut keeps = false;
            self.marks.retain(|_| {
                keeps = !keeps;
                keeps
            });
        }
        self.marks.push(PhaseMark {
            seconds: self.seconds(),
            phase: phase.clone(),
        });
        self.phase = Some(phase);
    }

    /// The rows so far, oldest first.
    pub fn history(&self) -> &[MemorySample] {
        self.history.rows()
    }

    /// The highest amounts so far.
    pub fn maxima(&self) -> MemoryMaxima {
        self.maxima
    }

    /// Whether the run keeps more memory with every step.
    ///
    /// The live bytes and the bytes in use on devices are evaluated, each by the lowest amounts of
    /// eight consecutive stretches of the run, the first quarter left out: memory that is freed
    /// within a stretch, a cache filled once and noise do not count. It takes 42 samples;
    /// sample at the same point of every step.
    pub fn leak_verdict(&self) -> Leak {
        Leak::from_rows(self.history())
    }

    /// Writes the history as a table: one line a row, amounts in bytes, time in seconds, an empty
    /// field for what is not known.
    ///
    /// # Errors
    /// If the file cannot be written. An earlier file of that name is then left as it was.
    pub fn write_csv(&self, path: impl AsRef<Path>) -> Result<(), TrackerError> {
        let path = path.as_ref();
        let write = |out: &mut dyn io::Write| {
            let mut table = csv::Writer::from_writer(out);
            table.write_record(CSV_HEADER)?;
            for row in self.history() {
                table.write_record(csv_fields(row))?;
            }
            table.flush()
        };
        files::write(path, write).map_err(|source| TrackerError::Csv {
            path: path.into(),
            source,
        })
    }

    /// Draws the history as a PNG of 1200 × 640 pixels: MiB over seconds, phases as vertical
    /// lines. What was never known has no line.
    ///
    /// # Errors
    /// If the picture cannot be drawn or written. An earlier file of that name is then left as it
    /// was.
    pub fn plot(&self, path: impl AsRef<Path>) -> Result<(), TrackerError> {
        let path = path.as_ref();
        plot::draw(self.history(), &self.marks)
            .and_then(|png| files::write(path, |out| out.write_all(&png)).map_err(PlotError::from))
            .map_err(|source| TrackerError::Plot {
                path: path.into(),
                source,
            })
    }

    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn record(&mut self, step: usize, metered_peak: Option<Bytes>) -> MemorySnapshot {
        let snapshot = self.monitor.snapshot();
        let device_in_use = snapshot.device_in_use();
        let sample = MemorySample {
            seconds: self.seconds(),
            step,
            phase: self.phase.clone(),
            process_rss: snapshot.process_rss,
            live: snapshot.live,
            live_peak: self.window.as_ref().map(PeakWindow::restart),
            device_in_use,
            // Of a host device the meter's peak is the live peak, which has its own column.
            device_peak: device_in_use.and(metered_peak),
            device_reserved: snapshot.device_reserved(),
            live_low: snapshot.live,
            device_low: device_in_use,
        };
        self.maxima.include(&sample);
        self.maxima.process_rss = self.maxima.process_rss.max(snapshot.process_peak_rss);
        self.history.push(sample);
        snapshot
    }
}

/// The fields of a row, in the order of [`CSV_HEADER`].
fn csv_fields(row: &MemorySample) -> [String; CSV_HEADER.len()] {
    let bytes = |amount: Option<Bytes>| amount.map_or_else(String::new, |a| a.get().to_string());
    [
        format!("{:.3}", row.seconds),
        row.step.to_string(),
        row.phase.as_deref().unwrap_or_default().into(),
        bytes(row.process_rss),
        bytes(row.live),
        bytes(row.live_peak),
        bytes(row.device_in_use),
        bytes(row.device_peak),
        bytes(row.device_reserved),
    ]
}

#[cfg(test)]
mod tests;
