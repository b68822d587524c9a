//! `train` as a user meets it: the real runner, one process a run, on the CPU.

mod artifacts;
mod decode;
mod evaluating;
mod interrupting;
mod killing;
#[cfg(unix)]
#[path = "../kills/mod.rs"]
mod kills;
mod refusals;
mod resuming;
mod runner;
mod videos;
mod watermark;
