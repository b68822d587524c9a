//! The counting allocator, installed as in a user's program, and what is measured with it.

mod counting;

use burn::prelude::*;
use burn_memopt::memory::{self, Bytes, Leak, MemoryMonitor, MemoryTracker, PeakMeter, PeakMethod};
use counting::turn;

/// What the test harness itself may allocate or free from its other threads during a test.
const HARNESS: Bytes = Bytes::kib(64);

/// Asserts that `measured` is `exact`, but for what the harness did meanwhile.
#[track_caller]
fn assert_counted(measured: u64, exact: usize) {
    assert!(
        measured.abs_diff(exact as u64) < HARNESS.get(),
        "{measured} of {exact}"
    );
}

fn live() -> u64 {
    memory::live().expect("the allocator is installed").get()
}

fn peak() -> u64 {
    memory::peak().expect("the allocator is installed").get()
}

/// Whether `measure` answers `true` at least once: the harness disturbs a single attempt rarely.
#[track_caller]
fn holds_undisturbed(measure: impl Fn() -> bool) {
    assert!((0..100).any(|_| measure()), "never true in 100 attempts");
}

#[test]
fn every_kind_of_allocation_is_counted_to_the_byte() {
    let _turn = turn();
    let size = 1_234_567;
    holds_undisturbed(|| {
        let before = live();
        let buffer = Vec::<u8>::with_capacity(size);
        let allocated = live() - before;
        drop(buffer);
        allocated == size as u64 && live() == before
    });
    holds_undisturbed(|| {
        let before = live();
        let zeroed = vec![0u8; size];
        let allocated = live() - before;
        drop(zeroed);
        allocated == size as u64 && live() == before
    });
    holds_undisturbed(|| {
        let before = live();
        let mut buffer = Vec::<u8>::with_capacity(size);
        buffer.reserve_exact(3 * size);
        let grown = live() - before;
        buffer.push(1);
        buffer.shrink_to(size / 2);
        let shrunk = live() - before;
        drop(buffer);
        grown == 3 * size as u64 && shrunk == size as u64 / 2 && live() == before
    });
}

#[test]
fn a_peak_stays_until_it_is_reset() {
    let _turn = turn();
    let size = 32 << 20;
    let before = live();
    memory::reset_peak();
    drop(vec![1u8; size]);
    assert_counted(peak() - before, size);

    memory::reset_peak();
    assert!(peak().abs_diff(before) < HARNESS.get());
}

#[test]
fn blocks_of_many_threads_add_up() {
    let _turn = turn();
    let (threads, size) = (8, 4 << 20);
    let before = live();
    let blocks: Vec<_> = (0..threads)
        .map(|_| std::thread::spawn(move || vec![1u8; size]))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_counted(live() - before, threads * size);
    drop(blocks);
    assert!(live().abs_diff(before) < HARNESS.get());
}

#[test]
fn a_tensor_raises_the_live_bytes_by_its_size() {
    let _turn = turn();
    let device = Device::flex();
    let before = live();
    let tensor = Tensor::<2>::ones([1024, 2048], &device);
    assert_counted(live() - before, 1024 * 2048 * 4);
    drop(tensor);
    assert!(live().abs_diff(before) < HARNESS.get());
}

#[test]
fn the_peak_of_a_step_counts_above_what_was_live_before() {
    let _turn = turn();
    let device = Device::flex();
    let parameters = Tensor::<2>::ones([1024, 1024], &device);
    let size = 1024 * 1024 * 4;

    let meter = PeakMeter::start(&device.clone().autodiff());
    let grown = Tensor::cat(vec![parameters.clone(), parameters.clone()], 0);
    drop(grown);
    drop(Tensor::<2>::ones([1024, 1024], &device));
    let reading = meter.finish();

    assert_eq!(reading.method, PeakMethod::Exact);
    assert_counted(reading.peak.unwrap().get(), 2 * size);
    assert!(reading.baseline.unwrap().get() >= size as u64);
}

#[test]
fn a_meter_within_a_meter_takes_nothing_from_it() {
    let _turn = turn();
    let device = Device::flex();
    let (large, small) = (48 << 20, 8 << 20);
    let outer = PeakMeter::start(&device);
    drop(vec![1u8; large]);
    let inner = PeakMeter::start(&device);
    drop(vec![1u8; small]);
    memory::reset_peak();
    let inner = inner.finish().peak.unwrap().get();
    let outer = outer.finish().peak.unwrap().get();
    assert_counted(inner, small);
    assert_counted(outer, large);
}

#[test]
fn a_tracker_sees_the_peak_between_its_samples() {
    let _turn = turn();
    let mut tracker = MemoryTracker::new(MemoryMonitor::new([]));
    tracker.sample(0);
    drop(vec![1u8; 40 << 20]);
    tracker.sample(1);
    tracker.sample(2);
    let peaks: Vec<_> = tracker
        .history()
        .iter()
        .map(|row| row.live_peak.unwrap())
        .collect();
    assert!(peaks[1] >= Bytes::mib(40));
    assert!(peaks[1] - peaks[2] > Bytes::mib(39), "{peaks:?}");
    assert_eq!(tracker.maxima().live, Some(peaks[1]));
}

