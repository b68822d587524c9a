//! What a run of `inpaint` prints.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Error, Result};
use burn::tensor::Device;
use burn_memopt::budget::{Choice, Reason, SHARE_OF_FREE};
use burn_memopt::memory::{Bytes, MemoryMonitor, PeakMeter, live_on, on_host};
use burn_memopt_models::propainter::inpaint::{
    Fallback, InpaintProgress, Setting, Stage, StageTime, Workload,
};
use serde::Serialize;
use xtask::cli::paths;

use super::{Console, causes, known, progress_line};
use crate::inpaint::budget::Budget;
use crate::inpaint::settings::InpaintSettings;
use crate::interrupt::Interrupt;

/// Shows how far videos are, several at a time.
pub struct Report {
    console: Console,
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
    /// Shows what is computed on `device`; requests `interrupt` when nobody reads any more.
    pub fn new(
        device: &Device,
        device_name: String,
        json: bool,
        is_many: bool,
        interrupt: &Interrupt,
    ) -> Self {
        let console = Console::new(json, interrupt);
        Self {
            console: if is_many {
                console.without_bar()
            } else {
                console
            },
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
    pub fn start(&self, video: &str, settings: &InpaintSettings) -> Result<()> {
        let [height, width] = settings.geometry.worked;
        self.note(&format!(
            "{video}: {} frames of {height}×{width} (height × width)",
            settings.num_frames
        ));
        self.console.emit(&Event::Start { video, settings })
    }

    /// Says what a budget has chosen, and why.
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
            String::new()
        } else {
            let limit = on_host(&self.device).then(|| MemoryMonitor::new([]).snapshot().host_limit);
            let limit = limit.flatten().map(|limit| format!(" (limit: {limit})"));
            let limit = limit.unwrap_or_default();
            format!(", {:.0} % of what is free{limit}", 100.0 * SHARE_OF_FREE)
        };
        self.note(&format!("{video}: within {bytes}{of}:\n{choice}"));
        self.console.emit(&Event::Budget {
            video,
            budget: bytes,
            is_given,
            predicted_peak: choice.predicted_peak,
            settings: &choice.reasons,
        })
    }

    /// Says that memory ran out, and what the run continues with.
    pub fn fell_back(&self, video: &str, fallback: &Fallback) -> Result<()> {
        self.note(&format!(
            "{video}: {} ran out of memory at frame {}: continuing with {fallback}; finished frames \
             stay",
            fallback.stage, fallback.frame
        ));
        self.console.emit(&Event::Fallback { video, fallback })
    }

    /// Shows how far a video is.
    pub fn progress(&self, video: &str, progress: &InpaintProgress) -> Result<()> {
        let (in_use, peak) = (live_on(&self.device), self.peak());
        let mut line = video_line(progress, [in_use, peak]);
        if self.is_many {
            line = format!("{video}: {line}");
        }
        self.console
            .progress(progress.done as u64, progress.total as u64, line, true);
        let InpaintProgress {
            stage,
            frame,
            done,
            total,
            ..
        } = *progress;
        self.console.emit(&Event::Progress {
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
        self.console.emit(&Event::Summary {
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
    pub fn failed(&self, video: &str, error: &Error) -> Result<()> {
        let error = causes(error);
        if self.is_many {
            self.note(&format!("{video}: failed: {error}"));
        }
        self.console.emit(&Event::Failed { video, error })
    }

    /// Writes a line on stderr, above the bar where there is one.
    pub fn note(&self, text: &str) {
        self.console.note(text);
    }

    /// The highest bytes in use so far.
    fn peak(&self) -> Option<Bytes> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = memory.meter.take() {
            memory.peak = memory.peak.max(meter.finish().highest());
            memory.meter = Some(PeakMeter::start(&self.device));
        }
        memory.peak
    }
}

/// Something that happened to a video.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Start {
        video: &'a str,
        settings: &'a InpaintSettings,
    },
    Budget {
        video: &'a str,
        budget: Bytes,
        is_given: bool,
        predicted_peak: Bytes,
        settings: &'a [Reason<Setting>],
    },
    Fallback {
        video: &'a str,
        #[serde(flatten)]
        fallback: &'a Fallback,
    },
    Progress {
        video: &'a str,
        stage: Stage,
        frame: usize,
        done: usize,
        total: usize,
        frames_per_second: Option<f64>,
        bytes_in_use: Option<u64>,
        bytes_peak: Option<u64>,
        stage_seconds_left: Option<f64>,
        seconds_left: Option<f64>,
    },
    Summary {
        video: &'a str,
        #[serde(with = "paths")]
        output: &'a Path,
        frames: usize,
        seconds: f64,
        stages: &'a [StageSummary],
        peak_bytes: Option<u64>,
        device: &'a str,
    },
    Failed {
        video: &'a str,
        error: String,
    },
}

/// What a stage took.
#[derive(Serialize)]
struct StageSummary {
    stage: Stage,
    frames: usize,
    seconds: f64,
    network_seconds: f64,
    frames_per_second: Option<f64>,
}

impl StageSummary {
    fn new(stage: Stage, time: &StageTime) -> Self {
        Self {
            stage,
            frames: time.frames,
            seconds: time.seconds,
            network_seconds: time.network_seconds,
            frames_per_second: time.frames_per_second(),
        }
    }
}

/// How far a video is, in a line.
fn video_line(progress: &InpaintProgress, memory: [Option<Bytes>; 2]) -> String {
    let InpaintProgress {
        stage,
        frame,
        done,
        total,
        ..
    } = *progress;
    let rate = progress.stages[stage as usize].frames_per_second();
    let left = match (progress.seconds_left(), progress.stage_seconds_left(stage)) {
        (Some(left), _) => Some((left, "")),
        (None, left) => left.map(|left| (left, " of this stage")),
    };
    progress_line(
        &format!("{done}/{total} frames  {stage} from frame {frame}"),
        rate.map(|rate| format!("{rate:.2} frames/s")),
        memory,
        left,
    )
}

/// What a stage took, in a line.
fn stage_line(stage: &StageSummary) -> String {
    let mut line = format!(
        "{}: {} frames in {:.1} s",
        stage.stage, stage.frames, stage.seconds
    );
    if let Some(rate) = stage.frames_per_second {
        let share = 100.0 * stage.network_seconds / stage.seconds;
        line += &format!(", {rate:.2} frames/s, {share:.0} % of it in the network");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_memory_is_called_so_and_the_time_left_is_that_of_the_stage_until_all_are_known() {
        let mut progress = InpaintProgress {
            stage: Stage::Completion,
            frame: 4,
            done: 0,
            total: 10,
            stages: [StageTime {
                finished: 4,
                frames: 4,
                seconds: 2.0,
                network_seconds: 2.0,
            }; 4],
        };
        let known = video_line(&progress, [None, Some(Bytes::mib(3))]);
        assert_eq!(
            known,
            "0/10 frames  flow completion from frame 4  2.00 frames/s  memory unknown, peak 3.0 MiB  12 seconds left"
        );
        progress.stages[3] = StageTime::default();
        let of_stage = video_line(&progress, [None, None]);
        assert!(
            of_stage.ends_with("3 seconds left of this stage"),
            "{of_stage}"
        );
    }
}
