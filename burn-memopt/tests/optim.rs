//! Optimizers with a small state: against burn's own, PyTorch's traces, and records of both.

mod blocks;
mod gpt;
#[path = "../../models/tests/golden/harness.rs"]
mod harness;

use std::path::PathBuf;

use blocks::{initialised, values};
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdamConfig, AdamWConfig, GradientsParams, LionConfig, ModuleOptimizer, Optimizer,
    RmsPropConfig, SgdConfig,
};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::optim::{
    Adam8bitConfig, AdamW8bitConfig, HostState, LoadOptimizerError, load_optimizer,
};
use gpt::{Gpt, LEN, made_up_gradients};
use harness::Case;
use rstest::rstest;

/// Of which one parameter is packed and one is not.
fn layer(device: &Device) -> Linear {
    let _stream = hold_random_stream();
    initialised(LinearConfig::new(130, 70).init(device))
}

/// Makes steps with gradients that depend on the number of the step alone.
fn steps(
    mut model: Linear,
    optimizer: &mut ModuleOptimizer,
    numbers: std::ops::Range<u64>,
) -> Linear {
    let device = model.weight.val().device();
    for number in numbers {
        let _stream = hold_random_stream().seeded(&device, number);
        let grads = made_up_gradients(&model);
        model = optimizer.step(0.01, model, grads);
    }
    model
}

/// The largest difference of two models' values.
fn difference(one: &[TensorData], other: &[TensorData]) -> f32 {
    let pairs = one.iter().zip(other);
    let differences = pairs.flat_map(|(one, other)| {
        let pairs: Vec<_> = one.iter::<f32>().zip(other.iter::<f32>()).collect();
        pairs.into_iter().map(|(one, other)| (one - other).abs())
    });
    differences.fold(0.0, f32::max)
}

/// The mean difference of the first parameter.
fn distance(one: &[TensorData], other: &[TensorData]) -> f32 {
    let pairs = one[0].iter::<f32>().zip(other[0].iter::<f32>());
    let sum: f32 = pairs.map(|(one, other)| (one - other).abs()).sum();
    sum / one[0].num_elements() as f32
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn saved(optimizer: &ModuleOptimizer, folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("optimizer.bpk");
    optimizer.save(&path).unwrap();
    path
}

#[rstest]
#[case::adamw(AdamWConfig::new().init(), AdamW8bitConfig::new().init())]
#[case::adam(AdamConfig::new().init(), Adam8bitConfig::new().init())]
#[case::amsgrad(
    AdamWConfig::new().with_amsgrad(true).init(),
    AdamW8bitConfig::new().with_amsgrad(true).init()
)]
fn eight_bits_are_near_f32(
    #[case] mut plain: ModuleOptimizer,
    #[case] mut packed: ModuleOptimizer,
) {
    let start = layer(&Device::flex().autodiff());
    // The first step is the same: moments are encoded after it.
    let wanted = steps(start.clone(), &mut plain, 0..1);
    let got = steps(start.clone(), &mut packed, 0..1);
    assert_eq!(values(&got), values(&wanted));
    let (wanted, got) = (
        steps(wanted, &mut plain, 1..20),
        steps(got, &mut packed, 1..20),
    );
    let (wanted, got, start) = (values(&wanted), values(&got), values(&start));
    let (moved, off) = (distance(&wanted, &start), distance(&wanted, &got));
    assert!(off > 0.0 && off < 0.05 * moved, "{off} of {moved}");
    // The bias is too small to be packed.
    assert_eq!(got[1], wanted[1]);
}

#[test]
#[cfg(feature = "wgpu")]
fn eight_bits_on_a_gpu_are_those_of_the_cpu() {
    let Some(gpu) = blocks::gpu_device() else {
        return;
    };
    let start = layer(&Device::flex().autodiff());
    let grads: Vec<_> = (0..4)
        .map(|number| {
            let _stream = hold_random_stream().seeded(&Device::flex(), number);
            made_up_gradients(&start)
        })
        .collect();
    let run = |device: &Device| {
        let mut model = start.clone().fork(device);
        let mut optimizer = AdamW8bitConfig::new().init();
        let inner = device.clone().inner();
        for grads in &grads {
            let mut there = GradientsParams::new();
            let (weight, bias) = (model.weight.id, model.bias.as_ref().unwrap().id);
            let of = grads.get::<2>(weight).unwrap();
            there.register(weight, of.to_device(&inner));
            let of = grads.get::<1>(bias).unwrap();
            there.register(bias, of.to_device(&inner));
            model = optimizer.step(0.01, model, there);
        }
        values(&model)
    };
    let (cpu, on_gpu) = (run(&Device::flex().autodiff()), run(&gpu));
    let off = difference(&cpu, &on_gpu);
    // Roots and quotients of the GPU may round to the next code.
    assert!(off < 1e-3, "{off}");
    assert!(difference(&cpu, &values(&start)) > 0.02);
}

