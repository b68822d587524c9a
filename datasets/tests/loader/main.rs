//! The loader's promises: order, resume, bytes in flight, failures, threads.

mod burn_side;
mod bytes;
mod failures;
mod groups;
mod order;
mod sources;
mod states;
mod threads;
