//! The techniques a run uses, as the library names them.

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::{BlockCost, Cut, Plan, PlanError, Policy, UnmeasuredError};
use burn_memopt::precision::{AutocastPolicy, Precision};
use burn_memopt_models::decode::SigmaMUNet;
use burn_memopt_models::unet::UNet;

use super::cut_plan::CutPlan;
use crate::choices::PrecisionChoice;
use crate::settings::{RunSettings, UsageError};

/// Passes before a network is measured.
const NUM_WARM_UPS: usize = 2;

/// A network whose blocks can be recomputed.
pub trait Recomputable: Module {
    /// Computes the network's output.
    fn run(&self, images: Tensor<4>) -> Tensor<4>;
    /// Cuts it by a policy or a plan.
    fn cut_by(self, cut: Cut) -> Self;
    /// Measures it and plans where to cut.
    ///
    /// # Errors
    /// If it cannot be measured or no cut fits.
    fn measure(&self, policy: Policy, sample: Tensor<4>) -> Result<Plan, PlanError>;
    /// Measures what its blocks cost.
    ///
    /// # Errors
    /// If it cannot be measured.
    fn costs(&self, sample: Tensor<4>) -> Result<Vec<BlockCost>, UnmeasuredError>;
}

macro_rules! recomputable {
    ($($network:ty),*) => {$(
        impl Recomputable for $network {
            fn run(&self, images: Tensor<4>) -> Tensor<4> {
                self.forward(images)
            }

            fn cut_by(self, cut: Cut) -> Self {
                self.with_grad_checkpoint(cut)
            }

            fn measure(&self, policy: Policy, sample: Tensor<4>) -> Result<Plan, PlanError> {
                self.plan(policy, sample)
            }

            fn costs(&self, sample: Tensor<4>) -> Result<Vec<BlockCost>, UnmeasuredError> {
                self.profile(sample)
            }
        }
    )*};
}
recomputable!(SigmaMUNet, UNet);

/// Cuts a network as the run's settings say; what takes a plan is planned on `sample`, a
/// micro-batch, unless `saved` is a plan for it.
///
/// # Errors
/// If the policy is wrong, or no cut stays within the budget; the error names the least that
/// would do.
pub fn cut<M: Recomputable>(
    network: M,
    run: &RunSettings,
    sample: Tensor<4>,
    saved: &mut CutPlan,
) -> Result<M> {
    let policy = policy(run)?;
    if !matches!(policy, Policy::Least | Policy::Budget(_)) {
        return Ok(network.cut_by(policy.into()));
    }
    let given = run.grad_checkpoint.as_str();
    let plan = saved.get_or_make(given, &sample.dims(), || {
        // What threads keep for themselves after their first product is no cost of a block.
        let copy = network.valid().train().cut_by(Policy::EveryBlock.into());
        for _ in 0..NUM_WARM_UPS {
            let _ = copy.run(sample.clone()).sum().backward();
        }
        let plan = network.measure(policy, sample.clone());
        plan.with_context(|| format!("cannot cut the network by --grad-checkpoint {given}"))
    })?;
    let segments = plan.spans.iter().filter(|span| span.recompute).count();
    eprintln!(
        "plan for {given}: {segments} of {} parts recomputed, {:.0} % of a forward pass in all, at \
         most {} for activations and gradients",
        plan.spans.len(),
        100.0 * plan.recomputed,
        plan.predicted_peak,
    );
    Ok(network.cut_by((&plan).into()))
}

/// Whether a network recomputes activations whose stages are fixed, not cut.
///
/// # Errors
/// If the policy is wrong or another than none or block.
pub fn recomputes(run: &RunSettings) -> Result<bool> {
    match policy(run)? {
        Policy::None => Ok(false),
        Policy::EveryBlock => Ok(true),
        _ => bail!(UsageError(format!(
            "--grad-checkpoint must be none or block for networks of videos, got {}",
            run.grad_checkpoint.as_str()
        ))),
    }
}

/// The policy of a run.
fn policy(settings: &RunSettings) -> Result<Policy> {
    let policy = settings.grad_checkpoint.as_str().parse::<Policy>();
    policy.map_err(|error| UsageError(format!("--grad-checkpoint: {error}")).into())
}

/// What stays in f32 in half precision: batch normalization, which the models here run in f32
/// whatever their input.
pub fn autocast_policy() -> AutocastPolicy {
    AutocastPolicy::default().keep_type("BatchNorm")
}

/// The precision that was chosen, which `device` must have.
///
/// # Errors
/// If the device lacks it; the error names what it has.
pub fn precision(choice: PrecisionChoice, device: &Device) -> Result<Precision> {
    let precision = match choice {
        PrecisionChoice::F32 => Precision::F32,
        PrecisionChoice::F16 => Precision::F16,
        PrecisionChoice::Bf16 => Precision::Bf16,
    };
    precision
        .check(device)
        .map_err(|error| UsageError(format!("--precision: {error}")))?;
    Ok(precision)
}
