//! Steps on several devices: the oracle is the same step on one.

mod blocks;

use std::sync::{Mutex, MutexGuard, PoisonError};

use blocks::{Attention, Block, values};
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::optim::{AdamConfig, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData, Tolerance};
use burn_memopt::grad_checkpoint::{grad_checkpoint, hold_random_stream};
use burn_memopt::gradients::Clipping;
use burn_memopt::precision::{LossScalerConfig, Precision};
use burn_memopt::train::{
    DataParallel, DataParallelError, MicroBatchTrainer, MicroBatchTrainerConfig, MicroBatches,
    MicroLoss, StepError, StepOutcome,
};
use rstest::rstest;

/// The random stream is one for all tests of this program, and a thread that steps on several devices cannot hold it.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn flex() -> Device {
    Device::flex().autodiff()
}

/// Convolutions with a norm and dropout, of which the second half is recomputed, and a transformer's block.
#[derive(Module, Debug)]
struct Net {
    first: Block,
    second: Block,
    tokens: Attention,
    dropout: Dropout,
}

impl Net {
    fn new(batch_norm: bool, dropout: f64, device: &Device) -> Self {
        device.seed(3);
        blocks::initialised(Self {
            first: Block::new(4, batch_norm, dropout, device),
            second: Block::new(4, batch_norm, dropout, device),
            tokens: Attention::new(4, device),
            dropout: DropoutConfig::new(dropout).init(),
        })
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<3> {
        let x = self.first.forward(images);
        let x = grad_checkpoint(&self.second, x, |block: &Block, x: Tensor<4>| {
            block.forward(x)
        });
        let tokens = x.flatten::<3>(2, 3).swap_dims(1, 2);
        let [batch_size, len, _] = tokens.dims();
        let nothing = Tensor::<2>::zeros([batch_size, len], &tokens.device()).bool();
        self.dropout.forward(self.tokens.forward(tokens, nothing))
    }
}

/// Images that depend on nothing but their number.
fn images(number: usize, len: usize, device: &Device) -> Tensor<4> {
    let value = |at: usize| ((at * 37 + number * 101) % 199) as f32 / 100.0 - 1.0;
    let values: Vec<f32> = (0..len * 4 * 36).map(value).collect();
    Tensor::from_data(TensorData::new(values, [len, 4, 6, 6]), device)
}

fn config() -> MicroBatchTrainerConfig {
    MicroBatchTrainerConfig::new().with_clipping(Some(Clipping::Norm(0.5)))
}

fn trainer() -> MicroBatchTrainer {
    config().init(AdamConfig::new().init())
}

fn parallel(devices: &[Device]) -> DataParallel<MicroBatchTrainer> {
    DataParallel::new(devices, trainer).expect("devices")
}

/// Runs a micro-batch on whatever device its replica is on.
fn micro_batch(train: &mut MicroBatchTrainer, model: &Net, images: Tensor<4>) {
    let images = images.to_device(&model.devices()[0]);
    let num_items = images.dims()[0] as f64;
    let loss = |output: Tensor<3>| MicroLoss::mean(output.square().mean(), num_items);
    train.micro_batch(model, images, Net::forward, loss);
}

/// Losses and parameters of 20 steps on `devices`, each of as many micro-batches as there are in `sizes`; the last step has one
/// fewer.
fn course(
    init: impl Fn() -> MicroBatchTrainer,
    mut model: Net,
    sizes: &[usize],
    devices: &[Device],
) -> (Vec<f64>, Vec<TensorData>) {
    let mut train = init();
    let mut parallel = DataParallel::new(devices, init).expect("devices");
    let device = devices[0].clone();
    let mut losses = Vec::new();
    for step in 0..20 {
        let sizes = if step == 19 { &sizes[1..] } else { sizes };
        device.seed(100 + step);
        let batches = sizes
            .iter()
            .enumerate()
            .map(|(number, &size)| images(number + 7 * step as usize, size, &device));
        let ran = parallel.micro_batches(&mut train, &model, batches, micro_batch);
        ran.expect("no replica fails");
        let (next, outcome) = train.flush(model, 0.01);
        model = next;
        match outcome {
            Ok(StepOutcome::Stepped { loss, .. }) => losses.push(loss),
            other => panic!("{other:?}"),
        }
    }
    (losses, values(&model))
}

#[rstest]
#[case::four(&[2, 2, 2, 2], 2)]
#[case::ragged(&[3, 1, 2, 4, 1], 2)]
#[case::three_devices(&[2, 1, 2, 2, 1, 3, 1], 3)]
#[case::more_devices_than_micro_batches(&[2, 3], 4)]
fn several_devices_learn_what_one_learns(#[case] sizes: &[usize], #[case] num_devices: usize) {
    let _alone = alone();
    let model = || Net::new(false, 0.2, &flex());
    let wanted = course(trainer, model(), sizes, &[flex()]);
    let got = course(trainer, model(), sizes, &vec![flex(); num_devices]);
    assert_eq!(got.0, wanted.0);
    assert_eq!(got.1, wanted.1);
}

#[cfg(feature = "wgpu")]
#[test]
fn different_devices_learn_nearly_the_same() {
    let _alone = alone();
    let Some(gpu) = blocks::gpu_device() else {
        return;
    };
    let model = || Net::new(false, 0.0, &flex());
    // Adam makes steps of gradients that are zero but for rounding.
    let sgd = || config().init(SgdConfig::new().init());
    let (wanted_losses, wanted) = course(sgd, model(), &[2, 2, 2, 2], &[flex()]);
    let (losses, got) = course(sgd, model(), &[2, 2, 2, 2], &[flex(), gpu]);
    for (wanted, got) in wanted_losses.iter().zip(losses) {
        assert!((wanted - got).abs() < 1e-4 * wanted.abs(), "{wanted} {got}");
    }
    for (wanted, got) in wanted.iter().zip(&got) {
        let norm = |of: &mut dyn Iterator<Item = f32>| of.map(|x| x * x).sum::<f32>().sqrt();
        let mut off = wanted.iter::<f32>().zip(got.iter::<f32>());
        let off = norm(&mut (&mut off).map(|(wanted, got)| wanted - got));
        assert!(off <= 1e-4 * norm(&mut wanted.iter::<f32>()), "{off}");
    }
}

/// The running statistics of the first norm after a step of three micro-batches on two devices.
fn statistics(devices: &[Device], sync: bool, weights: &[usize]) -> TensorData {
    let model = Net::new(true, 0.0, &flex());
    let mut train = trainer();
    let mut parallel = parallel(devices).with_sync_batch_norm(sync);
    let batches = weights
        .iter()
        .enumerate()
        .map(|(number, &size)| images(number, size, &flex()));
    let ran = parallel.micro_batches(&mut train, &model, batches, micro_batch);
    ran.expect("no replica fails");
    let (model, outcome) = train.flush(model, 0.01);
    assert!(matches!(outcome, Ok(StepOutcome::Stepped { .. })));
    let norm = model.valid().first;
    let norm = norm.batch_norm().expect("with batch norm");
    norm.running_mean.value_sync().into_data()
}

#[test]
fn running_statistics_are_those_of_the_first_replica() {
    let _alone = alone();
    // Micro-batches 0 and 2 run on the first replica.
    let got = statistics(&[flex(), flex()], false, &[2, 3, 1]);
    let model = Net::new(true, 0.0, &flex());
    let mut train = trainer();
    for (number, size) in [(0, 2), (2, 1)] {
        micro_batch(&mut train, &model, images(number, size, &flex()));
    }
    let norm = model.valid().first;
    let wanted = norm.batch_norm().expect("with batch norm");
    assert_eq!(got, wanted.running_mean.value_sync().into_data());
}

#[test]
fn synchronized_statistics_are_the_mean_by_weight() {
    let _alone = alone();
    let got = statistics(&[flex(), flex()], true, &[2, 3]);
    let [first, second] = [(0, 2), (1, 3)].map(|(number, size)| {
        let model = Net::new(true, 0.0, &flex());
        micro_batch(&mut trainer(), &model, images(number, size, &flex()));
        let norm = model.valid().first;
        let norm = norm.batch_norm().expect("with batch norm");
        norm.running_mean.value_sync()
    });
    let wanted = (first * 2.0 + second * 3.0) / 5.0;
    got.assert_approx_eq::<f32>(&wanted.into_data(), Tolerance::rel_abs(1e-6, 1e-7));
}

/// Steps `model` on two devices; `micro_batch` gets the number of the micro-batch too.
fn step_on_two(
    model: Net,
    train: &mut MicroBatchTrainer,
    micro_batch: impl Fn(&mut MicroBatchTrainer, &Net, usize, Tensor<4>) + Sync,
) -> (Net, Result<StepOutcome, StepError>) {
    flex().seed(5);
    let mut parallel = parallel(&[flex(), flex()]);
    let batches = (0..5).map(|number| (number, images(number, 2, &flex())));
    let ran = parallel.micro_batches(train, &model, batches, |train, model, (number, images)| {
        micro_batch(train, model, number, images);
    });
    match ran {
        Ok(()) => train.flush(model, 0.01),
        Err(error) => (model, Err(error)),
    }
}

#[test]
fn a_replica_that_panics_ends_the_step_and_nothing_has_changed() {
    let _alone = alone();
    let (model, mut train) = (Net::new(true, 0.2, &flex()), trainer());
    let run =
        |train: &mut MicroBatchTrainer, model: &Net, _, images| micro_batch(train, model, images);
    let (model, outcome) = step_on_two(model, &mut train, run);
    outcome.expect("a step");
    let (before, state) = (values(&model), train.state().clone());
    let (model, outcome) = step_on_two(model, &mut train, |train, model, number, images| {
        micro_batch(train, model, images);
        assert!(number != 3, "an image is blank");
    });
    let error = outcome.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("training step 2: the replica on Flex") && text.contains("(replica 1)"),
        "{text}"
    );
    let source = std::error::Error::source(&error).expect("why");
    assert_eq!(source.to_string(), "an image is blank");
    assert_eq!(values(&model), before);
    assert_eq!(train.state(), &state);

