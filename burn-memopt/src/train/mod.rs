//! The training step: precision, scaling, accumulation and clipping in the
//! right order.

mod config;
mod group;
mod loss;
mod outcome;
mod recovery;
mod statistics;
mod step;
#[cfg(feature = "train")]
mod strategy;

pub use config::MicroBatchTrainerConfig;
pub use loss::MicroLoss;
pub use outcome::{StepError, StepOutcome, TrainState};
pub use recovery::MicroBatches;
pub use step::MicroBatchTrainer;
#[cfg(feature = "train")]
#[cfg_attr(docsrs, doc(cfg(feature = "train")))]
pub use strategy::{MicroBatchStrategy, MicroStep, StateCheckpointer};
