//! burn-train's `SupervisedTraining` with the strategy of this crate.

#[cfg(feature = "wgpu")]
mod blocks;
mod supervised;

use std::error::Error;
use std::fs;

use burn::optim::{AdamConfig, ModuleOptimizer};
use burn::train::metric::LossMetric;
use burn::train::metric::store::{Aggregate, Direction, Split};
use burn::train::{MetricEarlyStoppingStrategy, StoppingCondition, TrainingError};
use burn_memopt::gradients::Clipping;
use burn_memopt::optim::{AdamW8bitConfig, HostState};
use burn_memopt::precision::{AutocastPolicy, LossScalerConfig, Precision};
use burn_memopt::train::{MicroBatchStrategy, MicroBatchTrainerConfig, StepError, TrainState};
use rstest::rstest;
use supervised::{Net, NetConfig, Run, device, items, parameters, turn};

/// Low enough that nothing overflows but what is made to.
const INIT_SCALE: f64 = 1024.0;

fn f16() -> MicroBatchTrainerConfig {
    let scaler = LossScalerConfig::new()
        .with_init_scale(INIT_SCALE)
        .with_growth_interval(4);
    MicroBatchTrainerConfig::new()
        .with_precision(Precision::F16)
        .with_policy(norms())
        .with_loss_scaler(Some(scaler))
}

/// Says that the nets here call `precision::batch_norm`.
fn norms() -> AutocastPolicy {
    AutocastPolicy::default().keep_type("BatchNorm")
}

#[test]
fn f32_without_accumulation_equals_burns_own_strategy() {
    let _turn = turn();
    let net = NetConfig::new().with_batch_norm(true).init();
    let ours = Run::new(&net)
        .with_step(MicroBatchTrainerConfig::new())
        .launch();
    let burns = Run::new(&net).launch();
    assert_ne!(parameters(&ours.model), parameters(&net.clone()));
    assert_eq!(parameters(&ours.model), parameters(&burns.model));
    assert_eq!(ours.shown, burns.shown);
    assert!(ours.shown.len() > 3 * (3 + 3));
    for epoch in 1..=3 {
        for log in ["train", "valid"].map(|split| format!("{split}/epoch-{epoch}/Loss.log")) {
            assert_eq!(ours.log(&log), burns.log(&log));
        }
        let log = format!("train/epoch-{epoch}/Learning_Rate.log");
        assert_eq!(ours.log(&log), burns.log(&log));
    }
}

#[test]
fn groups_with_a_ragged_end_equal_full_batches() {
    let _turn = turn();
    let net = NetConfig::new().init();
    // 11 items: groups of 2 + 2 + 2 + 2 and 2 + 1 are batches of 8 and 3.
    let small = Run::new(&net)
        .with_batch_size(2)
        .with_step(MicroBatchTrainerConfig::new().with_accumulation_steps(4))
        .launch();
    let full = Run::new(&net)
        .with_batch_size(8)
        .with_step(MicroBatchTrainerConfig::new())
        .launch();
    let (small, full) = (parameters(&small.model), parameters(&full.model));
    let largest = full.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
    for (small, full) in small.iter().zip(&full) {
        assert!((small - full).abs() <= 1e-5 * largest, "{small} {full}");
    }
    assert_ne!(full, parameters(&net));
}

#[test]
#[cfg(feature = "wgpu")]
fn every_technique_trains_on_a_gpu_as_on_the_host() {
    let Some(gpu) = blocks::gpu_device() else {
        return;
    };
    let _turn = turn();
    let net = NetConfig::new().with_batch_norm(true).with_segment(true);
    let net = net.init();
    let step = f16()
        .with_accumulation_steps(2)
        .with_clipping(Some(Clipping::Norm(0.5)));
    let run = || Run::new(&net).with_step(step.clone());
    let (host, gpu) = (run().launch(), run().with_device(gpu).launch());
    assert!(gpu.error.is_none());
    assert_eq!(gpu.state(3), host.state(3));
    // Half precision rounds differently there, and Adam's first steps are as
    // long for a gradient of nearly zero as for any: 6 steps of 0.01 at most.
    let pairs = parameters(&gpu.model)
        .into_iter()
        .zip(parameters(&host.model));
    let apart = pairs
        .map(|(gpu, host)| (gpu - host).abs())
        .collect::<Vec<_>>();
    let mean = apart.iter().sum::<f32>() / apart.len() as f32;
    assert!(mean < 1e-3, "{mean}");
    assert_ne!(parameters(&gpu.model), parameters(&net));
}

