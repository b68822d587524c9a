//! Accumulation, autocast and the training step against plain training.
//!
//! Every test holds the random stream: segments whose draws another test disturbs are refused.

use burn::module::{Module, Param, RunningState};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{AdamConfig, GradientsParams, SgdConfig};
use burn::tensor::activation::{gelu, relu};
use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor};
use burn_memopt::accumulate::WeightedAccumulator;
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::gradients::Clipping;
use burn_memopt::precision::{
    Autocast, AutocastPolicy, LossScalerConfig, Precision, batch_norm, full_precision,
};
use burn_memopt::train::{
    MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss, StepError, StepOutcome,
};
use rstest::rstest;

fn test_device() -> Device {
    Device::flex().autodiff()
}

/// A network without batch statistics.
#[derive(Module, Debug)]
struct Net {
    first: Linear,
    last: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self {
            first: LinearConfig::new(6, 16).init(device),
            last: LinearConfig::new(16, 1).init(device),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.last.forward(gelu(self.first.forward(x)))
    }
}

/// A network whose statistics must stay in f32.
#[derive(Module, Debug)]
struct NormNet {
    conv: Conv2d,
    norm: BatchNorm,
    head: Linear,
}

impl NormNet {
    fn new(device: &Device) -> Self {
        Self {
            conv: Conv2dConfig::new([2, 4], [3, 3])
                .with_padding(PaddingConfig2d::Same)
                .init(device),
            norm: BatchNormConfig::new(4).init(device),
            head: LinearConfig::new(4, 1).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = relu(batch_norm(&self.norm, self.conv.forward(x)));
        let pooled = x.mean_dim(3).mean_dim(2).reshape([0, -1]);
        self.head.forward(pooled)
    }

    fn running(&self) -> (Vec<f32>, Vec<f32>) {
        let read = |state: &RunningState<Tensor<1>>| {
            let value = state.value_sync();
            assert_eq!(value.dtype(), DType::F32);
            read(value)
        };
        (read(&self.norm.running_mean), read(&self.norm.running_var))
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = tensor.without_autodiff().into_data();
    data.try_to_vec().expect("f32")
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn parameters(net: &Net) -> Vec<f32> {
    let mut values = read(net.first.weight.val());
    values.extend(read(net.last.weight.val()));
    values
}

fn weight_gradients(net: &Net, grads: &GradientsParams) -> Vec<f32> {
    let first = grads.get::<2>(net.first.weight.id).expect("a gradient");
    let last = grads.get::<2>(net.last.weight.id).expect("a gradient");
    assert_eq!((first.dtype(), last.dtype()), (DType::F32, DType::F32));
    let mut values = read(first);
    values.extend(read(last));
    values
}

/// Largest deviation relative to the largest expected value.
fn deviation(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let pairs = actual.iter().zip(expected);
    pairs.fold(0.0_f32, |max, (a, b)| max.max((a - b).abs())) / largest
}

#[rstest]
#[case::equal_groups(&[4, 4, 4])]
#[case::ragged_last(&[5, 5, 2])]
#[case::one_by_one(&[1; 12])]
#[case::whole(&[12])]
fn accumulated_gradients_equal_those_of_the_full_batch(
    #[case] sizes: &[usize],
    #[values(false, true)] sum: bool,
) {
    let _stream = hold_random_stream();
    let device = test_device();
    let net = Net::new(&device);
    let (x, y) = (random([12, 6], &device), random([12, 1], &device));
    let error = |x: Tensor<2>, y: Tensor<2>| (net.forward(x) - y).square();
    let loss = error(x.clone(), y.clone()).mean();
    let full = GradientsParams::from_grads(loss.backward(), &net);

    let mut accumulator = WeightedAccumulator::new();
    let mut start = 0;
    for &size in sizes {
        let x = x.clone().narrow(0, start, size);
        let y = y.clone().narrow(0, start, size);
        start += size;
        let error = error(x, y);
        let loss = if sum { error.sum() } else { error.mean() };
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        match sum {
            true => accumulator.accumulate_sum(&net, grads, size as f64),
            false => accumulator.accumulate(&net, grads, size as f64),
        }
    }

    let grads = accumulator.finish(&net).expect("micro-batches were added");
    let deviation = deviation(
        &weight_gradients(&net, &grads),
        &weight_gradients(&net, &full),
    );
    assert!(deviation <= 1e-5, "{deviation}");
}

#[test]
fn accumulated_gradients_of_a_masked_loss_equal_those_of_the_full_batch() {
    let _stream = hold_random_stream();
    let device = test_device();
    let net = Net::new(&device);
    let (x, y) = (random([8, 6], &device), random([8, 1], &device));
    // The third micro-batch is masked completely.
    let kept = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0];
    let mask = Tensor::<1>::from_floats(kept, &device).reshape([8, 1]);
    let masked_sum =
        |x: Tensor<2>, y: Tensor<2>, mask: Tensor<2>| ((net.forward(x) - y).square() * mask).sum();
    let loss = masked_sum(x.clone(), y.clone(), mask.clone()) / 4.0;
    let full = GradientsParams::from_grads(loss.backward(), &net);

    let mut accumulator = WeightedAccumulator::new();
    for start in [0, 2, 4, 6] {
        let part = |tensor: &Tensor<2>| tensor.clone().narrow(0, start, 2);
        let weight: f32 = kept[start..start + 2].iter().sum();
        let loss = masked_sum(part(&x), part(&y), part(&mask)) / weight;
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        accumulator.accumulate(&net, grads, f64::from(weight));
    }

    let grads = accumulator.finish(&net).expect("micro-batches were added");
    let deviation = deviation(
        &weight_gradients(&net, &grads),
        &weight_gradients(&net, &full),
    );
    assert!(deviation <= 1e-5, "{deviation}");
}

#[rstest]
// Significands of 11 and 8 bits, over two layers.
#[case::f16(Precision::F16, 5e-3)]
#[case::bf16(Precision::Bf16, 4e-2)]
fn half_precision_gradients_arrive_on_the_f32_parameters(
    #[case] precision: Precision,
    #[case] tolerance: f32,
) {
    let _stream = hold_random_stream();
    let device = test_device();
    let net = Net::new(&device);
    let x = random([16, 6], &device);
    let gradients = |precision| {
        let autocast = Autocast::new(precision);
        let y = autocast.run(&net, x.clone(), |net, x| {
            assert_eq!(net.first.weight.val().dtype(), precision.dtype().into());
            assert_eq!(x.dtype(), precision.dtype().into());
            net.forward(x)
        });
        assert_eq!(y.dtype(), DType::F32);
        let grads = GradientsParams::from_grads(y.square().mean().backward(), &net);
        assert_eq!(grads.len(), 4);
        weight_gradients(&net, &grads)
    };

    let (half, full) = (gradients(precision), gradients(Precision::F32));

    let deviation = deviation(&half, &full);
    assert!(deviation > 0.0 && deviation < tolerance, "{deviation}");
    assert_eq!(net.first.weight.val().dtype(), DType::F32);
}

#[test]
fn parameters_that_are_frozen_are_shown_in_half_precision_too() {
    let _stream = hold_random_stream();
    let device = test_device();
    let mut net = Net::new(&device);
    net.first = net.first.no_grad();
    let x = random([4, 6], &device);
    let y = Autocast::new(Precision::F16).run(&net, x, |net, x| net.forward(x));
    let grads = GradientsParams::from_grads(y.sum().backward(), &net);
    assert_eq!(grads.len(), 2);
}

#[test]
fn the_policy_keeps_what_it_names_in_f32() {
    let _stream = hold_random_stream();
    let net = Net::new(&test_device());
    let policy = AutocastPolicy::default().keep_path("last");
    let autocast = Autocast::new(Precision::F16).with_policy(policy);
    let view = autocast.view(&net);
    assert_eq!(view.first.weight.val().dtype(), DType::F16);
    assert_eq!(view.last.weight.val().dtype(), DType::F32);
    assert_eq!(view.first.weight.id, net.first.weight.id);

    let report = autocast.report(&net);
    let paths: Vec<_> = report.parameters.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(
        paths,
        ["first.weight", "first.bias", "last.weight", "last.bias"]
    );
    let compute: Vec<_> = report.parameters.iter().map(|p| p.compute).collect();
    assert_eq!(compute, [DType::F16, DType::F16, DType::F32, DType::F32]);
    assert_eq!(report.bytes_saved().get(), (6 * 16 + 16) * 2);
    assert!(report.to_string().contains("first.weight"));
}

#[test]
fn a_view_leaves_batch_norm_statistics_alone() {
    let _stream = hold_random_stream();
    let device = test_device();
    let net = NormNet::new(&device);
    let _ = net.forward(random([2, 2, 5, 5], &device));
    let clone = net.clone();
    let before = net.running();

    let view = Autocast::new(Precision::F16).view(&net);

    assert_eq!(net.running(), before);
    assert_eq!(clone.running(), before);
    assert_eq!(view.running(), before);
    assert_eq!(view.conv.weight.val().dtype(), DType::F16);
    assert_eq!(view.norm.gamma.val().dtype(), DType::F32);
}

/// A module of a user's own with running statistics.
#[derive(Module, Debug)]
struct RunningScale {
    weight: Param<Tensor<1>>,
    frozen: Param<Tensor<1>>,
    scale: RunningState<Tensor<1>>,
}

#[test]
fn a_view_leaves_running_statistics_of_any_module_alone() {
    let _stream = hold_random_stream();
    let device = test_device();
    let ones = || Tensor::<1>::ones([3], &device);
    let module = RunningScale {
        weight: Param::from_tensor(ones()),
        frozen: Param::from_tensor(ones()).set_require_grad(false),
        // Not a value that f16 holds.
        scale: RunningState::new(ones() * 0.1),
    };
    let before = read(module.scale.value());

    let view = Autocast::new(Precision::F16).view(&module);

    assert_eq!(read(module.scale.value()), before);
    assert_eq!(view.scale.value().dtype(), DType::F32);
    assert_eq!(view.weight.val().dtype(), DType::F16);
    assert_eq!(view.frozen.val().dtype(), DType::F16);
}

#[test]
fn batch_norm_trains_in_half_precision_with_f32_statistics() {
    let _stream = hold_random_stream();
    let device = test_device();
    let x = random([4, 2, 6, 6], &device);
    let start = NormNet::new(&device);
    let train = |precision| {
        // A plain clone would share the running statistics.
        let net = start.valid().train();
        let autocast = Autocast::new(precision);
        let y = autocast.run(&net, x.clone(), |net, x| net.forward(x));
        let grads = GradientsParams::from_grads(y.square().mean().backward(), &net);
        let gamma = grads.get::<1>(net.norm.gamma.id).expect("a gradient");
        assert_eq!(gamma.dtype(), DType::F32);
        (read(gamma), net.running())
    };
    let (gamma, (mean, var)) = train(Precision::F16);
    let (gamma_full, (mean_full, var_full)) = train(Precision::F32);
    assert!(deviation(&gamma, &gamma_full) < 2e-2);
    assert!(deviation(&mean, &mean_full) < 2e-3);
    assert!(deviation(&var, &var_full) < 2e-3);
}

#[test]
fn an_island_computes_in_f32_and_returns_the_dtype_it_was_given() {
    let _stream = hold_random_stream();
    let device = test_device();
    let net = Net::new(&device);
    let view = Autocast::new(Precision::F16).view(&net);
    let x = random([3, 6], &device).cast(FloatDType::F16);

    let y = full_precision(&view, x, |net, x| {
        assert_eq!(x.dtype(), DType::F32);
        assert_eq!(net.first.weight.val().dtype(), DType::F32);
        net.forward(x)
    });

    assert_eq!(y.dtype(), DType::F16);
    let loss = y.cast(FloatDType::F32).sum();
    let grads = GradientsParams::from_grads(loss.backward(), &net);
    assert_eq!(grads.len(), 4);
}

/// One micro-batch on `net` whose loss is multiplied by `factor`.
fn micro_batch(train: &mut MicroBatchTrainer, net: &Net, x: &Tensor<2>, factor: f32) {
    train.micro_batch(
        net,
        x.clone(),
        |net, x| net.forward(x),
        |y| MicroLoss::mean(y.square().mean() * factor, x.dims()[0] as f64),
    );
}

#[test]
fn an_overflow_skips_the_step_halves_the_scale_and_loses_nothing() {
    let _stream = hold_random_stream();
    let device = test_device();
    let mut net = Net::new(&device);
    let x = random([8, 6], &device);
    let mut train = MicroBatchTrainerConfig::new()
        .with_precision(Precision::F16)
        .init(AdamConfig::new().init());
    let before = parameters(&net);

    micro_batch(&mut train, &net, &x, 1e36);
    let (skipped, outcome) = train.step(net, 0.01);
    net = skipped;

    assert_eq!(
        outcome.expect("no error"),
        StepOutcome::Skipped { scale: 32768.0 }
    );
    assert_eq!(parameters(&net), before);
    assert!(train.optimizer().to_record().is_empty());

    micro_batch(&mut train, &net, &x, 1.0);
    let (stepped, outcome) = train.step(net, 0.01);
    assert!(matches!(outcome, Ok(StepOutcome::Stepped { .. })));
    assert_ne!(parameters(&stepped), before);
    assert_eq!(train.state().steps, 2);
}

#[rstest]
#[case::skipped(Precision::F16)]
#[case::an_error(Precision::F32)]
fn a_refused_step_puts_running_statistics_back(#[case] precision: Precision) {
    let _stream = hold_random_stream();
    let device = test_device();
    let mut net = NormNet::new(&device);
    let good = random([2, 2, 5, 5], &device);
    let mut train = MicroBatchTrainerConfig::new()
        .with_precision(precision)
        .with_policy(AutocastPolicy::default().keep_type("BatchNorm"))
        .with_accumulation_steps(2)
        .init(SgdConfig::new().init());
    let mut step = |net: NormNet, inputs: [&Tensor<4>; 2]| {
        for x in inputs {
            let loss = |y: Tensor<2>| MicroLoss::mean(y.square().mean(), 2.0);
            train.micro_batch(&net, x.clone(), |net, x| net.forward(x), loss);
        }
        train.step(net, 0.01)
    };
    net = step(net, [&good, &good]).0;
    let before = net.running();

    let (net, outcome) = step(net, [&good, &(good.clone() * f32::INFINITY)]);

    assert!(
        !matches!(outcome, Ok(StepOutcome::Stepped { .. })),
        "{outcome:?}"
    );
    assert_eq!(net.running(), before);
    let (net, outcome) = step(net, [&good, &good]);
    assert!(
        matches!(outcome, Ok(StepOutcome::Stepped { .. })),
        "{outcome:?}"
    );
    assert_ne!(net.running(), before);
}

#[test]
fn the_parameters_that_overflowed_are_named() {
    let _stream = hold_random_stream();
    let device = test_device();
    let net = Net::new(&device);
    let scaler = LossScalerConfig::new().init();
    let loss = net.forward(random([8, 6], &device)).square().mean() * 1e36;
    let grads = scaler.scale(loss).backward().params(&net).unscale(&net);
    assert!(!grads.is_finite());
    let overflowed = grads.overflowed(&net);
    assert!(
        overflowed.contains(&"last.weight".to_string()),
        "{overflowed:?}"
    );
    let report = Autocast::new(Precision::F16).report(&net);
    let table = report.with_overflowed(&overflowed).to_string();
    assert!(table.contains("overflowed"), "{table}");
}

#[test]
fn a_shared_parameter_counts_once_in_a_report_and_is_named_twice() {
    let _stream = hold_random_stream();
    let layer: Linear = LinearConfig::new(4, 2).init(&test_device());
    let once = Autocast::new(Precision::F16).report(&layer);
    let tied = Autocast::new(Precision::F16).report(&vec![layer.clone(), layer]);
    assert_eq!(tied.bytes(), once.bytes());
    assert_eq!(tied.bytes_saved(), once.bytes_saved());
    let paths: Vec<_> = tied.parameters.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["0.weight", "0.bias", "1.weight", "1.bias"]);
    assert_eq!(tied.parameters[2].shared_with.as_deref(), Some("0.weight"));
    assert!(tied.to_string().contains("shared with 0.bias"), "{tied}");
}

#[test]
fn a_nan_loss_in_f32_is_an_error_that_names_the_step_and_changes_nothing() {
    let _stream = hold_random_stream();
    let device = test_device();
    let mut net = Net::new(&device);
    let x = random([8, 6], &device);
    let mut train = MicroBatchTrainerConfig::new().init(SgdConfig::new().init());
    micro_batch(&mut train, &net, &x, 1.0);
    net = train.step(net, 0.01).0;
    let before = parameters(&net);

    micro_batch(&mut train, &net, &x, f32::NAN);
    let (net, outcome) = train.step(net, 0.01);

    let error = outcome.expect_err("the loss is NaN");
    assert!(matches!(error, StepError::NonFiniteLoss { step: 2, .. }));
    assert!(
        error
            .to_string()
            .starts_with("training step 2: the loss is NaN"),
        "{error}"
    );
    assert_eq!(parameters(&net), before);
    assert_eq!(train.state().steps, 1);
}

#[test]
fn gradients_that_are_not_finite_in_f32_name_their_parameters() {
    let _stream = hold_random_stream();
    let device = test_device();
    let net = Net::new(&device);
    let mut train = MicroBatchTrainerConfig::new().init(SgdConfig::new().init());
    // The root has an infinite slope at zero, its value is finite.
    let loss = (net.first.weight.val() * 0.0).sqrt().sum();
    train.backward(&net, MicroLoss::mean(loss, 1.0));
    let (_, outcome) = train.step(net, 0.01);
    match outcome.expect_err("the gradient is NaN") {
        StepError::NonFiniteGradients {
            step: 1,
            parameters,
        } => {
            assert_eq!(parameters, ["first.weight"]);
        }
        other => panic!("another error: {other}"),
    }
}

#[test]
fn training_that_only_skips_is_given_up_with_a_reason() {
    let _stream = hold_random_stream();
    let device = test_device();
    let mut net = Net::new(&device);
    let x = random([8, 6], &device);
    let mut train = MicroBatchTrainerConfig::new()
        .with_precision(Precision::F16)
        .with_max_skipped_steps(3)
        .init(SgdConfig::new().init());
    for expected in [true, true, false] {
        micro_batch(&mut train, &net, &x, f32::NAN);
        let (next, outcome) = train.step(net, 0.01);
        net = next;
        match outcome {
            Ok(StepOutcome::Skipped { .. }) => assert!(expected),
            Err(StepError::Diverged {
                step: 3,
                skipped: 3,
                ..
            }) => assert!(!expected),
            other => panic!("another outcome: {other:?}"),
        }
    }
}

#[test]
fn training_that_is_skipped_at_the_lowest_scale_is_given_up() {
    let _stream = hold_random_stream();
    let device = test_device();
    let mut net = Net::new(&device);
    let x = random([8, 6], &device);
    let scaler = LossScalerConfig::new()
        .with_init_scale(4.0)
        .with_min_scale(Some(1.0));
    let mut train = MicroBatchTrainerConfig::new()
        .with_precision(Precision::F16)
        .with_loss_scaler(Some(scaler))
        .init(SgdConfig::new().init());
    for expected in [2.0, 1.0] {
        micro_batch(&mut train, &net, &x, f32::INFINITY);
        let (next, outcome) = train.step(net, 0.01);
        net = next;
        let scale = expected;
        assert_eq!(outcome.unwrap(), StepOutcome::Skipped { scale });
        assert!(!train.last_loss().unwrap().is_finite());
    }
    micro_batch(&mut train, &net, &x, f32::INFINITY);
    let (_, outcome) = train.step(net, 0.01);
    let error = outcome.unwrap_err();
    assert!(matches!(
        error,
        StepError::Diverged {
            step: 3,
            skipped: 3,
            ..
        }
    ));
}

#[test]
fn a_discarded_group_leaves_its_loss_and_nothing_else() {
    let _stream = hold_random_stream();
    let device = test_device();
    let net = Net::new(&device);
    let x = random([8, 6], &device);
    let mut train = MicroBatchTrainerConfig::new().init(SgdConfig::new().init());
    assert_eq!(train.discard(&net).unwrap(), None);
    micro_batch(&mut train, &net, &x, 1.0);
    assert!(train.discard(&net).unwrap().unwrap().is_finite());
    assert_eq!(train.state().steps, 0);
    let (_, outcome) = train.flush(net, 0.01);
    assert_eq!(outcome.unwrap(), StepOutcome::Empty);
}

#[test]
fn a_plain_f32_step_is_bit_equal_to_the_optimizer_alone() {
    let _stream = hold_random_stream();
    let device = test_device();
    let net = Net::new(&device);
    let x = random([8, 6], &device);
    let loss = net.forward(x.clone()).square().mean();
    let grads = GradientsParams::from_grads(loss.backward(), &net);
    let expected = AdamConfig::new().init().step(0.01, net.clone(), grads);

    let mut train = MicroBatchTrainerConfig::new().init(AdamConfig::new().init());
    micro_batch(&mut train, &net, &x, 1.0);
    let (net, outcome) = train.step(net, 0.01);

    assert!(matches!(outcome, Ok(StepOutcome::Stepped { .. })));
    assert_eq!(parameters(&net), parameters(&expected));
}

#[test]
fn accumulated_clipped_and_scaled_steps_equal_one_step_on_the_full_batch() {
    let _stream = hold_random_stream();
    let device = test_device();
    let start = Net::new(&device);
    let x = random([10, 6], &device);
    let config = MicroBatchTrainerConfig::new()
        .with_clipping(Some(Clipping::Norm(0.05)))
        // Loss scaling is exact in f32 as long as the scale is a power of two.
        .with_loss_scaler(Some(LossScalerConfig::new()));
    let mut whole = config.init(SgdConfig::new().init());
    micro_batch(&mut whole, &start, &x, 1.0);
    let (expected, outcome) = whole.step(start.clone(), 0.1);
    let Ok(StepOutcome::Stepped { loss, grad_norm }) = outcome else {
        panic!("the step was not made: {outcome:?}");
    };
    assert!(grad_norm > 0.05);

    let config = config.with_accumulation_steps(4);
    let mut parts = config.init(SgdConfig::new().init());
    let mut net = start;
    // The group of four stays incomplete: 4 + 4 + 2 items.
    for (start, size) in [(0, 4), (4, 4), (8, 2)] {
        micro_batch(&mut parts, &net, &x.clone().narrow(0, start, size), 1.0);
        let (next, outcome) = parts.step(net, 0.1);
        net = next;
        assert!(matches!(outcome, Ok(StepOutcome::Accumulating { .. })));
    }
    let (net, outcome) = parts.flush(net, 0.1);
    let Ok(StepOutcome::Stepped {
        loss: parts_loss,
        grad_norm: parts_norm,
    }) = outcome
    else {
        panic!("the step was not made: {outcome:?}");
    };
    assert!((loss - parts_loss).abs() <= 1e-5 * loss);
    assert!((grad_norm - parts_norm).abs() <= 1e-5 * grad_norm);
    assert!(deviation(&parameters(&net), &parameters(&expected)) <= 1e-6);
    let (_, outcome) = parts.flush(net, 0.1);
    assert_eq!(outcome.expect("no error"), StepOutcome::Empty);
}

#[test]
fn half_precision_training_ends_near_the_f32_loss() {
    let _stream = hold_random_stream();
    let device = test_device();
    let start = Net::new(&device);
    let x = random([32, 6], &device);
    let last_loss = |precision| {
        let mut net = start.clone();
        let y = x.clone().sum_dim(1).sin();
        let mut train = MicroBatchTrainerConfig::new()
            .with_precision(precision)
            .init(AdamConfig::new().init());
        let mut last = f64::NAN;
        for _ in 0..150 {
            let y = y.clone();
            let loss = |output: Tensor<2>| MicroLoss::mean((output - y).square().mean(), 32.0);
            train.micro_batch(&net, x.clone(), |net, x| net.forward(x), loss);
            let (next, outcome) = train.step(net, 3e-3);
            net = next;
            if let StepOutcome::Stepped { loss, .. } = outcome.expect("no error") {
                last = loss;
            }
        }
        last
    };
    let full = last_loss(Precision::F32);
    let half = last_loss(Precision::F16);
    assert!((half - full).abs() <= 0.03 * full, "{half} against {full}");
}

#[test]
fn a_resumed_step_goes_on_with_the_same_scale_and_refuses_another_precision() {
    let _stream = hold_random_stream();
    let device = test_device();
    let net = Net::new(&device);
    let x = random([8, 6], &device);
    let config = MicroBatchTrainerConfig::new().with_precision(Precision::F16);
    let mut train = config.init(SgdConfig::new().init());
    micro_batch(&mut train, &net, &x, f32::NAN);
    let (_, outcome) = train.step(net, 0.01);
    assert!(outcome.is_ok());
    let json = serde_json::to_string(train.state()).expect("serializes");
    let state: burn_memopt::train::TrainState = serde_json::from_str(&json).expect("reads back");

    let mut resumed = config.init(SgdConfig::new().init());
    resumed
        .load_state(state.clone())
        .expect("the same precision");
    assert_eq!(resumed.state(), train.state());

    let mut other = MicroBatchTrainerConfig::new().init(SgdConfig::new().init());
    let error = other.load_state(state).expect_err("f32 has no scaler");
    assert!(matches!(error, StepError::OtherScaling { .. }));
}

#[cfg(feature = "wgpu")]
#[test]
fn f16_training_steps_on_wgpu() {
    let _stream = hold_random_stream();
    use burn::tensor::DeviceKind;

    let found = std::panic::catch_unwind(|| {
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        let _ = Tensor::<1>::zeros([1], &device).into_data();
        device
    });
    let device = match found.map(|device| (Precision::F16.check(&device), device)) {
        Ok((Ok(()), device)) => device.autodiff(),
        Ok((Err(error), _)) => return println!("skipped: {error}"),
        Err(_) => return println!("skipped: no wgpu adapter"),
    };
    if let Err(error) = Precision::Bf16.check(&device) {
        assert!(
            error
                .alternatives
                .starts_with(&[Precision::F32, Precision::F16])
        );
    }
    // With some weights the first loss scale overflows.
    device.seed(0);
    let net = Net::new(&device);
    let x = random([8, 6], &device);
    let before = parameters(&net);
    let mut train = MicroBatchTrainerConfig::new()
        .with_precision(Precision::F16)
        .with_accumulation_steps(2)
        .init(AdamConfig::new().init());

    micro_batch(&mut train, &net, &x, 1.0);
    micro_batch(&mut train, &net, &x, 1.0);
    let (net, outcome) = train.step(net, 0.01);
    assert!(
        matches!(outcome, Ok(StepOutcome::Stepped { .. })),
        "{outcome:?}"
    );
    assert_ne!(parameters(&net), before);

    // Islands of batch normalization are segments that run again in the backward pass.
    let norm_net = NormNet::new(&device);
    let images = random([2, 2, 5, 5], &device);
    let y = train
        .autocast()
        .run(&norm_net, images, |net, x| net.forward(x));
    let grads = GradientsParams::from_grads(y.square().mean().backward(), &norm_net);
    let gamma = grads.get::<1>(norm_net.norm.gamma.id).expect("a gradient");
    assert!(read(gamma).iter().all(|value| value.is_finite()));
    assert_ne!(norm_net.running().0, [0.0; 4]);

    let before = parameters(&net);
    for _ in 0..2 {
        micro_batch(&mut train, &net, &x, 1e36);
    }
    let (net, outcome) = train.step(net, 0.01);
    assert_eq!(
        outcome.expect("no error"),
        StepOutcome::Skipped { scale: 32768.0 }
    );
    assert_eq!(parameters(&net), before);
}
