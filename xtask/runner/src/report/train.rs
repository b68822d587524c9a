//! What a training run prints.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use burn_memopt::memory::Bytes;
use burn_memopt::train::MicroBatches;
use serde::Serialize;
use serde_json::Value;
use xtask::cli::paths;

use super::{Console, Pace, known, progress_line};
use crate::train::{Comparison, Stage};

/// One finished optimizer step.
#[derive(Clone, Copy, Debug)]
pub struct StepReport {
    /// Steps done since the beginning of the run, this one included.
    pub step: u64,
    /// Mean loss of the step; `None` if an overflow skipped it.
    pub loss: Option<f64>,
    /// Items the step trained on.
    pub items: u64,
    /// Bytes in use now; `None` where the device does not report it.
    pub bytes_in_use: Option<Bytes>,
    /// Highest bytes in use so far; `None` where the device does not report it.
    pub bytes_peak: Option<Bytes>,
}

/// The last line of `--json`, and what is printed at the end.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Optimizer steps done since the beginning of the run.
    pub steps: u64,
    /// Loss of the first step of the run that was not skipped, before anything was learned.
    pub loss_first: f64,
    /// Mean loss over the last ten steps of the run.
    pub loss_last: f64,
    /// Time of the training loop in seconds, since the run was last resumed.
    pub seconds: f64,
    /// Items trained on per second of that time.
    pub items_per_second: f64,
    /// Highest bytes in use within a step, `null` where the device does not report it.
    pub peak_bytes: Option<u64>,
    /// The device.
    pub device: String,
    /// `f32`, `f16` or `bf16`.
    pub precision: String,
    /// The gradient-checkpointing policy.
    pub grad_checkpoint: String,
    /// Items in a micro-batch, at the end.
    pub micro_batch_size: usize,
    /// Micro-batches a step, at the end.
    pub accumulation_steps: usize,
    /// The artifact folder.
    pub artifact_dir: String,
    /// How good the result is, on data not trained on.
    pub metrics: BTreeMap<String, f64>,
    /// What the same step takes with other settings; empty where that was not measured.
    pub comparison: Comparison,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Start {
        model: &'a str,
        #[serde(with = "paths")]
        artifact_dir: &'a Path,
        first_step: u64,
        steps: u64,
        settings: &'a Value,
    },
    Step {
        step: u64,
        loss: Option<f64>,
        items_per_second: Option<f64>,
        bytes_in_use: Option<u64>,
        bytes_peak: Option<u64>,
        seconds_left: Option<f64>,
    },
    MicroBatch {
        step: u64,
        too_large: &'a [usize],
        micro_batch_size: usize,
        accumulation_steps: usize,
    },
    Stage(&'a Stage),
    Save {
        step: u64,
        #[serde(with = "paths")]
        dir: &'a Path,
    },
    Summary(&'a Summary),
    Evaluation(&'a EvaluationReport),
}

/// How good the network of a run is.
#[derive(Debug, Serialize)]
pub struct EvaluationReport {
    /// The model.
    pub model: &'static str,
    /// Optimizer steps that its network has learned.
    pub step: u64,
    /// The device that it was evaluated on.
    pub device: String,
    /// The artifact folder.
    pub artifact_dir: String,
    /// How good the result is, on data not trained on.
    pub metrics: BTreeMap<String, f64>,
}

impl EvaluationReport {
    /// Prints it on stdout, as a table or as one JSON object.
    pub fn print(&self, json: bool) -> Result<()> {
        if json {
            let event = serde_json::to_string(&Event::Evaluation(self));
            let event = event.context("cannot turn the metrics into JSON")?;
            return super::print(event + "\n");
        }
        let head = format!(
            "{} after {} steps, in {}\n",
            self.model, self.step, self.artifact_dir
        );
        let rows = self.metrics.iter();
        let rows = rows.map(|(name, value)| format!("{name:<20} {value:.4}\n"));
        super::print(head + &rows.collect::<String>())
    }
}

/// Shows how a run goes.
pub struct Progress {
    console: Console,
    log_every: u64,
    first_step: u64,
    steps: u64,
    started: Instant,
    pace: Pace,
}

impl Progress {
    /// Shows on `console` a run that has done `first_step` of `steps` steps, with a line every
    /// `log_every`.
    pub fn new(console: Console, first_step: u64, steps: u64, log_every: u64) -> Self {
        Self {
            console,
            log_every,
            first_step,
            steps,
            started: Instant::now(),
            pace: Pace::default(),
        }
    }

    /// Says what runs, and with which settings.
    pub fn start(
        &self,
        model: &str,
        artifact_dir: &Path,
        settings: &impl Serialize,
        computing: &str,
    ) -> Result<()> {
        self.note(&format!(
            "training {model} in {computing}, artifacts in {}",
            artifact_dir.display()
        ));
        let steps = self.steps;
        let settings =
            &serde_json::to_value(settings).context("cannot turn the settings into JSON")?;
        self.console.emit(&Event::Start {
            model,
            artifact_dir,
            first_step: self.first_step,
            steps,
            settings,
        })
    }

    /// Shows a finished step; between two lines only the bar moves.
    pub fn step(&mut self, report: &StepReport) -> Result<()> {
        self.pace.record(self.started.elapsed(), report.items);
        let seconds_left = self
            .pace
            .seconds_a_step()
            .map(|seconds| seconds * self.steps.saturating_sub(report.step) as f64);
        let items_per_second = self.pace.items_per_second();
        let line = step_line(report, self.steps, items_per_second, seconds_left);
        let is_due = report.step.is_multiple_of(self.log_every) || report.step == self.steps;
        self.console.progress(report.step, self.steps, line, is_due);
        if !is_due {
            return Ok(());
        }
        self.console.emit(&Event::Step {
            step: report.step,
            loss: report.loss,
            items_per_second,
            bytes_in_use: report.bytes_in_use.map(Bytes::get),
            bytes_peak: report.bytes_peak.map(Bytes::get),
            seconds_left,
        })
    }

    /// Says that `step` ran out of memory with micro-batches that were `too_large`, and was made again
    /// in `parts`.
    pub fn smaller(&self, step: u64, too_large: &[usize], parts: &MicroBatches) -> Result<()> {
        let sizes: Vec<_> = too_large.iter().map(ToString::to_string).collect();
        self.note(&format!(
            "step {step}: out of memory with micro-batches of {}, made again in {} of {}; the run \
             continues with these",
            sizes.join(" and "),
            parts.accumulation_steps(),
            parts.size(),
        ));
        self.console.emit(&Event::MicroBatch {
            step,
            too_large,
            micro_batch_size: parts.size(),
            accumulation_steps: parts.accumulation_steps(),
        })
    }

    /// Says that a stage of growing images begins.
    pub fn stage(&self, stage: &Stage) -> Result<()> {
        self.note(&stage.to_string());
        self.console.emit(&Event::Stage(stage))
    }

    /// Says that the state after `step` was saved in `dir`.
    pub fn saved(&self, step: u64, dir: &Path) -> Result<()> {
        self.console.emit(&Event::Save { step, dir })
    }

    /// Writes a line on stderr, above the bar where there is one.
    pub fn note(&self, text: &str) {
        self.console.note(text);
    }

    /// Ends the run's display with its summary.
    pub fn finish(self, summary: &Summary) -> Result<()> {
        self.console.bar.finish_and_clear();
        super::note(summary_text(summary));
        self.console.emit(&Event::Summary(summary))
    }
}

fn step_line(
    report: &StepReport,
    steps: u64,
    rate: Option<f64>,
    seconds_left: Option<f64>,
) -> String {
    let loss = match report.loss {
        Some(loss) => format!("{loss:.4}"),
        None => "none (skipped)".into(),
    };
    let done = format!("step {}/{steps}  loss {loss}", report.step);
    let rate = rate.map(|rate| format!("{rate:.1} items/s"));
    let memory = [report.bytes_in_use, report.bytes_peak];
    progress_line(
        &done,
        rate,
        memory,
        seconds_left.map(|seconds| (seconds, "")),
    )
}

fn summary_text(summary: &Summary) -> String {
    let peak = known(summary.peak_bytes.map(Bytes::new));
    let mut text = format!(
        "{} steps in {:.1} s, loss {:.4} -> {:.4}, {:.1} items/s, peak memory {peak}",
        summary.steps,
        summary.seconds,
        summary.loss_first,
        summary.loss_last,
        summary.items_per_second,
    );
    for (name, value) in &summary.metrics {
        text += &format!("\n{name} {value:.4}");
    }
    text + "\nartifacts in " + &summary.artifact_dir
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;
    use crate::interrupt::Interrupt;

    /// A stdout whose lines can be read back.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn parsed(&self) -> Vec<Value> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    fn report(step: u64) -> StepReport {
        StepReport {
            step,
            loss: Some(0.5),
            items: 4,
            bytes_in_use: None,
            bytes_peak: Some(Bytes::new(1 << 20)),
        }
    }

    fn summary() -> Summary {
        Summary {
            steps: 5,
            loss_first: 1.0,
            loss_last: 0.5,
            seconds: 2.0,
            items_per_second: 10.0,
            peak_bytes: None,
            device: "flex".into(),
            precision: "f32".into(),
            grad_checkpoint: "none".into(),
            micro_batch_size: 4,
            accumulation_steps: 1,
            artifact_dir: "artifacts/a".into(),
            metrics: BTreeMap::from([("count_correlation".into(), 0.9)]),
            comparison: Comparison::default(),
        }
    }

    #[test]
    fn every_event_is_one_line_and_steps_are_thinned_out() {
        let lines = Lines::default();
        let console =
            Console::new(false, &Interrupt::default()).with_events(Box::new(lines.clone()));
        let mut progress = Progress::new(console, 2, 5, 2);
        progress
            .start("unet", Path::new("a"), &json!({"lr": 1}), "f32 on flex")
            .unwrap();
        for step in 3..=5 {
            progress.step(&report(step)).unwrap();
        }
        progress.saved(5, Path::new("a/checkpoint-5")).unwrap();
        progress.finish(&summary()).unwrap();
        let lines = lines.parsed();
        let events: Vec<_> = lines
            .iter()
            .map(|line| line["event"].as_str().unwrap())
            .collect();
        assert_eq!(events, ["start", "step", "step", "save", "summary"]);
        assert_eq!(
            (&lines[0]["first_step"], &lines[0]["settings"]["lr"]),
            (&json!(2), &json!(1))
        );
        assert_eq!(
            (&lines[1]["step"], &lines[2]["step"]),
            (&json!(4), &json!(5))
        );
        assert_eq!(
            (&lines[1]["bytes_in_use"], &lines[1]["bytes_peak"]),
            (&Value::Null, &json!(1 << 20))
        );
    }

    #[test]
    fn the_summary_has_the_promised_fields() {
        let event = serde_json::to_value(Event::Summary(&summary())).unwrap();
        let mut fields: Vec<_> = event
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        fields.sort_unstable();
        let promised = [
            "accumulation_steps",
            "artifact_dir",
            "comparison",
            "device",
            "event",
            "grad_checkpoint",
            "items_per_second",
            "loss_first",
            "loss_last",
            "metrics",
            "micro_batch_size",
            "peak_bytes",
            "precision",
            "seconds",
            "steps",
        ];
        assert_eq!(fields, promised);
        assert_eq!(event["metrics"]["count_correlation"], json!(0.9));
    }

    #[test]
    fn what_is_unknown_is_said_to_be() {
        let line = step_line(&report(3), 5, Some(2.0), Some(61.0));
        assert!(
            line.starts_with("step 3/5  loss 0.5000  2.0 items/s  memory unknown, peak 1.0 MiB"),
            "{line}"
        );
        assert!(summary_text(&summary()).contains("peak memory unknown"));
    }
}