#[rstest]
#[case::two(1)]
#[case::three_of_which_one_is_idle_at_the_end(2)]
fn several_devices_learn_and_show_what_one_does(#[case] num_others: usize) {
    let _turn = turn();
    let net = NetConfig::new().init();
    let step = MicroBatchTrainerConfig::new().with_accumulation_steps(4);
    // 11 items: groups of 4 micro-batches and of 2.
    let run = || {
        Run::new(&net)
            .with_batch_size(2)
            .with_step(step.clone())
            .with_seed(3)
    };
    let one = run().launch();
    let several = run().with_others(vec![device(); num_others]).launch();
    assert!(several.error.is_none(), "{:?}", several.error);
    assert_eq!(parameters(&several.model), parameters(&one.model));
    assert_eq!(several.shown, one.shown);
    for name in ["Loss", "Learning_Rate"] {
        let log = format!("train/epoch-3/{name}.log");
        assert_eq!(several.log(&log), one.log(&log));
    }
    // Stopped after the second epoch and taken up again, on another number of devices.
    let stopped = run().with_others(vec![device()]).with_epochs(2).launch();
    let resumed = run().with_resume(2, stopped).launch();
    assert_eq!(parameters(&resumed.model), parameters(&one.model));
}

#[rstest]
#[case::eight_bits(AdamW8bitConfig::new().init())]
#[case::on_the_host(HostState::new(AdamConfig::new().build()).into())]
fn an_optimizer_with_a_small_state_goes_on_where_it_was(#[case] optimizer: ModuleOptimizer) {
    let _turn = turn();
    // Some parameters are large enough for 8 bits.
    let net = NetConfig::new().with_width(72).with_depth(2).init();
    let run = || {
        let run = Run::new(&net).with_step(MicroBatchTrainerConfig::new());
        run.with_optimizer(optimizer.clone())
    };
    let whole = run().launch();
    assert!(whole.error.is_none(), "{:?}", whole.error);
    let first = run().with_epochs(1).launch();
    let rest = run().with_resume(1, first).launch();
    assert_eq!(parameters(&rest.model), parameters(&whole.model));
    assert_ne!(parameters(&whole.model), parameters(&net));
}

#[cfg(feature = "wgpu")]
#[test]
fn devices_that_differ_need_batches_that_move() {
    let Some(gpu) = blocks::gpu_device() else {
        return;
    };
    let _turn = turn();
    let run = Run::new(&NetConfig::new().init()).with_batch_size(2);
    let step = MicroBatchTrainerConfig::new().with_accumulation_steps(2);
    let run = run.with_step(step).with_others(vec![gpu]).launch();
    let error = run.error.expect("batches cannot be moved");
    let mut causes = Vec::new();
    let mut next: Option<&dyn Error> = Some(error.as_ref());
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    let text = causes.join(": ");
    assert!(text.contains("MicroStep::batch_to_device"), "{text}");
}

#[test]
fn an_overflow_skips_the_step_and_halves_the_scale() {
    let _turn = turn();
    let net = NetConfig::new().with_batch_norm(true).init();
    let mut items = items();
    items[5].factor = 1e36;
    let run = Run::new(&net).with_items(items).with_step(f16()).launch();
    // Three batches an epoch, one of which overflows.
    for epoch in 1..=3 {
        let state = run.state(epoch);
        assert_eq!(state.steps, 3 * epoch);
        let scale = state.scaler.expect("f16 is scaled").current();
        assert_eq!(scale, INIT_SCALE as f32 / 2_f32.powi(epoch as i32));
    }
    assert!(run.error.is_none());
    assert!(parameters(&run.model).iter().all(|value| value.is_finite()));
    assert_ne!(parameters(&run.model), parameters(&net));
    // The schedule multiplies by 0.9 for each step that was made, two an epoch;
    // the log ends with the mean over the three batches.
    let rates = run.log("train/epoch-3/Learning_Rate.log");
    let last = rates.lines().last().and_then(|line| line.split(',').next());
    let rate: f64 = last.expect("a value").parse().expect("a number");
    let expected = 0.01 * (2.0 * 0.9_f64.powi(4) + 0.9_f64.powi(5)) / 3.0;
    assert!((rate / expected - 1.0).abs() < 1e-6, "{rate}");
}

