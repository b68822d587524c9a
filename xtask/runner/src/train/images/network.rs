//! The UNet of a run: its shape, its first weights, and where it is cut into segments.

use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor};
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig, Upsample};

use super::task::Task;
use crate::choices::{NormChoice, UpsamplingChoice};
use crate::settings::{RunSettings, UNetNetworkSettings, UsageError};
use crate::train::cut_plan::CutPlan;
use crate::train::techniques::cut;
use crate::train::weights::first_weights;

/// Most groups of a group normalisation.
const MAX_GROUPS: usize = 8;

/// Builds the network for images of `shape`, channels, height and width, and cuts it into
/// segments, as `saved` says if it is a plan for that.
///
/// # Errors
/// If it is too deep for the images, its weights cannot be read or do not fit, or no cut stays
/// within the budget.
pub fn prepare_network(
    settings: &UNetNetworkSettings,
    run: &RunSettings,
    task: Task,
    shape: [usize; 3],
    saved: &mut CutPlan,
    device: &Device,
) -> Result<UNet> {
    let network = whole_network(settings, run, task, shape, device)?;
    let [channels, height, width] = shape;
    let sample = Tensor::zeros([run.batch_size, channels, height, width], device);
    cut(network, run, sample, saved)
}

/// Builds the network for images of `shape`, channels, height and width, without cutting it.
///
/// # Errors
/// If it is too deep for the images, or its weights cannot be read or do not fit.
pub fn whole_network(
    settings: &UNetNetworkSettings,
    run: &RunSettings,
    task: Task,
    shape: [usize; 3],
    device: &Device,
) -> Result<UNet> {
    let [channels, height, width] = shape;
    check_depth(settings.depth, height, width)?;
    build(settings, [channels, task.out_channels()], run.seed, device)
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
pub fn build(
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
    first_weights(unet, settings.weights.as_deref(), "--weights")
}

/// The most groups, up to eight, of at least two channels each, or one.
fn num_groups(channels: usize) -> usize {
    let fits = |groups: &usize| channels.is_multiple_of(*groups) && channels / groups >= 2;
    (1..=MAX_GROUPS).rev().find(fits).unwrap_or(1)
}
