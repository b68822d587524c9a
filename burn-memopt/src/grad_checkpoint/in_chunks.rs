//! Segments over slices of an axis: what is long is never whole in memory.

use burn::module::Module;
use burn::tensor::{DispatchTensor, Slice, Tensor};
use burn_backend::TensorMetadata;
use burn_backend::ops::{BoolTensorOps, FloatTensorOps, IntTensorOps};
use burn_dispatch::Dispatch;

use super::{Segment, Tensors};
use crate::precision::is_castable;

/// Runs `forward` on slices of `len` along axis `dim`, each a segment that is recomputed in the
/// backward pass, and joins the results along the same axis.
///
/// A head or a loss over a long axis keeps its inputs and its joined result, and the insides of one slice
/// at a time. Every tensor of `inputs` is cut, the last slice being perhaps shorter; what all slices see, as
/// parameters, belongs into `module`. [`sum_in_chunks`] adds the results instead.
///
/// # Shapes
/// - inputs: tensors of any shapes and kinds with the same length along `dim`
/// - output: the results of the slices, one after the other along `dim`
///
/// # Exactness
/// Equal to `forward` on the whole where it treats each place along `dim` by itself, to rounding:
/// gradients of parameters are sums over the slices. Random numbers are replayed, but are others than on the
/// whole.
///
/// # Panics
/// If the inputs have no tensor, no axis `dim` or different lengths, `len` is zero, or as
/// [`grad_checkpoint`](super::grad_checkpoint()).
///
/// # Example
/// A classifier whose hidden layer is never whole:
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor, activation::relu};
/// use burn_memopt::grad_checkpoint::in_chunks;
///
/// let device = Device::flex().autodiff();
/// let layers = vec![LinearConfig::new(4, 512).init(&device), LinearConfig::new(512, 2).init(&device)];
/// let x = Tensor::<2>::ones([100, 4], &device);
/// let y = in_chunks(&layers, x, 0, 32, |layers: &Vec<Linear>, x: Tensor<2>| {
///     layers[1].forward(relu(layers[0].forward(x)))
/// });
/// assert_eq!(y.dims(), [100, 2]);
/// assert!(layers[0].weight.val().grad(&y.sum().backward()).is_some());
/// ```
pub fn in_chunks<M, I, const D: usize, F>(
    module: &M,
    inputs: I,
    dim: usize,
    len: usize,
    forward: F,
) -> Tensor<D>
where
    M: Module + 'static,
    I: Tensors,
    F: Fn(&M, I) -> Tensor<D> + Clone + Send + 'static,
{
    Segment::new().in_chunks(module, inputs, dim, len, forward)
}

/// As [`in_chunks`], with the sum of the results.
///
/// # Shapes
/// - output: as the result of every slice, which must not depend on the slice's length
///
/// # Exactness
/// Equal to `forward` on the whole, to rounding, where that is a sum over places along `dim`.
///
/// # Panics
/// As [`in_chunks`].
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::grad_checkpoint::sum_in_chunks;
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(4, 2).init(&device);
/// let batch = (Tensor::<2>::ones([100, 4], &device), Tensor::<2>::zeros([100, 2], &device));
/// let squares = |layer: &Linear, (x, y): (Tensor<2>, Tensor<2>)| (layer.forward(x) - y).square().sum();
/// let loss = sum_in_chunks(&layer, batch, 0, 32, squares) / 100.0;
/// assert!(layer.weight.val().grad(&loss.backward()).is_some());
/// ```
pub fn sum_in_chunks<M, I, const D: usize, F>(
    module: &M,
    inputs: I,
    dim: usize,
    len: usize,
    forward: F,
) -> Tensor<D>
where
    M: Module + 'static,
    I: Tensors,
    F: Fn(&M, I) -> Tensor<D> + Clone + Send + 'static,
{
    Segment::new().sum_in_chunks(module, inputs, dim, len, forward)
}

impl Segment {
    /// [`in_chunks`] with the options of this segment.
    ///
    /// # Panics
    /// As [`in_chunks`].
    pub fn in_chunks<M, I, const D: usize, F>(
        &self,
        module: &M,
        inputs: I,
        dim: usize,
        len: usize,
        forward: F,
    ) -> Tensor<D>
    where
        M: Module + 'static,
        I: Tensors,
        F: Fn(&M, I) -> Tensor<D> + Clone + Send + 'static,
    {
        let forward = move |module: &M, inputs: I, ()| forward(module, inputs);
        let outputs = self.chunks(module, inputs, (), [dim, len], forward);
        Tensor::cat(outputs.collect(), dim)
    }