#[rstest]
#[case::f32(MicroBatchTrainerConfig::new())]
#[case::everything(
    f16()
        .with_accumulation_steps(2)
        .with_clipping(Some(Clipping::Norm(0.5)))
)]
fn a_resumed_run_equals_an_uninterrupted_one(#[case] step: MicroBatchTrainerConfig) {
    let _turn = turn();
    let config = NetConfig::new().with_batch_norm(true).with_dropout(0.5);
    let net = config.with_segment(true).init();
    let scaled = step.precision == Precision::F16;
    let mut items = items();
    items[3].factor = if scaled { 1e36 } else { 1.0 };
    let run = || {
        let run = Run::new(&net).with_items(items.clone());
        run.with_step(step.clone()).with_shuffle(5).with_seed(11)
    };

    let whole = run().launch();
    let first = run().with_epochs(1).launch();
    let rest = run().with_resume(1, first).launch();

    assert_eq!(rest.state(3), whole.state(3));
    if let Some(scaler) = whole.state(3).scaler {
        assert_ne!(scaler.current(), INIT_SCALE as f32);
    }
    for epoch in 2..=3 {
        for log in ["train", "valid"].map(|split| format!("{split}/epoch-{epoch}/Loss.log")) {
            assert_eq!(rest.log(&log), whole.log(&log));
        }
    }
    assert_eq!(parameters(&rest.model), parameters(&whole.model));
}

#[rstest]
#[case::f32(Precision::F32)]
#[case::f16(Precision::F16)]
fn checkpointed_segments_change_nothing(#[case] precision: Precision) {
    let _turn = turn();
    let step = MicroBatchTrainerConfig::new()
        .with_precision(precision)
        .with_policy(norms());
    let config = NetConfig::new().with_batch_norm(true);
    let plain = config.init();
    let segmented = plain.clone().with_segment(true);
    let plain = Run::new(&plain).with_step(step.clone()).launch();
    let segmented = Run::new(&segmented).with_step(step).launch();
    assert_eq!(parameters(&plain.model), parameters(&segmented.model));
}

#[rstest]
#[case::one_device(0)]
#[case::two_devices(1)]
fn training_stops_early_and_states_are_deleted_with_their_checkpoints(#[case] num_others: usize) {
    let _turn = turn();
    let net = NetConfig::new().init();
    let early_stopping = MetricEarlyStoppingStrategy::new(
        &LossMetric::new(),
        Aggregate::Mean,
        Direction::Lowest,
        Split::Valid,
        StoppingCondition::NoImprovementSince { n_epochs: 2 },
    );
    // Every step overflows, so the loss stays what it is.
    let mut items = items();
    items.iter_mut().for_each(|item| item.factor = 1e36);
    let run = Run::new(&net)
        .with_items(items)
        .with_epochs(9)
        .with_step(f16())
        .with_kept_checkpoints(1)
        .with_others(vec![device(); num_others])
        .with_training(move |training| training.early_stopping(early_stopping))
        .launch();
    let last = (1..=9)
        .rev()
        .find(|epoch| run.has(&format!("valid/epoch-{epoch}/Loss.log")));
    let last = last.expect("some epoch was validated");
    assert!(last < 9, "stopped after {last}");
    for file in [
        "model-1.bpk",
        "optim-1.bpk",
        "scheduler-1.bpk",
        "step-1.json",
    ] {
        assert!(!run.has(&format!("checkpoint/{file}")), "{file}");
        let file = file.replace('1', &last.to_string());
        assert!(run.has(&format!("checkpoint/{file}")), "{file}");
    }
}

