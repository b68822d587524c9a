//! Peak memory and time of plain and checkpointed chains, by criterion.
//!
//! Small enough for criterion's many samples; `cargo xtask bench` measures the
//! full cases.

use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::{
    grad_checkpoint::{Chain, Policy, Segment},
    memory::{CountingAllocator, register_plot_font},
};
use burn_memopt_benches::{PeakBytes, ResidualBlock};
use criterion::{Criterion, measurement::WallTime};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

const NUM_BLOCKS: usize = 8;

/// A training step of a chain of blocks under a policy.
struct Work {
    blocks: Vec<ResidualBlock>,
    x: Tensor<4>,
}

impl Work {
    fn new() -> Self {
        let device = Device::flex().autodiff();
        Self {
            blocks: (0..NUM_BLOCKS)
                .map(|_| ResidualBlock::new(&device))
                .collect(),
            x: Tensor::random([1, 16, 32, 32], Distribution::Default, &device),
        }
    }

    fn step(&self, policy: Policy) -> burn::tensor::Gradients {
        Chain::new(&self.blocks, ResidualBlock::forward)
            .with_segment(Segment::new().without_randomness())
            .run(policy, self.x.clone())
            .mean()
            .backward()
    }
}

fn policies() -> [(&'static str, Policy); 3] {
    [
        ("plain", Policy::None),
        ("segments=3", Policy::Segments(3)),
        ("block", Policy::EveryBlock),
    ]
}

fn time(criterion: &mut Criterion<WallTime>, work: &Work) {
    let mut group = criterion.benchmark_group("chain8 time");
    for (name, policy) in policies() {
        group.bench_function(name, |bencher| bencher.iter(|| work.step(policy)));
    }
    group.finish();
}

fn memory(criterion: &mut Criterion<PeakBytes>, work: &Work) {
    let meter = PeakBytes::new(Device::flex());
    let mut group = criterion.benchmark_group("chain8 peak memory");
    for (name, policy) in policies() {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                (0..iterations)
                    .map(|_| meter.of(|| work.step(policy)))
                    .sum()
            });
        });
    }
    group.finish();
}

fn main() {
    register_plot_font();
    let work = Work::new();
    let criterion = || Criterion::default().sample_size(10);
    time(&mut criterion().configure_from_args(), &work);
    let measurement = PeakBytes::new(Device::flex());
    memory(
        &mut criterion()
            .with_measurement(measurement)
            .configure_from_args(),
        &work,
    );
    criterion().configure_from_args().final_summary();
}