#[rstest]
#[case::adamw(AdamWConfig::new().build())]
#[case::rmsprop(RmsPropConfig::new().build())]
#[case::adamw_8bit(AdamW8bitConfig::new().build())]
fn the_state_on_the_host_changes_no_bit<O: Optimizer>(#[case] optimizer: O) {
    let start = layer(&Device::flex().autodiff());
    let mut plain = ModuleOptimizer::from(optimizer.clone());
    let mut on_host = ModuleOptimizer::from(HostState::new(optimizer.clone()));
    let wanted = steps(start.clone(), &mut plain, 0..3);
    let got = steps(start.clone(), &mut on_host, 0..3);
    assert_eq!(values(&got), values(&wanted));
    // Its record is the optimizer's own, in either direction.
    let folder = folder();
    let mut back = load_optimizer(
        ModuleOptimizer::from(optimizer.clone()),
        saved(&on_host, &folder),
    )
    .unwrap();
    let mut there = load_optimizer(
        ModuleOptimizer::from(HostState::new(optimizer)),
        saved(&plain, &folder),
    )
    .unwrap();
    let wanted = steps(wanted, &mut plain, 3..5);
    assert_eq!(
        values(&steps(got.clone(), &mut back, 3..5)),
        values(&wanted)
    );
    assert_eq!(values(&steps(got, &mut there, 3..5)), values(&wanted));
}

#[test]
fn a_resumed_run_in_8_bits_is_the_uninterrupted_one() {
    let start = layer(&Device::flex().autodiff());
    let mut optimizer = AdamW8bitConfig::new().init();
    let halfway = steps(start, &mut optimizer, 0..5);
    let folder = folder();
    let path = saved(&optimizer, &folder);
    let mut resumed = load_optimizer(AdamW8bitConfig::new().init(), path).unwrap();
    let wanted = steps(halfway.clone(), &mut optimizer, 5..10);
    assert_eq!(
        values(&steps(halfway, &mut resumed, 5..10)),
        values(&wanted)
    );
}

#[rstest]
#[case::adamw(AdamWConfig::new().init())]
#[case::adam(AdamConfig::new().init())]
fn a_record_in_f32_is_encoded(#[case] mut plain: ModuleOptimizer) {
    let start = layer(&Device::flex().autodiff());
    let halfway = steps(start, &mut plain, 0..10);
    let folder = folder();
    let path = saved(&plain, &folder);
    let plain_bytes = std::fs::metadata(&path).unwrap().len();
    let mut packed = load_optimizer(AdamW8bitConfig::new().init(), &path).unwrap();
    let mut same = load_optimizer(AdamWConfig::new().init(), &path).unwrap();
    let path = saved(&packed, &folder);
    assert!(std::fs::metadata(path).unwrap().len() * 2 < plain_bytes);
    let wanted = values(&steps(halfway.clone(), &mut same, 10..12));
    let got = values(&steps(halfway.clone(), &mut packed, 10..12));
    let (off, moved) = (
        difference(&wanted, &got),
        difference(&wanted, &values(&halfway)),
    );
    assert!(off < 0.1 * moved, "{off} of {moved}");
    // A state that was left out would make the step of the first one.
    let fresh = &mut AdamWConfig::new().init();
    let fresh = values(&steps(halfway, fresh, 10..12));
    assert!(difference(&wanted, &fresh) > 2.0 * off);
}

#[rstest]
#[case::eight_bits(AdamW8bitConfig::new().init(), AdamWConfig::new().init(), "Adam8bit or AdamW8bit")]
#[case::adamw(AdamWConfig::new().init(), RmsPropConfig::new().init(), "Adam or AdamW")]
#[case::rmsprop(RmsPropConfig::new().init(), AdamW8bitConfig::new().init(), "RmsProp")]
#[case::lion(LionConfig::new().init(), AdamWConfig::new().init(), "Lion")]
#[case::momentum(
    SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init(),
    AdamWConfig::new().init(),
    "Sgd or Muon, with momentum"
)]
#[case::the_other_way(
    AdamWConfig::new().init(),
    SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init(),
    "Adam or AdamW"
)]
fn the_record_of_another_optimizer_is_refused_by_name(
    #[case] mut of: ModuleOptimizer,
    #[case] into: ModuleOptimizer,
    #[case] name: &str,
) {
    steps(layer(&Device::flex().autodiff()), &mut of, 0..1);
    let folder = folder();
    let path = saved(&of, &folder);
    let error = load_optimizer(into, &path).err().expect("it is refused");
    assert!(matches!(error, LoadOptimizerError::OtherOptimizer { .. }));
    let text = error.to_string();
    let wanted = format!("{} holds the state of {name}, which", path.display());
    assert!(text.starts_with(&wanted), "{text}");
}

