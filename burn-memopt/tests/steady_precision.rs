//! Live bytes stay constant over many mixed-precision steps.

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::AdamConfig;
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::gradients::Clipping;
use burn_memopt::memory::{self, CountingAllocator};
use burn_memopt::precision::{AutocastPolicy, Precision, batch_norm};
use burn_memopt::train::{MicroBatchTrainerConfig, MicroLoss, StepOutcome};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

#[derive(Module, Debug)]
struct Net {
    first: Linear,
    norm: BatchNorm,
    last: Linear,
    /// Has parameters that no loss reaches.
    unused: Linear,
}

#[test]
fn live_bytes_stay_constant_over_mixed_precision_steps() {
    let device = Device::flex().autodiff();
    let mut net = Net {
        first: LinearConfig::new(4, 8).init(&device),
        norm: BatchNormConfig::new(8).init(&device),
        last: LinearConfig::new(8, 1).init(&device),
        unused: LinearConfig::new(4, 4).init(&device),
    };
    let mut train = MicroBatchTrainerConfig::new()
        .with_precision(Precision::F16)
        .with_policy(AutocastPolicy::default().keep_type("BatchNorm"))
        .with_accumulation_steps(2)
        .with_clipping(Some(Clipping::Norm(1.0)))
        .init(AdamConfig::new().init());
    let mut live = Vec::new();
    for step in 0..600 {
        let overflow = step % 100 == 99;
        let factor = if overflow { 1e36 } else { 1.0 };
        for _ in 0..2 {
            let x = Tensor::<2>::random([4, 4], Distribution::Default, &device);
            train.micro_batch(
                &net,
                x,
                |net, x| {
                    net.last
                        .forward(batch_norm(&net.norm, net.first.forward(x)))
                },
                |y| MicroLoss::mean(y.square().mean() * factor, 4.0),
            );
        }
        let (next, outcome) = train.step(net, 1e-3);
        net = next;
        let outcome = outcome.expect("no error");
        let skipped = matches!(outcome, StepOutcome::Skipped { .. });
        assert!(skipped || !overflow);
        // Not right after a step that was skipped, which leaves a node less in autodiff's graph.
        if step == 110 || step == 590 {
            live.push(memory::live().expect("the allocator is installed").get());
        }
    }
    let growth = live[1] as f64 / live[0] as f64;
    assert!((growth - 1.0).abs() < 0.01, "{live:?}");
}
