//! burn's `TransformerEncoder` as it is.

use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::prelude::*;
use burn::tensor::Distribution;
use burn_memopt::prelude::*;

use crate::gradients::Step;

fn encoder_and_input(device: &Device) -> (TransformerEncoder, Tensor<3>) {
    let config = TransformerEncoderConfig::new(32, 64, 4, 3).with_dropout(0.0);
    let x = Tensor::random([2, 16, 32], Distribution::Default, device);
    (config.init(device), x)
}

fn forward(encoder: &TransformerEncoder, x: Tensor<3>) -> Tensor<3> {
    encoder.forward(TransformerEncoderInput::new(x))
}

/// The encoder as one segment computes what it computes without.
pub fn segment_gives_the_plain_gradients(device: &Device) {
    let (encoder, x) = encoder_and_input(device);
    let plain = |encoder: &_| forward(encoder, x.clone()).square().mean();
    let segment = |encoder: &_| grad_checkpoint(encoder, x.clone(), forward).square().mean();
    plain(&encoder); // draws the parameters
    let (plain, segment) = (
        Step::run(&encoder, device, plain),
        Step::run(&encoder, device, segment),
    );
    assert!(
        segment.agrees_with(&plain, 0.0),
        "a segment's gradients are the plain ones"
    );
    println!(
        "encoder as one segment: peak {} of {}",
        segment.peak, plain.peak
    );
}

/// In half precision the encoder's gradients are close to those in f32.
pub fn autocast_gives_close_gradients(device: &Device) {
    let (encoder, x) = encoder_and_input(device);
    let autocast = Autocast::new(Precision::F16);
    let plain = |encoder: &_| forward(encoder, x.clone()).square().mean();
    let half = |encoder: &_| autocast.run(encoder, x.clone(), forward).square().mean();
    plain(&encoder); // draws the parameters
    let (plain, half) = (
        Step::run(&encoder, device, plain),
        Step::run(&encoder, device, half),
    );
    assert!(
        half.agrees_with(&plain, 0.05),
        "f16 gradients are close to those in f32"
    );
    println!("encoder in f16: peak {} of {}", half.peak, plain.peak);
}
