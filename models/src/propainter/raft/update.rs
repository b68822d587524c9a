use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::gru::SepConvGru;
use super::motion::{MotionEncoder, convolution};

/// Channels of the hidden state, and of the input from the first frame.
pub(super) const HIDDEN: usize = 128;

/// One correction of the flow.
#[derive(Module, Debug)]
pub struct UpdateBlock {
    /// Features of the flow so far.
    pub encoder: MotionEncoder,
    /// The recurrent cell.
    pub gru: SepConvGru,
    /// The correction, from the hidden state.
    pub flow_head: FlowHead,
    /// The weights of [`upsample_flow`](super::upsample_flow), from the hidden state.
    pub mask: MaskHead,
}

/// Turns the hidden state into a correction of the flow.
#[derive(Module, Debug)]
pub struct FlowHead {
    /// 3×3 convolution.
    pub conv1: Conv2d,
    /// 3×3 convolution to x and y.
    pub conv2: Conv2d,
}

/// Turns the hidden state into the weights with which the flow is upsampled.
#[derive(Module, Debug)]
pub struct MaskHead {
    /// 3×3 convolution.
    pub conv1: Conv2d,
    /// 1×1 convolution to 9 weights for each of 8×8 pixels.
    pub conv2: Conv2d,
}

impl UpdateBlock {
    pub(super) fn new(device: &Device) -> Self {
        let conv = |channels, size| convolution(channels, size, device);
        Self {
            encoder: MotionEncoder::new(device),
            gru: SepConvGru::new(HIDDEN, 2 * HIDDEN, device),
            flow_head: FlowHead {
                conv1: conv([HIDDEN, 256], 3),
                conv2: conv([256, 2], 3),
            },
            mask: MaskHead {
                conv1: conv([HIDDEN, 256], 3),
                conv2: conv([256, 9 * 8 * 8], 1),
            },
        }
    }

    /// Renews the hidden state, given the input from the first frame, the looked-up values and the
    /// flow so far.
    ///
    /// # Shapes
    /// - hidden, input, output: `[batch_size, 128, height, width]`
    /// - correlation: `[batch_size, 324, height, width]`
    /// - flow: `[batch_size, 2, height, width]`
    pub fn forward(
        &self,
        hidden: Tensor<4>,
        input: Tensor<4>,
        correlation: Tensor<4>,
        flow: Tensor<4>,
    ) -> Tensor<4> {
        let motion = self.encoder.forward(flow, correlation);
        self.gru
            .forward(hidden, Tensor::cat(vec![input, motion], 1))
    }
}

impl FlowHead {
    /// Computes the correction.
    ///
    /// # Shapes
    /// - hidden: `[batch_size, 128, height, width]`
    /// - output: `[batch_size, 2, height, width]`
    pub fn forward(&self, hidden: Tensor<4>) -> Tensor<4> {
        self.conv2.forward(relu(self.conv1.forward(hidden)))
    }
}

impl MaskHead {
    /// Computes the weights, before their softmax.
    ///
    /// # Shapes
    /// - hidden: `[batch_size, 128, height, width]`
    /// - output: `[batch_size, 576, height, width]`
    pub fn forward(&self, hidden: Tensor<4>) -> Tensor<4> {
        let weights = self.conv2.forward(relu(self.conv1.forward(hidden)));
        // As trained: smaller gradients into the hidden state.
        weights.mul_scalar(0.25)
    }
}
