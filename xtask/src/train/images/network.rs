//! The UNet of a run: its shape, its first weights, and where it is cut into segments.

use anyhow::{Context, Result, bail};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig, Upsample};
use burn_memopt_models::weights::StateDict;

use super::task::Task;
use crate::choices::{NormChoice, UpsamplingChoice};
use crate::settings::{RunSettings, UNetNetworkSettings, UsageError};
use crate::train::techniques::policy;

/// Passes before a network is measured.
const NUM_WARM_UPS: usize = 2;
/// Most groups of a group normalisation.
const MAX_GROUPS: usize = 8;

/// Builds the network for images of `shape`, channels, height and width, and cuts it into
/// segments.
///
/// # Errors
/// If it is too deep for the images, its weights cannot be read or do not fit, or no cut stays
/// within the budget.
pub fn prepare_network(
    settings: &UNetNetworkSettings,
    run: &RunSettings,
    task: Task,
    shape: [usize; 3],
    device: &Device,
) -> Result<UNet> {
    let [channels, height, width] = shape;
    check_depth(settings.depth, height, width)?;
    let policy = policy(run)?;
    let network = build(settings, [channels, task.out_channels()], run.seed, device)?;
    let sample = Tensor::zeros([run.batch_size, channels, height, width], device);
    let given = run.grad_checkpoint.as_str();
    with_policy(network, policy, sample)
        .with_context(|| format!("cannot cut the network by --grad-checkpoint {given}"))
}

/// Refuses images that a network of this depth would halve to nothing.
///
/// # Errors
/// If a side is too short; the error names the shortest possible.
fn check_depth(depth: usize, height: usize, width: usize) -> Result<()> {
    let least = 1 << depth;
    if height.min(width) < least {
        bail!(UsageError(format!(
            "--depth {depth} needs images of at least {least} pixels a side, got {height}×{width}; \
             choose a smaller depth"
        )));
    }
    Ok(())
}

/// Builds the network from `channels[0]` to `channels[1]` channels, with random or given weights.
///
/// # Errors
/// If the weights cannot be read or do not fit the network.
fn build(
    settings: &UNetNetworkSettings,
    channels: [usize; 2],
    seed: u64,
    device: &Device,
) -> Result<UNet> {
    let norm = match settings.norm {
        NormChoice::Batch => NormKind::Batch,
        NormChoice::Group => NormKind::Group {
            groups: num_groups(settings.base_channels),
        },
    };
    let upsample = match settings.upsampling {
        UpsamplingChoice::Bilinear => Upsample::Bilinear,
        UpsamplingChoice::Transposed => Upsample::Transposed,
    };
    device.seed(seed);
    let unet = UNetConfig::new(channels[0], channels[1])
        .with_base_channels(settings.base_channels)
        .with_depth(settings.depth)
        .with_norm(norm)
        .with_upsample(upsample)
        .init(device);
    unet.visit(&mut Draw);
    let Some(path) = &settings.weights else {
        return Ok(unet);
    };
    let extension = path.extension().and_then(|extension| extension.to_str());
    let loaded = match extension {
        Some("safetensors") => unet.load_safetensors(path),
        Some("pth" | "pt") => unet.load_pytorch(path),
        _ => bail!(UsageError(format!(
            "--weights must end in .safetensors, .pth or .pt, got {}",
            path.display()
        ))),
    };
    loaded.context("cannot start from the given weights")
}

/// Draws random weights, which burn does when they are first used, that is by
/// whatever seed the device has then.
struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }
}

/// Cuts the network as `policy` says; a budget is planned on `sample`, a micro-batch.
///
/// # Errors
/// If no cut stays within the budget; the error names the least that would do.
fn with_policy(network: UNet, policy: Policy, sample: Tensor<4>) -> Result<UNet> {
    if !matches!(policy, Policy::Budget(_)) {
        return Ok(network.with_grad_checkpoint(policy));
    }
    // What threads keep for themselves after their first product is no cost of a block.
    let copy = network.valid().train();
    for _ in 0..NUM_WARM_UPS {
        let _ = copy.forward(sample.clone()).sum().backward();
    }
    let plan = network.plan(policy, sample)?;
    let recomputed = plan.spans.iter().filter(|span| span.recompute).count();
    eprintln!(
        "plan for the budget: {recomputed} of {} segments recomputed in {:.0} ms, at most {} for \
         activations and gradients",
        plan.spans.len(),
        plan.extra_time.as_secs_f64() * 1e3,
        plan.predicted_peak,
    );
    Ok(network.with_plan(&plan))
}

/// The most groups, up to eight, of at least two channels each, or one.
fn num_groups(channels: usize) -> usize {
    let fits = |groups: &usize| channels.is_multiple_of(*groups) && channels / groups >= 2;
    (1..=MAX_GROUPS).rev().find(fits).unwrap_or(1)
}
