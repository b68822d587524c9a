//! What comparing features takes. A binary of its own: the allocator counts the whole process.
#![cfg(feature = "flex")]

use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::memory::{Bytes, CountingAllocator, PeakMeter};
use burn_memopt_models::propainter::raft::{Correlation, CorrelationField};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// The peak of comparing two maps of `side` × `side` features, and of looking values up.
fn peak(side: usize, correlation: Correlation) -> f64 {
    let device = Device::flex();
    let random = |channels| {
        let shape = [1, channels, side, side];
        Tensor::<4>::random(shape, Distribution::Uniform(0.0, side as f64), &device)
    };
    let (first, second, coords) = (random(32), random(32), random(2));
    let meter = PeakMeter::start(&device);
    let values = CorrelationField::new(first, second, correlation).lookup(coords);
    assert_eq!(values.dims(), [1, 324, side, side]);
    drop(values);
    meter.finish().peak.expect("the allocator counts").get() as f64
}

#[test]
fn on_demand_memory_grows_with_the_pixels_and_not_with_their_square() {
    let on_demand = Correlation::OnDemand {
        max_bytes: Bytes::mib(1),
    };
    // Once before, so that pools of threads are there.
    peak(16, on_demand);
    let [small, large] = [32, 64].map(|side| peak(side, on_demand));
    assert!(
        (3.0..4.5).contains(&(large / small)),
        "{small} to {large} for 4 × the pixels"
    );
    let [small, large] = [32, 64].map(|side| peak(side, Correlation::AllPairs));
    assert!(large / small > 6.0, "{small} to {large} of all pairs");
}
