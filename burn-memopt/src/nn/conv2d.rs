//! 2-D convolution.

#[cfg(feature = "flex")]
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

/// Applies a convolution in about half the time that burn's own `forward` takes on the CPU, and
/// in a third of it in training.
///
/// Call it instead of `layer.forward(x)`. A function rather than a module of its own, so that
/// models keep their fields, their parameter paths and their saved weights.
///
/// On `flex` in f32 the convolution and its gradients are matrix products of bands of the image,
/// computed on all cores. Anything else is burn's `forward`: other devices, half precision, one
/// channel a group, and strides in training.
///
/// # Shapes
/// - x: `[batch_size, channels_in, height_in, width_in]`
/// - output: `[batch_size, channels_out, height_out, width_out]`
///
/// # Exactness
/// The same sums as burn's in another order: equal to f32 rounding. The number of threads changes
/// nothing.
///
/// # Panics
/// Where `layer.forward(x)` does.
///
/// # Example
/// ```
/// use burn::nn::conv::Conv2dConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt::nn::conv2d;
///
/// let device = Device::flex().autodiff();
/// let layer = Conv2dConfig::new([3, 8], [3, 3]).init(&device);
/// let x = Tensor::<4>::random([1, 3, 16, 16], Distribution::Default, &device);
/// let y = conv2d(&layer, x.clone());
/// let difference = (y.clone() - layer.forward(x)).abs().max().into_scalar::<f32>();
/// assert!(difference < 1e-5);
/// assert!(layer.weight.val().grad(&y.sum().backward()).is_some());
/// ```
pub fn conv2d(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(output) = flex::conv2d(layer, &x) {
        return output;
    }
    layer.forward(x)
}

#[cfg(feature = "flex")]
mod flex {
    use super::super::convolution::{convolution, output_len};
    use super::super::patches::Patches;
    use super::{Conv2d, PaddingConfig2d, Tensor};

    /// The output, or `None` where it is burn's to compute.
    pub(super) fn conv2d(layer: &Conv2d, x: &Tensor<4>) -> Option<Tensor<4>> {
        let [batch_size, channels_in, height, width] = x.dims();
        let weight = layer.weight.val();
        let [channels_out, ..] = weight.dims();
        let (input, kernel) = ([height, width], layer.kernel_size);
        let around = [0, 1].map(|axis| around(layer, axis, input[axis]));
        let (stride, dilation) = (layer.stride, layer.dilation);
        let output = |axis: usize| {
            output_len(
                input[axis],
                around[axis],
                kernel[axis],
                stride[axis],
                dilation[axis],
            )
        };
        let output = [output(0)?, output(1)?];
        let patches = Patches {
            batch_size,
            frames: 1,
            groups: layer.groups,
            channels_in,
            channels_out,
            input,
            output,
            kernel,
            stride,
            padding: around.map(|[before, _]| before),
            dilation,
        };
        let output = [batch_size, channels_out, output[0], output[1]];
        let bias = layer.bias.as_ref().map(|bias| bias.val());
        convolution(patches, output, x, weight, bias)
    }

    /// Zeros before and after the input along an axis.
    fn around(layer: &Conv2d, axis: usize, len: usize) -> [usize; 2] {
        match &layer.padding {
            PaddingConfig2d::Valid => [0, 0],
            PaddingConfig2d::Explicit(top, left, bottom, right) => {
                [[*top, *bottom], [*left, *right]][axis]
            }
            PaddingConfig2d::Same => {
                let (kernel, stride) = (layer.kernel_size[axis], layer.stride[axis]);
                let steps = len.div_ceil(stride).saturating_sub(1);
                let around = (steps * stride + kernel).saturating_sub(len);
                [around / 2, around - around / 2]
            }
        }
    }
}
