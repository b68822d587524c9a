//! From a budget to the settings that keep it: precision, gradient checkpointing, micro-batches and
//! tiles, each with its reason.
//!
//! 1. Calibrate: [`ModelBytes`](super::estimate::ModelBytes) counts what is there anyway, and small
//!    runs make a [`Technique`] of each way to compute, with a fitted peak.
//! 2. Decide: [`decide`] takes the cheapest way whose predicted peak stays within the budget. It is
//!    arithmetic alone. No way fits: the error says the least that would do.
//! 3. Verify: [`verified`] runs the choice for two steps, corrects the prediction where it was
//!    wrong, and decides again.
//!
//! What costs least goes first. Training: nothing; micro-batches, which are exact unless a layer
//! normalises over the batch; recomputing, which is exact and takes time; half precision; parts of
//! the image. With batch statistics, recomputing goes before micro-batches. Inference: nothing;
//! fewer images at a time; tiles; half precision.
//!
//! # Example
//! ```
//! use burn_memopt::grad_checkpoint::Policy;
//! use burn_memopt::memory::Bytes;
//! use burn_memopt::memory::estimate::{PeakFit, Workload};
//! use burn_memopt::memory::plan::{Request, Technique, decide};
//! use burn_memopt::precision::Precision;
//!
//! // 100 MiB an image as it is, 30 MiB where every block is recomputed.
//! let fit = |mib: u64| PeakFit::new([1, 2].map(|n| (Workload::new(n, [256, 256]), Bytes::mib(mib) * n as u64)));
//! let techniques = [
//!     Technique::whole(Precision::F32, Policy::None, fit(100)),
//!     Technique::whole(Precision::F32, Policy::EveryBlock, fit(30)),
//! ];
//! let request = |mib| Request::training(Bytes::mib(mib), 8, [256, 256]);
//!
//! let choice = decide(&request(500), &techniques)?;
//! assert_eq!((choice.micro_batch_size, choice.accumulation_steps), (4, 2));
//! assert_eq!(choice.policy, Policy::None);
//! let choice = decide(&request(50), &techniques)?;
//! assert_eq!((choice.micro_batch_size, choice.policy), (1, Policy::EveryBlock));
//! let error = decide(&request(20), &techniques).unwrap_err();
//! assert_eq!(error.least, Bytes::mib(30));
//! # Ok::<(), burn_memopt::memory::plan::BudgetError>(())
//! ```

mod choice;
mod decide;
mod reason;
mod request;
mod technique;
mod verify;
mod way;

pub use choice::Choice;
pub use decide::{BudgetError, decide};
pub use reason::{Reason, Setting};
pub use request::{Request, TileSize};
pub use technique::Technique;
pub use verify::{Round, Verified, VerifyError, verified};

#[cfg(test)]
mod tests;
