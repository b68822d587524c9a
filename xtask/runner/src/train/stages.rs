//! Progressive training: stages of growing images, decided before the first step and kept with the run.

use std::fmt;
use std::fs;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use burn_memopt::memory::{Bytes, on_host};
use burn_memopt::precision::Precision;
use burn_memopt::train::MicroBatches;
use serde::{Deserialize, Serialize};
use xtask::cli::ImageSides;

use super::job::{Job, Load};
use super::plan::Estimate;
use super::saved::CutPlan;
use super::session::Session;
use crate::run_dir::RunDir;
use crate::settings::{ModelSettings, RunSettings, Settings, UsageError, budget};

/// The file of a run that holds its stages.
const FILE: &str = "progressive.json";

/// Steps with images of one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Pixels a side.
    pub side: usize,
    /// The first step, counted from 1. The stage ends where the next one begins, the last one with the run.
    pub first_step: u64,
    /// Items in a micro-batch.
    pub micro_batch_size: usize,
    /// Micro-batches in a step.
    pub accumulation_steps: usize,
    /// What items may take that are loaded before their turn.
    pub prefetch: Bytes,
    /// The measured peak of a step, and the items that wait meanwhile; `None` where it was not measured, because no
    /// budget is given.
    pub peak: Option<Bytes>,
}

/// The stages of a run; none if its images keep their size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schedule(Vec<Stage>);

impl Schedule {
    /// The stages of `run` for its steps: as many in each, with the largest micro-batches that its budget allows.
    ///
    /// # Errors
    /// [`UsageError`] if a side does not fit the data, there are fewer steps than stages, or a single item is above the
    /// budget.
    pub fn new<J: Job>(
        job: &J,
        data: &J::Data,
        settings: &Settings<J::Settings>,
        steps: u64,
        precision: Precision,
        device: &Device,
    ) -> Result<Self> {
        let Settings { model, run } = settings;
        let sides = Self::sides(job, data, model)?;
        if sides.is_empty() {
            return Ok(Self::default());
        }
        if steps < sides.len() as u64 {
            bail!(UsageError(format!(
                "--progressive has {} stages, more than the {steps} steps of the run",
                sides.len()
            )));
        }
        let budget = model.stages().and_then(|stages| stages.budget.as_deref());
        let budget = self::budget(budget)?;
        let mut planned = Vec::new();
        for (number, side) in sides.iter().enumerate() {
            let whole = MicroBatches::new(run.batch_size, run.accumulation_steps);
            let mut stage = Stage {
                side: *side,
                first_step: number as u64 * steps / sides.len() as u64 + 1,
                micro_batch_size: whole.size(),
                accumulation_steps: whole.accumulation_steps(),
                prefetch: Load::new(run)?.prefetch,
                peak: None,
            };
            if let Some(budget) = budget {
                let measure = |stage: &Stage| measure(job, data, run, stage, precision, device);
                stage = stage.within(budget, measure)?;
            }
            planned.push(stage);
        }
        Ok(Self(planned))
    }

    /// The sides of the images of each stage.
    ///
    /// # Errors
    /// [`UsageError`] if one does not fit the data.
    pub fn sides<'a, J: Job>(
        job: &J,
        data: &J::Data,
        model: &'a J::Settings,
    ) -> Result<&'a [usize]> {
        let sides = model
            .stages()
            .and_then(|stages| stages.progressive.as_ref());
        let sides = sides.map_or(&[][..], ImageSides::all);
        sides
            .iter()
            .try_for_each(|side| job.check_side(data, *side))?;
        Ok(sides)
    }

    /// The stages that the run in `dir` was saved with, where no more items wait than `run` allows now.
    ///
    /// # Errors
    /// [`UsageError`] if `run` has other items in a step; another error if the stages cannot be read.
    pub fn open(dir: &RunDir, run: &RunSettings) -> Result<Self> {
        let path = dir.root().join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path);
        let parsed = text.map_err(anyhow::Error::from);
        let mut schedule: Self = parsed
            .and_then(|text| Ok(serde_json::from_str(&text)?))
            .with_context(|| {
                format!(
                    "cannot use the stages in {}; start a new run",
                    path.display()
                )
            })?;
        let prefetch = Load::new(run)?.prefetch;
        for stage in &mut schedule.0 {
            stage.check_items(run)?;
            stage.prefetch = match stage.peak {
                Some(_) => stage.prefetch.min(prefetch),
                None => prefetch,
            };
        }
        Ok(schedule)
    }

    /// Saves the stages with the run, if there are any.
    pub fn save(&self, run: &RunDir) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(self).context("cannot write the stages as JSON")?;
        run.replace_file(FILE, |path| Ok(fs::write(path, text + "\n")?))
    }

    /// All of them.
    pub fn stages(&self) -> &[Stage] {
        &self.0
    }

    /// The position of the stage of the step after `step`.
    pub fn position(&self, step: u64) -> Option<usize> {
        self.0
            .iter()
            .rposition(|stage| stage.first_step <= step + 1)
    }
}

impl fmt::Display for Schedule {
    /// A line for each stage.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(Stage::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{side}×{side} pixels from step {} on, micro-batches of {}, {} a step",
            self.first_step,
            self.micro_batch_size,
            self.accumulation_steps,
            side = self.side,
        )?;
        self.peak
            .map_or(Ok(()), |peak| write!(f, ", at most {peak}"))
    }
}

/// What a stage takes.
#[derive(Clone, Copy, Debug)]
struct Needs {
    /// The peak of a step.
    step: Bytes,
    /// The fewest items that have to wait meanwhile, so that loading continues.
    least_waiting: Bytes,
    /// The most that can wait.
    most_waiting: Bytes,
}

