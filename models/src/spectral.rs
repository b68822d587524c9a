//! Weights divided by their largest singular value.

use burn::module::RunningState;
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::precision::ops::full;

use crate::layers::in_dtype;

/// The smallest norm that a vector is divided by.
const EPSILON: f64 = 1e-12;

/// Random unit vectors: left `[outputs]` and right `[values]`.
pub(crate) fn vectors(
    [outputs, values]: [usize; 2],
    device: &Device,
) -> [RunningState<Tensor<1>>; 2] {
    [outputs, values].map(|len| {
        let normal = Distribution::Normal(0.0, 1.0);
        RunningState::new(unit(Tensor::random([len], normal, device)))
    })
}

/// The weight `[outputs, ...]` divided by its largest singular value, whose left and right vectors are
/// `u` and `v`, in the weight's precision.
///
/// On an autodiff device the vectors are improved by one power iteration first; in the gradient they
/// count as constants. Elsewhere they stay. Both are computed in f32.
///
/// # References
/// Miyato et al. 2018, "Spectral Normalization for GANs", arXiv:1802.05957, algorithm 1.
pub(crate) fn normalized<const D: usize>(
    weight: Tensor<D>,
    u: &RunningState<Tensor<1>>,
    v: &RunningState<Tensor<1>>,
) -> Tensor<D> {
    let dtype = weight.dtype();
    let weight = full(weight);
    let dims = weight.dims();
    let matrix: Tensor<2> = weight.clone().flatten(1, D - 1);
    let [left, right] = singular_vectors(matrix.clone(), u, v);
    let [outputs, values] = matrix.dims();
    let stretched = matrix.matmul(right.reshape([values, 1]));
    let sigma = (stretched.reshape([outputs]) * left).sum();
    in_dtype(weight / sigma.reshape([1; D]).expand(dims), dtype)
}

/// The vectors kept, after one more iteration on an autodiff device.
fn singular_vectors(
    matrix: Tensor<2>,
    u: &RunningState<Tensor<1>>,
    v: &RunningState<Tensor<1>>,
) -> [Tensor<1>; 2] {
    let device = matrix.device();
    let kept = |state: &RunningState<Tensor<1>>| full(state.value_sync().to_device(&device));
    if !device.is_autodiff() {
        return [kept(u), kept(v)];
    }
    let matrix = matrix.detach();
    let [outputs, values] = matrix.dims();
    let left = kept(u).reshape([1, outputs]);
    let right = unit(left.matmul(matrix.clone()).reshape([values]));
    let left = matrix.matmul(right.clone().reshape([values, 1]));
    let left = unit(left.reshape([outputs]));
    u.update(left.clone());
    v.update(right.clone());
    [left, right]
}

/// `vector` at length one.
fn unit(vector: Tensor<1>) -> Tensor<1> {
    let norm = vector.clone().square().sum().sqrt().clamp_min(EPSILON);
    vector / norm
}
