//! What the bound on working memory saves in ProPainter's generator, counted exactly.

use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::memory::{CountingAllocator, PeakMeter};
use burn_memopt_models::propainter::{Holes, SparseTransformer};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

#[test]
fn windows_and_frames_in_small_portions_need_a_fraction_of_the_memory() {
    let device = Device::flex();
    let transformer = SparseTransformer::new(1, 64, 4, 1960, &device);
    let normal = Distribution::Normal(0.0, 1.0);
    let tokens = Tensor::<5>::random([1, 8, 20, 36, 64], normal, &device);
    let holes = Holes::find(Tensor::ones([1, 8, 20, 36], &device));
    let peak = |bytes: usize| {
        let run = || transformer.forward(tokens.clone(), &holes, [60, 108], bytes);
        // Threads keep buffers of their own after their first product.
        run();
        let meter = PeakMeter::start(&device);
        drop(run());
        meter.finish().peak.unwrap().get() as f64
    };
    let (whole, portioned) = (peak(usize::MAX), peak(1));
    let share = portioned / whole;
    println!("peak {whole} bytes at once, {portioned} in portions: {share:.2}");
    assert!(share < 0.5, "portions need {share:.2} of the whole peak");
}
