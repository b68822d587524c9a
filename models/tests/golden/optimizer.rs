//! burn's optimizers against traces of PyTorch's with given gradients.
//!
//! The update rules agree; what differs by design are the defaults, so every value is set here:
//!
//! | | PyTorch | burn |
//! |---|---|---|
//! | Adam, AdamW ε | 1e-8 | 1e-5 |
//! | AdamW weight decay | 0.01 | 1e-4 |
//! | SGD dampening, with momentum | 0 | 0.1 |
//! | RMSprop momentum, ε | 0, 1e-8 | 0.9, 1e-5 |
//!
//! Both couple weight decay into the gradient for SGD, Adam and RMSprop and keep it apart for
//! AdamW, start the momentum buffer with the first undampened gradient, add ε outside the root,
//! and multiply the momentum buffer of RMSprop by the learning rate of the step. burn clips the
//! norm of each tensor alone; the training cases clip the norm of all gradients together, which
//! is what PyTorch does, and do so themselves.

use burn::lr_scheduler::step::StepLrSchedulerConfig;
use burn::module::{Module, Param};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, RmsPropConfig, SgdConfig,
};
use burn::tensor::{Device, Tensor};
use rstest::rstest;

use crate::harness::{Case, Comparison};

/// Two parameters with given gradients.
#[derive(Module, Debug)]
struct Pair {
    w: Param<Tensor<2>>,
    b: Param<Tensor<1>>,
}

#[rstest]
#[case::adamw("optim_adamw")]
#[case::adamw_with_step_schedule("optim_adamw_steplr")]
#[case::adam_with_coupled_decay("optim_adam_l2")]
#[case::adam_without_first_moment("optim_adam_beta1_0")]
#[case::rmsprop("optim_rmsprop")]
#[case::rmsprop_with_momentum("optim_rmsprop_momentum")]
#[case::sgd_with_momentum("optim_sgd_momentum")]
#[case::sgd_nesterov("optim_sgd_nesterov")]
fn golden_optimizer_trace(#[case] name: &str) {
    let case = Case::open(name);
    let device = Device::flex();
    let mut pair = Pair {
        w: Param::from_tensor(case.tensor("init_w", &device)),
        b: Param::from_tensor(case.tensor("init_b", &device)),
    }
    .train();
    let (grad_w, grad_b) = (
        case.tensor::<3>("grad_w", &device),
        case.tensor::<2>("grad_b", &device),
    );
    let kind = name.trim_start_matches("optim_");
    let mut optimizer = optimizer(kind, &case, "");
    let rates = learning_rates(&case, grad_w.dims()[0]);
    let (mut after_w, mut after_b) = (Vec::new(), Vec::new());
    for (step, &rate) in rates.iter().enumerate() {
        let mut grads = GradientsParams::new();
        let at = |i: usize| i..i + 1;
        grads.register(
            pair.w.id,
            grad_w.clone().slice_dim(0, at(step)).squeeze_dim::<2>(0),
        );
        grads.register(
            pair.b.id,
            grad_b.clone().slice_dim(0, at(step)).squeeze_dim::<1>(0),
        );
        pair = optimizer.step(rate, pair, grads);
        after_w.extend(pair.w.val().into_data().iter::<f32>());
        after_b.extend(pair.b.val().into_data().iter::<f32>());
    }
    let rates: Vec<f32> = rates.into_iter().map(|rate| rate as f32).collect();
    let mut comparison = Comparison::new(&case);
    comparison.values("after_w", &after_w);
    comparison.values("after_b", &after_b);
    comparison.values("lr", &rates);
    comparison.finish();
}

/// Builds the optimizer whose kind is the start of `kind`, with the settings of the case below
/// `prefix` and PyTorch's defaults for what the case leaves out.
pub fn optimizer(kind: &str, case: &Case, prefix: &str) -> ModuleOptimizer {
    let setting = |name: &str, default: f64| {
        let number = case.number(&format!("{prefix}{name}"));
        number.unwrap_or(default) as f32
    };
    let decay = |default: f64| setting("weight_decay", default);
    let coupled = Some(WeightDecayConfig::new(decay(0.0))).filter(|decay| decay.penalty > 0.0);
    if kind.starts_with("adamw") {
        return AdamWConfig::new()
            .with_beta_1(setting("betas/0", 0.9))
            .with_beta_2(setting("betas/1", 0.999))
            .with_epsilon(setting("eps", 1e-8))
            .with_weight_decay(decay(0.01))
            .init();
    }
    if kind.starts_with("adam") {
        return AdamConfig::new()
            .with_beta_1(setting("betas/0", 0.9))
            .with_beta_2(setting("betas/1", 0.999))
            .with_epsilon(setting("eps", 1e-8))
            .with_weight_decay(coupled)
            .init();
    }
    if kind.starts_with("rmsprop") {
        return RmsPropConfig::new()
            .with_alpha(setting("alpha", 0.99))
            .with_epsilon(setting("eps", 1e-8))
            .with_momentum(setting("momentum", 0.0))
            .with_centered(case.flag(&format!("{prefix}centered")))
            .with_weight_decay(coupled)
            .init();
    }
    assert!(kind.starts_with("sgd"), "the optimizer {kind} is not known");
    let momentum = MomentumConfig::new()
        .with_momentum(setting("momentum", 0.0).into())
        .with_dampening(setting("dampening", 0.0).into())
        .with_nesterov(case.flag(&format!("{prefix}nesterov")));
    SgdConfig::new()
        .with_momentum(Some(momentum).filter(|config| config.momentum > 0.0))
        .with_weight_decay(coupled)
        .init()
}

/// The learning rate of every step, from burn's schedule where the case names one.
fn learning_rates(case: &Case, steps: usize) -> Vec<f64> {
    let rate = case.require("lr");
    let Some(schedule) = case.param("scheduler") else {
        return vec![rate; steps];
    };
    let words: Vec<&str> = schedule.as_str().unwrap().split([' ', ',']).collect();
    let number_after = |word: &str| {
        let at = words.iter().position(|w| *w == word);
        let number = at.and_then(|at| words[at + 1].parse::<f64>().ok());
        number.unwrap_or_else(|| panic!("no {word} in the schedule {schedule}"))
    };
    let mut scheduler = StepLrSchedulerConfig::new(rate, number_after("step_size") as usize)
        .with_gamma(number_after("gamma"))
        .init()
        .unwrap();
    (0..steps).map(|_| scheduler.step().base()).collect()
}
