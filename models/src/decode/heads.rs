use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};

use super::config::{Activation, convolution};
use super::layers::{Keep, Layers};

/// An output of a localization network: a 3×3 convolution, an activation, a 1×1 convolution.
#[derive(Module, Debug)]
pub struct Head {
    /// The first convolution and its activation.
    pub core: Layers,
    /// The last convolution, without activation.
    pub out_conv: Conv2d,
}

impl Head {
    pub(super) fn new(
        features: usize,
        channels: usize,
        activation: Activation,
        device: &Device,
    ) -> Self {
        Self {
            core: Layers::new(&[features; 2], activation, None, device),
            out_conv: convolution([features, channels], 1, 1, device),
        }
    }

    /// Computes the head's output.
    ///
    /// # Shapes
    /// - x: `[batch_size, features, height, width]`
    /// - output: `[batch_size, channels, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_keeping(Keep::All, x)
    }

    pub(super) fn forward_keeping(&self, keep: Keep, x: Tensor<4>) -> Tensor<4> {
        self.out_conv.forward(self.core.forward_keeping(keep, x))
    }
}
