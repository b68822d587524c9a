//! The loss scaler against recorded traces of PyTorch's `GradScaler`.

#[path = "../../models/tests/golden/harness.rs"]
mod harness;

use burn::module::Param;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn_memopt::gradients::Clipping;
use burn_memopt::precision::{LossScaler, LossScalerConfig, Scaled};
use harness::{Case, Comparison};
use rstest::rstest;

fn scaler(case: &Case) -> LossScaler {
    LossScalerConfig::new()
        .with_init_scale(case.require("init_scale"))
        .with_growth_factor(case.require("growth_factor"))
        .with_backoff_factor(case.require("backoff_factor"))
        .with_growth_interval(case.require("growth_interval") as usize)
        .init()
}

type Weights = Param<Tensor<1>>;

fn weights(values: &[f32]) -> Weights {
    Param::from_tensor(Tensor::from_floats(values, &Device::flex().autodiff()))
}

/// The weights that the case states after `key`.
fn stated_weights(case: &Case, key: &str) -> Weights {
    let values: Vec<f32> = case.stated(key).iter().map(|value| *value as f32).collect();
    weights(&values)
}

/// The element and the value of a note such as `steps where scaled grad_a[0]=+inf`.
fn injection(case: &Case, name: &str) -> (usize, f32) {
    let place = case.note(name).split_once('[').expect("a place").1;
    let (index, value) = place.split_once("]=").expect("a value");
    let index = index.parse().expect("an index");
    (index, value.parse().expect("a number"))
}

/// Gradients as a backward pass of the scaled loss gives them.
fn scaled_gradients(
    scaler: &LossScaler,
    weights: &Weights,
    gradient: &[f32],
    injected: Option<(usize, f32)>,
) -> Scaled<GradientsParams> {
    let scaled = |value: &f32| value * scaler.current();
    let mut values: Vec<f32> = gradient.iter().map(scaled).collect();
    if let Some((index, value)) = injected {
        values[index] = value;
    }
    let mut grads = GradientsParams::new();
    let gradient = Tensor::<1>::from_floats(values.as_slice(), &Device::flex());
    grads.register(weights.id, gradient);
    scaler.assume_scaled(grads)
}

fn values(weights: &Weights) -> Vec<f32> {
    let data = weights.val().without_autodiff().into_data();
    data.try_to_vec().expect("f32")
}

fn sgd() -> ModuleOptimizer {
    SgdConfig::new().init()
}

#[rstest]
#[case::default("amp_gradscaler_default")]
#[case::custom("amp_gradscaler_custom")]
#[case::growth_to_overflow("amp_gradscaler_growth_to_overflow")]
fn a_scripted_run_matches_the_golden_trace(#[case] name: &str) {
    let case = Case::open(name);
    let gradients = case.floats("gradient");
    let width = case.shape("gradient")[1];
    let inject_step = case.ints("inject_step");
    let inject_value = case.floats("inject_value");
    let lr = case.stated("lr")[0];
    let mut scaler = scaler(&case);
    let mut optimizer = sgd();
    let mut weights = stated_weights(&case, "p starts at");
    let mut parameters = Vec::new();
    let (mut before, mut overflows, mut stepped) = (Vec::new(), Vec::new(), Vec::new());
    let (mut after, mut trackers) = (Vec::new(), Vec::new());

    for (step, gradient) in gradients.chunks_exact(width).enumerate() {
        let injection = inject_step.iter().position(|&at| at == step as i64);
        let injected = injection.map(|index| (step % width, inject_value[index]));
        before.push(scaler.current());
        let grads = scaled_gradients(&scaler, &weights, gradient, injected).unscale(&weights);
        overflows.push(if grads.is_finite() { 0.0 } else { 1.0 });
        let (updated, result) = grads.step(&mut optimizer, lr, weights);
        weights = updated;
        stepped.push(if result.skipped() { 0.0 } else { 1.0 });
        scaler.update(result);
        after.push(scaler.current());
        trackers.push(scaler.growth_tracker() as f32);
        parameters.extend(values(&weights));
    }

    assert_eq!(before, case.floats("scale_before"));
    assert_eq!(overflows, case.floats("found_inf"));
    assert_eq!(stepped, case.floats("stepped"));
    assert_eq!(after, case.floats("scale_after"));
    assert_eq!(trackers, case.floats("growth_tracker_after"));
    let stored = case.floats("parameter_after").len();
    let mut comparison = Comparison::new(&case);
    comparison.values("parameter_after", &parameters[parameters.len() - stored..]);
    comparison.finish();
}

#[test]
fn two_optimizers_on_one_scaler_match_the_golden_trace() {
    let case = Case::open("amp_two_optimizers");
    let number = |key: &str| case.stated(key)[0];
    let gradients_a = case.floats("gradient_a");
    let gradients_b = case.floats("gradient_b");
    let [width_a, width_b] = ["gradient_a", "gradient_b"].map(|name| case.shape(name)[1]);
    let (inject_a, inject_b) = (case.ints("inject_a"), case.ints("inject_b"));
    let [injection_a, injection_b] = ["inject_a", "inject_b"].map(|name| injection(&case, name));
    let mut scaler = LossScalerConfig::new()
        .with_init_scale(number("init"))
        .with_growth_factor(number("growth"))
        .with_backoff_factor(number("backoff"))
        .with_growth_interval(number("growth_interval") as usize)
        .init();
    let (lr, largest_norm) = (number("lr"), number("clipped to norm"));
    let (mut optimizer_a, mut optimizer_b) = (sgd(), sgd());
    let mut a = stated_weights(&case, "a starts at");
    let mut b = stated_weights(&case, "b at");
    let (mut a_after, mut b_after) = (Vec::new(), Vec::new());
    let (mut scales, mut norms) = (Vec::new(), Vec::new());

    let steps = gradients_a
        .chunks_exact(width_a)
        .zip(gradients_b.chunks_exact(width_b));
    for (step, (gradient_a, gradient_b)) in steps.enumerate() {
        let at = |steps: &[i64]| steps.contains(&(step as i64));
        let injected_a = at(inject_a).then_some(injection_a);
        let injected_b = at(inject_b).then_some(injection_b);
        let grads_a = scaled_gradients(&scaler, &a, gradient_a, injected_a).unscale(&a);
        norms.push(grads_a.norm() as f32);
        let grads_a = grads_a.clip(&a, Clipping::Norm(largest_norm));
        let grads_b = scaled_gradients(&scaler, &b, gradient_b, injected_b).unscale(&b);
        let (updated_a, stepped_a) = grads_a.step(&mut optimizer_a, lr, a);
        let (updated_b, stepped_b) = grads_b.step(&mut optimizer_b, lr, b);
        (a, b) = (updated_a, updated_b);
        scaler.update(stepped_a.and(stepped_b));
        a_after.extend(values(&a));
        b_after.extend(values(&b));
        scales.push(scaler.current());
    }

    assert_eq!(scales, case.floats("scale_after"));
    let mut comparison = Comparison::new(&case);
    comparison.values("grad_norm_a", &norms);
    comparison.values("a_after", &a_after);
    comparison.values("b_after", &b_after);
    comparison.finish();
}
