//! The memory of a run while it trains.

use std::path::PathBuf;

use anyhow::Result;
use burn::tensor::Device;
use burn_memopt::memory::{Bytes, MemoryTracker, PeakMeter, live_on};

use crate::run_dir::RunDir;
use crate::settings::RunSettings;

/// Memory now and the highest of all steps so far; `None` where the device does not report it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryNow {
    pub in_use: Option<Bytes>,
    /// The highest bytes in use within a step; saving and evaluating do not count.
    pub peak: Option<Bytes>,
}

/// Watches the memory of a run: for progress, and for the table and plot among its artifacts.
pub struct Watch {
    tracker: Option<MemoryTracker>,
    device: Device,
    /// The last sample.
    pub now: MemoryNow,
    meter_every: u64,
    table: PathBuf,
    plot: PathBuf,
}

impl Watch {
    /// Watches a run from the step after `first_step`. What an earlier part of it
    /// recorded stays: the files of a later part have its first step in their names.
    pub fn new(settings: &RunSettings, device: &Device, run: &RunDir, first_step: u64) -> Self {
        let stem = match first_step {
            0 => "memory".to_owned(),
            step => format!("memory-from-{}", step + 1),
        };
        let file = |extension: &str| run.root().join(format!("{stem}.{extension}"));
        let mut tracker = settings
            .memory_tracking
            .then(|| MemoryTracker::of_device(device));
        if let Some(tracker) = &mut tracker {
            tracker.mark("training");
        }
        Self {
            tracker,
            device: device.clone(),
            now: MemoryNow::default(),
            meter_every: settings.log_every,
            table: settings
                .memory_log_file
                .clone()
                .unwrap_or_else(|| file("csv")),
            plot: file("png"),
        }
    }

    /// Starts to measure the peak of `step`. That is exact and costs nothing on the host; on
    /// devices with memory pools it takes readings, so there only steps that are logged are
    /// measured.
    pub fn meter(&self, step: u64) -> Option<PeakMeter> {
        let has_pools = self.device.memory_pool_usage().is_some();
        let is_due = step.is_multiple_of(self.meter_every) || step == 2;
        (!has_pools || is_due).then(|| PeakMeter::start(&self.device))
    }

    /// Ends the measurement and takes a sample after `step`.
    pub fn sample(&mut self, step: u64, meter: Option<PeakMeter>) -> MemoryNow {
        let step = step as usize;
        let reading = meter.map(PeakMeter::finish);
        let in_use = match (&mut self.tracker, &reading) {
            (None, _) => live_on(&self.device),
            (Some(tracker), Some(reading)) => tracker.sample_with_peak(step, reading).in_use(),
            (Some(tracker), None) => tracker.sample(step).in_use(),
        };
        let highest = reading.and_then(|reading| reading.highest());
        self.now = MemoryNow {
            in_use,
            peak: self.now.peak.max(highest),
        };
        self.now
    }

    /// Begins another phase of the run.
    pub fn mark(&mut self, phase: &'static str) {
        if let Some(tracker) = &mut self.tracker {
            tracker.mark(phase);
        }
    }

    /// Writes the table and the plot; earlier ones of this run are replaced as a whole.
    pub fn write(&self) -> Result<()> {
        if let Some(tracker) = &self.tracker {
            tracker.write_csv(&self.table)?;
            tracker.plot(&self.plot)?;
        }
        Ok(())
    }
}
