//! The optimizer of a run, by its settings.

use std::path::Path;

use anyhow::{Context, Result};
use burn::optim::{AdamConfig, AdamWConfig, ModuleOptimizer, Optimizer, RmsPropConfig};
use burn::tensor::Device;
use burn_memopt::memory::estimate::{ModelBytes, OptimizerKind};
use burn_memopt::memory::{Bytes, on_host};
use burn_memopt::optim::{
    Adam8bitConfig, AdamW8bitConfig, HostState, LoadOptimizerError, load_optimizer,
};

use crate::cli::{OptimizerChoice, OptimizerSettings, OptimizerStateChoice};

/// How a model's optimizer is set, where it is one of Adam's kind.
#[derive(Clone, Copy, Debug)]
pub struct AdamSettings {
    /// How much stays of the two moments at a step.
    pub betas: [f32; 2],
    /// Added to the root of the second moment.
    pub epsilon: f32,
}

impl AdamSettings {
    /// The defaults of burn.
    pub const DEFAULT: Self = Self {
        betas: [0.9, 0.999],
        epsilon: 1e-5,
    };
}

/// An optimizer before its first step.
pub fn init(settings: OptimizerSettings, adam: AdamSettings) -> ModuleOptimizer {
    let AdamSettings {
        betas: [beta_1, beta_2],
        epsilon,
    } = adam;
    let state = settings.optimizer_state;
    // The same four words for four types of settings.
    macro_rules! of {
        ($config:expr) => {{
            let config = $config.with_beta_1(beta_1).with_beta_2(beta_2);
            placed(config.with_epsilon(epsilon).build(), state)
        }};
    }
    match settings.optimizer {
        OptimizerChoice::Adam => of!(AdamConfig::new()),
        OptimizerChoice::AdamW => of!(AdamWConfig::new()),
        OptimizerChoice::Adam8bit => of!(Adam8bitConfig::new()),
        OptimizerChoice::AdamW8bit => of!(AdamW8bitConfig::new()),
        // GRAF's.
        OptimizerChoice::RmsProp => {
            let config = RmsPropConfig::new().with_alpha(0.99).with_epsilon(1e-8);
            placed(config.with_momentum(0.0).build(), state)
        }
    }
}

fn placed(optimizer: impl Optimizer, place: OptimizerStateChoice) -> ModuleOptimizer {
    match place {
        OptimizerStateChoice::Device => optimizer.into(),
        OptimizerStateChoice::Host => HostState::new(optimizer).into(),
    }
}

/// Loads the state that a run has saved into `optimizer`, which `settings` made.
///
/// # Errors
/// If the file cannot be read, or holds the state of an optimizer that `settings` do not name: says which.
pub fn load(
    optimizer: ModuleOptimizer,
    settings: OptimizerSettings,
    path: &Path,
) -> Result<ModuleOptimizer> {
    let loaded = load_optimizer(optimizer, path);
    let is_other = matches!(loaded, Err(LoadOptimizerError::OtherOptimizer { .. }));
    loaded.with_context(|| match is_other {
        true => format!(
            "the run cannot go on with --optimizer {}; leave it out, or start a new run",
            settings.optimizer
        ),
        false => format!(
            "cannot go on from {}; start a new run, or resume another one",
            path.display()
        ),
    })
}

/// What is kept of a model between two steps.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The optimizer's state.
    pub state: Bytes,
    /// Parameters, and the state if it is there, where the model trains.
    pub resident: Bytes,
}

impl Kept {
    /// What an optimizer keeps of a model that trains on `device`.
    pub fn of(model: &ModelBytes, settings: OptimizerSettings, device: &Device) -> Self {
        let state = model.optimizer_state(kind(settings.optimizer));
        // A device that computes in host memory has it there in either case.
        let is_away = settings.optimizer_state == OptimizerStateChoice::Host && !on_host(device);
        let there = if is_away { Bytes::ZERO } else { state };
        Self {
            state,
            resident: model.parameters + there,
        }
    }
}

fn kind(choice: OptimizerChoice) -> OptimizerKind {
    match choice {
        OptimizerChoice::Adam => OptimizerKind::Adam,
        OptimizerChoice::AdamW => OptimizerKind::AdamW,
        OptimizerChoice::RmsProp => OptimizerKind::RmsProp,
        OptimizerChoice::Adam8bit => OptimizerKind::Adam8bit,
        OptimizerChoice::AdamW8bit => OptimizerKind::AdamW8bit,
    }
}