#[test]
fn an_interruption_ends_the_run_without_a_checkpoint() {
    let _turn = turn();
    let net = NetConfig::new().init();
    let interrupted = |run: Run| {
        run.with_training(|training| {
            training.interrupter().stop(Some("enough"));
            training.with_default_checkpointers()
        })
        .launch()
    };
    let ours = interrupted(Run::new(&net).with_step(MicroBatchTrainerConfig::new()));
    let burns = interrupted(Run::new(&net));
    let reason = ours
        .interrupted
        .as_ref()
        .and_then(|it| it.reason.as_deref());
    assert_eq!(reason, Some("enough"));
    assert!(ours.error.is_none());
    assert!(!ours.has("checkpoint/model-1.bpk"));
    // One batch was trained on, as in burn's own strategy.
    let log = "train/epoch-1/Loss.log";
    assert_eq!(ours.log(log), burns.log(log));
    assert_eq!(parameters(&ours.model), parameters(&burns.model));
}

#[test]
fn a_loss_that_is_nan_ends_the_training_before_it_reaches_a_parameter() {
    let _turn = turn();
    let net = NetConfig::new().with_batch_norm(true).init();
    let mut items = items();
    items[0].y = f32::NAN;
    let run = Run::new(&net)
        .with_items(items)
        .with_step(MicroBatchTrainerConfig::new())
        .launch();
    let error = run.error.as_ref().expect("the loss is NaN");
    let TrainingError::Dataset(carrier) = error.as_ref() else {
        panic!("another error: {error}");
    };
    let source = carrier.source().expect("the step's error");
    let error = source.downcast_ref::<StepError>().expect("a StepError");
    assert!(
        matches!(error, StepError::NonFiniteLoss { step: 1, .. }),
        "{error}"
    );
    assert_eq!(parameters(&run.model), parameters(&net));
}

#[test]
fn a_model_that_half_precision_cannot_run_is_refused_before_its_first_step() {
    let _turn = turn();
    let net = NetConfig::new().with_batch_norm(true).init();
    let step = MicroBatchTrainerConfig::new().with_precision(Precision::F16);
    let run = Run::new(&net).with_step(step).launch();
    let error = run
        .error
        .as_ref()
        .expect("it does not say that it runs BatchNorm in f32");
    let error = error.to_string();
    assert!(
        error.contains("BatchNorm (hidden.norm): call `precision::batch_norm"),
        "{error}"
    );
    assert_eq!(parameters(&run.model), parameters(&net));
}

#[test]
fn a_run_in_another_precision_is_not_resumed() {
    let _turn = turn();
    let net = NetConfig::new().init();
    let first = Run::new(&net).with_step(f16()).with_epochs(1).launch();
    let rest = Run::new(&net)
        .with_step(MicroBatchTrainerConfig::new())
        .with_resume(1, first)
        .launch();
    let error = rest.error.expect("the precision differs").to_string();
    assert!(
        error.contains("resume with the precision of the saved run"),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "the state of the training step cannot be read from")]
fn a_missing_state_is_named() {
    let _turn = turn();
    let net = NetConfig::new().init();
    let first = Run::new(&net).with_step(f16()).with_epochs(1).launch();
    fs::remove_file(first.dir.path().join("checkpoint/step-1.json")).expect("it was written");
    Run::new(&net)
        .with_step(f16())
        .with_resume(1, first)
        .launch();
}

#[test]
#[should_panic(expected = "the checkpointers must save the loss scale")]
fn checkpointers_that_would_lose_the_loss_scale_are_refused() {
    let _turn = turn();
    let strategy = MicroBatchStrategy::new(f16(), device());
    Run::new(&NetConfig::new().init())
        .with_training(|training| {
            let training = training.with_default_checkpointers();
            training.with_training_strategy(strategy.into())
        })
        .launch();
}

#[test]
#[should_panic(expected = "grads_accumulation must not be set")]
fn accumulation_that_sums_is_refused() {
    let _turn = turn();
    Run::new(&NetConfig::new().init())
        .with_step(MicroBatchTrainerConfig::new())
        .with_training(|training| training.grads_accumulation(2))
        .launch();
}

#[test]
fn a_state_file_reads_back_as_a_train_state() {
    let _turn = turn();
    let net: Net = NetConfig::new().init();
    let run = Run::new(&net).with_step(f16()).with_epochs(1).launch();
    let state: TrainState = run.state(1);
    assert_eq!((state.steps, state.skipped_in_a_row), (3, 0));
    assert!(!run.has("checkpoint/step-1.json.part"));
}
