//! Networks that are used but not trained, and the folder of weights that a run leaves.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_memopt_models::propainter::Published;

use crate::inpaint::weights::are_procedural;
use crate::run_dir::RunDir;

/// What made-up weights mean.
const WARNING: &str = "warning: --weights procedural makes up the weights of the networks that are \
    not trained: everything runs as with trained ones, but what is learned from them is of no use for \
    real videos; give --weights DIR for that";

/// Says what made-up weights mean, if `weights` are.
pub fn warn_of_procedural(weights: &Path) {
    if are_procedural(weights) {
        eprintln!("{WARNING}");
    }
}

/// A network that is used but not trained, on a device that does not record it.
///
/// # Errors
/// If the weights cannot be read or do not fit.
pub fn frozen<M: Published>(weights: &Path, device: &Device) -> Result<M> {
    match are_procedural(weights) {
        true => Ok(M::procedural(device)),
        false => Ok(M::load_published(weights, device)?),
    }
}

/// Writes the weights of a network into the folder `weights` of the run, under its published name,
/// where `inpaint` and other runs find them.
///
/// # Errors
/// If the file cannot be written.
pub fn write<M: Published>(run: &RunDir, network: &M) -> Result<()> {
    let name = format!("weights/{}.safetensors", M::FILE);
    run.replace_file(&name, |path| {
        network
            .valid()
            .save_safetensors(path)
            .context("cannot write the weights")
    })
}
