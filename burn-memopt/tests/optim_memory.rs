//! What optimizers keep, and what a step takes, counted exactly.

#[cfg(feature = "wgpu")]
mod blocks;
mod counting;
mod gpt;
#[cfg(feature = "train")]
mod supervised;

use std::sync::{Arc, Mutex};

use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};
use burn_memopt::memory::estimate::{ModelBytes, OptimizerKind};
use burn_memopt::memory::{Bytes, live};
use burn_memopt::optim::AdamW8bitConfig;
use burn_memopt::train::{MicroBatchTrainerConfig, MicroLoss, StepOutcome};
use counting::turn;
use gpt::{Gpt, made_up_gradients};
#[cfg(feature = "wgpu")]
use {
    burn::optim::SgdConfig,
    burn_memopt::{memory::live_on, optim::HostState},
};

/// Bytes that an optimizer keeps after two steps of a network whose parameters are drawn.
fn state_of(mut optimizer: ModuleOptimizer, mut gpt: Gpt) -> Bytes {
    let before = live().expect("the allocator counts");
    for _ in 0..2 {
        let grads = made_up_gradients(&gpt);
        gpt = optimizer.step(0.001, gpt, grads);
    }
    let after = live().expect("the allocator counts");
    drop(optimizer);
    after - before
}

#[test]
fn the_state_of_a_gpt_in_8_bits_is_a_quarter() {
    let _turn = turn();
    let gpt = || {
        let gpt = Gpt::new(12, 256, &Device::flex().autodiff());
        drop(made_up_gradients(&gpt));
        gpt
    };
    let expected = ModelBytes::of(&gpt()).optimizer_state(OptimizerKind::AdamW);
    let plain = state_of(AdamWConfig::new().init(), gpt());
    let packed = state_of(AdamW8bitConfig::new().init(), gpt());
    let share = packed.get() as f64 / plain.get() as f64;
    println!("state: {plain} in f32, {packed} in 8 bits, {share:.4} of it");
    assert!(share <= 0.27, "{share}");
    assert!(plain.get().abs_diff(expected.get()) < expected.get() / 100);
}

/// Notes what is live before the update of each parameter.
#[derive(Clone, Default)]
struct Probe(Arc<Mutex<Vec<u64>>>);

impl Optimizer for Probe {
    type State<const D: usize> = ();

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        _: Option<()>,
    ) -> (Tensor<D>, Option<()>) {
        let live = live().expect("the allocator counts").get();
        self.0.lock().unwrap().push(live);
        (tensor - grad.mul_scalar(lr), None)
    }

    fn to_device<const D: usize>(state: (), _: &Device) {
        state
    }
}

const WIDTH: usize = 128;
const DEPTH: usize = 24;

impl Probe {
    /// What becomes free in the course of the last update, in weights of a layer.
    ///
    /// Gradients do, one after the other. Old parameters do too, or what is new adds to what is old.
    fn freed(&self) -> f64 {
        let live = self.0.lock().unwrap();
        let num_parameters = 2 * (DEPTH + 2);
        assert!(live.len() > num_parameters && live.len().is_multiple_of(num_parameters));
        let last = &live[live.len() - num_parameters..];
        let freed = last[0] as f64 - last[num_parameters - 1] as f64;
        freed / (4 * WIDTH * WIDTH) as f64
    }
}

#[test]
fn a_step_has_no_second_copy_of_the_parameters() {
    let _turn = turn();
    let device = Device::flex().autodiff();
    let freed = |undo: bool| {
        let layer = LinearConfig::new(WIDTH, WIDTH);
        let mut model: Vec<_> = (0..DEPTH + 2).map(|_| layer.init(&device)).collect();
        let probe = Probe::default();
        let config = MicroBatchTrainerConfig::new().with_undo_updates(undo);
        let mut train = config.init(probe.clone());
        for _ in 0..3 {
            let images = Tensor::<2>::ones([2, WIDTH], &device);
            let forward = |model: &Vec<Linear>, x| model.iter().fold(x, |x, m| m.forward(x).tanh());
            let loss = |output: Tensor<2>| MicroLoss::mean(output.square().mean(), 2.0);
            train.micro_batch(&model, images, forward, loss);
            let (next, outcome) = train.flush(model, 0.1);
            model = next;
            assert!(matches!(outcome, Ok(StepOutcome::Stepped { .. })));
        }
        probe.freed()
    };
    // All but the last weight's gradient.
    let [moved, kept] = [false, true].map(freed);
    println!("freed in an update: {moved:.2} weights, {kept:.2} where it can be undone");
    assert!(moved > (DEPTH + 1) as f64 - 0.5, "{moved}");
    // An update that can be undone has both.
    assert!(kept < 0.5, "{kept}");
}

#[test]
#[cfg(feature = "train")]
fn burn_train_has_one_sixteenth_of_the_parameters_twice() {
    let _turn = turn();
    let _stream = supervised::turn();
    let net = supervised::NetConfig::new()
        .with_width(WIDTH)
        .with_depth(DEPTH)
        .init();
    let freed = |step: Option<MicroBatchTrainerConfig>| {
        let probe = Probe::default();
        let run = supervised::Run::new(&net).with_optimizer(probe.clone().into());
        let run = match step {
            Some(step) => run.with_step(step),
            None => run,
        };
        assert!(run.launch().error.is_none());
        probe.freed()
    };
    let (ours, burns) = (freed(Some(MicroBatchTrainerConfig::new())), freed(None));
    println!("freed in an update: {ours:.2} weights, {burns:.2} by burn's own strategy");
    // Two of 24 are in the last part.
    assert!(ours > (DEPTH - 2) as f64 - 0.5, "{ours}");
    assert!(burns < 0.5, "{burns}");
}

#[test]
#[cfg(feature = "wgpu")]
fn a_state_on_the_host_takes_nothing_of_the_device() {
    let _turn = turn();
    let Some(device) = blocks::gpu_device() else {
        return;
    };
    let inner = device.clone().inner();
    let live = || {
        let live = live_on(&inner).expect("the pool reports");
        live.get() as f64 / (4 * WIDTH * WIDTH) as f64
    };
    let state = |mut optimizer: ModuleOptimizer| {
        let layer = LinearConfig::new(WIDTH, WIDTH).with_bias(false);
        let mut model = blocks::initialised(vec![layer.init(&device), layer.init(&device)]);
        let before = live();
        for _ in 0..3 {
            let grads = made_up_gradients(&model);
            model = optimizer.step(0.001, model, grads);
        }
        let state = live() - before;
        drop(optimizer);
        state
    };
    // The tables of codes are made.
    let packed = AdamW8bitConfig::new().build();
    state(packed.clone().into());
    // What a step leaves besides.
    let none = state(SgdConfig::new().init());
    let plain = state(AdamWConfig::new().init());
    let on_host = state(HostState::new(AdamWConfig::new().build()).into());
    let both = state(HostState::new(packed.clone()).into());
    let packed = state(packed.into());
    println!(
        "live after steps: {none:.4} weights without a state, {plain:.4} with one, {packed:.4} in 8 bits, \
         {on_host:.4} on the host, {both:.4} in 8 bits there"
    );
    assert!((plain - none - 4.0).abs() < 0.05);
    assert!((packed - none) / (plain - none) < 0.27);
    assert!(on_host <= none && both <= none);
}
