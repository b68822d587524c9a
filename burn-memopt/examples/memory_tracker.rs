//! The course of memory over a training run: a table, a picture, the maxima and
//! a verdict on leaks.

use burn::nn::LinearConfig;
use burn::optim::SgdConfig;
use burn::tensor::{Device, Tensor};
use burn_memopt::memory::{Leak, MemoryTracker};
use burn_memopt::prelude::*;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex().autodiff();
    let mut layer = LinearConfig::new(64, 64).init(&device);
    let mut train = MicroBatchTrainerConfig::new().init(SgdConfig::new().init());
    let x = Tensor::<2>::ones([256, 64], &device);

    let mut tracker = MemoryTracker::of_device(&device);
    tracker.mark("training");
    for step in 1..=100 {
        train.micro_batch(
            &layer,
            x.clone(),
            |layer, x| layer.forward(x),
            |y| MicroLoss::mean(y.square().mean(), 256.0),
        );
        let (next, outcome) = train.step(layer, 1e-3);
        layer = next;
        outcome?;
        tracker.sample(step);
    }

    let folder = std::env::temp_dir();
    let (table, picture) = (folder.join("memory.csv"), folder.join("memory.png"));
    tracker.write_csv(&table)?;
    tracker.plot(&picture)?;
    let maxima = tracker.maxima();
    let highest = maxima.live.expect("the allocator is installed");
    println!("highest live memory {highest}");
    println!("see {} and {}", table.display(), picture.display());
    assert_eq!(std::fs::read_to_string(table)?.lines().count(), 101);
    assert_eq!(tracker.leak_verdict(), Leak::Stable);
    Ok(())
}
