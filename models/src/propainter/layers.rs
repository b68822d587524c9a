use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::activation::leaky_relu;
use burn::tensor::{Device, Tensor};

/// A convolution of 3×3 pixels with one pixel of zeros around.
pub(super) fn conv3x3(channels: [usize; 2], device: &Device) -> Conv2d {
    config3x3(channels).init(device)
}

/// The same before a leaky ReLU, with random weights that keep values as large as they are.
pub(super) fn conv3x3_before_leaky_relu(channels: [usize; 2], device: &Device) -> Conv2d {
    let initializer = before_leaky_relu();
    config3x3(channels)
        .with_initializer(initializer)
        .init(device)
}

fn config3x3(channels: [usize; 2]) -> Conv2dConfig {
    Conv2dConfig::new(channels, [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
}

/// Random weights of a layer before a leaky ReLU of slope 0.2 that keep values as large as they are:
/// with smaller ones, nothing of a frame reaches the end of a deep network.
///
/// # References
/// He et al. 2015, "Delving Deep into Rectifiers", arXiv:1502.01852, equation 15.
pub(super) fn before_leaky_relu() -> Initializer {
    Initializer::KaimingNormal {
        gain: (2.0 / (1.0 + 0.2_f64.powi(2))).sqrt(),
        fan_out_only: false,
    }
}

/// Runs convolutions with a leaky ReLU between them.
pub(super) fn chain(convs: &[Conv2d], slope: f64, x: Tensor<4>) -> Tensor<4> {
    let mut convs = convs.iter();
    let first = convs.next().map_or(x.clone(), |conv| conv.forward(x));
    convs.fold(first, |x, conv| conv.forward(leaky_relu(x, slope)))
}

/// Frames as items of a batch: `[batch_size, frames, ..]` to `[batch_size * frames, ..]`.
pub(super) fn as_batch(x: Tensor<5>) -> Tensor<4> {
    x.flatten(0, 1)
}

/// Items of a batch as frames again.
pub(super) fn as_frames(x: Tensor<4>, batch_size: usize) -> Tensor<5> {
    let [items, channels, height, width] = x.dims();
    x.reshape([batch_size, items / batch_size, channels, height, width])
}

/// The frames of a clip one by one.
pub(super) fn frames(x: Tensor<5>) -> Vec<Tensor<4>> {
    let count = x.dims()[1];
    (0..count).map(|at| frame(&x, at)).collect()
}

/// One frame of a clip.
pub(super) fn frame(x: &Tensor<5>, at: usize) -> Tensor<4> {
    x.clone().narrow(1, at, 1).squeeze_dim(1)
}

/// The frames `local`, then those of `all` behind as many.
pub(super) fn with_references(local: Tensor<5>, all: Tensor<5>) -> Tensor<5> {
    let (num_local, count) = (local.dims()[1], all.dims()[1]);
    match count > num_local {
        false => local,
        true => Tensor::cat(vec![local, all.narrow(1, num_local, count - num_local)], 1),
    }
}

/// A clip of single frames.
pub(super) fn clip(frames: Vec<Tensor<4>>) -> Tensor<5> {
    Tensor::stack(frames, 1)
}
