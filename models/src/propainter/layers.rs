use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Segment;
use burn_memopt::memory::on_host;
use burn_memopt::nn::{conv2d, leaky_relu};
use burn_memopt::tensors::Tensors;

pub(super) use crate::layers::in_dtype;
use crate::layers::{Corners, double_bilinear};

/// A convolution of odd `kernel` sides with as many zeros around as keep height and width.
pub(super) fn conv(channels: [usize; 2], kernel: usize, device: &Device) -> Conv2d {
    conv_config(channels, kernel).init(device)
}

pub(super) fn conv_config(channels: [usize; 2], kernel: usize) -> Conv2dConfig {
    let around = kernel / 2;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_padding(PaddingConfig2d::Explicit(around, around, around, around))
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
    let (last, before) = convs.split_last().expect("invariant: there are layers");
    let run = |x, conv: &Conv2d| leaky_relu(conv2d(conv, x), slope);
    conv2d(last, before.iter().fold(x, run))
}

/// Doubles height and width, the corner pixels kept in place, and convolves 3×3 pixels.
#[derive(Module, Debug)]
pub struct UpsamplingConv {
    pub conv: Conv2d,
}

impl UpsamplingConv {
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(&self.conv, double_bilinear(x, Corners::Aligned))
    }
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

pub(super) fn frame(x: &Tensor<5>, at: usize) -> Tensor<4> {
    x.clone().narrow(1, at, 1).squeeze_dim(1)
}

/// A clip of single frames.
pub(super) fn clip(frames: Vec<Tensor<4>>) -> Tensor<5> {
    Tensor::stack(frames, 1)
}

/// The frames `local`, then those of `all` after as many.
pub(super) fn with_references(local: Tensor<5>, all: Tensor<5>) -> Tensor<5> {
    let (num_local, count) = (local.dims()[1], all.dims()[1]);
    if count > num_local {
        Tensor::cat(vec![local, all.narrow(1, num_local, count - num_local)], 1)
    } else {
        local
    }
}

/// 1 where the mask is 0, and 0 where it is 1.
pub(super) fn inverse<const D: usize>(mask: Tensor<D>) -> Tensor<D> {
    mask.neg().add_scalar(1.0)
}

/// How many items of `bytes_each` fit into `bytes`: at least one.
pub(super) fn fitting(bytes_each: usize, bytes: usize) -> usize {
    (bytes / bytes_each.max(1)).max(1)
}

/// How many independent pieces of work on tensors like `x` run at the same time: each thread of the
/// CPU copies and rounds off alone for a while in every layer, and meanwhile another piece computes.
/// A training step is one piece, and so is all work on another device.
pub(super) fn at_once<const D: usize>(x: &Tensor<D>) -> usize {
    if x.is_autodiff() || !on_host(&x.device()) {
        1
    } else {
        2
    }
}

/// Runs `forward` on each of `items`, `at_once` of them at the same time, 1 or 2.
pub(super) fn side_by_side<I: Send, O: Send>(
    at_once: usize,
    items: Vec<I>,
    forward: impl Fn(I) -> O + Sync,
) -> Vec<O> {
    let mut items = items.into_iter();
    let mut outputs = Vec::new();
    while let Some(first) = items.next() {
        match items.next() {
            Some(second) if at_once > 1 => {
                let (first, second) = rayon::join(|| forward(first), || forward(second));
                outputs.extend([first, second]);
            }
            second => outputs.extend([first].into_iter().chain(second).map(&forward)),
        }
    }
    outputs
}

/// Runs `forward` on parts of `x` along the first axis, as many items at a time as fit.
///
/// # Exactness
/// The result is that of one pass wherever `forward` treats the items of a batch alone.
pub(super) fn in_parts<const D: usize, const E: usize>(
    x: Tensor<D>,
    bytes_each: usize,
    bytes: usize,
    forward: impl Fn(Tensor<D>) -> Tensor<E> + Sync,
) -> Tensor<E> {
    let count = x.dims()[0];
    let at_once = at_once(&x);
    let part = fitting(bytes_each, bytes / at_once).min(count.div_ceil(at_once));
    if part >= count {
        return forward(x);
    }
    let starts = (0..count).step_by(part).collect();
    let parts = side_by_side(at_once, starts, |start| {
        forward(x.clone().narrow(0, start, part.min(count - start)))
    });
    Tensor::cat(parts, 0)
}

/// Runs a stage of a network; with `recompute`, the backward pass runs it again instead of keeping
/// what it computes.
pub(super) fn stage<M, I, O, F>(recompute: bool, module: &M, inputs: I, forward: F) -> O
where
    M: Module + 'static,
    I: Tensors,
    O: Tensors,
    F: Fn(&M, I) -> O + Send + 'static,
{
    if recompute {
        let segment = Segment::new().without_randomness();
        segment.run(module, inputs, forward)
    } else {
        forward(module, inputs)
    }
}

/// The same tensor, whose gradients are summed before they are added to those of its other uses.
///
/// Three gradients of one tensor are summed in another order when stages are recomputed than when
/// they are not. Two are the same in either order: where every tensor has at most two uses, or two
/// groups of them, both round alike.
pub(super) fn apart(x: Tensor<4>) -> Tensor<4> {
    x.unsqueeze::<5>().squeeze_dim(0)
}
