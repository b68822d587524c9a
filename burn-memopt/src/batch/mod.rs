//! Batches as large as memory allows: halved when the device runs out of it, grown again after
//! success.
//!
//! | piece | does |
//! |---|---|
//! | [`Predictor`] | runs a model on items and brings the results to the host |
//! | [`ModelCache`] | models by file, loaded again when the file changed |
//! | [`AdaptiveBatches`] | runs items in batches, keeps their order, loses none |
//! | [`BatchRunner`] | runs one batch after the other and learns how large one may be |
//! | [`BatchSize`], [`BatchSizeConfig`] | which size comes next |
//! | [`HostEstimate`] | whether a batch fits into the host's memory, before it runs |
//! | [`Failure`] | whether a failure is lack of memory or another |
//! | [`ModelReplicas`] | parts of a batch on several devices, side by side |
//! | [`Child`], [`serve`] | batches in a process of their own, which may die |
//! | [`BatchReport`] | what happened |
//!
//! # Rules
//! 1. An item is read once, and its result comes once, in order.
//! 2. Only lack of memory makes a batch smaller. Any other failure is passed on at once.
//! 3. A device that is poisoned is reported, never tried again; in a [`Child`] it ends the child, and
//!    a new one continues with a smaller batch.
//!
//! # When a failure shows
//! On CubeCL devices (wgpu, cuda) an allocation fails late and in silence: what depends on it
//! is skipped, `sync` may return `Ok`, and only *reading* a result fails. So the function that runs a
//! batch must read what it returns (`try_into_data`), and return the error.

mod adaptive;
mod child;
mod failure;
mod model_cache;
mod predictor;
mod replicas;
mod runner;
mod size;

pub use adaptive::AdaptiveBatches;
pub use child::{Child, ChildError, serve};
pub use failure::Failure;
pub use model_cache::{ModelCache, ModelError};
pub use predictor::Predictor;
pub use replicas::ModelReplicas;
pub(crate) use runner::list;
pub use runner::{BatchError, BatchReport, BatchRunner};
pub use size::{BatchSize, BatchSizeConfig, HostEstimate};
