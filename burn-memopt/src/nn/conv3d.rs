//! 3-D convolution with kernels that are flat in space or in time.

#[cfg(feature = "flex")]
use burn::nn::PaddingConfig3d;
use burn::nn::conv::Conv3d;
use burn::tensor::Tensor;

/// Applies a convolution whose kernel covers a single frame, or a single pixel of several frames,
/// in less time than burn's own `forward` takes on the CPU: the two halves of a pseudo-3-D
/// convolution.
///
/// Call it instead of `layer.forward(x)`. On `flex` in f32 such a convolution and its gradients are matrix
/// products of bands of the frames, computed on all cores. Anything else is burn's `forward`: other
/// kernels and devices, half precision, one channel a group, and strides in training.
///
/// # Shapes
/// - x: `[batch_size, channels_in, depth_in, height_in, width_in]`
/// - output: `[batch_size, channels_out, depth_out, height_out, width_out]`
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
/// use burn::nn::conv::Conv3dConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt::nn::conv3d;
///
/// let device = Device::flex();
/// let layer = Conv3dConfig::new([2, 4], [1, 3, 3]).init(&device);
/// let x = Tensor::<5>::random([1, 2, 5, 8, 8], Distribution::Default, &device);
/// let difference = (conv3d(&layer, x.clone()) - layer.forward(x)).abs().max();
/// assert!(difference.into_scalar::<f32>() < 1e-5);
/// ```
///
/// # References
/// Qiu et al. 2017, "Learning Spatio-Temporal Representation with Pseudo-3D Residual Networks",
/// arXiv:1711.10305, section 3.2.
pub fn conv3d(layer: &Conv3d, x: Tensor<5>) -> Tensor<5> {
    #[cfg(feature = "flex")]
    if let Some(output) = flex::conv3d(layer, &x) {
        return output;
    }
    layer.forward(x)
}

#[cfg(feature = "flex")]
mod flex {
    use super::super::convolution::{convolution, output_len};
    use super::super::patches::Patches;
    use super::{Conv3d, PaddingConfig3d, Tensor};

    /// The output, or `None` where it is burn's to compute.
    pub(super) fn conv3d(layer: &Conv3d, x: &Tensor<5>) -> Option<Tensor<5>> {
        let [batch_size, channels_in, depth, height, width] = x.dims();
        let weight = layer.weight.val();
        let [channels_out, ..] = weight.dims();
        let padding = match layer.padding {
            PaddingConfig3d::Valid => [0; 3],
            PaddingConfig3d::Explicit(depth, height, width) => [depth, height, width],
            PaddingConfig3d::Same => return None,
        };
        let input = [depth, height, width];
        let output = |axis: usize| {
            let (kernel, stride) = (layer.kernel_size[axis], layer.stride[axis]);
            output_len(
                input[axis],
                [padding[axis]; 2],
                kernel,
                stride,
                layer.dilation[axis],
            )
        };
        let output = [output(0)?, output(1)?, output(2)?];
        let is_whole = |axis: usize| {
            layer.kernel_size[axis] == 1 && layer.stride[axis] == 1 && padding[axis] == 0
        };
        let last_two = |of: [usize; 3]| [of[1], of[2]];
        let common = Patches {
            batch_size,
            frames: depth,
            groups: layer.groups,
            channels_in,
            channels_out,
            input: last_two(input),
            output: last_two(output),
            kernel: last_two(layer.kernel_size),
            stride: last_two(layer.stride),
            padding: last_two(padding),
            dilation: last_two(layer.dilation),
        };
        let patches = if is_whole(0) {
            common
        } else if is_whole(1) && is_whole(2) {
            // A frame is a row of an image.
            Patches {
                frames: 1,
                input: [depth, height * width],
                output: [output[0], height * width],
                kernel: [layer.kernel_size[0], 1],
                stride: [layer.stride[0], 1],
                padding: [padding[0], 0],
                dilation: [layer.dilation[0], 1],
                ..common
            }
        } else {
            return None;
        };
        let output = [batch_size, channels_out, output[0], output[1], output[2]];
        let bias = layer.bias.as_ref().map(|bias| bias.val());
        convolution(patches, output, x, weight, bias)
    }
}