#[test]
fn a_file_that_is_no_record_is_an_error() {
    let folder = folder();
    let path = folder.path().join("optimizer.bpk");
    let load = || {
        load_optimizer(AdamWConfig::new().init(), &path)
            .err()
            .unwrap()
    };
    assert!(matches!(load(), LoadOptimizerError::Read { .. }));
    std::fs::write(&path, "no record, and long enough to have a header of one").unwrap();
    let text = load().to_string();
    assert!(
        text.contains("cannot read") && text.contains("optimizer.bpk"),
        "{text}"
    );
}

#[derive(Module, Debug)]
struct Weight {
    w: Param<Tensor<3>>,
}

/// PyTorch's AdamW, on so many copies of its weight that they are packed.
///
/// After twelve steps of at most 0.01 each, 8 bits are off by at most 0.01 in any value and by 0.001 on average.
#[test]
fn golden_adamw_in_8_bits() {
    const COPIES: usize = 400;
    let case = Case::open("optim_adamw");
    let device = Device::flex();
    let [rows, columns] = case.tensor::<2>("init_w", &device).dims();
    let copies = |w: Tensor<2>| w.unsqueeze::<3>().expand([COPIES, rows, columns]);
    let mut weight = Weight {
        w: Param::from_tensor(copies(case.tensor("init_w", &device))),
    }
    .train();
    let grads = case.tensor::<3>("grad_w", &device);
    let wanted = case.tensor::<3>("after_w", &device);
    let betas = ["betas/0", "betas/1"].map(|name| case.require(name) as f32);
    let mut optimizer = AdamW8bitConfig::new()
        .with_beta_1(betas[0])
        .with_beta_2(betas[1])
        .with_epsilon(case.require("eps") as f32)
        .with_weight_decay(case.require("weight_decay") as f32)
        .init();
    for step in 0..grads.dims()[0] {
        let at = |of: &Tensor<3>| of.clone().narrow(0, step, 1).squeeze_dim::<2>(0);
        let mut params = GradientsParams::new();
        params.register(weight.w.id, copies(at(&grads)));
        weight = optimizer.step(case.require("lr"), weight, params);
        let off = (weight.w.val().inner() - copies(at(&wanted))).abs();
        let (largest, mean) = (
            off.clone().max().into_scalar::<f32>(),
            off.mean().into_scalar::<f32>(),
        );
        assert!(
            largest < 0.01 && mean < 0.001,
            "step {step}: {largest}, {mean} on average"
        );
    }
}

/// The text that the GPT learns: it repeats itself in part only.
fn text(len: usize) -> Vec<i64> {
    let text = include_str!("../src/optim/eight_bit.rs");
    text.bytes().cycle().take(len).map(i64::from).collect()
}

/// Trains on parts of a text; returns the mean loss of the last steps.
fn trained(mut optimizer: ModuleOptimizer) -> f32 {
    const STEPS: usize = 300;
    const BATCH: usize = 8;
    let device = Device::flex().autodiff();
    let _stream = hold_random_stream().seeded(&device, 5);
    let mut gpt = initialised(Gpt::new(2, 64, &device));
    let text = text(STEPS * BATCH * (LEN + 1));
    let mut last = Vec::new();
    for (step, texts) in text.chunks_exact(BATCH * (LEN + 1)).enumerate() {
        let texts = TensorData::new(texts.to_vec(), [BATCH, LEN + 1]);
        let loss = gpt.loss(Tensor::<2, Int>::from_data(texts, &device));
        let grads = GradientsParams::from_grads(loss.backward(), &gpt);
        if step >= STEPS - 30 {
            last.push(loss.into_scalar::<f32>());
        }
        gpt = optimizer.step(0.001, gpt, grads);
    }
    last.iter().sum::<f32>() / last.len() as f32
}

#[test]
fn a_gpt_learns_as_much_in_8_bits() {
    let plain = trained(AdamWConfig::new().init());
    let packed = trained(AdamW8bitConfig::new().init());
    println!("loss {plain} in f32, {packed} in 8 bits");
    assert!(plain < 3.0, "it learned nothing: {plain}");
    assert!(
        (packed / plain - 1.0).abs() < 0.02,
        "{packed}, {plain} in f32"
    );
}

#[test]
#[should_panic(expected = "state in F64 cannot be kept on the host")]
fn a_state_that_would_come_back_in_another_precision_is_refused() {
    let optimizer = HostState::new(AdamWConfig::new().build());
    let weights = Tensor::<1>::ones([4], (&Device::flex(), DType::F64));
    let (weights, state) = optimizer.step(0.1, weights.clone(), weights, None);
    let _ = optimizer.step(0.1, weights.clone(), weights, state);
}
