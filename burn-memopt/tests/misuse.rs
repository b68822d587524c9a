//! Wrong use of the training step is refused before anything is lost, with what to do instead.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn_memopt::accumulate::WeightedAccumulator;
use burn_memopt::precision::{Autocast, AutocastPolicy, Precision, batch_norm};
use burn_memopt::train::{MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss, StepOutcome};
use rstest::rstest;

fn device() -> Device {
    Device::flex().autodiff()
}

fn linear() -> Linear {
    LinearConfig::new(4, 2).init(&device())
}

fn inputs() -> Tensor<2> {
    Tensor::ones([3, 4], &device())
}

fn loss(output: Tensor<2>) -> MicroLoss {
    MicroLoss::mean(output.square().mean(), 3.0)
}

fn train_step() -> MicroBatchTrainer {
    MicroBatchTrainerConfig::new().init(SgdConfig::new().init())
}

/// The message of the panic that `run` ends in.
fn refusal(run: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it is refused");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref().map(|text: &&str| (*text).to_string()))
        .expect("a message")
}

fn values(model: &Linear) -> Vec<f32> {
    model.weight.val().into_data().try_to_vec().expect("f32")
}

#[rstest]
#[case::not_a_number(f64::NAN, "NaN")]
#[case::negative(-1.0, "-1")]
#[case::infinite(f64::INFINITY, "inf")]
fn a_weight_that_is_no_weight_is_refused(#[case] weight: f64, #[case] shown: &str) {
    let expected =
        format!("the weight of a micro-batch must be finite and not negative, got {shown}");
    let number = || Tensor::<1>::ones([1], &device());
    assert_eq!(
        refusal(|| drop(MicroLoss::mean(number(), weight))),
        expected
    );
    assert_eq!(refusal(|| drop(MicroLoss::sum(number(), weight))), expected);
}

#[test]
fn a_loss_an_item_is_refused() {
    let message = refusal(|| drop(MicroLoss::mean(Tensor::ones([3], &device()), 3.0)));
    let expected = "the loss must be one number, got 3 elements; take their mean or sum";
    assert_eq!(message, expected);
}

#[test]
fn an_empty_batch_counts_as_a_micro_batch_and_teaches_nothing() {
    let model = linear();
    let before = values(&model);
    let mut train = train_step();
    let empty = |output: Tensor<2>| MicroLoss::mean(output.square().mean() * f32::NAN, 0.0);
    train.micro_batch(&model, inputs(), |m, x| m.forward(x), empty);
    let (model, outcome) = train.step(model, 0.1);
    assert_eq!(outcome.expect("no error"), StepOutcome::Empty);
    assert_eq!(values(&model), before);
}

#[test]
fn a_second_model_is_refused_and_the_first_goes_on() {
    let (mut model, other) = (linear(), linear());
    let mut train = train_step();
    train.micro_batch(&model, inputs(), |m, x| m.forward(x), loss);

    let in_the_group = refusal(|| train.micro_batch(&other, inputs(), |m, x| m.forward(x), loss));
    assert!(
        in_the_group.contains("a `MicroBatchTrainer` must train one model"),
        "{in_the_group}"
    );
    let in_the_step = refusal(|| drop(train.step(other.clone(), 0.1)));
    assert!(
        in_the_step.contains("the model must stay the same"),
        "{in_the_step}"
    );

    let mut train = train_step();
    for _ in 0..2 {
        train.micro_batch(&model.clone(), inputs(), |m, x| m.forward(x), loss);
        let (next, outcome) = train.step(model, 0.1);
        model = next;
        assert!(matches!(outcome, Ok(StepOutcome::Stepped { .. })));
    }
    let after = refusal(|| train.begin(&other));
    assert!(
        after.contains("give each model a `MicroBatchTrainer` of its own"),
        "{after}"
    );
}

#[test]
fn an_accumulator_refuses_gradients_of_another_module() {
    let (model, other) = (linear(), linear());
    let mut accumulator = WeightedAccumulator::new();
    let grads = |model: &Linear| {
        let loss = model.forward(inputs()).mean();
        GradientsParams::from_grads(loss.backward(), model)
    };
    accumulator.accumulate(&model, grads(&model), 1.0);
    let message = refusal(|| accumulator.accumulate(&other, grads(&other), 1.0));
    assert!(
        message.contains("an accumulator or `MicroBatchTrainer` of its own"),
        "{message}"
    );

    // What was accumulated is still there, and the next group may be of another module.
    assert_eq!(accumulator.micro_batches(), 1);
    assert_eq!(
        accumulator.finish(&model).expect("one micro-batch").len(),
        2
    );
    accumulator.accumulate(&other, grads(&other), 1.0);
    assert_eq!(
        accumulator.finish(&other).expect("one micro-batch").len(),
        2
    );
}

#[test]
fn gradients_taken_from_a_view_are_refused() {
    let model = linear();
    let half = Precision::F16.dtype();
    // A view is for one forward pass.
    let view_and_loss = || {
        let view = Autocast::new(Precision::F16).view(&model);
        let output = view.forward(inputs().cast(half));
        (view, output.cast(Precision::F32.dtype()).mean())
    };

    let (view, loss) = view_and_loss();
    let grads = GradientsParams::from_grads(loss.backward(), &view);
    assert_eq!(grads.len(), 0);
    let message = refusal(|| WeightedAccumulator::new().accumulate(&view, grads, 1.0));
    assert!(message.contains("not from an autocast view"), "{message}");

    let (view, loss) = view_and_loss();
    let loss = MicroLoss::mean(loss, 3.0);
    assert_eq!(refusal(|| train_step().backward(&view, loss)), message);

    let (_, loss) = view_and_loss();
    let mut train = train_step();
    train.backward(&model, MicroLoss::mean(loss, 3.0));
    assert!(matches!(
        train.step(model, 0.1).1,
        Ok(StepOutcome::Stepped { .. })
    ));
}

#[derive(Module, Debug)]
struct Pair {
    used: Linear,
    unused: Linear,
}

#[test]
fn a_model_with_parameters_that_no_loss_needs_passes() {
    let model = Pair {
        used: linear(),
        unused: linear(),
    };
    let before = values(&model.unused);
    let mut train = train_step();
    train.micro_batch(&model, inputs(), |m, x| m.used.forward(x), loss);
    let (model, outcome) = train.step(model, 0.1);
    assert!(matches!(outcome, Ok(StepOutcome::Stepped { .. })));
    assert_eq!(values(&model.unused), before);
}

#[derive(Module, Debug)]
struct Normed {
    layer: Linear,
    norm: BatchNorm,
}

#[test]
fn a_layer_that_half_precision_cannot_run_is_named_before_the_first_forward_pass() {
    let model = Normed {
        layer: linear(),
        norm: BatchNormConfig::new(2).init(&device()),
    };
    let config = MicroBatchTrainerConfig::new().with_precision(Precision::F16);
    let runs = Cell::new(0);
    let run = |config: &MicroBatchTrainerConfig| {
        let mut train = config.init(SgdConfig::new().init());
        let forward = |model: &Normed, x: Tensor<2>| {
            runs.set(runs.get() + 1);
            batch_norm(&model.norm, model.layer.forward(x))
        };
        train.micro_batch(&model, inputs(), forward, loss);
    };

    let message = refusal(|| run(&config));
    assert!(
        message.contains("BatchNorm (norm): call `precision::batch_norm"),
        "{message}"
    );
    assert_eq!(runs.get(), 0);

    run(&config.with_policy(AutocastPolicy::default().keep_type("BatchNorm")));
    assert_eq!(runs.get(), 1);
}
