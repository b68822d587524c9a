//! The plan of a run's network, kept with the run so that it goes on with the same cut.

use std::fs;

use anyhow::{Context, Result};
use burn_memopt::grad_checkpoint::Plan;
use serde::{Deserialize, Serialize};

use crate::run_dir::RunDir;

/// The file of a run that says where its network is cut.
const PLAN_FILE: &str = "plan.json";

/// Where the network of a run is cut, if that took a plan.
#[derive(Debug, Default)]
pub struct CutPlan(Option<Saved>);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    /// The policy as it was given.
    grad_checkpoint: String,
    /// Shape of a micro-batch of inputs.
    input: Vec<usize>,
    plan: Plan,
}

impl CutPlan {
    /// The plan that a run was saved with.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of_run(run: &RunDir) -> Result<Self> {
        let path = run.root().join(PLAN_FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let context = || {
            let path = path.display();
            format!("cannot use the plan in {path}; remove the file and the run plans anew")
        };
        let text = fs::read_to_string(&path).with_context(context)?;
        serde_json::from_str(&text)
            .map(|saved| Self(Some(saved)))
            .with_context(context)
    }

    /// The plan for a policy and an input: the saved one if it was made for both, else a new one.
    ///
    /// # Errors
    /// If `make` fails.
    pub fn get_or_make(
        &mut self,
        policy: &str,
        input: &[usize],
        make: impl FnOnce() -> Result<Plan>,
    ) -> Result<Plan> {
        if let Some(saved) = &self.0
            && saved.grad_checkpoint == policy
            && saved.input == input
        {
            return Ok(saved.plan.clone());
        }
        let plan = make()?;
        self.0 = Some(Saved {
            grad_checkpoint: policy.to_owned(),
            input: input.to_vec(),
            plan: plan.clone(),
        });
        Ok(plan)
    }

    /// Saves the plan with the run, if there is one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, run: &RunDir) -> Result<()> {
        let Some(saved) = &self.0 else {
            return Ok(());
        };
        let text = serde_json::to_string_pretty(saved).context("cannot write the plan as JSON")?;
        run.replace_file(PLAN_FILE, |path| Ok(fs::write(path, text + "\n")?))
    }
}

#[cfg(test)]
mod tests {
    use burn_memopt::grad_checkpoint::Span;
    use burn_memopt::memory::Bytes;

    use super::*;

    fn nested(peak: u64) -> Plan {
        let inner = vec![Span::recomputed(0..2), Span::plain(2..3)];
        Plan {
            spans: vec![Span::recomputed(0..3).with_inner(inner), Span::plain(3..4)],
            predicted_peak: Bytes::new(peak),
            recomputed: 1.25,
        }
    }

    #[test]
    fn a_run_goes_on_with_its_plan_and_plans_anew_for_another_input() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), "unet", &serde_json::json!({}));
        let run = run.unwrap();
        let mut first = CutPlan::of_run(&run).unwrap();
        first.save(&run).unwrap();
        let input = [2, 1, 32, 32];
        let made = first
            .get_or_make("least", &input, || Ok(nested(1)))
            .unwrap();
        first.save(&run).unwrap();

        let mut resumed = CutPlan::of_run(&run).unwrap();
        let unused = || panic!("the saved plan is used");
        assert_eq!(resumed.get_or_make("least", &input, unused).unwrap(), made);
        let other = resumed.get_or_make("least", &[4, 1, 32, 32], || Ok(nested(2)));
        assert_eq!(other.unwrap(), nested(2));
        let other = resumed.get_or_make("budget=1GiB", &[4, 1, 32, 32], || Ok(nested(3)));
        assert_eq!(other.unwrap(), nested(3));
    }

    #[test]
    fn a_broken_plan_is_refused_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(&folder.path().join("run"), "unet", &serde_json::json!({}));
        let run = run.unwrap();
        fs::write(run.root().join(PLAN_FILE), "{").unwrap();
        let error = CutPlan::of_run(&run).unwrap_err();
        assert!(format!("{error:#}").contains("plan.json"), "{error:#}");
    }
}
