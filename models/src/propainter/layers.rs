use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::activation::leaky_relu;
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Segment;
use burn_memopt::tensors::Tensors;

use crate::upsample::{Corners, double_bilinear};

/// A convolution of 3×3 pixels with one pixel of zeros around.
pub(crate) fn conv3x3(channels: [usize; 2], device: &Device) -> Conv2d {
    config3x3(channels).init(device)
}

/// The same before a leaky ReLU, with random weights that keep values as large as they are.
pub(crate) fn conv3x3_before_leaky_relu(channels: [usize; 2], device: &Device) -> Conv2d {
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
pub(crate) fn before_leaky_relu() -> Initializer {
    Initializer::KaimingNormal {
        gain: (2.0 / (1.0 + 0.2_f64.powi(2))).sqrt(),
        fan_out_only: false,
    }
}

/// Runs convolutions with a leaky ReLU between them.
pub(crate) fn chain(convs: &[Conv2d], slope: f64, x: Tensor<4>) -> Tensor<4> {
    let mut convs = convs.iter();
    let first = convs.next().map_or(x.clone(), |conv| conv.forward(x));
    convs.fold(first, |x, conv| conv.forward(leaky_relu(x, slope)))
}

/// Frames as items of a batch: `[batch_size, frames, ..]` to `[batch_size * frames, ..]`.
pub(crate) fn as_batch(x: Tensor<5>) -> Tensor<4> {
    x.flatten(0, 1)
}

/// Items of a batch as frames again.
pub(crate) fn as_frames(x: Tensor<4>, batch_size: usize) -> Tensor<5> {
    let [items, channels, height, width] = x.dims();
    x.reshape([batch_size, items / batch_size, channels, height, width])
}

/// The frames of a clip one by one.
pub(crate) fn frames(x: Tensor<5>) -> Vec<Tensor<4>> {
    let count = x.dims()[1];
    (0..count).map(|at| frame(&x, at)).collect()
}

/// One frame of a clip.
pub(crate) fn frame(x: &Tensor<5>, at: usize) -> Tensor<4> {
    x.clone().narrow(1, at, 1).squeeze_dim(1)
}

/// The frames `local`, then those of `all` behind as many.
pub(crate) fn with_references(local: Tensor<5>, all: Tensor<5>) -> Tensor<5> {
    let (num_local, count) = (local.dims()[1], all.dims()[1]);
    match count > num_local {
        false => local,
        true => Tensor::cat(vec![local, all.narrow(1, num_local, count - num_local)], 1),
    }
}

/// A clip of single frames.
pub(crate) fn clip(frames: Vec<Tensor<4>>) -> Tensor<5> {
    Tensor::stack(frames, 1)
}

/// How many items of `bytes_each` fit into `bytes`: at least one.
pub(crate) fn fitting(bytes_each: usize, bytes: usize) -> usize {
    (bytes / bytes_each.max(1)).max(1)
}

/// Runs `forward` on parts of `x` along the first axis, as many items at a time as fit.
///
/// # Exactness
/// The result is that of one pass wherever `forward` treats the items of a batch alone.
pub(crate) fn in_parts<const D: usize, const E: usize>(
    x: Tensor<D>,
    bytes_each: usize,
    bytes: usize,
    forward: impl Fn(Tensor<D>) -> Tensor<E>,
) -> Tensor<E> {
    let count = x.dims()[0];
    let part = fitting(bytes_each, bytes);
    if part >= count {
        return forward(x);
    }
    let starts = (0..count).step_by(part);
    let parts = starts.map(|start| forward(x.clone().narrow(0, start, part.min(count - start))));
    Tensor::cat(parts.collect(), 0)
}

/// Runs a stage of a network; with `recompute`, the backward pass runs it again instead of keeping
/// what it computes.
pub(crate) fn stage<M, I, O, F>(recompute: bool, module: &M, inputs: I, forward: F) -> O
where
    M: Module + 'static,
    I: Tensors,
    O: Tensors,
    F: Fn(&M, I) -> O + Send + 'static,
{
    match recompute {
        false => forward(module, inputs),
        true => Segment::new()
            .without_randomness()
            .run(module, inputs, forward),
    }
}

/// The same tensor, whose gradients are summed before they are added to those of its other uses.
///
/// Three gradients of one tensor are summed in another order when stages are recomputed than when
/// they are not. Two are the same in either order: where every tensor has at most two uses, or two
/// groups of them, both round alike.
pub(crate) fn apart(x: Tensor<4>) -> Tensor<4> {
    x.unsqueeze::<5>().squeeze_dim(0)
}

/// A linear layer whose weight lies as in a PyTorch state dict, so that it loads as it is;
/// `burn::nn::Linear` keeps the transpose.
#[derive(Module, Debug)]
pub struct Projection {
    /// Weight `[outputs, inputs]`.
    pub weight: Param<Tensor<2>>,
    /// Bias `[outputs]`.
    pub bias: Param<Tensor<1>>,
}

impl Projection {
    /// Builds a layer with uniform weights within `1 / sqrt(inputs)` on `device`.
    pub fn new([inputs, outputs]: [usize; 2], device: &Device) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        let uniform = Initializer::Uniform {
            min: -bound,
            max: bound,
        };
        Self {
            weight: uniform.init([outputs, inputs], device),
            bias: uniform.init([outputs], device),
        }
    }

    /// Multiplies by the weight and adds the bias.
    ///
    /// # Shapes
    /// - x: `[.., inputs]`
    /// - output: `[.., outputs]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        linear(x, self.weight.val().transpose(), Some(self.bias.val()))
    }
}

/// Doubles height and width, the corner pixels kept in place, and convolves 3×3 pixels.
#[derive(Module, Debug)]
pub struct UpsamplingConv {
    /// Applied to the doubled map.
    pub conv: Conv2d,
}

impl UpsamplingConv {
    /// Builds the layer for input and output `channels` on `device`.
    pub fn new(channels: [usize; 2], device: &Device) -> Self {
        Self {
            conv: conv3x3(channels, device),
        }
    }

    /// Doubles and convolves.
    ///
    /// # Shapes
    /// - x: `[batch_size, channels, height, width]`
    /// - output: `[batch_size, channels, 2 * height, 2 * width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.conv.forward(double_bilinear(x, Corners::Aligned))
    }
}
