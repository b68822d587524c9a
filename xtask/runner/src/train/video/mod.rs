//! `train flow-completion` and `train propainter`: learning from videos with random holes.

mod clips;
mod flow_completion;
mod propainter;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use burn_memopt_models::propainter::raft::Raft;
use burn_memopt_models::propainter::{Flows, Published};

use crate::device::DeviceList;
use crate::inpaint::are_procedural;
use crate::report::note;
use crate::run_dir::RunDir;
use crate::settings::ClipSettings;
use crate::train::optimizer::AdamSettings;
pub use flow_completion::FlowCompletionJob;
pub use propainter::ProPainterJob;

/// What made-up weights mean.
const WARNING: &str = "warning: --weights procedural makes up the weights of the networks that are \
    not trained: everything runs as with trained ones, but what is learned from them is of no use for \
    real videos; give --weights DIR for that";

/// The optimizer of the published training.
const ADAM: AdamSettings = AdamSettings {
    betas: [0.0, 0.99],
    epsilon: 1e-8,
};

/// A network that is used but not trained.
struct Frozen<M> {
    /// The network on each device that trains; it is not recorded.
    networks: Vec<(Device, M)>,
    is_made_up: bool,
}

impl<M: Published> Frozen<M> {
    /// Loads the weights, or makes them up.
    fn load(settings: &ClipSettings, devices: &DeviceList) -> Result<Self> {
        let is_made_up = are_procedural(&settings.weights);
        let mut networks: Vec<(Device, M)> = Vec::new();
        for choice in devices.all() {
            let device = crate::device::open(*choice)?;
            if networks.iter().any(|(of, _)| *of == device) {
                continue;
            }
            let network = if is_made_up {
                M::procedural(&device)
            } else {
                M::load_published(&settings.weights, &device)?
            };
            networks.push((device, network));
        }
        Ok(Self {
            networks,
            is_made_up,
        })
    }

    /// The network on the device of what it is for.
    fn on(&self, device: Device) -> &M {
        let device = device.without_autodiff();
        let of = self.networks.iter().find(|(of, _)| *of == device);
        &of.unwrap_or(&self.networks[0]).1
    }

    /// Writes the weights next to those that this run learned, unless they are made up.
    fn pass_on(&self, run: &RunDir) -> Result<()> {
        if self.is_made_up {
            return Ok(());
        }
        write_weights(run, &self.networks[0].1)
    }

    /// What is known of generated videos, rather than what a made-up network would say.
    fn or_known<T>(&self, known: Option<T>, device: Device, compute: impl FnOnce(&M) -> T) -> T {
        match known {
            Some(known) if self.is_made_up => known,
            _ => compute(self.on(device)),
        }
    }
}

impl Frozen<Raft> {
    /// The flows between neighbouring frames.
    fn flows(&self, frames: Tensor<5>, known: Option<Flows>, iterations: usize) -> Flows {
        let device = frames.device();
        self.or_known(known, device, |raft| raft.clip_flows(frames, iterations))
    }
}

/// Says what made-up weights mean for the videos in `data`; generated ones do not need any.
fn warn_of_procedural(settings: &ClipSettings) {
    if settings.data.is_some() && are_procedural(&settings.weights) {
        note(WARNING);
    }
}

/// Writes the weights of a network into the folder `weights` of the run, under its published name,
/// where `inpaint` and other runs find them.
fn write_weights<M: Published>(run: &RunDir, network: &M) -> Result<()> {
    let name = format!("weights/{}.safetensors", M::FILE);
    run.replace_file(&name, |path| {
        network
            .valid()
            .save_safetensors(path)
            .context("cannot write the weights")
    })
}
