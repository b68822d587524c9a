//! burn's `TransformerEncoder` as it is.

use burn::nn::transformer::{
    TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput,
};
use burn::prelude::*;
use burn::tensor::Distribution;
use burn_memopt::prelude::*;

use crate::gradients::Step;

fn forward(encoder: &TransformerEncoder, x: Tensor<3>) -> Tensor<3> {
    encoder.forward(TransformerEncoderInput::new(x))
}

/// A loss by which every number of the output counts differently: the encoder ends in a
/// normalization, so a plain sum of squares has hardly a gradient.
fn loss(output: Tensor<3>, weights: Tensor<3>) -> Tensor<1> {
    (output * weights).sum()
}

/// As one segment the encoder has the plain gradients, bit for bit, and in f16 close ones.
pub fn gradients_are_the_plain_ones(device: &Device) {
    let config = TransformerEncoderConfig::new(32, 64, 4, 3).with_dropout(0.0);
    let encoder = config.init(device);
    let random = || Tensor::<3>::random([2, 16, 32], Distribution::Default, device);
    let (x, weights) = (random(), random());
    let autocast = Autocast::new(Precision::F16);

    forward(&encoder, x.clone()); // draws the parameters
    let plain = Step::run(&encoder, device, |encoder| {
        loss(forward(encoder, x.clone()), weights.clone())
    });
    let segment = Step::run(&encoder, device, |encoder| {
        loss(
            grad_checkpoint(encoder, x.clone(), forward),
            weights.clone(),
        )
    });
    let half = Step::run(&encoder, device, |encoder| {
        loss(autocast.run(encoder, x.clone(), forward), weights.clone())
    });
    let (in_segment, in_half) = (segment.distance(&plain), half.distance(&plain));
    assert_eq!(in_segment, 0.0, "a segment's gradients are the plain ones");
    assert!(
        in_half < 0.01,
        "f16 gradients are {in_half} from those in f32"
    );
    println!("encoder: gradients of a segment are equal, those in f16 within {in_half:.1e}");
}
