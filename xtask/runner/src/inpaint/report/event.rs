//! What a machine reads of a run, a JSON object a line.

use std::path::Path;

use burn_memopt::budget::Reason;
use burn_memopt::memory::Bytes;
use burn_memopt_models::propainter::inpaint::{Fallback, Setting, Stage, StageTime};
use serde::Serialize;

use crate::inpaint::settings::InpaintSettings;

/// Something that happened to a video.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
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
pub(super) struct StageSummary {
    pub(super) stage: Stage,
    pub(super) frames: usize,
    pub(super) seconds: f64,
    pub(super) network_seconds: f64,
    pub(super) frames_per_second: Option<f64>,
}

impl StageSummary {
    pub(super) fn new(stage: Stage, time: &StageTime) -> Self {
        Self {
            stage,
            frames: time.frames,
            seconds: time.seconds,
            network_seconds: time.network_seconds,
            frames_per_second: time.frames_per_second(),
        }
    }
}
