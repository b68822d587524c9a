//! The techniques a run uses, as the library names them.

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::precision::{AutocastPolicy, Precision};
use burn_memopt_models::GradCheckpoint;

use super::cut_plan::CutPlan;
use crate::choices::PrecisionChoice;
use crate::settings::{RunSettings, UsageError};

/// Passes before a network is measured.
const NUM_WARM_UPS: usize = 2;

/// Cuts a network as the run's settings say; what takes a plan is planned on `sample`, a
/// micro-batch, unless `saved` is a plan for it.
///
/// # Errors
/// If the policy is wrong, or no cut stays within the budget; the error names the least that
/// would do.
pub fn cut<M: GradCheckpoint>(
    network: M,
    run: &RunSettings,
    sample: Tensor<4>,
    saved: &mut CutPlan,
) -> Result<M> {
    let policy = policy(run)?;
    if !matches!(policy, Policy::Least | Policy::Budget(_)) {
        return Ok(network.with_grad_checkpoint(policy));
    }
    let given = run.grad_checkpoint.as_str();
    let plan = saved.get_or_make(given, &sample.dims(), || {
        // What threads keep for themselves after their first product is no cost of a block.
        let copy = network
            .valid()
            .train()
            .with_grad_checkpoint(Policy::EveryBlock);
        for _ in 0..NUM_WARM_UPS {
            let _ = copy.forward(sample.clone()).sum().backward();
        }
        let plan = network.plan(policy, sample.clone());
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
    Ok(network.with_grad_checkpoint(&plan))
}

/// The policy of a network whose blocks are fixed, not cut.
///
/// # Errors
/// If the policy is wrong or another than none or block.
pub fn fixed_policy(run: &RunSettings) -> Result<Policy> {
    match policy(run)? {
        policy @ (Policy::None | Policy::EveryBlock) => Ok(policy),
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
