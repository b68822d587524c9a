//! A crate outside of burn-memopt, with a GPT of its own and an encoder of burn's.
//!
//! `cargo xtask downstream` builds it as a user's crate is built: with the dependencies of the
//! README and without a lock file.

mod encoder;
mod gpt;
mod gradients;

use burn::prelude::*;
use burn_memopt::prelude::*;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn main() {
    let device = Device::flex().autodiff();
    device.seed(1);
    gpt::segments_give_the_plain_gradients(&device);
    gpt::half_precision_trains(&device);
    encoder::gradients_are_the_plain_ones(&device);
    println!("downstream: all is well");
}
