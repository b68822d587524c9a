//! Peak memory and time of every technique at small sizes, by criterion.
//!
//! `cargo bench` runs all groups; `cargo bench -- segments` those whose name contains it. With
//! `-- --save-baseline NAME` and later `-- --baseline NAME`, criterion says what a change did to memory
//! and to time. `cargo xtask bench` measures the full cases.

use std::time::Duration;

use burn::tensor::Device;
use burn_memopt::memory::{CountingAllocator, PeakBytes, register_plot_font};
use burn_memopt_benches::{Case, groups};
use criterion::{
    BatchSize, Criterion, SamplingMode,
    measurement::{Measurement, WallTime},
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Criterion's smallest number of samples: peaks on the CPU are the same every time.
const SAMPLES: usize = 10;

fn criterion<M: Measurement + 'static>(measurement: M) -> Criterion<M> {
    Criterion::default()
        .sample_size(SAMPLES)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .with_measurement(measurement)
        .configure_from_args()
}

/// Measures the variants of a technique in a group that is named after it and `quantity`.
fn bench<M: Measurement + 'static>(criterion: &mut Criterion<M>, technique: Case, quantity: &str) {
    let mut group = criterion.benchmark_group(format!("{} {quantity}", technique.name));
    // As many iterations a sample as fit, and one where a step is long.
    group.sampling_mode(SamplingMode::Flat);
    let shown = technique.visit(&Device::flex(), &mut |variant, step| {
        // A peak is that of one iteration, and so is the time.
        group.bench_function(variant, |bencher| {
            bencher.iter_batched(|| (), |()| step(), BatchSize::PerIteration);
        });
    });
    if let Err(why) = shown {
        eprintln!("{}: left out: {why}", technique.name);
    }
    group.finish();
}

fn main() {
    register_plot_font();
    let mut memory = criterion(PeakBytes::new(&Device::flex()));
    let mut time = criterion(WallTime);
    for technique in groups() {
        bench(&mut memory, technique, "memory");
        bench(&mut time, technique, "time");
    }
    Criterion::default().configure_from_args().final_summary();
}
