//! The training step: precision, scaling, accumulation and clipping in the
//! right order.

mod config;
mod group;
mod loss;
mod outcome;
mod statistics;
mod step;
mod strategy;

pub use config::TrainStepConfig;
pub use loss::MicroLoss;
pub use outcome::{StepError, StepOutcome, TrainState};
pub use step::TrainStep;
pub use strategy::{MicroBatchStrategy, MicroStep, StateCheckpointer};
