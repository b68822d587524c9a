//! What fits into memory: the settings to run with, before anything is run, and what to do when
//! memory runs out all the same.
//!
//! Every planner here has the same parts:
//!
//! 1. A **cost** predicts the peak of some settings: a [fit](crate::memory::estimate) through small
//!    runs, [`WindowCost`](crate::chunked::WindowCost), or a formula.
//! 2. A [`Ladder`] holds the settings to choose from, the cheapest first, each with its cost.
//! 3. A [`Choice`] is the first that stays within the budget, with a [`Reason`] for each setting. If
//!    there is none, the [`BudgetError`] has the least budget that would do.
//! 4. [`verify`] runs a choice, corrects its prediction and chooses again.
//! 5. [`retry`] runs the same items with less when memory runs out.
//!
//! [`free_on`](crate::memory::free_on) says what is free on a device.
//!
//! | to plan | use |
//! |---|---|
//! | training steps and inference: precision, recomputation, micro-batches and tiles | [`choose`], [`verify`] |
//! | where a chain of blocks is cut | [`grad_checkpoint::Plan`](crate::grad_checkpoint::Plan) |
//! | tiles to train on, and what is recomputed | [`TilePlanner`](crate::chunked::TilePlanner) |
//! | the window of a large image | [`WindowCost`](crate::chunked::WindowCost) |
//! | batches that change size while they run | [`batch`](crate::batch) |
//! | anything else | a [`Ladder`] of your own |
//!
//! # What is left free
//! | of | is left free | because |
//! |---|---|---|
//! | a budget, where predictions are checked by running | 1 % | runs differ |
//! | a budget, where they are not | 10 % ([`TOLERANCE`]) | fits are not exact |
//! | what is free on a device | 20 % ([`SHARE_OF_FREE`]) | memory is fragmented, and others use it too |
//!
//! # Example
//! ```
//! use burn_memopt::budget::{Request, Technique, choose};
//! use burn_memopt::grad_checkpoint::Policy;
//! use burn_memopt::memory::Bytes;
//! use burn_memopt::memory::estimate::{PeakFit, Workload};
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
//! let settings = choose(&request(500), &techniques)?.settings;
//! assert_eq!((settings.micro_batch_size, settings.accumulation_steps), (4, 2));
//! assert_eq!(settings.policy, Policy::None);
//! let settings = choose(&request(50), &techniques)?.settings;
//! assert_eq!((settings.micro_batch_size, settings.policy), (1, Policy::EveryBlock));
//! let error = choose(&request(20), &techniques).unwrap_err();
//! assert_eq!(error.least, Bytes::mib(30));
//! # Ok::<(), burn_memopt::budget::BudgetError>(())
//! ```

mod ladder;
mod request;
mod retry;
mod step;
mod technique;
mod verify;

use crate::memory::Bytes;

pub use ladder::{BudgetError, Choice, Ladder, Reason};
pub use request::{Request, TileSize};
pub use retry::{AttemptError, catch_out_of_memory, retry};
pub use step::{StepSetting, StepSettings, choose};
pub use technique::Technique;
pub use verify::{Round, Verified, VerifyError, verify};

pub(crate) use technique::recomputed_by;
pub(crate) use verify::{MAX_ROUNDS, is_near};

/// Share of the free memory of a device that a run may use unless it is told otherwise.
pub const SHARE_OF_FREE: f64 = 0.8;

/// How far a measured peak may be from its prediction, as a share of the prediction.
pub const TOLERANCE: f64 = 0.1;

/// The part of a budget that predictions may fill: all but one percent, since no two runs take exactly
/// the same.
pub(crate) fn usable(budget: Bytes) -> Bytes {
    budget - Bytes::new(budget.get() / 100)
}

/// The smallest budget of which `needed` is [`usable`].
pub(crate) fn budget_for(needed: Bytes) -> Bytes {
    needed + Bytes::new(needed.get().div_ceil(99))
}

#[cfg(test)]
mod tests;
