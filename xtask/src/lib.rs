//! The commands of burn-memopt.
//!
//! Two binaries share this library. `xtask` is the front end: it parses, runs
//! what needs no burn, and builds in seconds. `runner` (feature `run`) is what it
//! re-executes for training and measuring, in release mode and with one backend.

pub mod cargo;
pub mod choices;
pub mod cli;
pub mod device;
pub mod downstream;
pub mod tidy;

#[cfg(feature = "run")]
pub mod advise;
#[cfg(feature = "run")]
pub mod bench;
#[cfg(feature = "run")]
pub mod infer;
#[cfg(feature = "run")]
pub mod inpaint;
#[cfg(feature = "run")]
pub mod interrupt;
#[cfg(feature = "run")]
pub mod monitor;
#[cfg(feature = "run")]
pub mod plan;
#[cfg(feature = "run")]
pub mod progress;
#[cfg(feature = "run")]
pub mod run_dir;
#[cfg(feature = "run")]
pub mod settings;
#[cfg(feature = "run")]
pub mod train;
#[cfg(feature = "run")]
pub mod weights;