    // The step after it is that of a run in which nothing failed.
    let (model, outcome) = step_on_two(model, &mut train, run);
    outcome.expect("a step");
    let (other, mut train) = (Net::new(true, 0.2, &flex()), trainer());
    let (other, outcome) = step_on_two(other, &mut train, run);
    outcome.expect("a step");
    let (other, outcome) = step_on_two(other, &mut train, run);
    outcome.expect("a step");
    assert_eq!(values(&model), values(&other));
}

#[test]
fn a_replica_without_memory_has_the_step_made_in_smaller_parts() {
    let _alone = alone();
    let course = |size: usize| {
        let mut model = Net::new(false, 0.2, &flex());
        let config = config().with_undo_updates(true);
        let init = || config.init(AdamConfig::new().init());
        let mut train = init();
        let mut parallel = DataParallel::new(&[flex(), flex()], init).expect("devices");
        let mut parts = MicroBatches::new(size, 8 / size);
        for step in 0..2 {
            let (next, outcome) =
                train.step_in_parts(model, 0.01, &mut parts, |train, model, size| {
                    flex().seed(step);
                    let batches = images(0, 8, &flex()).split(size, 0);
                    let batches = batches.into_iter().enumerate();
                    parallel.micro_batches(
                        train,
                        model,
                        batches,
                        |train, model, (number, images)| {
                            // On the second device, as it would say.
                            assert!(
                                number != 1 || size <= 2,
                                "can't allocate buffer of size: 64"
                            );
                            micro_batch(train, model, images);
                        },
                    )
                });
            model = next;
            assert!(
                matches!(outcome, Ok(StepOutcome::Stepped { .. })),
                "{outcome:?}"
            );
        }
        (values(&model), parts.size())
    };
    assert_eq!(course(4), course(2));
}

