//! Convolutions and their gradients as products of matrices.

use burn::nn::conv::{Conv2d, Conv3d};
use burn::tensor::Tensor;

use super::canonical_strides;

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
    canonical_strides(layer.forward(canonical_strides(x)))
}

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
    canonical_strides(layer.forward(canonical_strides(x)))
}

#[cfg(feature = "flex")]
mod flex {
    use burn::nn::{PaddingConfig2d, PaddingConfig3d};
    use burn_backend::{Shape, TensorMetadata};
    use rayon::prelude::*;

    use super::super::columns::{product, weight_gradient};
    use super::super::operation::{Operation, Primitive, run, tensor};
    use super::super::patches::{Patches, PatchesOf};
    use super::super::sums::sum;
    use super::{Conv2d, Conv3d, Tensor};

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

    /// Inputs: `x`, the weight, and the bias if there is one.
    #[derive(Debug, Clone)]
    struct Convolution {
        patches: Patches,
        output: Shape,
    }

    /// Runs a convolution whose output has these dimensions. `None` where it is burn's to compute.
    fn convolution<const D: usize>(
        patches: Patches,
        output: [usize; D],
        x: &Tensor<D>,
        weight: Tensor<D>,
        bias: Option<Tensor<1>>,
    ) -> Option<Tensor<D>> {
        // burn has better kernels for single channels.
        let is_depthwise = patches.groups > 1 && patches.channels_in == patches.groups;
        let is_empty = x.dims().contains(&0) || weight.dims().contains(&0);
        // burn refuses it.
        let has_other_channels = patches.channels_in != weight.dims()[1] * patches.groups;
        if has_other_channels
            || is_depthwise
            || is_empty
            || (x.is_autodiff() && patches.transposed().is_none())
        {
            return None;
        }
        let output = Shape::from(output);
        let convolution = Convolution { patches, output };
        let [x, weight] = [x.clone().into_dispatch(), weight.into_dispatch()];
        let output = match bias {
            None => run(convolution, [x, weight]).ok(),
            Some(bias) => run(convolution, [x, weight, bias.into_dispatch()]).ok(),
        };
        output.map(Tensor::from_dispatch)
    }

    impl<const N: usize> Operation<N> for Convolution {
        fn forward(&self, inputs: [Primitive; N]) -> Primitive {
            let inputs = inputs.map(|input| input.to_contiguous());
            let bias = inputs.get(2).map(|bias| bias.storage());
            let (x, weight) = (inputs[0].storage(), inputs[1].storage());
            tensor(convolve(self.patches, x, weight, bias), self.output.clone())
        }

        fn backward(
            &self,
            kept: Vec<Primitive>,
            grad: Primitive,
            wanted: [bool; N],
        ) -> [Option<Primitive>; N] {
            let grad = grad.to_contiguous();
            let grad = grad.storage();
            let gradient = |at: usize| {
                let values = match at {
                    0 => self.input_gradient(&kept[1], grad),
                    1 => self.weight_gradient(&kept[0], grad),
                    _ => self.bias_gradient(grad),
                };
                tensor(values, kept[at].shape())
            };
            std::array::from_fn(|at| wanted[at].then(|| gradient(at)))
        }
    }

    impl Convolution {
        fn input_gradient(&self, weight: &Primitive, grad: &[f32]) -> Vec<f32> {
            let transposed = self.patches.transposed();
            let transposed = transposed.expect("invariant: burn has those without");
            let weight = self.patches.flipped(weight.to_contiguous().storage());
            convolve(transposed, grad, &weight, None)
        }

        fn weight_gradient(&self, x: &Primitive, grad: &[f32]) -> Vec<f32> {
            let x = x.to_contiguous();
            let patches = PatchesOf {
                patches: self.patches,
                x: x.storage(),
            };
            weight_gradient(&self.patches.sizes(), grad, &patches)
        }

        fn bias_gradient(&self, grad: &[f32]) -> Vec<f32> {
            let channels = self.patches.channels_out;
            let len = grad.len() / self.patches.batch_size / channels;
            let of_channel = |channel: usize| {
                let items = grad.chunks_exact(len).skip(channel).step_by(channels);
                items.map(|grad| sum(grad, |grad| grad)).sum::<f64>() as f32
            };
            (0..channels).into_par_iter().map(of_channel).collect()
        }
    }

    fn convolve(patches: Patches, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        product(&patches.sizes(), weight, bias, &PatchesOf { patches, x })
    }

    /// Pixels of the output along one axis; `None` if the kernel does not fit.
    fn output_len(
        input: usize,
        [before, after]: [usize; 2],
        kernel: usize,
        stride: usize,
        dilation: usize,
    ) -> Option<usize> {
        let covered = dilation * (kernel - 1) + 1;
        let steps = (input + before + after).checked_sub(covered)?;
        Some(steps / stride + 1)
    }
}
