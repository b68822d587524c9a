//! The training loop: steps, saves, the reaction to Ctrl-C, and the end of a run.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Error, Result};
use burn::tensor::Device;
use burn_memopt::memory::{Bytes, MemoryTracker, PeakMeter, live_on, on_host};
use burn_memopt::precision::Precision;

use super::comparison::{Comparer, Comparison, StepCost};
use super::job::{Job, Metrics, Trainer};
use super::saved;
use super::session::Session;
use crate::interrupt::{Interrupt, resume_command};
use crate::report::train::{Progress, StepReport, Summary};
use crate::run_dir::RunDir;
use crate::settings::{ModelSettings, RunSettings, Settings};

/// Everything a run has besides its network.
pub struct Run<'a, J: Job> {
    pub job: J,
    pub settings: &'a Settings<J::Settings>,
    /// Further cargo features the program was compiled with.
    pub features: &'a [String],
    /// The device, as the user would name it.
    pub device_name: String,
    /// The device, recording gradients.
    pub device: Device,
    pub precision: Precision,
    pub dir: RunDir,
    pub data: J::Data,
    pub session: Session<J>,
    pub watch: Watch,
    pub progress: Progress,
    pub interrupt: Interrupt,
}

impl<J: Job> Run<'_, J> {
    const MODEL: &'static str = J::Settings::MODEL;

    /// Trains `network` up to `steps` optimizer steps, saves, evaluates and sums up. What it would
    /// have taken with other settings is printed on stdout if `prints_comparison`.
    pub fn train(mut self, network: J::Network, steps: u64, prints_comparison: bool) -> Result<()> {
        let root = self.dir.root().to_path_buf();
        self.progress.start(Self::MODEL, &root, self.settings)?;
        let started = Instant::now();
        let (network, done) = match self.steps(network, steps) {
            Ok(done) => done,
            Err(error) => {
                // The error of the step is the one to report.
                let _ = self.watch.write();
                return Err(self.with_advice(error));
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        self.watch.mark("evaluation");
        let metrics = if self.interrupt.is_requested() {
            Metrics::new()
        } else {
            let batch_size = self.session.parts.size();
            self.job
                .evaluate(&network, &self.data, batch_size, &self.dir, &self.device)?
        };
        self.watch.sample(self.session.step, None);
        self.watch.write()?;
        if self.session.step < steps {
            let command = resume_command(Self::MODEL, &root, self.features);
            self.progress.note(&format!(
                "interrupted after step {} of {steps}; continue with\n  {command}",
                self.session.step
            ));
        }
        let mut summary = self.sum_up(seconds, done.items, metrics);
        drop(network);
        let (progress, comparison) = self.compare(done.median_seconds(), seconds);
        summary.comparison = comparison;
        progress.finish(&summary)?;
        if prints_comparison {
            print!("{}", summary.comparison);
        }
        Ok(())
    }

    /// Makes the steps that are left.
    fn steps(&mut self, mut network: J::Network, steps: u64) -> Result<(J::Network, StepsDone)> {
        let mut all = StepsDone::default();
        while self.session.step < steps {
            let meter = self.watch.meter(self.session.step + 1);
            let num_tried = self.session.parts.tried().len();
            let started = Instant::now();
            let (next, done) = self.session.advance(&self.job, &self.data, network);
            network = next;
            let done = done?;
            all.seconds.push(started.elapsed().as_secs_f64());
            all.items += done.items;
            let step = self.session.step;
            let memory = self.watch.sample(step, meter);
            self.note_skipped();
            if let too_large @ [_, ..] = &self.session.parts.tried()[num_tried..] {
                self.progress
                    .smaller(step, too_large, &self.session.parts)?;
            }
            self.progress.step(&StepReport {
                step,
                loss: done.loss,
                items: done.items,
                bytes_in_use: memory.in_use,
                bytes_peak: memory.peak,
            })?;
            let ends = step == steps || self.interrupt.is_requested();
            if ends || step.is_multiple_of(self.settings.run.save_every) {
                self.save(&network)?;
            }
            if ends {
                break;
            }
        }
        Ok((network, all))
    }

    /// Says which networks the last step left as they were.
    fn note_skipped(&self) {
        let (step, train) = (self.session.step, &self.session.train);
        for (train, name) in train.steps().into_iter().zip(J::Trainer::NAMES) {
            let state = train.state();
            if let (true, Some(scaler)) = (state.skipped_in_a_row > 0, &state.scaler) {
                let whose = match *name {
                    "" => String::new(),
                    name => format!(" of the {name}"),
                };
                self.progress.note(&format!(
                    "step {step}: gradients{whose} overflowed, step skipped, loss scale now {}",
                    scaler.current()
                ));
            }
        }
    }

    fn save(&mut self, network: &J::Network) -> Result<()> {
        // The settings next to a state are those it was made with.
        self.dir.write_config(self.settings)?;
        let session = &self.session;
        let state = self
            .dir
            .save(session.step, |dir| saved::save(dir, network, session))?;
        self.watch.write()?;
        self.progress.saved(state.step, &state.dir)
    }

    fn sum_up(&self, seconds: f64, items: u64, metrics: Metrics) -> Summary {
        let losses = &self.session.losses;
        Summary {
            steps: self.session.step,
            loss_first: losses.first().unwrap_or(f64::NAN),
            loss_last: losses.last().unwrap_or(f64::NAN),
            seconds,
            items_per_second: items as f64 / seconds,
            peak_bytes: self.watch.now.peak.map(Bytes::get),
            device: self.device_name.clone(),
            precision: self.precision.to_string(),
            grad_checkpoint: self.settings.run.grad_checkpoint.as_str().into(),
            micro_batch_size: self.session.parts.size(),
            accumulation_steps: self.session.parts.accumulation_steps(),
            artifact_dir: self.dir.root().display().to_string(),
            metrics,
            comparison: Comparison::default(),
        }
    }

    /// Ends the session and compares its steps with those of other settings, where memory is
    /// counted exactly: on the host.
    fn compare(self, step_seconds: Option<f64>, run_seconds: f64) -> (Progress, Comparison) {
        let Self {
            session,
            watch,
            device,
            progress,
            ..
        } = self;
        let (Some(peak), Some(seconds_per_step)) = (watch.now.peak, step_seconds) else {
            return (progress, Comparison::default());
        };
        if !J::IS_COMPARED || !on_host(&device) || self.interrupt.is_requested() {
            return (progress, Comparison::default());
        }
        let mut settings = self.settings.clone();
        settings.run.batch_size = session.parts.size();
        settings.run.accumulation_steps = session.parts.accumulation_steps();
        // Its optimizer's state and batches would count as the others'.
        drop(session);
        let comparer = Comparer::<J> {
            settings,
            data: &self.data,
            precision: self.precision,
            device: &device,
            features: self.features,
        };
        let own = StepCost {
            peak_bytes: peak.get(),
            seconds_per_step,
        };
        // The run itself is whole.
        let comparison = comparer.compare(own, run_seconds).unwrap_or_else(|error| {
            progress.note(&format!("cannot compare with other settings: {error:#}"));
            Comparison::default()
        });
        (progress, comparison)
    }

    /// Says where to continue from after `error`.
    fn with_advice(&self, error: Error) -> Error {
        let advice = match self.dir.latest() {
            Ok(Some(state)) => {
                let command = resume_command(Self::MODEL, self.dir.root(), self.features);
                format!("step {} is saved; go on from it with {command}", state.step)
            }
            _ => "nothing was saved yet".into(),
        };
        error.context(format!("training stopped ({advice})"))
    }
}

/// What the steps since the run was started or resumed took.
#[derive(Default)]
struct StepsDone {
    items: u64,
    seconds: Vec<f64>,
}

impl StepsDone {
    fn median_seconds(mut self) -> Option<f64> {
        self.seconds.sort_by(f64::total_cmp);
        self.seconds.get(self.seconds.len() / 2).copied()
    }
}

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
    now: MemoryNow,
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
    fn meter(&self, step: u64) -> Option<PeakMeter> {
        let has_pools = self.device.memory_pool_usage().is_some();
        let is_due = step.is_multiple_of(self.meter_every) || step == 2;
        (!has_pools || is_due).then(|| PeakMeter::start(&self.device))
    }

    /// Ends the measurement and takes a sample after `step`.
    fn sample(&mut self, step: u64, meter: Option<PeakMeter>) -> MemoryNow {
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
    fn mark(&mut self, phase: &'static str) {
        if let Some(tracker) = &mut self.tracker {
            tracker.mark(phase);
        }
    }

    /// Writes the table and the plot; earlier ones of this run are replaced as a whole.
    fn write(&self) -> Result<()> {
        if let Some(tracker) = &self.tracker {
            tracker.write_csv(&self.table)?;
            tracker.plot(&self.plot)?;
        }
        Ok(())
    }
}
