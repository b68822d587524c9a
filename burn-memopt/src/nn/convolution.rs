//! A convolution and its gradients as products of matrices.

use burn::tensor::Tensor;
use burn_backend::{Shape, TensorMetadata};
use rayon::prelude::*;

use super::columns::{product, weight_gradient};
use super::operation::{Operation, Primitive, run, tensor};
use super::patches::{Patches, PatchesOf};
use super::sums::sum;

/// Inputs: `x`, the weight, and the bias if there is one.
#[derive(Debug, Clone)]
pub(super) struct Convolution {
    patches: Patches,
    output: Shape,
}

/// Runs a convolution whose output has these dimensions. `None` where it is burn's to compute.
pub(super) fn convolution<const D: usize>(
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
pub(super) fn output_len(
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
