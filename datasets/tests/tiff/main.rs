//! TIFF stacks: every layout and sample type, access, damage, and stacks that grow.

#![cfg(feature = "tiff")]

mod access;
#[path = "../allocations/mod.rs"]
mod allocations;
mod cases;
mod follow;
mod hostile;
mod neighbours;
mod no_copy;
mod pages;
mod stack;
#[path = "../stacks/mod.rs"]
mod stacks;
