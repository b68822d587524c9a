use serde::{Deserialize, Serialize};

use crate::grad_checkpoint::{Plan, Policy};
use crate::memory::Bytes;
use crate::memory::estimate::{BlockFit, PeakFit, Workload};
use crate::precision::Precision;

/// A way to compute a step, with what it takes as a function of the workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Technique {
    precision: Precision,
    cost: Cost,
    /// What measured peaks were of predicted ones.
    pub(super) correction: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Cost {
    Whole { policy: Policy, fit: PeakFit },
    Cut { blocks: BlockFit, rest: PeakFit },
}

/// How a technique computes a workload.
pub(super) struct Pass {
    pub policy: Policy,
    pub cut: Option<Plan>,
    /// Share of the forward pass that is computed twice.
    pub recomputed: f64,
    /// Bytes above those live before.
    pub peak: Bytes,
}

impl Technique {
    /// A precision and a policy with the peaks fitted to their runs.
    ///
    /// # Panics
    /// If the policy is the least or a budget: see [`cut`](Self::cut).
    pub fn whole(precision: Precision, policy: Policy, fit: PeakFit) -> Self {
        assert!(
            !matches!(policy, Policy::Least | Policy::Budget(_)),
            "policy must say where to cut, got {policy}"
        );
        Self {
            precision,
            cost: Cost::Whole { policy, fit },
            correction: 1.0,
        }
    }

    /// A chain that is recomputed only as much as the budget needs.
    ///
    /// `every_block` are the peaks of real steps in which every block was recomputed. What they
    /// have beside the predicted peak of the chain (the loss, the accumulated gradients, the step of
    /// the optimizer) is added to every prediction.
    ///
    /// # Panics
    /// If no two workloads of `every_block` differ in pixels.
    pub fn cut(
        precision: Precision,
        blocks: BlockFit,
        every_block: impl IntoIterator<Item = (Workload, Bytes)>,
    ) -> Self {
        let rest = |(workload, measured): (Workload, Bytes)| {
            let costs = blocks.at(workload);
            let chain = Policy::EveryBlock.plan(&costs);
            let chain = chain.expect("invariant: only a budget may be too small");
            (workload, measured - chain.predicted_peak)
        };
        let rest = PeakFit::new(every_block.into_iter().map(rest));
        Self {
            precision,
            cost: Cost::Cut { blocks, rest },
            correction: 1.0,
        }
    }

    /// The precision.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The least recomputation whose peak stays within `room`.
    pub(super) fn within(&self, room: Bytes, workload: Workload) -> Option<Pass> {
        match &self.cost {
            Cost::Whole { policy, fit } => {
                let peak = self.corrected(fit.at(workload));
                (peak <= room).then_some(Pass {
                    policy: *policy,
                    cut: None,
                    recomputed: recomputed_by(*policy),
                    peak,
                })
            }
            Cost::Cut { blocks, rest } => {
                let (costs, rest) = (blocks.at(workload), rest.at(workload));
                let usable = self.uncorrected(room);
                let usable = (usable >= rest).then(|| usable - rest)?;
                let plan = Plan::within(usable, &costs).ok()?;
                Some(Pass {
                    policy: Policy::Budget(budget_for(plan.predicted_peak, usable)),
                    recomputed: plan.recomputed,
                    peak: self.corrected(rest + plan.predicted_peak),
                    cut: Some(plan),
                })
            }
        }
    }

    /// The lowest peak that it can compute a workload in.
    pub(super) fn least(&self, workload: Workload) -> Bytes {
        match &self.cost {
            Cost::Whole { fit, .. } => self.corrected(fit.at(workload)),
            Cost::Cut { blocks, rest } => {
                let least = match Plan::within(Bytes::ZERO, &blocks.at(workload)) {
                    Ok(plan) => plan.predicted_peak,
                    Err(error) => error.minimum,
                };
                self.corrected(rest.at(workload) + least)
            }
        }
    }

    /// Whether it recomputes anything.
    pub(super) fn recomputes(&self) -> bool {
        !matches!(
            self.cost,
            Cost::Whole {
                policy: Policy::None,
                ..
            }
        )
    }

    fn corrected(&self, bytes: Bytes) -> Bytes {
        Bytes::new((bytes.get() as f64 * self.correction).ceil() as u64)
    }

    /// The most whose correction stays within `room`.
    fn uncorrected(&self, room: Bytes) -> Bytes {
        let estimate = (room.get() as f64 / self.correction) as u64;
        // Rounding moves it by one at most.
        let near = [
            estimate.saturating_add(1),
            estimate,
            estimate.saturating_sub(1),
        ];
        let fitting = near.into_iter().map(Bytes::new);
        let mut fitting = fitting.filter(|&bytes| self.corrected(bytes) <= room);
        fitting.next().unwrap_or(Bytes::ZERO)
    }
}

/// The budget with which [`Chain::plan`](crate::grad_checkpoint::Chain::plan) finds such a cut again: it leaves one
/// percent free, and another profile may differ by as much. Never more than what leaves `usable`.
fn budget_for(peak: Bytes, usable: Bytes) -> Bytes {
    let most = usable + Bytes::new(usable.get().div_ceil(99));
    (peak + Bytes::new(peak.get() / 50)).min(most)
}

/// The share of a chain of many equal blocks.
fn recomputed_by(policy: Policy) -> f64 {
    match policy {
        Policy::None => 0.0,
        Policy::Segments(number) => 1.0 - 1.0 / number.max(1) as f64,
        Policy::EveryBlock | Policy::Least | Policy::Budget(_) => 1.0,
    }
}

#[cfg(test)]
impl Technique {
    /// What is added to the predicted peak of a chain.
    pub(super) fn rest_of(&self, workload: Workload) -> Bytes {
        match &self.cost {
            Cost::Whole { .. } => Bytes::ZERO,
            Cost::Cut { rest, .. } => rest.at(workload),
        }
    }
}
