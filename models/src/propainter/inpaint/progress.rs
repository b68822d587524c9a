use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::InpaintError;

/// A stage of completing a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Optical flow between neighbouring frames.
    Flow,
    /// Flow inside the holes.
    Completion,
    /// Pixels that other frames show.
    Propagation,
    /// Pixels that no frame shows.
    Generation,
}

impl Stage {
    /// Every stage, in their order.
    pub const ALL: [Self; 4] = [
        Self::Flow,
        Self::Completion,
        Self::Propagation,
        Self::Generation,
    ];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flow => "optical flow",
            Self::Completion => "flow completion",
            Self::Propagation => "image propagation",
            Self::Generation => "the generator",
        })
    }
}

/// How far a stage is, and what it took in this run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct StageTime {
    /// Frames that it has finished, those of earlier runs included.
    pub finished: usize,
    /// Frames that it has finished in this run. A pair of frames, whose flow is computed, counts as
    /// one.
    pub frames: usize,
    /// Its time in this run in seconds, that of the stages it waited for excluded.
    pub seconds: f64,
    /// The part of that time in seconds that the networks took.
    pub network_seconds: f64,
}

impl StageTime {
    /// Frames a second in this run, if there were any.
    pub fn frames_per_second(&self) -> Option<f64> {
        let is_known = self.frames > 0 && self.seconds > 0.0;
        is_known.then(|| self.frames as f64 / self.seconds)
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InpaintProgress {
    /// The stage that is about to run.
    pub stage: Stage,
    /// Frame that it begins with, from 0.
    pub frame: usize,
    /// Frames that are completed and handed on.
    pub done: usize,
    /// Frames of the video.
    pub total: usize,
    /// What each stage took so far, in the order of [`Stage::ALL`].
    pub stages: [StageTime; 4],
}

impl InpaintProgress {
    /// Seconds that `stage` has still to work at its pace of this run, if that is known.
    pub fn stage_seconds_left(&self, stage: Stage) -> Option<f64> {
        let time = self.stages[stage as usize];
        let left = self.total.saturating_sub(time.finished);
        match left {
            0 => Some(0.0),
            _ => Some(left as f64 / time.frames_per_second()?),
        }
    }

    /// Seconds until the video is completed, if the pace of every stage is known.
    pub fn seconds_left(&self) -> Option<f64> {
        let of_stages = Stage::ALL.map(|stage| self.stage_seconds_left(stage));
        of_stages.into_iter().sum()
    }
}

/// Asks the caller whether to continue, and measures time.
pub(super) struct Watch<'a> {
    progress: &'a mut dyn FnMut(&InpaintProgress) -> ControlFlow<()>,
    pub(super) done: usize,
    total: usize,
    pub(super) stages: [StageTime; 4],
    now: Option<(Stage, Instant)>,
    /// The stage that was entered last, and the frame it began with.
    pub(super) at: (Stage, usize),
}

impl<'a> Watch<'a> {
    /// Watches a run on `total` frames; `finished` are those that each stage has already finished.
    pub(super) fn new(
        total: usize,
        finished: [usize; 4],
        progress: &'a mut dyn FnMut(&InpaintProgress) -> ControlFlow<()>,
    ) -> Self {
        let stage = |finished| StageTime {
            finished,
            ..StageTime::default()
        };
        Self {
            progress,
            done: finished[Stage::Generation as usize],
            total,
            stages: finished.map(stage),
            now: None,
            at: (Stage::Flow, 0),
        }
    }

    /// Begins work of a stage from `frame` on.
    ///
    /// # Errors
    /// If the caller asked to stop.
    pub(super) fn enter(&mut self, stage: Stage, frame: usize) -> Result<(), InpaintError> {
        let (done, total) = (self.done, self.total);
        let progress = InpaintProgress {
            stage,
            frame,
            done,
            total,
            stages: self.stages,
        };
        if (self.progress)(&progress).is_break() {
            return Err(InpaintError::Cancelled { done, total });
        }
        self.now = Some((stage, Instant::now()));
        self.at = (stage, frame);
        Ok(())
    }

    /// Runs what networks do, and takes its time.
    pub(super) fn network<T>(&mut self, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = run();
        self.add(|time| &mut time.network_seconds, start.elapsed());
        result
    }

    /// Ends work of a stage; the frames before `finished` are finished.
    pub(super) fn leave(&mut self, finished: usize) {
        if let Some((stage, start)) = self.now {
            self.add(|time| &mut time.seconds, start.elapsed());
            self.now = None;
            let time = &mut self.stages[stage as usize];
            time.frames += finished.saturating_sub(time.finished);
            time.finished = time.finished.max(finished);
        }
    }

    fn add(&mut self, what: impl FnOnce(&mut StageTime) -> &mut f64, time: Duration) {
        if let Some((stage, _)) = self.now {
            *what(&mut self.stages[stage as usize]) += time.as_secs_f64();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(stages: [(usize, usize, f64); 4]) -> InpaintProgress {
        InpaintProgress {
            stage: Stage::Generation,
            frame: 0,
            done: 0,
            total: 10,
            stages: stages.map(|(finished, frames, seconds)| StageTime {
                finished,
                frames,
                seconds,
                network_seconds: 0.0,
            }),
        }
    }

    #[test]
    fn the_time_left_is_known_once_every_stage_has_a_pace() {
        let known = progress([(10, 5, 1.0), (10, 0, 0.0), (8, 8, 4.0), (5, 5, 10.0)]);
        assert_eq!(known.stage_seconds_left(Stage::Propagation), Some(1.0));
        assert_eq!(known.seconds_left(), Some(11.0));
        let unknown = progress([(10, 5, 1.0), (10, 0, 0.0), (8, 8, 4.0), (0, 0, 0.0)]);
        assert_eq!(unknown.seconds_left(), None);
    }

    #[test]
    fn time_and_frames_go_to_the_stage_that_is_entered() {
        let mut go_on = |_: &InpaintProgress| ControlFlow::Continue(());
        let mut watch = Watch::new(10, [4, 0, 0, 0], &mut go_on);
        watch.enter(Stage::Flow, 4).unwrap();
        watch.network(|| std::thread::sleep(Duration::from_millis(2)));
        watch.leave(6);
        let [flow, rest @ ..] = watch.stages;
        assert_eq!((flow.finished, flow.frames), (6, 2));
        assert!(flow.seconds >= flow.network_seconds && flow.network_seconds > 0.001);
        assert_eq!(rest, [StageTime::default(); 3]);
    }

    #[test]
    fn the_caller_may_stop_before_anything_runs() {
        let mut stop = |_: &InpaintProgress| ControlFlow::Break(());
        let mut watch = Watch::new(10, [9, 9, 9, 3], &mut stop);
        let error = watch.enter(Stage::Flow, 0).unwrap_err();
        assert!(matches!(
            error,
            InpaintError::Cancelled { done: 3, total: 10 }
        ));
    }
}
