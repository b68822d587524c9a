//! What a run tells while it runs: a bar or plain lines on stderr, and one JSON object a line on
//! stdout where a machine reads.

mod event;
mod text;

use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Error, Result};
use burn::tensor::Device;
use burn_memopt::budget::Choice;
use burn_memopt::memory::{Bytes, PeakMeter, live_on};
use burn_memopt_models::propainter::inpaint::{
    Fallback, InpaintProgress, Setting, Stage, StageTime, Workload,
};
use indicatif::{ProgressBar, ProgressStyle};

use self::event::{Event, StageSummary};
use self::text::{known, line, stage_line};
use super::budget::Budget;
use super::settings::InpaintSettings;

/// Shows how videos get on, side by side.
pub struct Report {
    bar: ProgressBar,
    json: bool,
    /// Whether there are several videos, which are then named in every line.
    is_many: bool,
    device: Device,
    device_name: String,
    memory: Mutex<Memory>,
}

/// Memory of all videos together.
struct Memory {
    meter: Option<PeakMeter>,
    peak: Option<Bytes>,
}

impl Report {
    /// Shows what is computed on `device`.
    pub fn new(device: &Device, device_name: String, json: bool, is_many: bool) -> Self {
        // Lines of several videos would overwrite each other's bar.
        let bar = match is_many {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(0),
        };
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            json,
            is_many,
            device: device.clone(),
            device_name,
            memory: Mutex::new(Memory {
                meter: Some(PeakMeter::start(device)),
                peak: None,
            }),
        }
    }

    /// Says what is completed, and how.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn start(&self, video: &str, settings: &InpaintSettings) -> Result<()> {
        let [height, width] = settings.geometry.worked;
        self.note(&format!(
            "{video}: {} frames of {height}×{width} (height × width)",
            settings.num_frames
        ));
        self.emit(&Event::Start { video, settings })
    }

    /// Says what a budget has chosen, and why.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn budget(
        &self,
        video: &str,
        budget: Budget,
        choice: &Choice<Workload, Setting>,
    ) -> Result<()> {
        let Budget {
            bytes, is_given, ..
        } = budget;
        let of = if is_given {
            ""
        } else {
            ", 80 % of what is free"
        };
        self.note(&format!("{video}: within {bytes}{of}:\n{choice}"));
        self.emit(&Event::Budget {
            video,
            budget: bytes,
            is_given,
            predicted_peak: choice.predicted_peak,
            settings: &choice.reasons,
        })
    }

    /// Says that memory ran out, and what the run goes on with.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn fell_back(&self, video: &str, fallback: &Fallback) -> Result<()> {
        self.note(&format!(
            "{video}: {} ran out of memory at frame {}: going on with {fallback}; finished frames \
             stay",
            fallback.stage, fallback.frame
        ));
        self.emit(&Event::Fallback { video, fallback })
    }

    /// Shows how far a video is.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn progress(&self, video: &str, progress: &InpaintProgress) -> Result<()> {
        let (in_use, peak) = (live_on(&self.device), self.peak());
        let line = line(progress, in_use, peak);
        if self.bar.is_hidden() {
            match self.is_many {
                true => eprintln!("{video}: {line}"),
                false => eprintln!("{line}"),
            }
        } else {
            self.bar.set_length(progress.total as u64);
            self.bar.set_position(progress.done as u64);
            self.bar.set_message(line);
        }
        let InpaintProgress {
            stage,
            frame,
            done,
            total,
            ..
        } = *progress;
        self.emit(&Event::Progress {
            video,
            stage,
            frame,
            done,
            total,
            frames_per_second: progress.stages[stage as usize].frames_per_second(),
            bytes_in_use: in_use.map(Bytes::get),
            bytes_peak: peak.map(Bytes::get),
            stage_seconds_left: progress.stage_seconds_left(stage),
            seconds_left: progress.seconds_left(),
        })
    }

    /// Says that a video is complete, and what it took since `started`.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn finished(
        &self,
        video: &str,
        output: &Path,
        started: Instant,
        times: &[StageTime; 4],
    ) -> Result<()> {
        let (seconds, peak) = (started.elapsed().as_secs_f64(), self.peak());
        let stages = Stage::ALL.map(|stage| StageSummary::new(stage, &times[stage as usize]));
        let frames = times[Stage::Generation as usize].frames;
        self.note(&format!(
            "{video}: {frames} frames in {seconds:.1} s, peak memory {}, in {}",
            known(peak),
            output.display(),
        ));
        for stage in &stages {
            self.note(&format!("  {}", stage_line(stage)));
        }
        self.emit(&Event::Summary {
            video,
            output,
            frames,
            seconds,
            stages: &stages,
            peak_bytes: peak.map(Bytes::get),
            device: &self.device_name,
        })
    }

    /// Says that a video cannot be completed.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn failed(&self, video: &str, error: &Error) -> Result<()> {
        if self.is_many {
            self.note(&format!("{video}: failed: {error:#}"));
        }
        let error = format!("{error:#}");
        self.emit(&Event::Failed { video, error })
    }

    /// Writes a line on stderr, above the bar where there is one.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// The highest bytes in use so far.
    fn peak(&self) -> Option<Bytes> {
        let mut memory = self.lock();
        if let Some(meter) = memory.meter.take() {
            memory.peak = memory.peak.max(meter.finish().highest());
            memory.meter = Some(PeakMeter::start(&self.device));
        }
        memory.peak
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn emit(&self, event: &Event) -> Result<()> {
        if !self.json {
            return Ok(());
        }
        let line = serde_json::to_string(event).context("cannot turn an event into JSON")?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .context("cannot write to stdout")
    }
}
