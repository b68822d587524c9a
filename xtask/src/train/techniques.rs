//! The techniques a run uses, as the library names them.

use anyhow::Result;
use burn::tensor::Device;
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::precision::Precision;

use crate::choices::PrecisionChoice;
use crate::settings::{RunSettings, UsageError};

/// The policy of a run.
///
/// # Errors
/// [`UsageError`] if its size cannot be read.
pub fn policy(settings: &RunSettings) -> Result<Policy> {
    let policy = settings.grad_checkpoint.as_str().parse::<Policy>();
    policy.map_err(|error| UsageError(format!("--grad-checkpoint: {error}")).into())
}

/// The precision of a run, which `device` must have.
///
/// # Errors
/// If the device lacks it; the error names what it has.
pub fn precision(settings: &RunSettings, device: &Device) -> Result<Precision> {
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
