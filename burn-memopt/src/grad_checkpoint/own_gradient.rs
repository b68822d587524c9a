use super::tape;
use crate::memory::on_host;
use burn::tensor::Tensor;

/// Passes a tensor on unchanged; in the backward pass, gives its gradient memory
/// of its own, at the time when the gradient of `beside` is computed.
///
/// The gradient of a part of a concatenation may be a view that keeps the whole
/// alive. Where such a part waits long for its use, as the skip of a UNet does,
/// this frees the rest. `beside` is the other part. On devices whose slices are
/// copies the tensor passes through untouched.
///
/// # Exactness
/// Exact: the gradient is copied.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::grad_checkpoint::own_gradient;
///
/// let device = Device::flex().autodiff();
/// let skip = Tensor::<2>::ones([2, 3], &device).require_grad();
/// let x = Tensor::<2>::ones([2, 3], &device).require_grad();
/// let y = Tensor::cat(vec![own_gradient(skip.clone(), &x), x], 1);
/// let grads = y.sum().backward();
/// assert_eq!(skip.grad(&grads).unwrap().dims(), [2, 3]);
/// ```
pub fn own_gradient<const D: usize>(tensor: Tensor<D>, beside: &Tensor<D>) -> Tensor<D> {
    let both_tracked = tensor.is_tracked() && beside.is_tracked();
    if !both_tracked || !on_host(&tensor.device()) {
        return tensor;
    }
    let beside = beside.clone().into_dispatch();
    Tensor::from_dispatch(tape::own_gradient(tensor.into_dispatch(), beside))
}
