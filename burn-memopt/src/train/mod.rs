//! The training step: precision, scaling, accumulation and clipping in the right order.

mod data_parallel;
mod gradient_penalty;
mod group;
mod micro_seeds;
mod moving_average;
mod recovery;
mod running_statistics;
mod step;
#[cfg(feature = "train")]
mod strategy;
mod trainer;

pub use data_parallel::{DataParallel, DataParallelError, MicroBatchTrainers};
pub use gradient_penalty::{GradientPenalty, gradient_penalty};
pub use moving_average::{draw_parameters, frozen, update_average};
pub use recovery::MicroBatches;
pub(crate) use running_statistics::RunningStatistics;
pub use running_statistics::freeze_statistics;
pub use step::{MicroLoss, StepError, StepOutcome, TrainState};
#[cfg(feature = "train")]
#[cfg_attr(docsrs, doc(cfg(feature = "train")))]
pub use strategy::{MicroBatchStrategy, MicroStep, StateCheckpointer};
pub use trainer::{MicroBatchTrainer, MicroBatchTrainerConfig};