impl Stage {
    /// Refuses a step of other items than the stage has.
    fn check_items(&self, run: &RunSettings) -> Result<()> {
        let items = run.batch_size * run.accumulation_steps;
        let kept = self.micro_batch_size * self.accumulation_steps;
        if items != kept {
            bail!(UsageError(format!(
                "--accumulation-steps {} makes steps of {items} items, and the stages of the run have {kept}; leave it \
                 out, or start a new run",
                run.accumulation_steps
            )));
        }
        Ok(())
    }

    /// The stage with the largest micro-batches that stay within `budget`. From single items up, so that no step is
    /// tried that is far above it.
    fn within(
        self,
        budget: Bytes,
        mut measure: impl FnMut(&Self) -> Result<Option<Needs>>,
    ) -> Result<Self> {
        let effective = self.micro_batch_size * self.accumulation_steps;
        let mut best = None;
        for size in (1..=effective).filter(|size| effective.is_multiple_of(*size)) {
            let mut stage = self.clone();
            (stage.micro_batch_size, stage.accumulation_steps) = (size, effective / size);
            let Some(needs) = measure(&stage)? else {
                bail!(UsageError(
                    "--budget needs a device that reports its memory; give --batch-size instead"
                        .into()
                ));
            };
            if needs.step + needs.least_waiting <= budget {
                let waiting = (budget - needs.step).min(needs.most_waiting);
                stage.prefetch = stage.prefetch.min(waiting);
                stage.peak = Some(needs.step + stage.prefetch);
                best = Some(stage);
            } else if best.is_none() {
                bail!(UsageError(format!(
                    "--budget {budget} is not enough for images of {side}×{side} pixels: a step of \
                     single items takes {}; give more, smaller sides, or --grad-checkpoint block",
                    needs.step + needs.least_waiting,
                    side = self.side,
                )));
            } else {
                break;
            }
        }
        Ok(best.expect("invariant: a step has an item, or it was refused"))
    }
}

/// Micro-batches of items that have to wait if loading is to continue while a step computes: one that is next, one
/// that is put together, and one that is loaded.
const LEAST_WAITING: usize = 3;

/// Measures a step of a stage.
fn measure<J: Job>(
    job: &J,
    data: &J::Data,
    run: &RunSettings,
    stage: &Stage,
    precision: Precision,
    device: &Device,
) -> Result<Option<Needs>> {
    let mut run = run.clone();
    run.batch_size = stage.micro_batch_size;
    run.accumulation_steps = stage.accumulation_steps;
    let network = job.network(Some(data), &mut CutPlan::default(), device)?;
    let mut session = Session::new(job, data, &run, precision, std::slice::from_ref(device))?;
    let stage = Stage {
        first_step: 1,
        ..stage.clone()
    };
    session.follow(Schedule(vec![stage]));
    session.enter_stage(job, data)?;
    let waiting = |count| match on_host(device) {
        true => session.feed.waiting(count),
        false => Bytes::new(0),
    };
    let (least_waiting, most_waiting) =
        (waiting(LEAST_WAITING * run.batch_size), waiting(usize::MAX));
    let estimate = Estimate::measure(job, &run, network, session, device)?;
    Ok(estimate.step.map(|step| Needs {
        step,
        least_waiting,
        most_waiting,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(first_step: u64) -> Stage {
        Stage {
            side: 8,
            first_step,
            micro_batch_size: 4,
            accumulation_steps: 3,
            prefetch: Bytes::new(100),
            peak: None,
        }
    }

    #[test]
    fn a_step_is_of_the_last_stage_that_has_begun() {
        let schedule = Schedule(vec![stage(1), stage(4), stage(7)]);
        let positions: Vec<_> = (0..8).map(|step| schedule.position(step)).collect();
        let expected = [0, 0, 0, 1, 1, 1, 2, 2].map(Some);
        assert_eq!(positions, expected);
        assert_eq!(Schedule::default().position(3), None);
    }

    /// A step takes 10 bytes an item; an item that waits takes 1.
    fn needs(stage: &Stage) -> Needs {
        let size = stage.micro_batch_size as u64;
        Needs {
            step: Bytes::new(10 * size),
            least_waiting: Bytes::new(3 * size),
            most_waiting: Bytes::new(1000),
        }
    }

    #[test]
    fn the_largest_size_within_the_budget_divides_the_items_of_a_step() {
        let mut tried = Vec::new();
        let measure = |stage: &Stage| {
            tried.push(stage.micro_batch_size);
            Ok(Some(needs(stage)))
        };
        let found = stage(1).within(Bytes::new(55), measure).unwrap();
        assert_eq!((found.micro_batch_size, found.accumulation_steps), (4, 3));
        assert_eq!(found.prefetch, Bytes::new(15));
        assert_eq!(found.peak, Some(Bytes::new(55)));
        assert_eq!(tried, [1, 2, 3, 4, 6]);
        let whole = stage(1).within(Bytes::new(5000), |stage| Ok(Some(needs(stage))));
        let whole = whole.unwrap();
        assert_eq!(whole.micro_batch_size, 12);
        assert_eq!(whole.prefetch, Bytes::new(100));
    }

    #[test]
    fn a_budget_below_a_single_item_is_refused() {
        let within = |needs: Option<Needs>| stage(1).within(Bytes::new(5), |_| Ok(needs));
        let error = within(Some(needs(&stage(1)))).unwrap_err();
        assert!(error.to_string().contains("8×8 pixels"), "{error}");
        assert!(within(None).is_err());
    }
}
