//! The predictor: the plain forward pass is the oracle.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use burn::nn::{Linear, LinearConfig};
use burn::prelude::*;
use burn::tensor::Distribution;
use burn_memopt::batch::{
    BatchError, BatchRunner, BatchSizeConfig, HostEstimate, ModelCache, Predictor,
};
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::memory::Bytes;
use burn_memopt::precision::Precision;
use rstest::rstest;

mod blocks;

fn config(start: usize) -> BatchSizeConfig {
    BatchSizeConfig {
        start,
        ceiling: 16,
        ..BatchSizeConfig::default()
    }
}

fn model(seed: u64, device: &Device) -> Linear {
    let _stream = hold_random_stream().seeded(device, seed);
    blocks::initialised(LinearConfig::new(6, 3).init(device))
}

fn batch(device: &Device) -> Tensor<2> {
    let _stream = hold_random_stream().seeded(device, 7);
    Tensor::random([10, 6], Distribution::Default, device)
}

fn values(data: &TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

#[track_caller]
fn assert_close(got: &[f32], wanted: &[f32], tolerance: f32) {
    assert_eq!(got.len(), wanted.len());
    for (got, wanted) in got.iter().zip(wanted) {
        assert!((got - wanted).abs() <= tolerance, "{got} is not {wanted}");
    }
}

#[rstest]
#[case::in_one(16, Precision::F32, 1e-6)]
#[case::in_parts(3, Precision::F32, 1e-6)]
#[case::in_half_precision(4, Precision::F16, 5e-3)]
fn predictions_are_those_of_the_model(
    #[case] start: usize,
    #[case] precision: Precision,
    #[case] tolerance: f32,
) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex();
    let (model, batch) = (model(1, &device), batch(&device));
    let wanted = values(&model.forward(batch.clone()).into_data());
    let mut predictor = Predictor::new(
        move |model: &Linear, batch: Tensor<2>| {
            assert_eq!(batch.dtype(), precision.dtype().into());
            assert_eq!(model.weight.val().dtype(), precision.dtype().into());
            model.forward(batch)
        },
        &device,
    )
    .with_precision(precision)
    .unwrap()
    .with_batch_size(config(start))
    .with_model(&model);
    let whole = predictor.run(batch.clone()).unwrap();
    assert_eq!(whole.shape()[..], [10, 3]);
    assert_eq!(whole.dtype(), burn::tensor::DType::F32);
    assert_close(&values(&whole), &wanted, tolerance);

    let items = (0..10).map(|row| {
        batch
            .clone()
            .narrow(0, row, 1)
            .squeeze_dim::<1>(0)
            .into_data()
    });
    let results: Vec<_> = predictor.predict(items).collect::<Result<_, _>>().unwrap();
    assert_eq!(results[9].shape()[..], [3]);
    let results: Vec<f32> = results.iter().flat_map(values).collect();
    assert_close(&results, &wanted, tolerance);
    assert_eq!(predictor.report().num_items, 20);
}

#[test]
fn a_batch_that_does_not_fit_is_divided_and_the_size_is_remembered() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex();
    let model = model(1, &device);
    let wanted = values(&model.forward(batch(&device)).into_data());
    let forward = |model: &Linear, batch: Tensor<2>| {
        assert!(batch.dims()[0] <= 3, "can't allocate buffer of size: 64");
        model.forward(batch)
    };
    let runner = BatchRunner::new(config(16));
    let mut predictor = Predictor::new(forward, &device)
        .with_runner(runner)
        .with_model(&model);
    for _ in 0..3 {
        let results = predictor.run(batch(&device)).unwrap();
        assert_close(&values(&results), &wanted, 1e-6);
    }
    assert_eq!(predictor.report().failed_sizes, [10, 8, 4]);
    assert_eq!(predictor.report().largest_batch, 2);
}

#[test]
fn a_model_is_loaded_again_only_after_its_file_changed() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.bpk");
    let on = device.clone();
    let load = move |path: &Path| Ok(LinearConfig::new(6, 3).init(&on).try_load_file(path)?);
    let mut models = ModelCache::new(load);
    let mut predictor = Predictor::new(Linear::forward::<2>, &device);
    let write = |seed: u64| {
        let model = model(seed, &device);
        model.clone().save_file(&path).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seed);
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
        values(&model.forward(batch(&device)).into_data())
    };
    for seed in [1, 2] {
        let wanted = write(seed);
        for _ in 0..2 {
            predictor.open(&mut models, &path).unwrap();
            let results = predictor.run(batch(&device)).unwrap();
            assert_close(&values(&results), &wanted, 1e-6);
        }
        assert_eq!(models.num_loads(), seed as usize);
    }
}

#[test]
fn items_of_different_shapes_are_refused_by_their_place() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex();
    let mut predictor = Predictor::new(Linear::forward::<2>, &device)
        .with_runner(BatchRunner::new(config(2)))
        .with_model(&model(1, &device));
    let items = [6, 6, 6, 5].map(|len| TensorData::ones::<f32, _>([len]));
    let mut results = predictor.predict(items);
    assert!(results.next().unwrap().is_ok() && results.next().unwrap().is_ok());
    let error = results.next().unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            BatchError::Failed {
                item: 2,
                size: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn on_the_host_nothing_is_run_whose_estimate_does_not_fit() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex();
    let refuse = |_: &Linear, _: Tensor<2>| -> Tensor<2> { panic!("it was run") };
    let runner = BatchRunner::on(config(8), &device)
        .with_host_estimate(HostEstimate::of_items(Bytes::gib(1 << 20)));
    let mut predictor = Predictor::new(refuse, &device)
        .with_runner(runner)
        .with_model(&model(1, &device));
    let error = predictor.run(batch(&device)).unwrap_err();
    assert!(
        error.to_string().contains("for batches of 8, 4, 2, 1"),
        "{error}"
    );
}

#[cfg(feature = "wgpu")]
#[test]
fn a_precision_that_the_device_lacks_is_an_error() {
    let Some(device) = blocks::gpu_device() else {
        return;
    };
    let device = device.without_autodiff();
    let asked = Predictor::new(Linear::forward::<2>, &device).with_precision(Precision::Bf16);
    match Precision::Bf16.check(&device) {
        Ok(()) => assert!(asked.is_ok()),
        Err(error) => {
            assert_eq!(asked.err(), Some(error.clone()));
            assert!(error.to_string().contains("f32"), "{error}");
        }
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn a_real_allocation_failure_divides_the_batch() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let Some(device) = blocks::gpu_device() else {
        return;
    };
    // 64 MiB an item in one buffer: software Vulkan refuses 1 GiB, and sometimes less.
    const LEN: usize = 16 << 20;
    let forward = |_: &Linear, batch: Tensor<2>| {
        let all = batch.narrow(1, 0, 1).repeat_dim(1, LEN) + 1.0;
        all.narrow(1, LEN - 1, 1)
    };
    let device = device.without_autodiff();
    let mut predictor = Predictor::new(forward, &device)
        .with_batch_size(config(16))
        .with_model(&model(1, &device));
    let numbers = Tensor::<1, Int>::arange(0..96, &device)
        .float()
        .reshape([16, 6]);
    let results = predictor.run(numbers).unwrap();
    let wanted: Vec<f32> = (0..16).map(|item| 6.0 * item as f32 + 1.0).collect();
    assert_eq!(values(&results), wanted);
}
