//! Optimizers whose state takes less memory.
//!
//! | what | state, in f32 parameters of Adam's kind | costs | exact? |
//! |---|---|---|---|
//! | burn's `Adam`, `AdamW` | 8 bytes a value | | |
//! | [`Adam8bit`], [`AdamW8bit`] | 2.03 bytes | encoding at each step | no |
//! | [`HostState`] of any optimizer | none on the device | two copies at each step | bit-equal |
//! | [`HostState`] of an 8-bit one | none on the device, 2.03 bytes on the host | both | as 8 bits |
//!
//! All are optimizers of burn: they go into `ModuleOptimizer`, `Learner`, [`MicroBatchTrainer`](crate::train::MicroBatchTrainer)
//! and records. burn loads a record that does not suit without a word and goes on with no state;
//! [`load_optimizer`] refuses it.
//!
//! # Example
//! ```
//! use burn::optim::ModuleOptimizer;
//! use burn_memopt::optim::{AdamW8bitConfig, HostState};
//!
//! let eight_bit: ModuleOptimizer = AdamW8bitConfig::new().init();
//! let on_host = ModuleOptimizer::from(HostState::new(AdamW8bitConfig::new().build()));
//! # let _ = (eight_bit, on_host);
//! ```

mod blocks;
mod code;
mod eight_bit;
mod host_state;
mod moments;
mod record;

pub use eight_bit::{Adam8bit, Adam8bitConfig, AdamW8bit, AdamW8bitConfig, EightBit, TwoMoments};
pub use host_state::{HeldState, HostState};
pub use moments::Moments;
pub(crate) use moments::packed_bytes;
pub use record::{LoadOptimizerError, load_optimizer};
