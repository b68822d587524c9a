//! A run's network: the weights it starts from, its precision, and where it is cut.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::memory::on_host;
use burn_memopt::precision::{AutocastPolicy, LossScalerConfig, Precision};
use burn_memopt::train::draw_parameters;
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::weights::StateDict;

use super::saved::CutPlan;
use crate::choices::{LossScaleChoice, OptLevelChoice, PrecisionChoice, TrainPrecisionChoice};
use crate::report::note;
use crate::settings::{RunSettings, UsageError, precision_of};

/// Passes before a network is measured.
const NUM_WARM_UPS: usize = 2;

/// Draws the random weights of `network` by the seed that the device has now, then replaces them
/// by those in the file that `option`, named as on the command line, gives.
pub fn first_weights<M: StateDict>(network: M, weights: Option<&Path>, option: &str) -> Result<M> {
    let network = drawn(network);
    let Some(path) = weights else {
        return Ok(network);
    };
    let extension = path.extension().and_then(|extension| extension.to_str());
    let loaded = match extension {
        Some("safetensors") => network.load_safetensors(path),
        Some("pth" | "pt") => network.load_pytorch(path),
        _ => bail!(UsageError(format!(
            "{option} must end in .safetensors, .pth or .pt, got {}",
            path.display()
        ))),
    };
    loaded.context("cannot start from the given weights")
}

/// Draws the random weights of `network` now: burn does so when they are first used, that is by
/// whatever seed the device has then.
pub fn drawn<M: Module>(network: M) -> M {
    draw_parameters(&network);
    network
}

/// Cuts a network as `given`, the value of `--grad-checkpoint`, says; what takes a plan is planned on
/// `sample`, a micro-batch, unless `saved` is a plan for it.
pub fn cut<M: GradCheckpoint>(
    network: M,
    given: &str,
    sample: Tensor<4>,
    saved: &mut CutPlan,
) -> Result<M> {
    let policy = policy(given)?;
    if !matches!(policy, Policy::Least | Policy::Budget(_)) {
        return Ok(network.with_grad_checkpoint(policy));
    }
    let plan = saved.get_or_make(given, &sample.dims(), || {
        // What threads keep for themselves after their first product is no cost of a block.
        let copy = network.valid().train();
        let copy = copy.with_grad_checkpoint(Policy::EveryBlock);
        for _ in 0..NUM_WARM_UPS {
            let _ = copy.forward(sample.clone()).sum().backward();
        }
        let plan = network.plan(policy, sample.clone());
        plan.with_context(|| format!("cannot cut the network by --grad-checkpoint {given}"))
    })?;
    let segments = plan.spans.iter().filter(|span| span.recompute).count();
    note(format_args!(
        "plan for {given}: {segments} of {} parts recomputed, {:.0} % of a forward pass in all, at \
         most {} for activations and gradients",
        plan.spans.len(),
        100.0 * plan.recomputed,
        plan.predicted_peak,
    ));
    Ok(network.with_grad_checkpoint(&plan))
}

/// The policy of a network whose blocks are fixed, not cut.
pub fn fixed_policy(run: &RunSettings) -> Result<Policy> {
    match policy(&run.grad_checkpoint)? {
        policy @ (Policy::None | Policy::EveryBlock) => Ok(policy),
        _ => bail!(UsageError(format!(
            "--grad-checkpoint must be none or block for networks of videos, got {}",
            run.grad_checkpoint.as_str()
        ))),
    }
}

fn policy(given: &str) -> Result<Policy> {
    let policy = given.parse::<Policy>();
    policy.map_err(|error| UsageError(format!("--grad-checkpoint: {error}")).into())
}

/// What stays in f32 in half precision: batch normalization, which the models here run in f32
/// whatever their input, and at level O2 other norms too.
pub fn autocast_policy(level: OptLevelChoice) -> AutocastPolicy {
    let policy = AutocastPolicy::default().keep_type("BatchNorm");
    match level {
        OptLevelChoice::O1 => policy,
        OptLevelChoice::O2 => policy.keep_type("GroupNorm").keep_type("LayerNorm"),
    }
}

/// How the loss is scaled in f16; the library's way where nothing else is chosen.
pub fn loss_scaler(choice: LossScaleChoice, precision: Precision) -> Option<LossScalerConfig> {
    match choice {
        LossScaleChoice::Fixed(scale) if precision == Precision::F16 => {
            Some(LossScalerConfig::fixed(scale))
        }
        _ => None,
    }
}

/// The precision that was chosen, which all `devices` must have.
pub fn precision(choice: PrecisionChoice, devices: &[Device]) -> Result<Precision> {
    let precision = precision_of(choice);
    for device in devices {
        precision
            .check(device)
            .map_err(|error| UsageError(format!("--precision: {error}")))?;
    }
    Ok(precision)
}

/// The precision of a training on `devices`, which must have the one that was chosen.
pub fn training_precision(choice: TrainPrecisionChoice, devices: &[Device]) -> Result<Precision> {
    let given = match choice {
        TrainPrecisionChoice::F32 => PrecisionChoice::F32,
        TrainPrecisionChoice::F16 => PrecisionChoice::F16,
        TrainPrecisionChoice::Bf16 => PrecisionChoice::Bf16,
        TrainPrecisionChoice::Auto => {
            let compute = |half: &Precision| {
                let has = |device| !on_host(device) && half.check(device).is_ok();
                devices.iter().all(has)
            };
            let halves = [Precision::Bf16, Precision::F16];
            return Ok(halves.into_iter().find(compute).unwrap_or(Precision::F32));
        }
    };
    precision(given, devices)
}

/// The flags of a run that change nothing in `precision` on so many devices, each with its reason.
pub fn unused(run: &RunSettings, precision: Precision, num_devices: usize) -> Vec<String> {
    let mut unused = Vec::new();
    let mut add = |flag: String, reason: String| {
        unused.push(format!("{flag} changes nothing: {reason}"));
    };
    if run.opt_level != OptLevelChoice::default() && precision == Precision::F32 {
        add("--opt-level O2".into(), "the run computes in f32".into());
    }
    if run.loss_scale != LossScaleChoice::default() && precision != Precision::F16 {
        let reason = format!("it is for f16, and the run computes in {precision}");
        add(format!("--loss-scale {}", run.loss_scale), reason);
    }
    if run.sync_batch_norm && num_devices == 1 {
        add("--sync-batch-norm".into(), "there is one device".into());
    }
    unused
}

/// A precision as one chooses it.
pub fn as_chosen(precision: Precision) -> TrainPrecisionChoice {
    match precision {
        Precision::F32 => TrainPrecisionChoice::F32,
        Precision::F16 => TrainPrecisionChoice::F16,
        Precision::Bf16 => TrainPrecisionChoice::Bf16,
    }
}
