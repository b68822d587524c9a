//! The networks, from files or made up.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use burn_memopt::memory::on_host;
use burn_memopt::precision::Precision;
use burn_memopt_models::propainter::ProPainter;

use crate::cli::InpaintArgs;
use crate::settings::UsageError;

/// The `--weights` that are no folder.
pub const PROCEDURAL: &str = "procedural";

/// Whether weights are made up.
pub fn are_procedural(weights: &Path) -> bool {
    weights.as_os_str() == PROCEDURAL
}

/// What made-up weights mean.
pub const WARNING: &str = "warning: --weights procedural makes weights up: everything runs as with \
    trained ones, takes their time and memory, and fills with patterns that mean nothing";

/// What flags ask flow completion and the generator to compute in: a preset asks for half precision
/// where the device has it. `None` if they do not say.
///
/// # Errors
/// [`UsageError`] if `--fp16` is given and the device does not compute in f16.
pub fn precision(args: &InpaintArgs, device: &Device) -> Result<Option<Precision>> {
    match Precision::F16.check(device) {
        Ok(()) if args.fp16 || args.preset.is_some() => Ok(Some(Precision::F16)),
        Err(lacking) if args.fp16 => Err(UsageError(format!("--fp16: {lacking}")).into()),
        // Half precision is emulated there, in many times the time.
        _ if args.preset.is_some() || on_host(device) => Ok(Some(Precision::F32)),
        _ => Ok(None),
    }
}

/// The networks with the weights of a folder, or made-up ones.
///
/// # Errors
/// If a file is missing, cannot be read, or does not fit its network.
pub fn load(weights: &Path, precision: Precision, device: &Device) -> Result<ProPainter> {
    let networks = match are_procedural(weights) {
        true => ProPainter::procedural(device),
        false => ProPainter::load(weights, device)?,
    };
    Ok(networks.in_precision(precision, device)?)
}
