//! Adaptive batches: order, completeness, and what is done about failures.

use std::cell::RefCell;

use burn_memopt::batch::{AdaptiveBatches, BatchError, BatchRunner, BatchSizeConfig};
use burn_memopt::chunked::BoxError;
use proptest::prelude::*;

mod blocks;

fn out_of_memory() -> BoxError {
    "can't allocate buffer of size: 1073741824".into()
}

fn config(start: usize, floor: usize, ceiling: usize) -> BatchSizeConfig {
    BatchSizeConfig {
        start,
        floor,
        ceiling,
        grow_after: 2,
        ..BatchSizeConfig::default()
    }
}

fn runner(start: usize, floor: usize, ceiling: usize) -> BatchRunner {
    BatchRunner::new(config(start, floor, ceiling))
}

proptest! {
    #[test]
    fn results_are_complete_and_in_order_whatever_fits(
        num_items in 0_usize..200, start in 1_usize..40, more in 0_usize..40, fits in 1_usize..60,
        panics in any::<bool>(),
    ) {
        let reads = RefCell::new(Vec::new());
        let items = (0..num_items).inspect(|item| reads.borrow_mut().push(*item));
        let run = |batch: &[usize]| -> Result<Vec<usize>, BoxError> {
            if batch.len() > fits && panics {
                panic!("can't allocate buffer of size: 7");
            }
            if batch.len() > fits {
                return Err(out_of_memory());
            }
            Ok(batch.iter().map(|item| 2 * item).collect())
        };
        let mut batches = AdaptiveBatches::new(runner(start, 1, start + more), items, run);
        let results: Vec<usize> = batches.by_ref().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(results, (0..num_items).map(|item| 2 * item).collect::<Vec<_>>());
        let report = batches.report();
        prop_assert_eq!(report.num_items, num_items);
        prop_assert!(report.largest_batch <= fits.min(start + more));
        prop_assert!(report.failed_sizes.iter().all(|size| *size > fits));
        drop(batches);
        // Each was read once.
        prop_assert_eq!(reads.into_inner(), (0..num_items).collect::<Vec<_>>());
    }
}

#[test]
fn the_floor_ends_the_run_with_the_sizes_that_were_tried() {
    let run = |batch: &[usize]| -> Result<Vec<usize>, BoxError> {
        match batch.contains(&5) {
            true => Err(out_of_memory()),
            false => Ok(batch.to_vec()),
        }
    };
    let mut batches = AdaptiveBatches::new(runner(4, 2, 8), 0..20, run);
    let given: Vec<_> = batches.by_ref().map_while(Result::ok).collect();
    assert_eq!(given, [0, 1, 2, 3]);
    assert!(batches.next().is_none(), "an error ends the run");

    let mut batches = AdaptiveBatches::new(runner(4, 2, 8), 4..20, run);
    let error = batches.next().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "memory does not suffice from item 0 on, for batches of 4, 2: make the items smaller or free memory"
    );
}

#[test]
fn any_other_failure_is_passed_on_at_once() {
    let mut calls = 0;
    let run = |_: &[usize]| -> Result<Vec<usize>, BoxError> {
        calls += 1;
        Err("shapes differ".into())
    };
    let mut batches = AdaptiveBatches::new(runner(4, 1, 8), 0..20, run);
    let error = batches.next().unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            BatchError::Failed {
                item: 0,
                size: 4,
                ..
            }
        ),
        "{error}"
    );
    drop(batches);
    assert_eq!(calls, 1);
}

#[test]
#[should_panic(expected = "a bug in the model")]
fn any_other_panic_goes_on() {
    let run = |_: &[usize]| -> Result<Vec<usize>, BoxError> { panic!("a bug in the model") };
    AdaptiveBatches::new(runner(4, 1, 8), 0..20, run).next();
}

#[test]
fn what_is_estimated_not_to_fit_is_never_run() {
    let run = |batch: &[usize]| -> Result<Vec<usize>, BoxError> {
        assert!(batch.len() <= 3);
        Ok(batch.to_vec())
    };
    let runner = runner(16, 1, 16).with_estimate(|size| size <= 3);
    let mut batches = AdaptiveBatches::new(runner, 0..20, run);
    assert_eq!(batches.by_ref().map(Result::unwrap).count(), 20);
    assert_eq!(batches.report().failed_sizes, [16, 8, 4]);
    assert_eq!(
        batches.report().to_string(),
        "20 items in 10 batches of up to 2; too large were 16, 8, 4"
    );
}

#[cfg(feature = "wgpu")]
#[test]
fn a_real_allocation_failure_halves_the_batch() {
    use burn::tensor::Tensor;

    let Some(device) = blocks::gpu_device() else {
        return;
    };
    // 32 MiB an item in one buffer: software Vulkan refuses buffers of 1 GiB, and smaller ones.
    const LEN: usize = 8 << 20;
    let run = |batch: &[usize]| -> Result<Vec<f32>, BoxError> {
        let numbers: Vec<f32> = batch.iter().map(|item| *item as f32).collect();
        let numbers = Tensor::<1>::from_floats(&numbers[..], &device).reshape([batch.len(), 1]);
        let all = numbers.repeat_dim(1, LEN) + 1.0;
        let last = all.slice([0..batch.len(), LEN - 1..LEN]);
        Ok(last.try_into_data()?.iter::<f32>().collect())
    };
    let runner = BatchRunner::on(config(16, 1, 16), &device);
    let mut batches = AdaptiveBatches::new(runner, 0..18, run);
    let results: Vec<f32> = batches.by_ref().collect::<Result<_, _>>().unwrap();
    let wanted: Vec<f32> = (1..=18).map(|item| item as f32).collect();
    assert_eq!(results, wanted);
    if device_refuses(&device, 16 * LEN) {
        assert_eq!(batches.report().failed_sizes.first(), Some(&16));
    }
}

/// Whether the device refuses a buffer of `len` floats, as a GPU with much memory does not.
#[cfg(feature = "wgpu")]
fn device_refuses(device: &burn::tensor::Device, len: usize) -> bool {
    let buffer = burn::tensor::Tensor::<1>::ones([len], device) + 1.0;
    buffer.narrow(0, 0, 1).try_into_data().is_err()
}
