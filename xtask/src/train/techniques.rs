//! The techniques a run uses, as the library names them.

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::{BlockCost, Plan, PlanError, Policy, UnmeasuredError};
use burn_memopt::precision::{AutocastPolicy, Precision};
use burn_memopt_models::decode::SigmaMUNet;
use burn_memopt_models::unet::UNet;

use crate::choices::PrecisionChoice;
use crate::settings::{RunSettings, UsageError};

/// Passes before a network is measured.
const NUM_WARM_UPS: usize = 2;

/// A network whose blocks can be recomputed.
pub trait Recomputable: Module {
    /// Computes the network's output.
    fn run(&self, images: Tensor<4>) -> Tensor<4>;
    /// Cuts it by a policy.
    fn by_policy(self, policy: Policy) -> Self;
    /// Cuts it as a plan says.
    fn by_plan(self, plan: &Plan) -> Self;
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

            fn by_policy(self, policy: Policy) -> Self {
                self.with_grad_checkpoint(policy)
            }

            fn by_plan(self, plan: &Plan) -> Self {
                self.with_plan(plan)
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

/// Cuts a network as the run's settings say; a budget is planned on `sample`, a micro-batch.
///
/// # Errors
/// If the policy is wrong, or no cut stays within the budget; the error names the least that
/// would do.
pub fn cut<M: Recomputable>(network: M, run: &RunSettings, sample: Tensor<4>) -> Result<M> {
    let policy = policy(run)?;
    if !matches!(policy, Policy::Budget(_)) {
        return Ok(network.by_policy(policy));
    }
    // What threads keep for themselves after their first product is no cost of a block.
    let copy = network.valid().train();
    for _ in 0..NUM_WARM_UPS {
        let _ = copy.run(sample.clone()).sum().backward();
    }
    let given = run.grad_checkpoint.as_str();
    let plan = network
        .measure(policy, sample)
        .with_context(|| format!("cannot cut the network by --grad-checkpoint {given}"))?;
    let recomputed = plan.spans.iter().filter(|span| span.recompute).count();
    eprintln!(
        "plan for the budget: {recomputed} of {} segments recomputed in {:.0} ms, at most {} for \
         activations and gradients",
        plan.spans.len(),
        plan.extra_time.as_secs_f64() * 1e3,
        plan.predicted_peak,
    );
    Ok(network.by_plan(&plan))
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
