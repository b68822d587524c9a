//! The weights that a network starts from.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn_memopt_models::weights::StateDict;

use crate::settings::UsageError;

/// Draws the random weights of `network` by the seed that the device has now, then replaces them
/// by those in the file that `option`, named as on the command line, gives.
///
/// # Errors
/// If the file cannot be read or does not fit the network.
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

/// Draws the random weights of `network` by the seed that the device has now.
pub fn drawn<M: Module>(network: M) -> M {
    network.visit(&mut Draw);
    network
}

/// Draws random weights, which burn does when they are first used, that is by
/// whatever seed the device has then.
struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
    }
}
