//! The loss scaler against recorded traces of PyTorch's `GradScaler`.

use std::path::PathBuf;

use burn::module::Param;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn_memopt::gradients::Clipping;
use burn_memopt::precision::{LossScaler, LossScalerConfig, Scaled};
use rstest::rstest;
use safetensors::SafeTensors;
use serde_json::Value;

/// The folder of the cases: `BURN_MEMOPT_GOLDEN`, or the repository's copy.
fn cases() -> PathBuf {
    match std::env::var_os("BURN_MEMOPT_GOLDEN") {
        Some(folder) => PathBuf::from(folder).join("cases"),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden/cases"),
    }
}

struct Case {
    sidecar: Value,
    bytes: Vec<u8>,
}

impl Case {
    fn read(name: &str) -> Self {
        let path = |extension| cases().join(format!("{name}.{extension}"));
        let sidecar = std::fs::read(path("json")).expect("the sidecar of the case");
        Self {
            sidecar: serde_json::from_slice(&sidecar).expect("a JSON sidecar"),
            bytes: std::fs::read(path("safetensors")).expect("the tensors of the case"),
        }
    }

    fn param(&self, name: &str) -> f64 {
        self.sidecar["params"][name].as_f64().expect("a number")
    }

    fn raw(&self, name: &str) -> Vec<u8> {
        let tensors = SafeTensors::deserialize(&self.bytes).expect("safetensors");
        tensors
            .tensor(name)
            .expect("a tensor of the case")
            .data()
            .to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.raw(name);
        let (values, _) = bytes.as_chunks::<4>();
        values
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        let bytes = self.raw(name);
        let (values, _) = bytes.as_chunks::<8>();
        values
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes))
            .collect()
    }

    /// Compares as the fixtures prescribe: deviation relative to the largest
    /// stored value, non-finite values in the same places.
    fn assert_close(&self, name: &str, actual: &[f32]) {
        let expected = self.floats(name);
        assert_eq!(actual.len(), expected.len(), "{name}: another length");
        let tolerance = match &self.sidecar["tensors"][name]["tolerance"] {
            Value::Null => &self.sidecar["tolerance"],
            own => own,
        };
        let finite = expected.iter().filter(|value| value.is_finite());
        let largest = finite.fold(0.0_f32, |max, value| max.max(value.abs()));
        let limit = tolerance.as_f64().expect("a tolerance") as f32 * largest;
        for (index, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
            let close = match expected.is_finite() {
                true => (actual - expected).abs() <= limit,
                false => !actual.is_finite(),
            };
            assert!(close, "{name}[{index}]: {actual} instead of {expected}");
        }
    }
}

fn scaler(case: &Case) -> LossScaler {
    LossScalerConfig::new()
        .with_init_scale(case.param("init_scale"))
        .with_growth_factor(case.param("growth_factor"))
        .with_backoff_factor(case.param("backoff_factor"))
        .with_growth_interval(case.param("growth_interval") as usize)
        .init()
}

type Weights = Param<Tensor<1>>;

fn weights(values: &[f32]) -> Weights {
    Param::from_tensor(Tensor::from_floats(values, &Device::flex().autodiff()))
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
    let case = Case::read(name);
    let gradients = case.floats("gradient");
    let inject_step = case.integers("inject_step");
    let inject_value = case.floats("inject_value");
    let mut scaler = scaler(&case);
    let mut optimizer = sgd();
    let mut weights = weights(&[0.5, -0.25, 1.0, 2.0]);
    let mut parameters = Vec::new();
    let (mut before, mut overflows, mut stepped) = (Vec::new(), Vec::new(), Vec::new());
    let (mut after, mut trackers) = (Vec::new(), Vec::new());

    for (step, gradient) in gradients.chunks_exact(4).enumerate() {
        let injection = inject_step.iter().position(|&at| at == step as i64);
        let injected = injection.map(|index| (step % 4, inject_value[index]));
        before.push(scaler.current());
        let grads = scaled_gradients(&scaler, &weights, gradient, injected).unscale(&weights);
        overflows.push(if grads.is_finite() { 0.0 } else { 1.0 });
        let (updated, result) = grads.step(&mut optimizer, 0.01, weights);
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
    case.assert_close("parameter_after", &parameters[parameters.len() - stored..]);
}

#[test]
fn two_optimizers_on_one_scaler_match_the_golden_trace() {
    let case = Case::read("amp_two_optimizers");
    let gradients_a = case.floats("gradient_a");
    let gradients_b = case.floats("gradient_b");
    let (inject_a, inject_b) = (case.integers("inject_a"), case.integers("inject_b"));
    let mut scaler = LossScalerConfig::new()
        .with_init_scale(256.0)
        .with_growth_interval(2)
        .init();
    let (mut optimizer_a, mut optimizer_b) = (sgd(), sgd());
    let (mut a, mut b) = (weights(&[1.0, 1.0, 1.0]), weights(&[-1.0, -1.0]));
    let (mut a_after, mut b_after) = (Vec::new(), Vec::new());
    let (mut scales, mut norms) = (Vec::new(), Vec::new());

    let steps = gradients_a.chunks_exact(3).zip(gradients_b.chunks_exact(2));
    for (step, (gradient_a, gradient_b)) in steps.enumerate() {
        let at = |steps: &[i64]| steps.contains(&(step as i64));
        let injected_a = at(&inject_a).then_some((0, f32::INFINITY));
        let injected_b = at(&inject_b).then_some((1, f32::NAN));
        let grads_a = scaled_gradients(&scaler, &a, gradient_a, injected_a).unscale(&a);
        norms.push(grads_a.norm() as f32);
        let grads_a = grads_a.clip(&a, Clipping::Norm(0.5));
        let grads_b = scaled_gradients(&scaler, &b, gradient_b, injected_b).unscale(&b);
        let (updated_a, stepped_a) = grads_a.step(&mut optimizer_a, 0.1, a);
        let (updated_b, stepped_b) = grads_b.step(&mut optimizer_b, 0.1, b);
        (a, b) = (updated_a, updated_b);
        scaler.update(stepped_a.and(stepped_b));
        a_after.extend(values(&a));
        b_after.extend(values(&b));
        scales.push(scaler.current());
    }

    assert_eq!(scales, case.floats("scale_after"));
    case.assert_close("grad_norm_a", &norms);
    case.assert_close("a_after", &a_after);
    case.assert_close("b_after", &b_after);
}