#[test]
fn an_overflow_on_one_replica_skips_the_step_on_all() {
    let _alone = alone();
    let scaler = LossScalerConfig::new().with_init_scale(1024.0);
    let config = MicroBatchTrainerConfig::new()
        .with_precision(Precision::F16)
        .with_loss_scaler(Some(scaler));
    let init = || config.init(SgdConfig::new().init());
    let (model, mut train) = (Net::new(false, 0.0, &flex()), init());
    let before = values(&model);
    let mut parallel = DataParallel::new(&[flex(), flex()], init).expect("devices");
    let batches = (0..4).map(|number| (number, images(number, 2, &flex())));
    let ran = parallel.micro_batches(
        &mut train,
        &model,
        batches,
        |train, model, (number, images)| {
            let factor = if number == 1 { 1e8 } else { 1.0 };
            let loss = |output: Tensor<3>| MicroLoss::mean(output.square().mean() * factor, 2.0);
            train.micro_batch(model, images, Net::forward, loss);
        },
    );
    ran.expect("no replica fails");
    let (model, outcome) = train.flush(model, 0.01);
    assert!(
        matches!(outcome, Ok(StepOutcome::Skipped { scale: 512.0 })),
        "{outcome:?}"
    );
    assert_eq!(values(&model), before);
}