    /// [`sum_in_chunks`] with the options of this segment.
    ///
    /// # Panics
    /// As [`in_chunks`].
    pub fn sum_in_chunks<M, I, const D: usize, F>(
        &self,
        module: &M,
        inputs: I,
        dim: usize,
        len: usize,
        forward: F,
    ) -> Tensor<D>
    where
        M: Module + 'static,
        I: Tensors,
        F: Fn(&M, I) -> Tensor<D> + Clone + Send + 'static,
    {
        let forward = move |module: &M, inputs: I, ()| forward(module, inputs);
        let outputs = self.chunks(module, inputs, (), [dim, len], forward);
        let sum = outputs.reduce(|sum, output| sum + output);
        sum.expect("invariant: there is at least one slice")
    }

    /// The results on slices of `inputs`, one after the other. Each segment gets `whole` as it is, tracked or
    /// not.
    pub(super) fn chunks<M, I, W, const D: usize, F>(
        self,
        module: &M,
        inputs: I,
        whole: W,
        [dim, len]: [usize; 2],
        forward: F,
    ) -> impl Iterator<Item = Tensor<D>>
    where
        M: Module + 'static,
        I: Tensors,
        W: Tensors + Clone,
        F: Fn(&M, I, W) -> Tensor<D> + Clone + Send + 'static,
    {
        let mut parts = Vec::new();
        let structure = inputs.flatten(&mut parts);
        let total = check(&parts, dim, len);
        // Each segment depends on the one before it, so that its gradients reach `whole` before that one is recomputed:
        // of segments side by side, all would be recomputed first, and each would keep a gradient of `whole`.
        let mut before: Option<Tensor<1>> = None;
        (0..total).step_by(len).map(move |start| {
            let rows = start..(start + len).min(total);
            let cut = parts.iter().map(|part| slice(part.clone(), dim, &rows));
            let cut = I::unflatten(&structure, &mut cut.collect::<Vec<_>>().into_iter());
            // First, so that whatever else is tied to the segment is below it in the graph.
            let inputs = (before.take(), cut, whole.clone());
            let forward = forward.clone();
            let (output, after) = self.run(module, inputs, move |module: &M, (_, cut, whole)| {
                let output = forward(module, cut, whole);
                let after = Tensor::<1>::zeros([1], &output.device());
                (output, after)
            });
            before = Some(after);
            output
        })
    }
}

/// The length that all tensors have along `dim`.
fn check(parts: &[DispatchTensor], dim: usize, len: usize) -> usize {
    assert!(len > 0, "a slice must have a length of at least 1, got 0");
    let lens = parts.iter().map(|part| {
        let shape = part.shape();
        assert!(
            dim < shape.num_dims(),
            "every input must have axis {dim}, along which it is cut, got one of shape {:?}",
            shape.as_slice()
        );
        shape[dim]
    });
    let lens: Vec<_> = lens.collect();
    let first = lens.first().copied().unwrap_or(0);
    assert!(
        first > 0 && lens.iter().all(|len| *len == first),
        "inputs must have the same length of at least 1 along axis {dim}, got {lens:?}"
    );
    first
}

/// A part of a tensor of any kind along one axis.
fn slice(part: DispatchTensor, dim: usize, rows: &std::ops::Range<usize>) -> DispatchTensor {
    let shape = part.shape();
    let slices: Vec<_> = (0..shape.num_dims())
        .map(|axis| match axis == dim {
            true => Slice::from(rows.clone()),
            false => Slice::from(0..shape[axis]),
        })
        .collect();
    match part.dtype() {
        dtype if is_castable(dtype) => Dispatch::float_slice(part, &slices),
        dtype if dtype.is_int() || dtype.is_uint() => Dispatch::int_slice(part, &slices),
        dtype if dtype.is_bool() => Dispatch::bool_slice(part, &slices),
        dtype => panic!("inputs that are cut must be numbers or booleans, got {dtype:?}"),
    }
}
