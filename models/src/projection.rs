//! Linear layers in the layout of PyTorch.

use std::ops::Range;

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};

/// A linear layer whose weight has the layout of a PyTorch state dict, so that it loads as it is;
/// `burn::nn::Linear` keeps the transpose.
#[derive(Module, Debug)]
pub struct Projection {
    /// `[outputs, inputs]`.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub bias: Param<Tensor<1>>,
}

impl Projection {
    pub(crate) fn new([inputs, outputs]: [usize; 2], device: &Device) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        let uniform = Initializer::Uniform {
            min: -bound,
            max: bound,
        };
        Self {
            weight: uniform.init([outputs, inputs], device),
            bias: uniform.init([outputs], device),
        }
    }

    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        linear(x, self.weight.val().transpose(), Some(self.bias.val()))
    }

    /// What the inputs in `range` add to the output, without the bias: `x` holds them alone.
    pub(crate) fn part<const D: usize>(&self, x: Tensor<D>, range: Range<usize>) -> Tensor<D> {
        let weight = self.weight.val().narrow(1, range.start, range.len());
        linear(x, weight.transpose(), None)
    }
}
