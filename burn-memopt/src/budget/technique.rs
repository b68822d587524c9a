//! Ways to compute a step, and what they take.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::chunked::BoxError;
use crate::grad_checkpoint::{BlockCost, Plan, Policy, UnmeasuredError};
use crate::memory::estimate::{BlockFit, CalibrateError, PeakFit, Workload, calibrate};
use crate::memory::{Bytes, PeakMeter};
use crate::precision::Precision;

/// A way to compute a step, with what it takes as a function of the workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Technique {
    pub(super) precision: Precision,
    cost: Cost,
    /// Measured peaks as a multiple of predicted ones.
    pub(super) correction: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Cost {
    Whole { policy: Policy, fit: PeakFit },
    Cut { blocks: BlockFit, rest: PeakFit },
}

/// How a technique may compute a workload.
pub(super) struct Pass {
    pub(super) policy: Policy,
    pub(super) cut: Option<Plan>,
    pub(super) recomputed: f64,
    /// Bytes above those that were live before.
    pub(super) peak: Bytes,
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
    /// `every_block` are the peaks of real steps in which every block was recomputed. What they take
    /// above the predicted peak of the chain (the loss, the accumulated gradients, the step of the
    /// optimizer) is added to every prediction.
    ///
    /// # Panics
    /// If no two workloads of `every_block` differ in pixels.
    pub fn cut(
        precision: Precision,
        blocks: BlockFit,
        every_block: impl IntoIterator<Item = (Workload, Bytes)>,
    ) -> Self {
        let rest = |(workload, measured): (Workload, Bytes)| {
            let chain = Policy::EveryBlock.plan(&blocks.at(workload));
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

    /// The ways to train a chain in f32: as it is, and recomputed as much as the budget needs.
    ///
    /// On each of `workloads`, which [must suffice](PeakFit::new) for a fit, `step` prepares a step with a
    /// policy, which is [measured](calibrate()), and `profile` measures the blocks.
    ///
    /// # Errors
    /// If a step fails or the memory cannot be measured.
    pub fn calibrate_chain<S>(
        device: &Device,
        workloads: &[Workload],
        mut step: impl FnMut(Policy, Workload) -> S,
        mut profile: impl FnMut(Workload) -> Result<Vec<BlockCost>, UnmeasuredError>,
    ) -> Result<Vec<Self>, CalibrateError>
    where
        S: FnMut(&PeakMeter) -> Result<(), BoxError>,
    {
        let mut fit = |policy| calibrate(device, workloads, |workload| step(policy, workload));
        let (plain, every_block) = (fit(Policy::None)?, fit(Policy::EveryBlock)?);
        let profiles = workloads
            .iter()
            .map(|&workload| Ok((workload, profile(workload)?)));
        let blocks = BlockFit::new(&profiles.collect::<Result<Vec<_>, CalibrateError>>()?);
        let every_block = workloads
            .iter()
            .map(|&workload| (workload, every_block.at(workload)));
        Ok(vec![
            Self::whole(Precision::F32, Policy::None, plain),
            Self::cut(Precision::F32, blocks, every_block),
        ])
    }

    /// The ways to compute a workload, the one with the least recomputation first.
    pub(super) fn passes(&self, workload: Workload) -> Vec<Pass> {
        match &self.cost {
            Cost::Whole { policy, fit } => vec![Pass {
                policy: *policy,
                cut: None,
                recomputed: recomputed_by(*policy),
                peak: self.corrected(fit.at(workload)),
            }],
            Cost::Cut { blocks, rest } => {
                let rest = rest.at(workload);
                let plans = Plan::worth_having(&blocks.at(workload)).into_iter();
                let pass = |plan: Plan| Pass {
                    policy: Policy::Budget(plan.predicted_peak),
                    recomputed: plan.recomputed,
                    peak: self.corrected(rest + plan.predicted_peak),
                    cut: Some(plan),
                };
                plans.map(pass).collect()
            }
        }
    }

    /// Scales predictions so that a pass that was predicted to take `predicted` would have been
    /// predicted as it was measured.
    pub(super) fn correct(&mut self, predicted: Bytes, measured: Bytes) {
        if predicted > Bytes::ZERO && measured > Bytes::ZERO {
            self.correction *= measured.get() as f64 / predicted.get() as f64;
        }
    }

    fn corrected(&self, bytes: Bytes) -> Bytes {
        Bytes::new((bytes.get() as f64 * self.correction).ceil() as u64)
    }
}

/// The share of a chain of many equal blocks.
pub(crate) fn recomputed_by(policy: Policy) -> f64 {
    match policy {
        Policy::None => 0.0,
        Policy::Segments(number) => 1.0 - 1.0 / number.max(1) as f64,
        Policy::EveryBlock | Policy::Least | Policy::Budget(_) => 1.0,
    }
}
