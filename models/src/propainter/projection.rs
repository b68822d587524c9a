use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};

/// A linear layer whose weight lies as in a PyTorch state dict, so that it loads as it is;
/// `burn::nn::Linear` keeps the transpose.
#[derive(Module, Debug)]
pub struct Projection {
    /// Weight `[outputs, inputs]`.
    pub weight: Param<Tensor<2>>,
    /// Bias `[outputs]`.
    pub bias: Param<Tensor<1>>,
}

impl Projection {
    /// Builds a layer with uniform weights within `1 / sqrt(inputs)` on `device`.
    pub fn new([inputs, outputs]: [usize; 2], device: &Device) -> Self {
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

    /// Multiplies by the weight and adds the bias.
    ///
    /// # Shapes
    /// - x: `[.., inputs]`
    /// - output: `[.., outputs]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        linear(x, self.weight.val().transpose(), Some(self.bias.val()))
    }
}
