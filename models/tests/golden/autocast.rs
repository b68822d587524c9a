//! Half precision: the logits of an autocast view, against those in f32.

use burn::tensor::{Device, Tensor};
use burn_memopt::precision::{Autocast, Precision};
use burn_memopt_models::unet::UNet;
use rstest::rstest;

use crate::harness::Case;
use crate::network;

/// How many times the deviation of the reference's own autocast is allowed: two
/// implementations round in other places.
const TIMES: f64 = 3.0;

#[rstest]
#[case::f16(Precision::F16, "f16")]
#[case::bf16(Precision::Bf16, "bf16")]
fn golden_unet_autocast(#[case] precision: Precision, #[case] name: &str) {
    let case = Case::open("unet_autocast");
    let device = Device::flex();
    let unet = network::filled_unet(&case, &device);
    let x: Tensor<4> = case.tensor("x", &device);
    let logits = Autocast::new(precision).run(&unet, x.clone(), UNet::forward);
    let deviation = largest_deviation(logits, case.floats("logits_f32"));

    let largest = |values: &[f32]| {
        values
            .iter()
            .fold(0.0_f64, |m, v| m.max(f64::from(v.abs())))
    };
    let allowed = TIMES
        * case.require(&format!("err_{name}_vs_f32_max"))
        * largest(case.floats("logits_f32"));
    assert!(
        deviation <= allowed,
        "{name}: {deviation} exceeds {allowed}"
    );
    // It did run in half precision.
    assert!(deviation > largest_deviation(unet.forward(x), case.floats("logits_f32")));
}

fn largest_deviation(mine: Tensor<4>, stored: &[f32]) -> f64 {
    let mine = mine.into_data();
    let pairs = mine.iter::<f64>().zip(stored);
    pairs.fold(0.0, |m, (mine, &stored)| {
        m.max((mine - f64::from(stored)).abs())
    })
}
