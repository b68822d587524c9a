//! A crate outside of burn-memopt, with a GPT of its own and an encoder of burn's.
//!
//! `cargo xtask downstream` builds it as a user's crate is built: with the dependencies of the
//! README and without a lock file.

mod gpt;

use burn::module::{ModuleVisitor, Param};
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig, TransformerEncoderInput};
use burn::optim::GradientsParams;
use burn::prelude::*;
use burn::tensor::Distribution;
use burn_memopt::prelude::*;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn main() {
    let device = Device::flex().autodiff();
    device.seed(1);
    gpt::segments_give_the_plain_gradients(&device);
    gpt::half_precision_trains(&device);
    gradients_of_an_encoder_are_the_plain_ones(&device);
    println!("downstream: all is well");
}

/// The gradients of every parameter, and the peak of a training step.
pub struct Step {
    pub gradients: Vec<TensorData>,
    pub peak: Bytes,
}

impl Step {
    /// Runs a training step up to its gradients.
    pub fn run<M: Module>(model: &M, device: &Device, loss: impl FnOnce(&M) -> Tensor<1>) -> Self {
        let meter = PeakMeter::start(device);
        let grads = GradientsParams::from_grads(loss(model).backward(), model);
        let peak = meter.finish().peak.expect("the allocator is installed");
        let mut visitor = Collect {
            grads: &grads,
            data: Vec::new(),
        };
        model.visit(&mut visitor);
        Self {
            gradients: visitor.data,
            peak,
        }
    }

    /// The largest difference from `expected`, relative to the largest of its numbers.
    pub fn distance(&self, expected: &Self) -> f32 {
        let numbers = |step: &Self| -> Vec<f32> {
            let gradients = step.gradients.iter();
            gradients
                .flat_map(|gradient| gradient.iter::<f32>().collect::<Vec<_>>())
                .collect()
        };
        let (got, expected) = (numbers(self), numbers(expected));
        assert_eq!(got.len(), expected.len(), "both have all gradients");
        let largest = expected
            .iter()
            .fold(0.0, |largest: f32, number| largest.max(number.abs()));
        let distances = got
            .iter()
            .zip(&expected)
            .map(|(got, expected)| (got - expected).abs());
        // Not `f32::max`, which drops a number that is none.
        let furthest = distances.fold(0.0, |furthest: f32, distance| {
            if distance <= furthest {
                furthest
            } else {
                distance
            }
        });
        furthest / largest
    }
}

struct Collect<'a> {
    grads: &'a GradientsParams,
    data: Vec<TensorData>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad = self
            .grads
            .get::<D>(param.id)
            .expect("every parameter has a gradient");
        self.data.push(grad.into_data());
    }
}

fn forward(encoder: &TransformerEncoder, x: Tensor<3>) -> Tensor<3> {
    encoder.forward(TransformerEncoderInput::new(x))
}

/// A loss by which every number of the output counts differently: the encoder ends in a
/// normalization, so a plain sum of squares has hardly a gradient.
fn loss(output: Tensor<3>, weights: Tensor<3>) -> Tensor<1> {
    (output * weights).sum()
}

/// As one segment the encoder has the plain gradients, bit for bit, and in f16 close ones.
fn gradients_of_an_encoder_are_the_plain_ones(device: &Device) {
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
