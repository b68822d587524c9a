//! Penalties on gradients, against those that a second derivative written by hand gives.

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor, activation};
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::nn::leaky_relu;
use burn_memopt::train::{GradientPenalty, frozen, gradient_penalty, update_average};
use rstest::rstest;

const SLOPE: f64 = 0.2;

/// A critic of two layers, without biases.
#[derive(Module, Debug)]
struct Critic {
    first: Linear,
    last: Linear,
}

impl Critic {
    fn new(device: &Device) -> Self {
        let linear = |inputs, outputs| {
            let config = LinearConfig::new(inputs, outputs).with_bias(false);
            config.init(device)
        };
        Self {
            first: linear(6, 32),
            last: linear(32, 1),
        }
    }

    fn kinked(&self, x: Tensor<2>) -> Tensor<2> {
        self.last.forward(leaky_relu(self.first.forward(x), SLOPE))
    }

    fn smooth(&self, x: Tensor<2>) -> Tensor<2> {
        self.last.forward(self.first.forward(x).tanh())
    }

    /// The gradient of each score by its input, as an expression of the parameters: `[items, 6]`.
    fn input_gradient(&self, x: Tensor<2>, is_kinked: bool) -> Tensor<2> {
        let y = self.first.forward(x);
        let slopes = match is_kinked {
            true => y
                .clone()
                .greater_elem(0.0)
                .float()
                .mul_scalar(1.0 - SLOPE)
                .add_scalar(SLOPE),
            false => y.tanh().square().neg().add_scalar(1.0),
        };
        let last = self.last.weight.val().transpose();
        (slopes * last).matmul(self.first.weight.val().transpose())
    }
}

fn critic() -> (Critic, Tensor<2>) {
    let device = Device::flex().autodiff();
    device.seed(3);
    let critic = Critic::new(&device);
    let _ = critic.kinked(Tensor::ones([1, 6], &device));
    (
        critic,
        Tensor::random([40, 6], Distribution::Normal(0.0, 1.0), &device),
    )
}

/// The gradients of both layers.
fn gradients(critic: &Critic, loss: Tensor<1>) -> Vec<f32> {
    let grads = GradientsParams::from_grads(loss.backward(), critic);
    let of = |layer: &Linear| {
        grads
            .get::<2>(layer.weight.id)
            .expect("a gradient")
            .into_data()
    };
    let both = [of(&critic.first), of(&critic.last)];
    both.iter().flat_map(|data| data.iter::<f32>()).collect()
}

/// The difference of two vectors, as a share of the second.
fn off(left: &[f32], right: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
    };
    let differences = left.iter().zip(right).map(|(left, right)| left - right);
    norm(&mut differences.into_iter()) / norm(&mut right.iter().copied())
}

#[rstest]
fn value_and_gradient_are_those_of_the_second_derivative(
    #[values(true, false)] is_kinked: bool,
    #[values(true, false)] is_r1: bool,
) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let (critic, x) = critic();
    let forward = if is_kinked {
        Critic::kinked
    } else {
        Critic::smooth
    };
    let penalty = if is_r1 {
        GradientPenalty::r1(10.0)
    } else {
        GradientPenalty::wasserstein(10.0)
    };
    let mine = gradient_penalty(penalty, &critic, x.clone(), forward);
    let squared = critic.input_gradient(x, is_kinked).square().sum_dim(1);
    let wanted = match is_r1 {
        true => squared.mean() * 10.0,
        false => squared.sqrt().sub_scalar(1.0).square().mean() * 10.0,
    };
    let values = [&mine, &wanted].map(|loss| loss.clone().into_scalar::<f32>());
    assert!((values[0] / values[1] - 1.0).abs() < 1e-5, "{values:?}");
    let (mine, wanted) = (gradients(&critic, mine), gradients(&critic, wanted));
    let off = off(&mine, &wanted);
    assert!(off < 1e-3, "off by {off}");
}

#[test]
fn the_error_falls_with_the_square_of_the_step() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let (critic, x) = critic();
    let wanted = critic
        .input_gradient(x.clone(), false)
        .square()
        .sum_dim(1)
        .mean();
    let wanted = gradients(&critic, wanted);
    let error = |step| {
        let penalty = GradientPenalty::r1(1.0).with_step(step);
        off(
            &gradients(
                &critic,
                gradient_penalty(penalty, &critic, x.clone(), Critic::smooth),
            ),
            &wanted,
        )
    };
    // The first penalty of a network is tried with two steps, which must agree.
    error(1e-3);
    let (wide, narrow) = (error(0.2), error(0.1));
    assert!((3.0..5.0).contains(&(wide / narrow)), "{wide} {narrow}");
}

/// The same network with burn's own ReLU.
#[derive(Module, Debug)]
struct Unheld {
    critic: Critic,
}

#[test]
#[should_panic(expected = "kinks that are not held")]
fn kinks_that_cannot_be_held_are_refused() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let (critic, x) = critic();
    let forward = |critic: &Unheld, x| {
        let Critic { first, last } = &critic.critic;
        last.forward(activation::leaky_relu(first.forward(x), SLOPE))
    };
    gradient_penalty(GradientPenalty::r1(1.0), &Unheld { critic }, x, forward);
}

/// A critic with running statistics.
#[derive(Module, Debug)]
struct Normed {
    first: Linear,
    norm: BatchNorm,
    last: Linear,
}

#[test]
fn a_penalty_counts_as_no_pass() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex().autodiff();
    let critic = Normed {
        first: LinearConfig::new(6, 8).init(&device),
        norm: BatchNormConfig::new(8).init(&device),
        last: LinearConfig::new(8, 1).init(&device),
    };
    let forward = |critic: &Normed, x| {
        critic
            .last
            .forward(critic.norm.forward(critic.first.forward(x)).tanh())
    };
    let x = Tensor::<2>::random([16, 6], Distribution::Default, &device);
    let statistics = |critic: &Normed| critic.valid().norm.running_mean.value().into_data();
    let before = statistics(&critic);
    let penalty = gradient_penalty(GradientPenalty::r1(1.0), &critic, x.clone(), forward);
    assert_eq!(statistics(&critic), before);
    drop(penalty.backward());
    assert_eq!(statistics(&critic), before);
    forward(&critic, x);
    assert_ne!(statistics(&critic), before);
}

#[test]
#[should_panic(expected = "autodiff device")]
fn input_without_autodiff_is_refused() {
    let (critic, x) = critic();
    gradient_penalty(GradientPenalty::r1(1.0), &critic, x.inner(), Critic::smooth);
}

#[test]
fn an_average_follows_parameters_and_takes_statistics() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex().autodiff();
    let norm: BatchNorm = BatchNormConfig::new(2).init(&device);
    let average = frozen(&norm);
    let first = norm.running_mean.value().into_data();
    let x = Tensor::<2>::random([8, 2], Distribution::Normal(3.0, 1.0), &device);
    norm.forward(x);
    let moved = norm.valid().running_mean.value().into_data();
    assert_ne!(first, moved);
    let average = update_average(average, &norm, 0.5);
    assert_eq!(average.valid().running_mean.value().into_data(), moved);
    assert!(!average.gamma.val().is_tracked());
}
