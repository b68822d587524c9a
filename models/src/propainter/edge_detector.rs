use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::{leaky_relu, sigmoid};
use burn::tensor::{Device, Tensor};

use super::layers::conv3x3;

/// Channels between the layers.
const WIDTH: usize = 16;

/// Finds the edges of a flow, for a loss that keeps completed flows sharp; used in training only.
///
/// # References
/// Zhang et al. 2022, "Flow-Guided Transformer for Video Inpainting", arXiv:2208.06768, section
/// 3.2 (edge loss).
#[derive(Module, Debug)]
pub struct EdgeDetector {
    /// To the width of the layers.
    pub projection: Conv2d,
    /// The first layer of the residual branch.
    pub mid_layer_1: Conv2d,
    /// The second layer of the residual branch.
    pub mid_layer_2: Conv2d,
    /// To one channel.
    pub out_layer: Conv2d,
}

impl EdgeDetector {
    /// Builds the detector on `device`.
    pub fn new(device: &Device) -> Self {
        Self {
            projection: conv3x3([2, WIDTH], device),
            mid_layer_1: conv3x3([WIDTH, WIDTH], device),
            mid_layer_2: conv3x3([WIDTH, WIDTH], device),
            out_layer: Conv2dConfig::new([WIDTH, 1], [1, 1]).init(device),
        }
    }

    /// Says how likely each pixel lies on an edge.
    ///
    /// # Shapes
    /// - flow: `[batch_size, 2, height, width]`
    /// - output: `[batch_size, 1, height, width]`
    pub fn forward(&self, flow: Tensor<4>) -> Tensor<4> {
        let x = leaky_relu(self.projection.forward(flow), 0.2);
        let branch = leaky_relu(self.mid_layer_1.forward(x.clone()), 0.2);
        let branch = self.mid_layer_2.forward(branch);
        sigmoid(self.out_layer.forward(leaky_relu(x + branch, 0.01)))
    }
}
