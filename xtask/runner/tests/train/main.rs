//! `train` as a user meets it: the real runner, one process a run, on the CPU.

mod artifacts;
mod decode;
mod interrupting;
mod refusals;
mod resuming;
mod runner;
mod videos;
mod watermark;
