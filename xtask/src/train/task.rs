//! What the network is for: its shape, its loss, and how its output is read.

use anyhow::{Context, Result, bail};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::precision::Precision;
use burn_memopt::train::MicroLoss;
use burn_memopt_models::loss::{BceDiceLoss, CountLossConfig, CrossEntropyLoss};
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig, Upsample};

use crate::choices::{LossChoice, NormChoice, PrecisionChoice, UpsamplingChoice};
use crate::settings::{TrainSettings, UsageError};

/// The network computes densities times this, so that its outputs are of the size
/// that random weights give.
const DENSITY_SCALE: f64 = 100.0;
/// Passes before a network is measured.
const NUM_WARM_UPS: usize = 2;
/// Most groups of a group normalisation.
const MAX_GROUPS: usize = 8;

/// What the network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    loss: LossChoice,
}

impl Task {
    /// The task whose loss is `loss`.
    pub fn new(loss: LossChoice) -> Self {
        Self { loss }
    }

    /// Whether emitters are counted; else masks are drawn.
    pub fn counts(self) -> bool {
        self.loss == LossChoice::Count
    }

    /// The loss of a network's output.
    ///
    /// # Shapes
    /// - output: `[batch_size, out_channels, height, width]`
    /// - targets: `[batch_size, 1, height, width]`
    pub fn loss(self, output: Tensor<4>, targets: Tensor<4>) -> MicroLoss {
        let batch_size = targets.dims()[0];
        match self.loss {
            LossChoice::Count => {
                let config = CountLossConfig::new().with_density_scale(DENSITY_SCALE);
                let densities = output.div_scalar(DENSITY_SCALE);
                let loss = config.init().forward_sum(densities, targets, None);
                MicroLoss::sum(loss.sum, loss.weight)
            }
            LossChoice::BceDice => {
                let loss = BceDiceLoss::default().forward(output, targets, None);
                MicroLoss::mean(loss, batch_size as f64)
            }
            LossChoice::CrossEntropy => {
                let labels = targets.squeeze_dim::<3>(1).int();
                let loss = CrossEntropyLoss.forward_sum(output, labels, None);
                MicroLoss::sum(loss.sum, loss.weight)
            }
        }
    }

    /// The density map or the probability of the mask in a network's output.
    ///
    /// # Shapes
    /// - output: `[batch_size, out_channels, height, width]`
    /// - result: `[batch_size, 1, height, width]`
    pub fn read(self, output: Tensor<4>) -> Tensor<4> {
        match self.loss {
            LossChoice::Count => output.div_scalar(DENSITY_SCALE),
            LossChoice::BceDice => sigmoid(output),
            LossChoice::CrossEntropy => softmax(output, 1).narrow(1, 1, 1),
        }
    }

    fn out_channels(self) -> usize {
        match self.loss {
            LossChoice::Count | LossChoice::BceDice => 1,
            LossChoice::CrossEntropy => 2,
        }
    }
}

/// Builds the network that `settings` describe, with random or given weights.
///
/// # Errors
/// If the weights cannot be read or do not fit the network.
pub fn build_network(
    settings: &TrainSettings,
    in_channels: usize,
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
    device.seed(settings.seed);
    let unet = UNetConfig::new(in_channels, Task::new(settings.loss).out_channels())
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
pub fn with_policy(network: UNet, policy: Policy, sample: Tensor<4>) -> Result<UNet> {
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

/// The policy of a run.
///
/// # Errors
/// [`UsageError`] if its size cannot be read.
pub fn policy(settings: &TrainSettings) -> Result<Policy> {
    let policy = settings.grad_checkpoint.as_str().parse::<Policy>();
    policy.map_err(|error| UsageError(format!("--grad-checkpoint: {error}")).into())
}

/// The precision of a run, which `device` must have.
///
/// # Errors
/// If the device lacks it; the error names what it has.
pub fn precision(settings: &TrainSettings, device: &Device) -> Result<Precision> {
    let precision = match settings.precision {
        PrecisionChoice::F32 => Precision::F32,
        PrecisionChoice::F16 => Precision::F16,
        PrecisionChoice::Bf16 => Precision::Bf16,
    };
    precision
        .check(device)
        .map_err(|error| UsageError(format!("--precision: {error}")))?;
    Ok(precision)
}

/// The most groups, up to eight, of at least two channels each, or one.
fn num_groups(channels: usize) -> usize {
    let fits = |groups: &usize| channels.is_multiple_of(*groups) && channels / groups >= 2;
    (1..=MAX_GROUPS).rev().find(fits).unwrap_or(1)
}
