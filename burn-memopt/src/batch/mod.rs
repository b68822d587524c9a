//! Batches as large as memory allows: halved when the device runs out of it, grown again when all is
//! well.
//!
//! | piece | does |
//! |---|---|
//! | [`AdaptiveBatches`] | runs items in batches, keeps their order, loses none |
//! | [`BatchSize`], [`BatchSizeConfig`] | which size comes next |
//! | [`Failure`] | tells lack of memory from every other failure |
//! | [`BatchReport`] | what happened |
//!
//! # Rules
//! 1. An item is read once, and its result comes once, in order.
//! 2. Only lack of memory makes a batch smaller. Any other failure is passed on at once.
//! 3. A device that is poisoned is reported, never tried again.
//!
//! # When a failure shows
//! On CubeCL devices (wgpu, cuda) an allocation fails late and in silence: what depends on it
//! is skipped, `sync` may answer `Ok`, and only *reading* a result fails. So the function that runs a
//! batch must read what it returns (`try_into_data`), and return the error.

mod adaptive;
mod error;
mod failure;
mod report;
mod size;

pub use adaptive::AdaptiveBatches;
pub use error::BatchError;
pub use failure::Failure;
pub use report::BatchReport;
pub use size::{BatchSize, BatchSizeConfig};
