//! What the jobs share whose UNet makes an image of an image.

mod data;
mod evaluation;
mod network;
mod pictures;
mod samples;
mod task;

use anyhow::Result;
use burn::tensor::Device;
use burn_memopt_models::unet::UNet;

pub use data::Data;
pub use network::{build, prepare_network, whole_network};
pub use samples::{Batch, Sample};
pub use task::Task;

use super::job::Metrics;
use crate::run_dir::RunDir;
use evaluation::evaluate;
use pictures::write_pictures;

/// The metrics on what was held out, and the pictures of some of it.
///
/// # Errors
/// If a sample cannot be read or a picture not be written.
pub fn judge(
    network: &UNet,
    task: Task,
    data: &Data,
    batch_size: usize,
    run: &RunDir,
    device: &Device,
) -> Result<Metrics> {
    let seen = data.held_out.as_ref().unwrap_or(&data.training);
    write_pictures(run, network, task, seen, device)?;
    match &data.held_out {
        None => Ok(Metrics::new()),
        Some(held_out) => evaluate(network, task, held_out, batch_size, device),
    }
}