#[test]
fn a_broken_promise_to_draw_nothing_is_an_error() {
    let _alone = alone();
    for dropout in [0.0, 0.2] {
        let (model, mut train) = (Net::new(true, dropout, &flex()), trainer());
        let before = values(&model);
        let mut parallel = parallel(&[flex(), flex()]).without_randomness();
        let batches = (0..4).map(|number| images(number, 2, &flex()));
        let plain = |train: &mut MicroBatchTrainer, model: &Net, images| {
            let loss = |output: Tensor<4>| MicroLoss::mean(output.square().mean(), 2.0);
            let forward = |model: &Net, images| model.second.forward(model.first.forward(images));
            train.micro_batch(model, images, forward, loss);
        };
        let ran = parallel.micro_batches(&mut train, &model, batches, plain);
        if dropout == 0.0 {
            ran.expect("nothing is drawn");
        } else {
            let error = ran.unwrap_err();
            assert!(
                matches!(error, StepError::Randomness { step: 1 }),
                "{error}"
            );
            assert_eq!(values(&model), before);
        }
    }
}

#[test]
fn parameters_that_are_drawn_when_they_are_used_are_the_same_on_any_number_of_devices() {
    let _alone = alone();
    let trained = |num_devices: usize| {
        flex().seed(3);
        let model: Linear = LinearConfig::new(4, 1).init(&flex());
        let parallel = DataParallel::new(&vec![flex(); num_devices], trainer).expect("devices");
        // The layer has no running statistics whose mean could be taken.
        let mut parallel = parallel.without_randomness().with_sync_batch_norm(true);
        let mut train = trainer();
        let batches = [3, 1, 2].map(|num_items| Tensor::<2>::ones([num_items, 4], &flex()));
        let run = |train: &mut MicroBatchTrainer, model: &Linear, x: Tensor<2>| {
            let num_items = x.dims()[0] as f64;
            train.micro_batch(model, x, Linear::forward, |output| {
                MicroLoss::mean(output.square().mean(), num_items)
            });
        };
        let ran = parallel.micro_batches(&mut train, &model, batches, run);
        ran.expect("nothing is drawn but parameters");
        let (model, outcome) = train.flush(model, 0.01);
        assert!(matches!(outcome, Ok(StepOutcome::Stepped { .. })));
        model.weight.val().into_data()
    };
    assert_eq!(trained(2), trained(1));
}

#[test]
fn there_must_be_a_device() {
    let error = DataParallel::new(&[], trainer).unwrap_err();
    assert!(matches!(error, DataParallelError::NoDevices), "{error}");
}

#[cfg(feature = "wgpu")]
#[test]
fn a_device_without_the_precision_is_refused_by_name() {
    let Some(gpu) = blocks::gpu_device() else {
        return;
    };
    if Precision::Bf16.check(&gpu).is_ok() {
        return;
    }
    let config = MicroBatchTrainerConfig::new().with_precision(Precision::Bf16);
    let error = DataParallel::new(&[flex(), gpu], || config.init(SgdConfig::new().init()));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("(replica 1) cannot train with the others"),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "the random stream must be free")]
fn a_thread_that_holds_the_stream_is_refused() {
    let _alone = alone();
    let model = Net::new(false, 0.2, &flex());
    let _stream = hold_random_stream();
    let batches = [images(0, 1, &flex())];
    let mut parallel = parallel(&[flex(), flex()]);
    let _ = parallel.micro_batches(&mut trainer(), &model, batches, micro_batch);
}
