//! What the step of a run takes with other settings, measured when the run has ended.

use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_memopt::memory::{Bytes, PeakMeter};
use burn_memopt::precision::Precision;
use serde::Serialize;

use super::job::Job;
use super::saved::CutPlan;
use super::session::Session;
use super::tune::Cost;
use crate::interrupt::program;
use crate::settings::{ModelSettings, RunSettings, Settings, flags};

/// Steps of each way that are measured; a step before them makes the optimizer's state.
const NUM_MEASURED: usize = 2;
/// Ways to make a step that are measured at most.
const NUM_WAYS: usize = 4;
/// Seconds that the measurement may take, or this share of the run where that is more.
const LIMIT_SECONDS: f64 = 10.0;
const LIMIT_SHARE: f64 = 0.05;
/// Micro-batches that accumulation divides a step into, at least, where it has as many items.
const LEAST_MICRO_BATCHES: usize = 4;

/// What a step takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StepCost {
    /// The highest bytes in use within a step.
    pub peak_bytes: u64,
    /// The time of a step.
    pub seconds_per_step: f64,
}

/// One way to make the step of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    name: &'static str,
    batch_size: usize,
    accumulation_steps: usize,
    grad_checkpoint: String,
    #[serde(flatten)]
    cost: StepCost,
    /// The command that trains so.
    command: String,
}

/// A run, and its step made in other ways.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Comparison(pub Vec<Way>);

impl Comparison {
    /// What each way took, of a run with these settings.
    pub fn costs(&self, run: &RunSettings) -> Vec<Cost> {
        let cost = |way: &Way| {
            let mut run = run.clone();
            run.batch_size = way.batch_size;
            run.accumulation_steps = way.accumulation_steps;
            run.grad_checkpoint = way.grad_checkpoint.clone();
            Cost::new(&run, way.cost)
        };
        self.0.iter().map(cost).collect()
    }
}

/// What is needed to make a run's step again.
pub struct Comparer<'a, J: Job> {
    /// The settings, with the micro-batches that fitted.
    pub settings: Settings<J::Settings>,
    pub data: &'a J::Data,
    pub precision: Precision,
    pub device: &'a Device,
    /// Further cargo features the program was compiled with.
    pub features: &'a [String],
}

impl<J: Job> Comparer<'_, J> {
    /// Measures plain steps, recomputation, accumulation, and both, of as many items as the run's
    /// steps had; nothing where that takes too long.
    pub fn compare(&self, own: StepCost, run_seconds: f64) -> Result<Comparison> {
        let limit = LIMIT_SECONDS.max(LIMIT_SHARE * run_seconds);
        let num_steps = NUM_WAYS * (1 + NUM_MEASURED);
        if own.seconds_per_step * num_steps as f64 > limit {
            return Ok(Comparison::default());
        }
        let run = &self.settings.run;
        let num_items = run.batch_size * run.accumulation_steps;
        let part = micro_batch_size(num_items);
        let mut ways = vec![self.way("this run", &self.settings, own)];
        for (name, batch_size, policy) in [
            ("plain", num_items, "none"),
            ("recomputation", num_items, "block"),
            ("accumulation", part, "none"),
            ("both", part, "block"),
        ] {
            let is_divided = matches!(name, "accumulation" | "both");
            if is_divided && part == num_items {
                continue;
            }
            let mut settings = self.settings.clone();
            settings.run.batch_size = batch_size;
            settings.run.accumulation_steps = num_items / batch_size;
            settings.run.grad_checkpoint = policy.into();
            let cost = if settings.run == *run {
                own
            } else {
                self.measure(&settings)?
            };
            ways.push(self.way(name, &settings, cost));
        }
        Ok(Comparison(ways))
    }

    fn way(&self, name: &'static str, settings: &Settings<J::Settings>, cost: StepCost) -> Way {
        let mut command = format!("{} train {}", program(), J::Settings::MODEL);
        for flag in flags(settings) {
            command += &format!(" {flag}");
        }
        if !self.features.is_empty() {
            command += &format!(" --features {}", self.features.join(","));
        }
        let run = &settings.run;
        Way {
            name,
            batch_size: run.batch_size,
            accumulation_steps: run.accumulation_steps,
            grad_checkpoint: run.grad_checkpoint.clone(),
            cost,
            command,
        }
    }

    fn measure(&self, settings: &Settings<J::Settings>) -> Result<StepCost> {
        let Self {
            data,
            precision,
            device,
            ..
        } = self;
        let job = J::new(settings.clone())?;
        let mut network = job.network(Some(data), &mut CutPlan::default(), device)?;
        let mut session = Session::new(
            &job,
            data,
            &settings.run,
            *precision,
            std::slice::from_ref(*device),
        )?;
        let (mut peak, mut seconds) = (Bytes::new(0), f64::INFINITY);
        let (start, mut num_stepped) = (session.feed.loader.state(), 0);
        while num_stepped <= NUM_MEASURED {
            // The same items every time: the last step of an epoch may be smaller.
            session.resume(&job, data, &start)?;
            let (meter, started) = (PeakMeter::start(device), Instant::now());
            let (next, done) = session.advance(&job, data, network);
            let elapsed = started.elapsed().as_secs_f64();
            network = next;
            let done = done?;
            // In half precision the first steps may overflow and are skipped.
            num_stepped += usize::from(done.loss.is_some());
            anyhow::ensure!(
                done.loss.is_some() || done.was_skipped,
                "the first items have nothing to learn from"
            );
            if num_stepped > 1 {
                let highest = meter.finish().highest();
                peak = peak.max(highest.context("this device does not report its memory")?);
                seconds = seconds.min(elapsed);
            }
        }
        Ok(StepCost {
            peak_bytes: peak.get(),
            seconds_per_step: seconds,
        })
    }
}

/// The largest micro-batch that divides `num_items` into enough parts.
fn micro_batch_size(num_items: usize) -> usize {
    let largest = (num_items / LEAST_MICRO_BATCHES).max(1);
    let divides = |&size: &usize| num_items.is_multiple_of(size);
    (1..=largest).rev().find(divides).unwrap_or(1)
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(own) = self.0.first() else {
            return Ok(());
        };
        let num_items = own.batch_size * own.accumulation_steps;
        let plural = if num_items == 1 { "" } else { "s" };
        writeln!(
            f,
            "a step of {num_items} item{plural}, measured on this machine:"
        )?;
        writeln!(f, "{:<14} {:>11} {:>9}  command", "", "peak", "time")?;
        self.0.iter().try_for_each(|way| {
            let StepCost {
                peak_bytes,
                seconds_per_step,
            } = way.cost;
            let peak = Bytes::new(peak_bytes).to_string();
            let time = format!("{seconds_per_step:.3} s");
            writeln!(f, "{:<14} {peak:>11} {time:>9}  {}", way.name, way.command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_divide_a_step_into_four_parts_or_more() {
        let sizes = [1, 2, 4, 6, 8, 30, 64].map(micro_batch_size);
        assert_eq!(sizes, [1, 1, 1, 1, 2, 6, 16]);
    }
}
