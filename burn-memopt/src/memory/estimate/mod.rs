//! How many bytes something takes, before it is loaded or run.
//!
//! | to estimate | use |
//! |---|---|
//! | a training step on a batch | [`StepBytes`] |
//! | a model's parameters, gradients and optimizer state | [`ModelBytes`], [`OptimizerKind`] |
//! | the peak of a step on any batch and size | [`calibrate`](calibrate()) on two small ones, on three for text, then [`PeakFit`] |
//! | the same of a chain that may be cut anywhere | [`BlockFit`] |
//! | the largest batch that fits | [`PeakFit::largest_batch`] |
//!
//! Only [`calibrate`](calibrate()) and [`peak_of_step`] run something, and nothing here opens a
//! file. Sums and products saturate at 2^64 - 1 bytes: an
//! estimate is never smaller because it is too large.

mod calibrate;
mod fit;
mod growth;
mod model;

pub use calibrate::{CalibrateError, Workload, calibrate, peak_of_step};
pub use fit::{BlockFit, PeakFit};
pub use model::{ModelBytes, OptimizerKind, StepBytes};

#[cfg(test)]
mod tests;
