//! Packed weights save memory, counted exactly on the host.

use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::memory::{self, CountingAllocator, PeakMeter};
use burn_memopt::quantize::{QuantizeConfig, Scheme};

mod blocks;
use blocks::{linear_stack, run_linear_stack};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn normal<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let _stream = hold_random_stream();
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// Packs every weight.
fn all(scheme: Scheme) -> QuantizeConfig {
    QuantizeConfig::new(scheme).with_kept([])
}

#[test]
fn packed_weights_take_their_share_of_memory() {
    const WIDTH: usize = 256;
    let x = normal([4, WIDTH]);
    // What matrix products keep for each thread is there after one run.
    run_linear_stack(&linear_stack(1, WIDTH, &Device::flex()), x.clone());
    for (scheme, most) in [(Scheme::Q8, 0.27), (Scheme::Q4, 0.15)] {
        let before = memory::live().unwrap().get();
        let model = linear_stack(16, WIDTH, &Device::flex());
        let plain = memory::live().unwrap().get() - before;
        let (packed, report) = all(scheme).quantize(&model).unwrap();
        drop(model);
        let live = memory::live().unwrap().get() - before;
        assert!(report.share() < most, "{report}");
        let share = live as f64 / plain as f64;
        // Records of the parameters, 16 of them.
        assert!(share < most + 0.01, "{share}");

        // One layer at a time is in float.
        let meter = PeakMeter::start(&Device::flex());
        run_linear_stack(&packed, x.clone());
        let peak = meter.finish().peak.unwrap();
        let layer = report.largest_in_use().unwrap().before;
        assert!(peak < layer.scale(1.5), "{peak} for layers of {layer}");
    }
}