#[test]
fn a_run_that_keeps_tensors_leaks_and_one_that_frees_them_does_not() {
    let _turn = turn();
    let device = Device::flex();
    let per_step = 64 * 64 * 4;

    let mut kept = Vec::with_capacity(200);
    let mut tracker = MemoryTracker::of_device(&device);
    for step in 0..200 {
        kept.push(Tensor::<2>::ones([64, 64], &device));
        tracker.sample(step);
    }
    let Leak::Growing { per_step: growth } = tracker.leak_verdict() else {
        panic!("the kept tensors were missed");
    };
    assert!(growth.get().abs_diff(per_step) < 1024, "{growth} a step");
    drop(kept);

    let mut tracker = MemoryTracker::of_device(&device);
    for step in 0..200 {
        drop(Tensor::<2>::ones([64, 64], &device));
        tracker.sample(step);
    }
    assert_eq!(tracker.leak_verdict(), Leak::Stable);
}

/// Criterion divides by the spread of the samples.
#[cfg(feature = "criterion")]
#[test]
fn equal_peaks_differ_by_less_than_a_byte_for_criterion() {
    use criterion::measurement::Measurement;

    let measurement = memory::PeakBytes::new(&Device::flex());
    let samples: Vec<f64> = (0..10).map(|_| measurement.to_f64(&1000)).collect();
    assert!(
        samples
            .iter()
            .all(|sample| (1000.0..1001.0).contains(sample))
    );
    let mut different = samples.clone();
    different.sort_by(f64::total_cmp);
    different.dedup();
    assert_eq!(different.len(), samples.len());
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use std::panic::catch_unwind;

    use burn::tensor::{DeviceKind, Distribution};

    use super::*;

    /// The default adapter, or a printed reason and nothing where there is none.
    fn adapter() -> Option<Device> {
        let opened = catch_unwind(|| {
            let device = Device::wgpu(DeviceKind::DefaultDevice);
            device.memory_pool_usage().map(|_| device)
        });
        if opened.is_err() {
            eprintln!("skipped: no adapter for wgpu on this machine");
        }
        opened.ok().flatten()
    }

    #[cfg(feature = "criterion")]
    #[test]
    fn peaks_of_a_device_are_a_measurement_of_criterion() {
        use burn_memopt::memory::PeakBytes;
        use criterion::measurement::Measurement;

        let _turn = turn();
        let Some(device) = adapter() else { return };
        let measurement = PeakBytes::new(&device);
        let step = |side: usize| {
            let start = measurement.start();
            let tensor = Tensor::<2>::random([side, side], Distribution::Default, &device);
            let peak = measurement.end(start);
            drop(tensor);
            peak
        };
        let sum = measurement.add(&step(1024), &step(2048));
        assert!(sum >= Bytes::mib(4 + 16).get(), "{sum}");
    }

    #[test]
    fn the_pools_of_a_device_are_reported_and_metered() {
        let _turn = turn();
        let Some(device) = adapter() else { return };
        let size = Bytes::mib(16);
        let mut monitor = MemoryMonitor::new([device.clone(), device.clone().autodiff()]);
        let before = monitor.snapshot();
        assert_eq!(before.devices.len(), 1);

        let meter = PeakMeter::start(&device);
        let tensor = Tensor::<2>::random([2048, 2048], Distribution::Default, &device);
        meter.sample();
        let during = monitor.snapshot();
        drop(tensor);
        let reading = meter.finish();

        let grown = during.device_in_use().unwrap() - before.device_in_use().unwrap();
        assert!(grown >= size && grown < size + Bytes::mib(2), "{grown}");
        assert!(during.device_reserved() >= during.device_in_use());
        assert_eq!(reading.method, PeakMethod::Sampled);
        let peak = reading.peak.unwrap();
        assert!(peak >= size && peak < size + Bytes::mib(2), "{peak}");
        assert!(!during.devices[0].name.is_empty());
    }

    #[test]
    fn memory_held_between_explicit_readings_is_sampled() {
        let _turn = turn();
        let Some(device) = adapter() else { return };
        let size = Bytes::mib(16);
        let meter = PeakMeter::start(&device);
        let tensor = Tensor::<2>::random([2048, 2048], Distribution::Default, &device);
        device.sync().unwrap();
        // Many times the pause of the sampling thread.
        std::thread::sleep(std::time::Duration::from_millis(200));
        drop(tensor);
        let peak = meter.finish().peak.unwrap();
        assert!(peak >= size && peak < size + Bytes::mib(2), "{peak}");
    }
}
