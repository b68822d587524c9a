//! Strides of axes of length one, which burn's fused kernels misread.

use burn::tensor::Tensor;

use crate::memory::on_host;

/// Gives the axes of length one of a convolution's, pooling's or interpolation's result the
/// strides that its shape has in row-major order.
///
/// Call it on the result of burn's own `forward` where the result has one channel, or one row or column.
/// [`conv2d`](crate::nn::conv2d) and [`conv3d`](crate::nn::conv3d) do it themselves.
///
/// On GPU backends burn 0.22.1 returns such a result as a view of channels-last memory. If one of its
/// axes has length one, the next fused kernel can compute *wrong values without an error*: when two of
/// its results are used later and the first of them replaces the view in place, as in
/// `let density = output / 100.0; let difference = density.clone() - target;`. The gradient of such a
/// layer's input is a view of the same kind: where the input is tracked, call it on the input too.
///
/// # Shapes
/// - x and output: the same
///
/// # Exactness
/// No value changes. On `flex`, and where no axis but the first has length one, `x` is returned as it is.
///
/// # Example
/// ```
/// use burn::tensor::module::max_pool2d;
/// use burn::tensor::ops::MaxPoolOptions;
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::nn::canonical_strides;
///
/// let heights = Tensor::<4>::ones([2, 1, 8, 8], &Device::flex());
/// let highest = canonical_strides(max_pool2d(heights, MaxPoolOptions::new([2, 2])));
/// assert_eq!(highest.dims(), [2, 1, 4, 4]);
/// ```
pub fn canonical_strides<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let shape = x.dims();
    if !shape.iter().skip(1).any(|len| *len == 1) || on_host(&x.device()) {
        return x;
    }
    x.reshape([shape.iter().product::<usize>()]).reshape(shape)
}
