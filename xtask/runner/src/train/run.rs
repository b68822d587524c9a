//! The training loop: steps, saves, the reaction to Ctrl-C, and the end of a run.

use std::time::Instant;

use anyhow::{Error, Result};
use burn::tensor::Device;
use burn_memopt::memory::{Bytes, on_host};
use burn_memopt::precision::Precision;
use burn_memopt::train::MicroBatchTrainers;
use xtask::cli::values::Words;

use super::comparison::{Comparer, Comparison, StepCost};
use super::evaluate::{Evaluation, evaluate_network};
use super::job::{Job, Metrics, Trainer};
use super::network::as_chosen;
use super::saved;
use super::session::Session;
use super::tune::{Cost, Machine, Record};
use super::watch::Watch;
use crate::interrupt::{Interrupt, resume_command};
use crate::report::train::{Progress, StepReport, Summary};
use crate::report::{causes, print};
use crate::run_dir::RunDir;
use crate::settings::{ModelSettings, Settings, to_save};

/// Steps after which their median time says what others will take.
const LEAST_STEPS: u64 = 5;

/// Everything a run has besides its network.
pub struct Run<'a, J: Job> {
    pub job: J,
    pub settings: &'a Settings<J::Settings>,
    /// Whether a resumed run keeps all settings of its model.
    pub keeps_model: bool,
    /// Further cargo features the program was compiled with.
    pub features: &'a [String],
    /// The device, as the user would name it.
    pub device_name: String,
    /// Where steps are measured.
    pub machine: Machine,
    /// The devices, recording gradients; the first one is the main one.
    pub devices: Vec<Device>,
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
        self.progress
            .start(Self::MODEL, &root, self.settings, &self.computing())?;
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
        let metrics = self.metrics(&network, &done)?;
        if done.num_steps() > 0 {
            self.watch.sample(self.session.step, None);
            self.watch.write()?;
        }
        if metrics.is_none() {
            let command = resume_command(Self::MODEL, &root, self.features);
            let step = self.session.step;
            self.progress.note(&format!(
                "interrupted after step {step} of {steps}; continue with\n  {command}"
            ));
        }
        let metrics = metrics.unwrap_or_default();
        let mut summary = self.sum_up(seconds, done.items, metrics);
        drop(network);
        let dir = self.dir.clone();
        let (progress, comparison, record) = self.compare(done.median_seconds(), seconds);
        if let Some(record) = record {
            record.write(&dir)?;
        }
        summary.comparison = comparison;
        progress.finish(&summary)?;
        if prints_comparison {
            print(&summary.comparison)?;
        }
        Ok(())
    }

    /// What the network is evaluated by, now or before; `None` if the user asked to stop.
    fn metrics(&self, network: &J::Network, done: &StepsDone) -> Result<Option<Metrics>> {
        let step = self.session.step;
        if done.num_steps() == 0 {
            if self.keeps_model
                && let Some(metrics) = Evaluation::find(&self.dir, step)?
            {
                self.progress.note(&format!(
                    "nothing is left: all {step} steps are done and evaluated; --steps or --epochs \
                     makes more"
                ));
                return Ok(Some(metrics));
            }
            self.progress.note(&format!(
                "all {step} steps are done: only the evaluation is left"
            ));
        }
        if self.interrupt.is_requested() {
            return Ok(None);
        }
        let (data, moved) = (&self.data, Words::new());
        let Self {
            job,
            session,
            dir,
            devices,
            ..
        } = self;
        evaluate_network(job, network, data, session, moved, dir, devices).map(Some)
    }

    /// Makes the steps that are left.
    fn steps(&mut self, mut network: J::Network, steps: u64) -> Result<(J::Network, StepsDone)> {
        let mut all = StepsDone::default();
        while self.session.step < steps {
            let meter = self.watch.meter(self.session.step + 1);
            if let Some(stage) = self.session.enter_stage(&self.job, &self.data)? {
                self.progress.stage(stage)?;
            }
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

    /// What computes in which precision, for the first line.
    fn computing(&self) -> String {
        format!("{} on {}", self.precision, self.device_name)
    }

    /// The settings, with a precision that does not depend on the machine.
    fn resolved(&self) -> Settings<J::Settings> {
        let mut settings = self.settings.clone();
        settings.run.precision = as_chosen(self.precision);
        settings
    }

    /// Says which networks the last step left as they were.
    fn note_skipped(&self) {
        let (step, train) = (self.session.step, &self.session.train);
        for (train, name) in train.trainers().into_iter().zip(J::Trainer::NAMES) {
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
        self.dir
            .write_config(&to_save(&self.resolved(), self.dir.root())?)?;
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
    fn compare(
        self,
        step_seconds: Option<f64>,
        run_seconds: f64,
    ) -> (Progress, Comparison, Option<Record>) {
        let Self {
            session,
            watch,
            devices,
            progress,
            ..
        } = self;
        let device = &devices[0];
        let (Some(peak), Some(seconds_per_step)) = (watch.now.peak, step_seconds) else {
            return (progress, Comparison::default(), None);
        };
        let is_staged = !session.schedule().stages().is_empty();
        let is_measured = session.step >= LEAST_STEPS;
        if is_staged {
            return (progress, Comparison::default(), None);
        }
        let mut settings = self.settings.clone();
        settings.run.batch_size = session.parts.size();
        settings.run.accumulation_steps = session.parts.accumulation_steps();
        // Its optimizer's state and batches would count as the others'.
        drop(session);
        let own = StepCost {
            peak_bytes: peak.get(),
            seconds_per_step,
        };
        let own_cost = Cost::new(&settings.run, own);
        let record =
            |settings: &_, costs| is_measured.then(|| Record::new(self.machine, settings, costs));
        // Other settings are measured on one device.
        let is_compared = J::IS_COMPARED && devices.len() == 1 && on_host(device);
        if !is_compared || self.interrupt.is_requested() {
            return (
                progress,
                Comparison::default(),
                record(&settings, vec![own_cost]),
            );
        }
        let comparer = Comparer::<J> {
            settings,
            data: &self.data,
            precision: self.precision,
            device,
            features: self.features,
        };
        // The run itself is whole.
        let comparison = comparer.compare(own, run_seconds).unwrap_or_else(|error| {
            let why = causes(&error);
            progress.note(&format!("cannot compare with other settings: {why}"));
            Comparison::default()
        });
        let mut costs = comparison.costs(&comparer.settings.run);
        if costs.is_empty() {
            costs.push(own_cost);
        }
        let record = record(&comparer.settings, costs);
        (progress, comparison, record)
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
    fn num_steps(&self) -> usize {
        self.seconds.len()
    }

    fn median_seconds(mut self) -> Option<f64> {
        self.seconds.sort_by(f64::total_cmp);
        self.seconds.get(self.seconds.len() / 2).copied()
    }
}
