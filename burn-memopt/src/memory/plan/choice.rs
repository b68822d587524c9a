use std::fmt;

use serde::{Deserialize, Serialize};

use super::Reason;
use super::way::Price;
use crate::grad_checkpoint::{Plan, Policy};
use crate::memory::Bytes;
use crate::memory::estimate::Workload;
use crate::precision::Precision;

/// Settings that keep a budget, and why each was chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// What the model computes in.
    pub precision: Precision,
    /// What is recomputed. A budget is that of one forward and backward pass.
    pub policy: Policy,
    /// Where a chain is cut to keep that budget.
    pub cut: Option<Plan>,
    /// Images in one pass.
    pub micro_batch_size: usize,
    /// Passes that make one step, or the whole batch of results.
    pub accumulation_steps: usize,
    /// Height and width of what is computed at once: the image, or a part of it.
    pub tile: [usize; 2],
    /// Share of the forward pass that is computed twice.
    pub recomputed: f64,
    /// Highest live bytes, those between two steps included.
    pub predicted_peak: Bytes,
    /// Why precision, policy, micro-batch and tile are what they are.
    pub reasons: Vec<Reason>,
    /// Which of the techniques it is.
    pub(super) technique: usize,
    /// What it costs, to compare.
    #[serde(skip)]
    pub(super) price: Price,
}

impl Choice {
    /// What one pass runs on.
    pub fn workload(&self) -> Workload {
        Workload::new(self.micro_batch_size, self.tile)
    }

    /// Whether both compute the same in the same way.
    pub(super) fn runs_as(&self, other: &Self) -> bool {
        let spans = |choice: &Self| choice.cut.as_ref().map(|cut| cut.spans.clone());
        self.technique == other.technique
            && self.workload() == other.workload()
            && self.accumulation_steps == other.accumulation_steps
            && spans(self) == spans(other)
    }
}

impl fmt::Display for Choice {
    /// A setting a line with its reason, then the predicted peak.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for reason in &self.reasons {
            writeln!(f, "{reason}")?;
        }
        write!(f, "{:<16} {}", "predicted peak", self.predicted_peak)
    }
}
