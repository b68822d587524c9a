use burn::module::{Module, Param, RunningState};
use burn::nn::Initializer;
use burn::tensor::module::conv3d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::precision::ops::full;

use super::warp::in_dtype;

/// Added to nothing: the smallest norm that a vector is divided by.
const EPSILON: f64 = 1e-12;

/// A convolution in space and time, without bias, whose weight is divided by its largest singular
/// value.
///
/// On an autodiff device every forward pass improves the estimate of the singular vectors by one
/// power iteration; the estimate counts as a constant in the gradient. Elsewhere it stays. Both
/// are computed in f32.
///
/// # References
/// Miyato et al. 2018, "Spectral Normalization for GANs", arXiv:1802.05957, algorithm 1.
#[derive(Module, Debug)]
pub struct SpectralConv3d {
    /// The weight that is learned: `[outputs, inputs, frames, height, width]`.
    pub weight_orig: Param<Tensor<5>>,
    /// The left singular vector `[outputs]`.
    pub weight_u: RunningState<Tensor<1>>,
    /// The right singular vector `[inputs * frames * height * width]`.
    pub weight_v: RunningState<Tensor<1>>,
    stride: [usize; 3],
    padding: [usize; 3],
}

impl SpectralConv3d {
    /// Builds a layer for input and output `channels` on `device`.
    pub fn new(
        [inputs, outputs]: [usize; 2],
        kernel: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
        device: &Device,
    ) -> Self {
        let values = inputs * kernel.iter().product::<usize>();
        let bound = 1.0 / (values as f64).sqrt();
        let uniform = Initializer::Uniform {
            min: -bound,
            max: bound,
        };
        let [frames, height, width] = kernel;
        let vector = |len: usize| {
            let normal = Distribution::Normal(0.0, 1.0);
            RunningState::new(unit(Tensor::random([len], normal, device)))
        };
        Self {
            weight_orig: uniform.init([outputs, inputs, frames, height, width], device),
            weight_u: vector(outputs),
            weight_v: vector(values),
            stride,
            padding,
        }
    }

    /// Convolves with the normalized weight.
    ///
    /// # Shapes
    /// - x: `[batch_size, channels, frames, height, width]`
    /// - output: the same axes
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let weight = self.weight_orig.val();
        let dtype = weight.dtype();
        let weight = full(weight);
        let dims = weight.dims();
        let matrix: Tensor<2> = weight.clone().flatten(1, 4);
        let [u, v] = self.singular_vectors(matrix.clone());
        let [outputs, values] = matrix.dims();
        let stretched = matrix.matmul(v.reshape([values, 1])).reshape([outputs]);
        let sigma = (stretched * u).sum().reshape([1, 1, 1, 1, 1]);
        let weight = in_dtype(weight / sigma.expand(dims), dtype);
        let options = ConvOptions::new(self.stride, self.padding, [1; 3], 1);
        conv3d(x, weight, None, options)
    }

    /// The vectors kept, after one more iteration on an autodiff device.
    fn singular_vectors(&self, matrix: Tensor<2>) -> [Tensor<1>; 2] {
        let device = matrix.device();
        let kept = |state: &RunningState<Tensor<1>>| full(state.value_sync().to_device(&device));
        if !device.is_autodiff() {
            return [kept(&self.weight_u), kept(&self.weight_v)];
        }
        let matrix = matrix.detach();
        let [outputs, values] = matrix.dims();
        let u = kept(&self.weight_u).reshape([1, outputs]);
        let v = unit(u.matmul(matrix.clone()).reshape([values]));
        let u = matrix.matmul(v.clone().reshape([values, 1]));
        let u = unit(u.reshape([outputs]));
        self.weight_u.update(u.clone());
        self.weight_v.update(v.clone());
        [u, v]
    }
}

/// `vector` at length one.
fn unit(vector: Tensor<1>) -> Tensor<1> {
    let norm = vector.clone().square().sum().sqrt().clamp_min(EPSILON);
    vector / norm
}
