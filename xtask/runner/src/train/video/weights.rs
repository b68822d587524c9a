//! The networks that say where things move, and the folder of weights that a run leaves.

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use burn_memopt_models::propainter::raft::Raft;
use burn_memopt_models::propainter::{Flows, Published};

use crate::inpaint::weights::are_procedural;
use crate::run_dir::RunDir;
use crate::settings::ClipSettings;

/// What made-up weights mean.
const WARNING: &str = "warning: --weights procedural makes up the weights of the networks that are \
    not trained: everything runs as with trained ones, but what is learned from them is of no use for \
    real videos; give --weights DIR for that";

/// A network that is used but not trained.
pub struct Frozen<M> {
    /// The network, which is not recorded.
    pub network: M,
    is_made_up: bool,
}

impl<M: Published> Frozen<M> {
    /// Loads the weights, or makes them up; `device` does not record.
    ///
    /// # Errors
    /// If they cannot be read or do not fit.
    pub fn load(settings: &ClipSettings, device: &Device) -> Result<Self> {
        let is_made_up = are_procedural(&settings.weights);
        let network = match is_made_up {
            true => M::procedural(device),
            false => M::load_published(&settings.weights, device)?,
        };
        Ok(Self {
            network,
            is_made_up,
        })
    }

    /// Passes the weights on to who uses what this run learned, unless they are made up.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn pass_on(&self, run: &RunDir) -> Result<()> {
        match self.is_made_up {
            true => Ok(()),
            false => write(run, &self.network),
        }
    }

    /// What is known of generated videos goes before what a made-up network would say.
    pub fn or_known<T>(&self, known: Option<T>, compute: impl FnOnce(&M) -> T) -> T {
        match known {
            Some(known) if self.is_made_up => known,
            _ => compute(&self.network),
        }
    }
}

impl Frozen<Raft> {
    /// The flows between neighbouring frames.
    pub fn flows(&self, frames: Tensor<5>, known: Option<Flows>, iterations: usize) -> Flows {
        self.or_known(known, |raft| raft.clip_flows(frames, iterations))
    }
}

/// Says what made-up weights mean for the videos in `data`; generated ones do not need any.
pub fn warn_of_procedural(settings: &ClipSettings) {
    if settings.data.is_some() && are_procedural(&settings.weights) {
        eprintln!("{WARNING}");
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
