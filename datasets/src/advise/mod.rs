//! How to load data: what to keep in memory, and how much to load ahead.
//!
//! [`Advisor`] shares the free memory out among the data set or a cache of it, the batch, the
//! items loaded ahead and the shuffle buffer, and gives the reason of each share. It computes with
//! numbers alone: [`DatasetBytes`] says what the data takes, a
//! [`MemoryMonitor`](burn_memopt::memory::MemoryMonitor) what is free. [`DataSource`] finds out what
//! a path holds and what that takes.

mod advice;
mod advisor;
mod shares;
mod sizes;
#[cfg(all(feature = "tiff", feature = "video", feature = "jsonl"))]
mod source;

pub use advice::{Advice, Advised, Loading};
pub use advisor::{Access, AdviseError, Advisor};
pub use sizes::{DatasetBytes, ItemBytes};
#[cfg(all(feature = "tiff", feature = "video", feature = "jsonl"))]
pub use source::{Companions, DataSource, SourceError, SourceKind};

#[cfg(test)]
mod tests;
