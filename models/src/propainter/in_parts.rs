use burn::tensor::Tensor;

/// How many items of `bytes_each` fit into `bytes`: at least one.
pub(super) fn fitting(bytes_each: usize, bytes: usize) -> usize {
    (bytes / bytes_each.max(1)).max(1)
}

/// Runs `forward` on parts of `x` along the first axis, as many items at a time as fit.
///
/// # Exactness
/// The result is that of one pass wherever `forward` treats the items of a batch alone.
pub(super) fn in_parts<const D: usize, const E: usize>(
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
