//! `train flow-completion` and `train propainter`: learning from videos with random holes.

mod batch;
mod clips;
mod flow_completion;
mod propainter;
mod weights;

use burn::optim::{AdamConfig, ModuleOptimizer};

pub use flow_completion::FlowCompletionJob;
pub use propainter::ProPainterJob;

/// Clips that are judged at most.
const NUM_JUDGED: usize = 8;

/// The optimizer of the published training.
fn optimizer() -> ModuleOptimizer {
    AdamConfig::new()
        .with_beta_1(0.0)
        .with_beta_2(0.99)
        .with_epsilon(1e-8)
        .init()
}
