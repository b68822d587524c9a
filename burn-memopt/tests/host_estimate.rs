//! What an item takes is measured by the allocator: alone in its process, since it counts all of it.

use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;
use burn_memopt::batch::{BatchRunner, BatchSizeConfig, HostEstimate, Predictor};
use burn_memopt::memory::{CountingAllocator, MemoryMonitor};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Floats that the model computes for an item: 4 MiB.
const LEN: usize = 1 << 20;

#[test]
fn batches_stay_below_what_is_free_by_what_one_item_took() {
    let device = Device::flex();
    let free = MemoryMonitor::new([]).snapshot().host_available;
    let free = free.expect("the system tells");
    // Room for twelve results, and for fewer of the items that they are computed with.
    let share = 12.0 * 4.0 * LEN as f64 / free.get() as f64;
    let config = BatchSizeConfig {
        start: 16,
        ceiling: 16,
        ..BatchSizeConfig::default()
    };
    let runner = BatchRunner::on(config, &device)
        .with_host_estimate(HostEstimate::default().with_share(share));
    let forward = |_: &Linear, batch: Tensor<2>| batch.repeat_dim(1, LEN).narrow(1, LEN - 1, 1);
    let model = LinearConfig::new(1, 1).init(&device);
    let mut predictor = Predictor::new(forward, &device)
        .with_runner(runner)
        .with_model(&model);
    let results = predictor.run(Tensor::<2>::ones([40, 1], &device)).unwrap();
    assert_eq!(results.shape()[..], [40, 1]);
    let report = predictor.report();
    // One item to measure, and 16 are never run.
    assert_eq!(report.failed_sizes[0], 16, "{report}");
    assert!([2, 4, 8].contains(&report.largest_batch), "{report}");
}
