//! What checkpointing saves on DECODE's network, counted exactly.

#[path = "../../burn-memopt/tests/counting/mod.rs"]
mod counting;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::memory::{Bytes, PeakMeter};
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::decode::{MUNetConfig, SigmaMUNet, SigmaMUNetConfig};
use counting::turn;

fn munet(device: &Device) -> SigmaMUNet {
    let core = MUNetConfig::new()
        .with_initial_features(8)
        .with_inter_features(8);
    SigmaMUNetConfig::new().with_core(core).init(device)
}

fn windows(device: &Device) -> Tensor<4> {
    Tensor::random([2, 3, 64, 64], Distribution::Normal(0.0, 1.0), device)
}

/// The peak of a forward and backward pass in bytes.
fn peak(munet: &SigmaMUNet, x: &Tensor<4>) -> f64 {
    let device = x.device();
    // Threads keep buffers of their own after their first product.
    for _ in 0..2 {
        drop(munet.forward(x.clone()).sum().backward());
    }
    let meter = PeakMeter::start(&device);
    drop(munet.forward(x.clone()).sum().backward());
    meter.finish().peak.unwrap().get() as f64
}

#[test]
fn recomputing_saves_most_of_the_activations() {
    let _turn = turn();
    let device = Device::flex().autodiff();
    let (munet, x) = (munet(&device), windows(&device));
    let plain = peak(&munet, &x);
    let recomputed = peak(&munet.with_grad_checkpoint(Policy::EveryBlock), &x);
    let share = recomputed / plain;
    println!("peak {plain} bytes plain, {recomputed} recomputed: {share:.2}");
    assert!(share < 0.6, "recomputed needs {share:.2} of the plain peak");
}

#[test]
fn a_plan_within_a_budget_saves_and_gives_the_plain_gradients() {
    let _turn = turn();
    let device = Device::flex().autodiff();
    let (plain, x) = (munet(&device), windows(&device));
    let whole = peak(&plain, &x);
    let budget = Bytes::new((0.7 * whole) as u64);
    let plan = plain.plan(Policy::Budget(budget), x.clone()).unwrap();
    assert!(plan.predicted_peak <= budget);
    let planned = plain.clone().with_grad_checkpoint(&plan);
    let planned_peak = peak(&planned, &x);
    println!("peak {whole} bytes plain, {planned_peak} within {budget}");
    assert!(planned_peak < 0.85 * whole);

    let gradients = |munet: &SigmaMUNet| {
        let grads = munet.forward(x.clone()).square().sum().backward();
        let grads = GradientsParams::from_grads(grads, munet);
        let convs = [
            &munet.net.unet_shared.out_conv,
            &munet.net.unet_union.poolers[0],
            &munet.net.mt_heads[2].out_conv,
        ];
        convs.map(|conv| grads.get::<4>(conv.weight.id).unwrap().into_data())
    };
    assert_eq!(gradients(&planned), gradients(&plain));
}
