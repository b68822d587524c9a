//! `inpaint` as a user meets it: the real runner, one process a run, on the CPU, with made-up
//! weights.

mod budget;
mod completing;
mod files;
#[cfg(unix)]
mod interrupting;
mod killing;
#[cfg(unix)]
#[path = "../kills/mod.rs"]
mod kills;
mod many;
mod refusals;
mod runner;
