//! How to load data: what to keep in memory, and how much to load ahead.
//!
//! [`Advisor`] shares the free memory out among the data set or a cache of it, the batch, the
//! items loaded ahead and the shuffle buffer, and gives the reason of each share. It computes with
//! numbers alone: [`DatasetBytes`](super::estimate::DatasetBytes) says what the data takes, a
//! [`MemoryMonitor`](super::MemoryMonitor) what is free.

mod advice;
mod advisor;
mod facts;
mod shares;

pub use advice::{Advice, Advised, Loading};
pub use advisor::{Access, AdviseError, Advisor};

#[cfg(test)]
mod tests;
