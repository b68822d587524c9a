//! The training loop: steps, saves, the answer to Ctrl-C, and the end of a run.

use std::time::Instant;

use anyhow::{Context, Error, Result};
use burn::tensor::Device;
use burn_memopt::precision::Precision;

use super::job::{Job, Metrics};
use super::saved;
use super::session::Session;
use super::trainer::Trainer;
use super::watch::Watch;
use crate::interrupt::{Interrupt, resume_command};
use crate::progress::{Progress, StepReport, Summary};
use crate::run_dir::RunDir;
use crate::settings::{ModelSettings, Settings};

/// Everything a run has besides its network.
pub struct Run<'a, J: Job> {
    /// What is trained.
    pub job: J,
    /// Every setting.
    pub settings: &'a Settings<J::Settings>,
    /// Further cargo features the runner was compiled with.
    pub features: &'a [String],
    /// The device, as the user would name it.
    pub device_name: String,
    /// The device, recording gradients.
    pub device: Device,
    /// The precision computed in.
    pub precision: Precision,
    /// The artifact folder.
    pub dir: RunDir,
    /// What is trained on and judged by.
    pub data: J::Data,
    /// The loop's state.
    pub session: Session<J>,
    /// The memory.
    pub watch: Watch,
    /// What is shown.
    pub progress: Progress,
    /// Whether the user asked to end.
    pub interrupt: Interrupt,
}

impl<J: Job> Run<'_, J> {
    const MODEL: &'static str = J::Settings::MODEL;

    /// Trains `network` up to `steps` optimizer steps, saves, judges and sums up.
    ///
    /// # Errors
    /// If a step fails or something cannot be written; what was saved before stays.
    pub fn train(mut self, network: J::Network, steps: u64) -> Result<()> {
        let root = self.dir.root().to_path_buf();
        self.progress.start(Self::MODEL, &root, self.settings)?;
        let started = Instant::now();
        let (network, items) = match self.steps(network, steps) {
            Ok(done) => done,
            Err(error) => {
                // The error of the step is the one to report.
                let _ = self.watch.write();
                return Err(self.with_advice(error));
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        self.watch.mark("evaluation");
        let metrics = match self.interrupt.is_requested() {
            true => Metrics::new(),
            false => {
                let Self {
                    job,
                    data,
                    dir,
                    device,
                    session,
                    ..
                } = &self;
                job.judge(&network, data, session.parts.size(), dir, device)?
            }
        };
        self.watch.sample(self.session.step, None);
        self.watch.write()?;
        let interrupted = self.session.step < steps;
        if interrupted {
            let command = resume_command(Self::MODEL, &root, self.features);
            self.progress.note(&format!(
                "interrupted after step {} of {steps}; go on with\n  {command}",
                self.session.step
            ));
        }
        let summary = self.sum_up(seconds, items, metrics);
        self.progress.finish(&summary)
    }

    /// Makes the steps that are left and returns the network and the items seen.
    fn steps(&mut self, mut network: J::Network, steps: u64) -> Result<(J::Network, u64)> {
        let mut items = 0;
        while self.session.step < steps {
            let meter = self.watch.meter(self.session.step + 1);
            let num_tried = self.session.parts.tried().len();
            let (next, done) = self.session.advance(&self.job, &self.data, network);
            network = next;
            let done = done?;
            items += done.items;
            let step = self.session.step;
            let memory = self.watch.sample(step, meter);
            self.tell_skipped();
            self.tell_smaller(num_tried)?;
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
        Ok((network, items))
    }

    /// Tells which networks the last step left as they were.
    fn tell_skipped(&self) {
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

    /// Tells the sizes of micro-batches that were too large after the first `known` of them.
    fn tell_smaller(&mut self, known: usize) -> Result<()> {
        let (step, parts) = (self.session.step, &self.session.parts);
        match &parts.tried()[known..] {
            [] => Ok(()),
            too_large => self.progress.smaller(step, too_large, parts),
        }
    }

    fn save(&mut self, network: &J::Network) -> Result<()> {
        // The settings beside a state are those it was made with.
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
            peak_bytes: self.watch.now().peak.map(|peak| peak.get()),
            device: self.device_name.clone(),
            precision: self.precision.to_string(),
            grad_checkpoint: self.settings.run.grad_checkpoint.as_str().into(),
            micro_batch_size: self.session.parts.size(),
            accumulation_steps: self.session.parts.accumulation_steps(),
            artifact_dir: self.dir.root().display().to_string(),
            metrics,
        }
    }

    /// Says what there is to go on from after `error`.
    fn with_advice(&self, error: Error) -> Error {
        let advice = match self.dir.latest() {
            Ok(Some(state)) => {
                let command = resume_command(Self::MODEL, self.dir.root(), self.features);
                format!("step {} is saved; go on from it with {command}", state.step)
            }
            _ => "nothing was saved yet".into(),
        };
        Err::<(), _>(error)
            .with_context(|| format!("training stopped ({advice})"))
            .expect_err("an error stays one")
    }
}
