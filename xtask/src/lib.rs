//! The front end of burn-memopt's commands.
//!
//! `cargo xtask` parses, runs what needs no burn, and builds in seconds. What computes is a
//! package of its own, `xtask/runner`, which this one builds and becomes. Both parse with the
//! flags of [`cli`].

pub mod cargo;
pub mod choices;
pub mod cli;
pub mod device;
pub mod downstream;
pub mod tidy;
