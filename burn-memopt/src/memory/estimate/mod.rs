//! How many bytes something takes, before it is loaded or run.
//!
//! | to estimate | use |
//! |---|---|
//! | one image, clip, text or a mix of them | [`ItemBytes`] |
//! | a data set and its batches | [`DatasetBytes`] |
//! | a training step on a batch | [`StepBytes`] |
//!
//! Nothing here opens a file or a device. Sums and products saturate at 2^64 - 1 bytes: an
//! estimate is never smaller because it is too large.

mod dataset;
mod item;
mod step;

pub use dataset::DatasetBytes;
pub use item::ItemBytes;
pub use step::StepBytes;

#[cfg(test)]
mod tests;
