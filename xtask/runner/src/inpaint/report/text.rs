//! What a person reads of a run.

use std::time::Duration;

use burn_memopt::memory::Bytes;
use burn_memopt_models::propainter::inpaint::InpaintProgress;
use indicatif::HumanDuration;

use super::event::StageSummary;

/// Bytes, or that they are not known.
pub(super) fn known(bytes: Option<Bytes>) -> String {
    bytes.map_or("unknown".into(), |bytes| bytes.to_string())
}

/// How far a video is, in a line.
pub(super) fn line(
    progress: &InpaintProgress,
    in_use: Option<Bytes>,
    peak: Option<Bytes>,
) -> String {
    let InpaintProgress {
        stage, done, total, ..
    } = *progress;
    let time = progress.stages[stage as usize];
    let mut line = format!(
        "{done}/{total} frames  {} from frame {}",
        stage, progress.frame
    );
    if let Some(rate) = time.frames_per_second() {
        line += &format!("  {rate:.2} frames/s");
    }
    line += &format!("  memory {}, peak {}", known(in_use), known(peak));
    let human = |seconds: f64| HumanDuration(Duration::from_secs_f64(seconds.ceil()));
    match (progress.seconds_left(), progress.stage_seconds_left(stage)) {
        (Some(left), _) => line += &format!("  {} left", human(left)),
        (None, Some(left)) => line += &format!("  {} left of this stage", human(left)),
        (None, None) => {}
    }
    line
}

/// What a stage took, in a line.
pub(super) fn stage_line(stage: &StageSummary) -> String {
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
    use burn_memopt_models::propainter::inpaint::{Stage, StageTime};

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
        let known = line(&progress, None, Some(Bytes::mib(3)));
        assert_eq!(
            known,
            "0/10 frames  flow completion from frame 4  2.00 frames/s  memory unknown, peak 3.0 MiB  12 seconds left"
        );
        progress.stages[3] = StageTime::default();
        let of_stage = line(&progress, None, None);
        assert!(
            of_stage.ends_with("3 seconds left of this stage"),
            "{of_stage}"
        );
    }
}
