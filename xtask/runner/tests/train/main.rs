//! `train` as a user meets it: the real runner, one process a run, on the CPU.

mod artifacts;
mod decode;
mod evaluating;
mod gan;
mod images;
mod interrupting;
mod killing;
#[cfg(unix)]
#[path = "../kills/mod.rs"]
mod kills;
#[cfg(unix)]
mod paths;
mod refusals;
mod resuming;
mod runner;
mod stages;
mod tables;
mod tiles;
mod tuning;
mod videos;
mod watermark;
