//! `inpaint` as a user meets it: the real runner, one process a run, on the CPU, with made-up
//! weights.

mod budget;
mod completing;
#[cfg(unix)]
mod interrupting;
mod many;
mod refusals;
mod runner;
